import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.errors import InputError
from jaxrl import networks
from jaxrl.agents import bootstrapped_dqn
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

HP = bootstrapped_dqn.Hyperparams(learning_rate=0.0, gamma=0.5, prior_scale=2.0)
# Q is a table of 2 states × 2 actions for each of 2 members; the observation is the state's one-hot vector.
NET = networks.ensemble(networks.Network(lambda key: jnp.zeros((2, 2)), lambda params, obs: obs @ params), 2)


@pytest.mark.parametrize(
    ("terminated", "truncated", "mask", "want"),
    [
        # Action 1 in s: member 0 has 1 + 2·½ = 2, member 1 has −1. In s' the greatest are 4 + 2·0 and 0 + 2·3.
        # r = 1, γ = ½: targets 3 and 4, errors 1 and 5.
        (False, False, [True, True], 0.5 * (1 + 25)),
        (False, True, [True, True], 0.5 * (1 + 25)),  # a time limit changes nothing
        (False, False, [True, False], 0.5),
        (False, False, [False, True], 0.5 * 25),
        (True, False, [True, True], 0.5 * (1 + 4)),  # targets 1: errors −1 and 2
    ],
)
def test_loss_by_hand(terminated, truncated, mask, want):
    learner = bootstrapped_dqn.init_learner(NET, jax.random.key(0), HP)._replace(
        params=jnp.array([[[0.0, 1.0], [9.0, 9.0]], [[0.0, -1.0], [9.0, 9.0]]]),
        target_params=jnp.array([[[0.0, 0.0], [4.0, 1.0]], [[0.0, 0.0], [0.0, 5.0]]]),
        prior=jnp.array([[[0.0, 0.5], [0.0, 0.0]], [[0.0, 0.0], [3.0, 0.0]]]),
    )
    one_hot = jnp.eye(2)
    flags = (jnp.array([terminated]), jnp.array([truncated]))
    batch = Transition(one_hot[:1], jnp.array([1]), jnp.array([1.0]), *flags, one_hot[1:])
    batch = batch._replace(extras=bootstrapped_dqn.Masked(jnp.array([mask])), weight=jnp.array([0.5]))
    config, hp = bootstrapped_dqn.Config(num_members=2), dataclasses.replace(HP, learning_rate=0.1)
    after, told = bootstrapped_dqn.update(config, NET, hp, Context(), learner, batch, jax.random.key(0))
    np.testing.assert_allclose(told.scalars["loss"], 0.5 * want, rtol=1e-6)
    errors = [1.0, 2.0 if terminated else 5.0]
    np.testing.assert_allclose(told.priority, [np.dot(mask, errors) / 2], rtol=1e-6)
    np.testing.assert_array_equal(after.prior, learner.prior)
    np.testing.assert_array_equal(np.any(after.params != learner.params, (1, 2)), mask)  # others learn nothing


def test_one_member_an_episode_and_masks_in_the_replay():
    """Over many steps: an environment changes its member only where its episode ended; ¼ of the masks are set."""
    env, params = envs.make("CartPole-v1")
    config = bootstrapped_dqn.Config(num_envs=8, warmup_steps=104, batch_size=16, hidden=(8,), num_members=5)
    agent = bootstrapped_dqn.make(env, config)
    hp = dataclasses.replace(HP, mask_probability=0.25)

    @jax.jit
    def play(key):
        def one(state, _):
            following, _ = agent.step(state)
            return following, (following.memory, following.episode.t)

        return jax.lax.scan(one, agent.init(key, hp, params), length=200)

    state, (member, t) = play(jax.random.key(0))
    member, t = np.asarray(member), np.asarray(t)
    going = (t[1:] > 0) & (t[:-1] > 0)
    assert going.sum() > 1_000
    np.testing.assert_array_equal(member[1:][going], member[:-1][going])
    assert (member[t == 0] == -1).all()  # an episode begins without
    assert set(member[t > 0].tolist()) == set(range(5))
    masks = np.asarray(state.replay.rows["uint8"][: int(state.replay.filled)])[:, -5:]
    np.testing.assert_allclose(masks.mean(0), 0.25, atol=0.05)


def test_bad_input():
    with pytest.raises(InputError, match="num_members=0"):
        bootstrapped_dqn.make(envs.make("CartPole-v1")[0], bootstrapped_dqn.Config(num_members=0))
    with pytest.raises(InputError, match="bootstrapped_dqn needs a Discrete action space"):
        bootstrapped_dqn.make(envs.make("Pendulum-v1")[0])


def deep_sea(jit, size, steps):
    """The greedy return at each of 10 evaluations."""
    env, params = envs.make("DeepSea-bsuite", size=size, max_steps=size)
    config = bootstrapped_dqn.Config(num_envs=size, warmup_steps=200, hidden=(32,), num_updates=2)
    train = make_train(bootstrapped_dqn.make(env, config), steps, eval_episodes=1)
    hp = bootstrapped_dqn.Hyperparams(target_period=10)
    return np.asarray(jit(train)(jax.random.key(0), hp, params).evaluation.returns[:, 0])


def test_solves_a_small_deep_sea(optimised):
    """Of its 2^8 paths one has the treasure; 160 episodes at random find it in about half of all runs."""
    np.testing.assert_allclose(deep_sea(optimised, 8, 12_000)[-1], 0.99, atol=1e-5)


@pytest.mark.slow
def test_solves_a_deep_sea_that_random_actions_do_not(optimised):
    """Of 2^20 paths one has the treasure."""
    np.testing.assert_allclose(deep_sea(optimised, 20, 200_000)[-1], 0.99, atol=1e-5)
