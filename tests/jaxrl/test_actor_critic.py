"""The one-step actor-critic: its update by hand, the factor γ^t, and that it learns at every step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.spaces import Box, Discrete
from jaxrl import policies
from jaxrl.agents import actor_critic
from jaxrl.train import make_train
from jaxrl.types import Context, Transition


@pytest.mark.parametrize("discount_gradient", [False, True])
def test_update_by_hand(discount_gradient):
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, 6, 3)).astype(np.float32)
    action, t = jnp.asarray(rng.integers(0, 2, 6)), jnp.arange(6)
    reward = jnp.asarray(rng.normal(size=6), jnp.float32)
    terminated = jnp.array([False, True, False, False, True, False])
    truncated = jnp.array([False, False, True, False, True, False])
    batch = Transition(obs, action, reward, terminated, truncated, next_obs, policies.Sampled(action, jnp.nan))
    config = actor_critic.Config(num_envs=6, hidden=(4,), discount_gradient=discount_gradient)
    hp = actor_critic.Hyperparams(
        learning_rate=0.01, value_learning_rate=0.03, gamma=0.5, entropy_coef=0.0, max_grad_norm=1e9
    )
    nets = actor_critic.build(config, Box(-9, 9, (3,)), Discrete(2))
    learner, context = actor_critic.init_learner(config, nets, jax.random.key(0), hp), Context(progress=jnp.float32(0))
    if discount_gradient:
        np.testing.assert_array_equal(learner.t, np.zeros(6))
        learner = learner._replace(t=t)

    @jax.jit
    def update(learner):
        return actor_critic.update(config, nets, hp, context, learner, batch, jax.random.key(1))

    new, _ = update(learner)
    if discount_gradient:
        np.testing.assert_array_equal(new.t, [1, 0, 0, 4, 0, 6])  # episodes that ended begin anew

    value, v = (np.asarray(nets.value(learner.params, x)) for x in (obs, next_obs))
    error = np.asarray(reward) + 0.5 * ~np.asarray(terminated) * v - value  # truncation is not in it
    weight = 0.5 ** np.arange(6) if discount_gradient else np.ones(6)
    score = jax.jacobian(lambda params: nets.policy(params, obs).log_prob(action))(learner.params)["actor"]
    slope = jax.jacobian(lambda params: nets.value(params, obs))(learner.params)["critic"]
    for part, derivative, factor, rate in (("actor", score, weight, 0.01), ("critic", slope, np.ones(6), 0.03)):
        leaves = [jax.tree.leaves(tree) for tree in (learner.params[part], new.params[part], derivative)]
        for old, now, each in zip(*leaves, strict=True):
            g = -np.tensordot(factor * error, np.asarray(each), 1) / 6
            np.testing.assert_allclose(now, old - rate * g / (np.abs(g) + 1e-5), atol=rate * 2e-3)  # Adam's first step


def test_the_age_of_the_episodes_is_known():
    """Beside the environment's own clock, over endings, in an environment whose episodes take 7 steps or fewer."""
    env, params = envs.make("CartPole-v1", max_steps=7)
    config = actor_critic.Config(num_envs=3, steps_per_iteration=5, hidden=(4,), discount_gradient=True)
    agent = actor_critic.make(env, config)

    @jax.jit
    def ages(key):
        def step(state, _):
            state, _ = agent.step(state)
            return state, (state.learner.t, state.episode.t)

        hp = actor_critic.Hyperparams(total_steps=1e4)
        return jax.lax.scan(step, agent.init(key, hp, params), None, length=5)[1]

    known, true = ages(jax.random.key(0))
    np.testing.assert_array_equal(known, true)
    assert len(np.unique(true)) > 3


@pytest.mark.slow
def test_learns_cartpole_quickly(optimised):
    """A random policy has a return of 22."""
    env, params = envs.make("CartPole-v1")
    agent = actor_critic.make(env)
    result = optimised(make_train(agent, env_steps=100_000, num_evals=1))(
        jax.random.key(1011), actor_critic.Hyperparams(), params
    )
    assert float(result.evaluation.returns[-1].mean()) >= 100
