import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs import probes
from envs.errors import InputError
from jaxrl import networks
from jaxrl.agents import c51
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

HP = c51.Hyperparams(learning_rate=0.0, gamma=0.5, v_min=0.0, v_max=2.0, total_steps=1e4)


def table_network():
    """Logits are a table of 2 states × 2 actions × 3 values; the observation is the state's one-hot vector."""
    return networks.Network(
        lambda key: jnp.zeros((2, 2, 3)), lambda params, obs: jnp.einsum("...s,sav->...av", obs, params)
    )


@pytest.mark.parametrize(
    ("terminated", "truncated", "want"),
    [
        # Values 0, 1, 2. The target network prefers action 1 in s' (mean 1.5: ¼ on 0, ¾ on 2) to action 0 (mean 1).
        # r = 1, γ = ½: ¼ on 1, ¾ on 2. Z(s, a) is 0.2, 0.4, 0.4.
        (False, False, 0.25 * np.log(0.25 / 0.4) + 0.75 * np.log(0.75 / 0.4)),
        (False, True, 0.25 * np.log(0.25 / 0.4) + 0.75 * np.log(0.75 / 0.4)),  # a time limit changes nothing
        (True, False, -np.log(0.4)),  # all on 1
        (True, True, -np.log(0.4)),
    ],
)
def test_loss_by_hand(terminated, truncated, want):
    learner = c51.init_learner(table_network(), jax.random.key(0), HP)
    tiny = 1e-20
    online = jnp.log(jnp.array([[[1.0, tiny, tiny], [0.2, 0.4, 0.4]], [[tiny, tiny, 1.0], [1.0, tiny, tiny]]]))
    target = jnp.log(jnp.array([[[1.0, tiny, tiny], [1.0, tiny, tiny]], [[tiny, 1.0, tiny], [0.25, tiny, 0.75]]]))
    learner = learner._replace(params=online, target_params=target)
    one_hot = jnp.eye(2)
    flags = (jnp.array([terminated]), jnp.array([truncated]))
    batch = Transition(one_hot[:1], jnp.array([1]), jnp.array([1.0]), *flags, one_hot[1:], weight=jnp.array([0.5]))
    _, told = c51.update(c51.Config(num_atoms=3), table_network(), HP, Context(), learner, batch, jax.random.key(0))
    np.testing.assert_allclose(told.scalars["loss"], 0.5 * want, rtol=1e-5)
    np.testing.assert_allclose(told.priority, [want], rtol=1e-5)
    np.testing.assert_allclose(c51.q_values(HP, target)[1], [1.0, 1.5], rtol=1e-5)


def test_learns_the_distribution_and_not_its_mean_alone(optimised):
    """A reward of 0 or 2 with equal chance: half of the mass on each, none on the mean."""
    sizes = {"num_envs": 4, "batch_size": 64, "warmup_steps": 200, "replay_capacity": 2_000, "hidden": (8,)}
    agent = c51.make(probes.RandomReward(), c51.Config(**sizes, num_atoms=9))
    hp = dataclasses.replace(HP, learning_rate=1e-2, v_min=-2.0, v_max=6.0, epsilon_end=1.0)

    @optimised
    def learn(key):
        state, _ = jaxrl.run(agent, agent.init(key, hp, probes.Params()), 500)
        net = c51.build(agent.config, agent.env.observation_space, 2)
        return jax.nn.softmax(net.apply(state.learner.params, jnp.ones(1)))

    want = np.zeros(9)
    want[[2, 4]] = 0.5
    np.testing.assert_allclose(learn(jax.random.key(0)), [want, want], atol=0.08)


def test_bad_input():
    with pytest.raises(InputError, match="num_atoms=1"):
        c51.make(envs.make("CartPole-v1")[0], c51.Config(num_atoms=1))
    with pytest.raises(InputError, match="c51 needs a Discrete action space"):
        c51.make(envs.make("Pendulum-v1")[0])


@pytest.mark.slow
def test_learns_cartpole_quickly(optimised):
    """50,000 steps with an update every 4 reach a return above 150; a random policy has 22."""
    env, params = envs.make("CartPole-v1")
    train = make_train(c51.make(env, c51.Config(num_envs=4, num_atoms=26)), env_steps=50_000, num_evals=5)
    result = optimised(train)(jax.random.key(12), c51.Hyperparams(v_min=0.0), params)
    assert float(result.evaluation.returns.mean(-1).max()) >= 150
