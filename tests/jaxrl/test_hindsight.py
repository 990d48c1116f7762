"""Relabelled steps against what the definition says, and DQN with and without them on bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.base import ACHIEVED, DESIRED
from envs.errors import InputError
from jaxrl import hindsight
from jaxrl.agents import dqn
from jaxrl.driver import fit
from jaxrl.types import Transition

LENGTH, BATCH, NUM = 7, 3, 400


def walk():
    """Seven steps in three environments whose achieved goal is the time; the episodes end after steps 2, 3 and 6."""
    env, params = envs.make("BitFlipping-v0", bits=3, max_steps=7)
    time = jnp.broadcast_to(jnp.arange(LENGTH)[:, None, None], (LENGTH, BATCH, 3)).astype(jnp.float32)
    desired = jnp.full((LENGTH, BATCH, 3), -1.0)
    terminated = jnp.zeros((LENGTH, BATCH), bool).at[2, 0].set(True)
    truncated = jnp.zeros((LENGTH, BATCH), bool).at[3, 1].set(True)
    steps = Transition(
        obs={ACHIEVED: time - 1, DESIRED: desired},
        action=jnp.arange(LENGTH * BATCH).reshape(LENGTH, BATCH),
        reward=jnp.full((LENGTH, BATCH), -1.0),
        terminated=terminated,
        truncated=truncated,
        next_obs={ACHIEVED: time, DESIRED: desired},
        extras=(),
    )
    return steps, jax.jit(lambda key: hindsight.relabel(env, params, steps, key, NUM))(jax.random.key(0))


def test_goals_are_those_of_the_episode_s_future_each_as_often():
    _, again = walk()
    goal = np.asarray(again.obs[DESIRED])[..., 0]
    last = np.array([[2, 3, 6]] * 3 + [[6, 3, 6]] + [[6, 6, 6]] * 3)  # by step and environment
    for t in range(LENGTH):
        for b in range(BATCH):
            possible = np.arange(t, last[t, b] + 1)
            values, counts = np.unique(goal[:, t, b], return_counts=True)
            np.testing.assert_array_equal(values, possible)
            expected = NUM / len(possible)
            assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_reward_and_end_are_those_of_the_new_goal_and_the_rest_stays():
    steps, again = walk()
    goal, achieved = np.asarray(again.next_obs[DESIRED]), np.asarray(again.next_obs[ACHIEVED])
    reached = (goal == achieved).all(-1)
    assert reached.any()
    assert not reached.all()
    np.testing.assert_array_equal(again.terminated, reached)
    np.testing.assert_array_equal(again.reward, np.where(reached, 0.0, -1.0))
    np.testing.assert_array_equal(again.obs[DESIRED], goal)
    for ours, before in (
        (again.obs[ACHIEVED], steps.obs[ACHIEVED]),
        (again.next_obs[ACHIEVED], steps.next_obs[ACHIEVED]),
        (again.action, steps.action),
        (again.truncated, steps.truncated),
    ):
        np.testing.assert_array_equal(ours, np.broadcast_to(before, ours.shape))


def test_a_step_s_own_goals_give_what_the_environment_gave():
    env, params = envs.make("BitFlipping-v0", bits=2)
    state = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), 64), params)[1]
    out = jax.vmap(env.step, (None, 0, 0, None))(jax.random.key(1), state, jnp.arange(64) % 2, params)
    reward, terminated = jax.vmap(env.judge, (0, 0, None))(out.obs[ACHIEVED], out.obs[DESIRED], params)
    np.testing.assert_array_equal(out.reward, reward)
    np.testing.assert_array_equal(out.terminated, terminated)
    assert 8 < terminated.sum() < 40  # a quarter of the pairs differ in just that bit


def test_dqn_stores_every_step_once_more_for_each_goal():
    env, params = envs.make("BitFlipping-v0", bits=4, max_steps=4)
    sizes = {"num_envs": 2, "rollout_length": 4, "warmup_steps": 16, "batch_size": 8, "replay_capacity": 400}
    agent = dqn.make(env, dqn.Config(**sizes, hindsight=3, hidden=(8,)))
    state = jax.jit(agent.init)(jax.random.key(0), dqn.Hyperparams(total_steps=1e3), params)
    assert state.replay.filled == 16 * 4


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("CartPole-v1", {"hindsight": 4}, "hindsight needs an environment with goals"),
        ("BitFlipping-v0", {"hindsight": 4, "n_step": 2}, "n_step=2 must be 1"),
        ("BitFlipping-v0", {"hindsight": -1}, "hindsight=-1 must be at least 0"),
    ],
)
def test_what_hindsight_cannot_do(name, options, message):
    with pytest.raises(InputError, match=message):
        dqn.make(envs.make(name)[0], dqn.Config(**options))


def test_ten_bits_are_learnt_with_hindsight():
    """The best mean return is about 1 − 10 / 2 = −4; an episode that never meets its goal has −10."""
    env, params = envs.make("BitFlipping-v0", bits=10, max_steps=10)
    config = dqn.Config(
        num_envs=16, rollout_length=10, num_updates=20, warmup_steps=800, hindsight=4, replay_capacity=50_000
    )
    hp = dqn.Hyperparams(gamma=0.98, epsilon_fraction=0.3, target_period=1, target_rate=0.01)
    returns = fit(dqn.make(env, config), params, hp, seeds=range(2), env_steps=24_000, num_evals=1).results
    assert returns["evaluation_return"].values[:, -1].min() > -5.5
