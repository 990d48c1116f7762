import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.errors import InputError
from envs.spaces import Box
from jaxrl import networks
from jaxrl.agents import sac
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

STILL = sac.Hyperparams(
    policy_learning_rate=0.0,
    critic_learning_rate=0.0,
    temperature_learning_rate=0.0,
    gamma=0.9,
    target_rate=0.25,
    temperature=0.2,
)


class Sure(NamedTuple):
    """A policy whose draws are known: the action is the first parameter, its log-probability the second."""

    params: Any
    shape: tuple[int, ...]

    def sample_and_log_prob(self, key):
        return jnp.broadcast_to(self.params[0], self.shape), jnp.broadcast_to(self.params[1], self.shape[:-1])


def simple_networks(num=2):
    """Values w_i·a + b_i·s: everything can be worked out on paper."""
    actor = networks.Network(lambda key: jnp.zeros(2), lambda params, obs: Sure(params, obs.shape))
    critics = networks.Network(
        lambda key: jnp.zeros((num, 2)),
        lambda params, obs, action, key: params[:, None, :1] * action + params[:, None, 1:] * obs,
    )
    return sac.Networks(actor, critics)


def learner(hp=STILL):
    """The policy acts 0.8 with log π = −0.7."""
    init = sac.init_learner(simple_networks(), jax.random.key(0), hp)
    critics, targets = jnp.array([[2.0, 1.0], [-9.0, 0.0]]), jnp.array([[3.0, -1.0], [1.0, 0.0]])
    return init._replace(actor=jnp.array([0.8, -0.7]), critics=critics, target_critics=targets)


def transitions(num=1, terminated=False, truncated=False):
    def rows(x):
        return jnp.full((num, 1), x)

    flags = (jnp.full(num, terminated), jnp.full(num, truncated))
    return Transition(rows(1.0), rows(0.2), jnp.full(num, -1.0), *flags, rows(2.0), ())


# Q⁻(s', 0.8) = (0.4, 0.8), the smaller 0.4, −α log π = 0.14: target −1 + 0.9·0.54 = −0.514; Q(s, 0.2) = (1.4, −1.8).
@pytest.mark.parametrize(
    ("terminated", "truncated", "errors"),
    [(False, False, (-1.914, 1.286)), (False, True, (-1.914, 1.286)), (True, False, (-2.4, 0.8))],
)
def test_losses_by_hand(terminated, truncated, errors):
    batch = transitions(1, terminated, truncated)
    after, told = sac.update(sac.Config(), simple_networks(), STILL, Context(), learner(), batch, jax.random.key(0))
    np.testing.assert_allclose(told.scalars["critic_loss"], 0.5 * (errors[0] ** 2 + errors[1] ** 2), rtol=1e-5)
    np.testing.assert_allclose(told.priority, [(abs(errors[0]) + abs(errors[1])) / 2], rtol=1e-5)
    # α log π − min Q(s, 0.8) = −0.14 − min(2.6, −7.2)
    np.testing.assert_allclose(told.scalars["actor_loss"], -0.14 + 7.2, rtol=1e-5)
    np.testing.assert_allclose(told.scalars["entropy"], 0.7, rtol=1e-6)
    np.testing.assert_allclose(after.target_critics, [[2.75, -0.5], [-1.5, 0.0]])


