"""MPO: E-step and bounds against rlax and by hand, one update by hand, the bounds of a whole run, learning."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.errors import InputError
from jaxrl import losses, networks
from jaxrl.agents import mpo
from jaxrl.distributions import Normal
from jaxrl.train import make_train
from jaxrl.types import Context, Transition


def test_loss_and_gradients_are_those_of_rlax(rlax):
    """The whole of E-step, M-step and bounds, with gradients in likelihood, divergence, temperature and multiplier."""
    keys = jax.random.split(jax.random.key(0), 3)
    log_prob, q = jax.random.normal(keys[0], (6, 4)), 3 * jax.random.normal(keys[1], (6, 4))
    kl = jax.random.uniform(keys[2], (4,))
    point = (log_prob, kl, jnp.float32(0.7), jnp.float32(2.0))

    def ours(log_prob, kl, temperature, multiplier):
        weights, dual = losses.mpo_weights(q, temperature, 0.1)
        return (-jnp.sum(weights * log_prob, 0) + dual + losses.bounded(kl, multiplier, 0.3)).mean()

    def theirs(log_prob, kl, temperature, multiplier):
        penalty = functools.partial(rlax.LagrangePenalty, per_dimension=False)
        bound = penalty(alpha=multiplier, epsilon=jnp.float32(0.3))
        loss, _ = rlax.mpo_loss(log_prob, q, penalty(alpha=temperature, epsilon=jnp.float32(0.1)), [(kl, bound)])
        return loss.mean()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        want = jax.jit(jax.value_and_grad(theirs, (0, 1, 2, 3)))(*point)
    got = jax.jit(jax.value_and_grad(ours, (0, 1, 2, 3)))(*point)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_at_the_least_dual_the_weights_are_epsilon_from_equal_ones():
    """What the temperature is for: found by a scan over its values."""
    q = jax.random.normal(jax.random.key(1), (50,))
    etas = jnp.exp(jnp.linspace(-3.0, 3.0, 2001))
    weights, dual = jax.vmap(lambda eta: losses.mpo_weights(q, eta, 0.1))(etas)
    best = np.asarray(weights[np.argmin(dual)])
    np.testing.assert_allclose(np.sum(best * np.log(50 * best)), 0.1, rtol=0.01)


def simple_networks():
    """A policy of constant mean m and spread exp(k); values w·(s, a)."""
    actor = networks.Network(
        lambda key: jnp.zeros(2),
        lambda w, obs: Normal(jnp.broadcast_to(w[0], obs.shape), jnp.broadcast_to(jnp.exp(w[1]), obs.shape)),
    )
    critic = networks.Network(
        lambda key: jnp.zeros(2), lambda w, obs, action: (w[0] * obs + w[1] * action)[None] * jnp.ones((1, 1))
    )
    return mpo.Networks(actor, critic)


def test_update_by_hand():
    """Targets, divergences and the weighted fit, from the draws that the update makes; truncation does not show."""
    nets, hp = simple_networks(), mpo.Hyperparams(gamma=0.9, temperature=0.5, multiplier_mean=3.0, multiplier_std=2.0)
    config = mpo.Config(num_samples=5, target_period=2)
    init = mpo.init_learner(nets, jax.random.key(0), hp)
    before = init._replace(
        actor=jnp.array([0.4, -0.5]), target_actor=jnp.array([0.1, -1.0]), target_critic=jnp.array([2.0, -1.0])
    )
    ones = jnp.ones((3, 1))
    flags = jnp.array([False, False, True]), jnp.array([False, True, False])
    batch = Transition(
        ones, 0.5 * ones, jnp.array([1.0, 2.0, 3.0]), *flags, 2 * ones, (), weight=jnp.array([1.0, 0.5, 0.0])
    )
    key = jax.random.key(7)
    update = jax.jit(functools.partial(mpo.update, config, nets))
    after, told = update(hp, Context(), before, batch, key)

    draws = 0.1 + np.exp(-1.0) * np.asarray(jax.random.normal(key, (5, 6, 1)))[..., 0]
    inside = np.clip(draws, -1, 1)
    target = np.array([1.0, 2.0, 3.0]) + 0.9 * np.array([1, 1, 0]) * (2 * 2 - inside[:, 3:]).mean(0)
    np.testing.assert_allclose(
        told.scalars["critic_loss"], 0.5 * np.dot([1.0, 0.5, 0.0], np.square(target)) / 3, rtol=1e-4
    )
    np.testing.assert_allclose(told.priority, np.abs(target), rtol=1e-4)  # Q was 0
    q = 2 - inside[:, :3]
    weights = np.exp(q / 0.5) / np.exp(q / 0.5).sum(0)

    def log_density(x, mean, std):
        return -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)

    old, new = (0.1, np.exp(-1.0)), (0.4, np.exp(-0.5))
    likelihood = log_density(draws[:, :3], new[0], old[1]) + log_density(draws[:, :3], old[0], new[1])
    np.testing.assert_allclose(told.scalars["policy_loss"], -(weights * likelihood).sum(0).mean(), rtol=1e-4)
    kl_mean, kl_std = 0.5 * (0.3 / old[1]) ** 2, 0.5 * (np.exp(-1.0) - 1) + 0.5
    np.testing.assert_allclose([told.scalars["kl_mean"], told.scalars["kl_std"]], [kl_mean, kl_std], rtol=1e-4)
    # Both divergences are above their bounds: the multipliers rise by Adam's first step.
    np.testing.assert_allclose(after.duals.mean, np.log(3.0) + 0.01, rtol=1e-4)
    np.testing.assert_allclose(after.duals.std, np.log(2.0) + 0.01, rtol=1e-4)
    np.testing.assert_array_equal(after.target_actor, before.target_actor)
    later, _ = update(hp, Context(), after, batch, key)  # the second step: copies
    np.testing.assert_array_equal(later.target_actor, later.actor)
    np.testing.assert_array_equal(later.target_critic, later.critic)


def test_discrete_actions_are_refused():
    with pytest.raises(InputError, match="mpo needs a Box action space"):
        mpo.make(envs.make("CartPole-v1")[0])


@pytest.mark.slow
def test_learns_pendulum(optimised):
    """10,000 steps; a random policy has −1236, the best −140."""
    env, params = envs.make("Pendulum-v1")
    train = make_train(mpo.make(env, mpo.Config(hidden=(64, 64), batch_size=64)), env_steps=10_000, num_evals=1)
    result = optimised(train)(jax.random.key(1000), mpo.Hyperparams(), params)
    assert float(result.evaluation.returns.mean()) >= -250
