"""Analytic policy gradients: the objective added up by hand, its gradient against finite differences, the update."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import envs
from envs import episode
from envs.errors import InputError
from envs.probes import DelayedReward
from envs.spaces import Box
from jaxrl import networks
from jaxrl.agents import apg
from jaxrl.distributions import SquashedNormal
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

HP = apg.Hyperparams(gamma=0.9, total_steps=1e6)


def window(env, params, nets, horizon, num_envs=3):
    """J as a function of (actor, critic), with everything else fixed; its jitted value comes with the transitions."""
    running = episode.reset(env, params, jax.random.key(1), num_envs)

    def objective(actor, critic):
        value, out = apg.objective(env, nets, HP, actor, critic, params, running, jax.random.key(2), horizon)
        return value, out.transitions

    return objective


def test_gradient_is_that_of_finite_differences():
    """Of eight steps of Pendulum, with a time limit of five in between, in four random directions of all weights."""
    env, params = envs.make("Pendulum-v1")
    env = env.replace(max_steps=5)
    nets = apg.build(apg.Config(hidden=(8,)), env.observation_space, env.action_space)
    objective = window(env, params, nets, horizon=8)

    @jax.jit
    def compare(key):
        key_actor, key_critic, key_directions = jax.random.split(key, 3)
        theta, unravel = ravel_pytree(nets.actor.init(key_actor))
        theta = theta + 0.3 * jax.random.normal(key_actor, theta.shape)  # away from the start, where outputs are near 0
        critic = jax.tree.map(lambda x: 10 * x, nets.critic.init(key_critic))

        def along(theta):
            return objective(unravel(theta), critic)[0]

        directions = jax.random.normal(key_directions, (4, theta.size)) / jnp.sqrt(theta.size)

        offsets = jnp.array([0.02, -0.02, 0.04, -0.04])
        points = theta + offsets[:, None, None] * directions
        values = jax.lax.map(along, points.reshape(16, -1)).reshape(4, 4)
        near, far = (values[0] - values[1]) / 0.04, (values[2] - values[3]) / 0.08
        # Richardson's combination of two sizes, exact up to the fourth order.
        return directions @ jax.grad(along)(theta), (4 * near - far) / 3

    analytic, numeric = compare(jax.random.key(0))
    assert np.abs(analytic).min() > 0.03
    np.testing.assert_allclose(analytic, numeric, rtol=0.02, atol=0.002)


@pytest.mark.parametrize("cut", [False, True])
def test_objective_adds_up_every_episode_with_its_own_discounts(cut):
    """Two-step episodes of reward 0, 1, five steps long; V = 7. Cut after one step instead, each is worth γ · 7."""
    env = DelayedReward(continuous=True, max_steps=1 if cut else None)
    nets = apg.Networks(
        apg.build(apg.Config(hidden=(4,)), env.observation_space, env.action_space).actor,
        networks.Network(lambda key: (), lambda params, obs: 7.0 + 0.0 * obs[..., 0]),
    )
    value, steps = jax.jit(window(env, env.default_params(), nets, horizon=5))(
        jax.jit(nets.actor.init)(jax.random.key(0)), ()
    )
    want = 5 * 0.9 * 7 if cut else 0.9 + 0.9 + 0.9 * 7  # two whole episodes, and the first step of a third
    np.testing.assert_allclose(value, want / 5, rtol=1e-5)
    assert steps.reward.shape == (5, 3)


def test_update_by_hand():
    """A policy of one number climbs the gradient; V = w is fitted to TD(λ) returns of two steps, one pass, one part."""
    hp = dataclasses.replace(HP, td_lambda=0.5, policy_learning_rate=0.2, critic_learning_rate=0.4, target_rate=0.25)
    nets = apg.Networks(
        networks.Network(
            lambda key: jnp.float32(0.3),
            lambda w, obs: SquashedNormal(w * obs, jnp.ones_like(obs), -1.0, 1.0),
        ),
        networks.Network(lambda key: jnp.float32(2.0), lambda w, obs: w + 0.0 * obs[..., 0]),
    )
    before = apg.init_learner(nets, jax.random.key(0), hp)._replace(target_critic=jnp.float32(4.0))
    ones = jnp.ones((2, 1, 1))
    no = jnp.zeros((2, 1), jnp.bool_)
    batch = Transition(ones, ones, jnp.array([[1.0], [2.0]]), no, no, ones, ())
    config = apg.Config(critic_epochs=1, critic_minibatches=1)
    context = Context(progress=jnp.float32(0.5))  # half of the step sizes is left
    update = jax.jit(functools.partial(apg.update, config, nets))
    after, (scalars, _) = update(hp, context, before, jnp.float32(3.0), batch, jax.random.key(0))
    late = 2 + 0.9 * 4
    targets = np.array([1 + 0.9 * (0.5 * 4 + 0.5 * late), late])
    np.testing.assert_allclose(scalars["value_mean"], targets.mean(), rtol=1e-5)
    np.testing.assert_allclose(scalars["value_loss"], 0.5 * np.square(targets - 2).mean(), rtol=1e-5)
    np.testing.assert_allclose(scalars["grad_norm"], 3.0)
    np.testing.assert_allclose(after.actor, 0.3 + 0.1, rtol=1e-4)  # Adam's first step, uphill
    np.testing.assert_allclose(after.critic, 2.0 + 0.2, rtol=1e-4)
    np.testing.assert_allclose(after.target_critic, 4.0 + 0.25 * (2.2 - 4.0), rtol=1e-4)


def test_what_it_cannot_do_is_said():
    cartpole, pendulum = envs.make("CartPole-v1")[0], envs.make("Pendulum-v1")[0]
    with pytest.raises(InputError, match="apg needs a Box action space"):
        apg.make(cartpole)
    with pytest.raises(InputError, match="apg follows gradients through actions, and integers have none"):
        apg.build(apg.Config(), Box(-1.0, 1.0, (2,)), Box(0, 5, (1,), np.int32))
    with pytest.raises(InputError, match=r"critic_minibatches=7 does not divide num_envs · horizon = 16 · 32 = 512"):
        apg.make(pendulum, apg.Config(critic_minibatches=7))


@pytest.mark.slow
def test_learns_pendulum(optimised):
    """500,000 steps; a random policy has −1236, the best −140."""
    env, params = envs.make("Pendulum-v1")
    train = make_train(apg.make(env), env_steps=500_000, num_evals=1)
    result = optimised(train)(jax.random.key(1001), apg.Hyperparams(), params)
    assert float(result.evaluation.returns.mean()) >= -200
