"""Lagging actors: which parameters act, and what the weights are."""

import jax
import numpy as np
import pytest

import envs
from envs.errors import InputError
from jaxrl.agents import impala


def test_actors_use_the_parameters_of_two_updates_ago():
    """Step by step: the log-probability that an actor notes is that of the parameters before the last two updates."""
    env, params = envs.make("CartPole-v1")
    agent = impala.make(env, impala.Config(num_envs=4, rollout_length=4, hidden=(4,), lag=2))
    hp = impala.Hyperparams(learning_rate=0.1, total_steps=1e6)
    step = jax.jit(agent.step)
    state = jax.jit(agent.init)(jax.random.key(0), hp, params)
    history, kl = [state.learner.params], []
    for _ in range(4):
        state, metrics = step(state)
        history.append(state.learner.params)
        kl.append(float(metrics.scalars["lag_kl"]))
        for i in range(2):
            old = history[max(0, len(history) - 3 + i)]
            jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), state.learner.earlier, old)
    assert kl[0] < 1e-9  # nothing has been learnt yet
    assert min(kl[1:]) > 1e-6
    with pytest.raises(InputError, match="lag=-1"):
        impala.make(env, impala.Config(lag=-1))


def test_without_lag_all_weights_are_one():
    env, params = envs.make("Pendulum-v1")
    agent = impala.make(env, impala.Config(num_envs=4, rollout_length=4, hidden=(4,), lag=0))

    @jax.jit
    def two(key):
        state, _ = agent.step(agent.init(key, impala.Hyperparams(learning_rate=0.1, total_steps=1e6), params))
        return agent.step(state)[1].scalars

    scalars = two(jax.random.key(0))
    np.testing.assert_allclose(scalars["weight"], 1.0, rtol=1e-5)