def test_every_row_has_its_weight_and_its_priority():
    """Two steps of the critics, one row each; at the end the errors are −2.4 and 0.8, at weight ½."""
    rows = transitions(), transitions(terminated=True)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *rows)._replace(weight=jnp.array([1.0, 0.5]))
    config, hp = sac.Config(critic_steps=2), dataclasses.replace(STILL, target_rate=0.0)
    _, told = sac.update(config, simple_networks(), hp, Context(), learner(hp), both, jax.random.key(0))
    loss = (0.5 * (1.914**2 + 1.286**2) + 0.5 * 0.5 * (2.4**2 + 0.8**2)) / 2
    np.testing.assert_allclose(told.scalars["critic_loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(told.priority, [1.6, 1.6], rtol=1e-5)


@pytest.mark.parametrize(("target_entropy", "direction"), [(-1.0, -1), (0.5, -1), (0.9, 1)])
def test_temperature_steers_to_the_entropy(target_entropy, direction):
    """The policy's entropy is 0.7: α falls where that is enough and rises where it is not."""
    hp = dataclasses.replace(STILL, temperature_learning_rate=0.01, target_entropy=target_entropy)
    batch = transitions()
    after, _ = sac.update(sac.Config(), simple_networks(), hp, Context(), learner(hp), batch, jax.random.key(0))
    np.testing.assert_allclose(after.log_alpha, np.log(0.2) + 0.01 * direction, rtol=1e-4)


def test_policy_climbs_the_smaller_value_and_its_entropy():
    """−min Q falls with the action (slope −9 at the second critic) and α log π with log π."""
    hp = dataclasses.replace(STILL, policy_learning_rate=0.1)
    after, _ = sac.update(sac.Config(), simple_networks(), hp, Context(), learner(hp), transitions(), jax.random.key(0))
    np.testing.assert_allclose(after.actor, [0.7, -0.8], rtol=1e-4)


def redq_learner():
    """Target values 1, 2 and 3 at s' = 2; online values 10, 20 and 60 at s = 1."""
    rows = jnp.array([[0.0, 0.5], [0.0, 1.0], [0.0, 1.5]]), jnp.array([[0.0, 10.0], [0.0, 20.0], [0.0, 60.0]])
    init = sac.init_learner(simple_networks(3), jax.random.key(0), STILL)
    return init._replace(actor=jnp.array([0.8, 0.0]), target_critics=rows[0], critics=rows[1])


def test_redq_takes_the_minimum_of_a_random_pair_and_climbs_the_mean():
    """Of values 1, 2, 3 the pairs' minima are 1 (twice as often) and 2; the policy's value is the mean, 30."""
    config = sac.Config(num_critics=3, target_subset=2)

    @jax.jit
    @jax.vmap
    def losses(key):
        _, told = sac.update(config, simple_networks(3), STILL, Context(), redq_learner(), transitions(), key)
        return told.scalars["critic_loss"], told.scalars["actor_loss"]

    critic_loss, actor_loss = map(np.asarray, losses(jax.random.split(jax.random.key(0), 200)))
    wanted = [sum(0.5 * (-1 + 0.9 * low - q) ** 2 for q in (10, 20, 60)) for low in (1, 2)]
    seen = [np.isclose(critic_loss, want, rtol=1e-5) for want in wanted]
    assert np.all(seen[0] | seen[1])
    assert abs(seen[0].mean() - 2 / 3) < 0.15  # 4.5 standard errors
    np.testing.assert_allclose(actor_loss, -30.0, rtol=1e-6)


def test_a_round_is_several_steps_of_the_critics_and_one_of_the_policy():
    """Twenty steps of the critics, each on its own share with targets that move, against a loop in NumPy."""
    hp = dataclasses.replace(STILL, critic_learning_rate=0.1, policy_learning_rate=0.1, temperature_learning_rate=0.01)
    config = sac.Config(num_updates=5, critic_steps=5)
    batch = transitions(5)._replace(reward=jnp.arange(5.0))
    start = learner(hp)
    after, _ = sac.update(config, simple_networks(), hp, Context(), start, batch, jax.random.key(0))
    params, targets, mean, square = np.array(start.critics), np.array(start.target_critics), 0.0, 0.0
    for i in range(5):
        low = (targets[:, 0] * 0.8 + targets[:, 1] * 2.0).min()
        error = i + 0.9 * (low + 0.2 * 0.7) - (params[:, 0] * 0.2 + params[:, 1])
        grad = -error[:, None] * np.array([0.2, 1.0])
        mean, square = 0.9 * mean + 0.1 * grad, 0.999 * square + 0.001 * grad**2
        step = (mean / (1 - 0.9 ** (i + 1))) / (np.sqrt(square / (1 - 0.999 ** (i + 1))) + 1e-8)
        params = params - 0.1 * step
        targets = targets + 0.25 * (params - targets)
    np.testing.assert_allclose(after.critics, params, rtol=1e-4)
    np.testing.assert_allclose(after.target_critics, targets, rtol=1e-4)
    np.testing.assert_allclose(np.abs(after.actor - start.actor), [0.1, 0.1], rtol=1e-4)  # once
    np.testing.assert_allclose(after.log_alpha, np.log(0.2) - 0.01, rtol=1e-4)


def test_dropout_and_layer_norm_are_the_critics_alone():
    """DroQ's critics: with a key some units are dropped, other ones in each critic; without one, none."""
    space = Box(-1, 1, (3,))
    config = sac.Config(hidden=(32, 32), dropout=0.5, layer_norm=True)
    nets = sac.build(config, space, Box(-1, 1, (2,)))
    params = nets.critics.init(jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), params)  # the same function twice
    obs, action = jnp.ones((1, 3)), jnp.ones((1, 2)) * 0.5
    plain = nets.critics.apply(params, obs, action)
    np.testing.assert_array_equal(plain[0], plain[1])
    draws = jax.jit(jax.vmap(lambda key: nets.critics.apply(params, obs, action, key)))
    dropped = np.asarray(draws(jax.random.split(jax.random.key(1), 100)))[:, :, 0, 0]
    assert len(np.unique(dropped)) > 150
    names = str(jax.tree_util.tree_structure(nets.actor.init(jax.random.key(0))))
    assert "LayerNorm" not in names


@pytest.mark.parametrize(("theta", "correlation"), [(1.0, 0.0), (0.1, 0.9)])
def test_exploring_noise_is_standard_and_correlated(theta, correlation):
    """The policy explores with draws of standard deviation 1 before squashing, correlated from step to step."""
    env, params = envs.make("Pendulum-v1")
    agent = sac.make(env, sac.Config(num_envs=64, hidden=(8,), rollout_length=150, warmup_steps=64, batch_size=16))
    hp = sac.Hyperparams(
        policy_learning_rate=0.0, critic_learning_rate=0.0, temperature_learning_rate=0.0, noise_theta=theta
    )
    state = jax.jit(lambda key: agent.step(agent.init(key, hp, params))[0])(jax.random.key(0))
    num = 64 * 150
    rows = state.replay.rows["uint32"][64 : 64 + num]
    obs = jax.lax.bitcast_convert_type(rows[:, :3], jnp.float32)
    action = jax.lax.bitcast_convert_type(rows[:, 3:4], jnp.float32)
    nets = sac.build(agent.config, env.observation_space, env.action_space)
    pi = nets.actor.apply(state.learner.actor, obs)
    noise = np.asarray((jnp.arctanh(action) - pi.mean) / pi.std).reshape(150, 64)[50:]
    np.testing.assert_allclose(noise.std(), 1.0, atol=0.1)
    np.testing.assert_allclose(np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1], correlation, atol=0.06)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"critic_steps": 3}, "critic_steps=3 does not divide num_updates=4"),
        ({"target_subset": 3}, "target_subset=3 must be 1 … num_critics=2"),
    ],
)
def test_sizes_that_do_not_fit(options, message):
    env, _ = envs.make("Pendulum-v1")
    with pytest.raises(InputError, match=message):
        sac.make(env, sac.Config(**options))


def test_discrete_actions_are_refused():
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match="sac needs a Box action space"):
        sac.make(env)


@pytest.mark.slow
def test_learns_pendulum_quickly(optimised):
    """4,000 steps reach a return above −300; a random policy has −1236, the best −140."""
    env, params = envs.make("Pendulum-v1")
    train = make_train(sac.make(env, sac.Config(hidden=(64, 64), batch_size=128)), env_steps=4_000, num_evals=2)
    result = optimised(train)(jax.random.key(12), sac.Hyperparams(), params)
    assert float(result.evaluation.returns.mean(-1)[-1]) >= -300
