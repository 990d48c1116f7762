import sys
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from envs import episode, spaces
from envs.base import Env, Step
from envs.episode import BULK_START_BYTES, RESERVE_BYTES
from envs.spaces import Box, Discrete
from jaxrl.evaluate import evaluate
from jaxrl.rollout import example, initial_memory, rollout
from jaxrl.types import Policy


class Countdown(NamedTuple):
    left: jax.Array
    start: jax.Array
    padding: jax.Array


@dataclass(frozen=True)
class CountdownEnv(Env[Countdown, float]):
    """Starts at 2 … 6 and ends after so many steps; reward 1, in the last step 10. Padding makes its start large."""

    max_steps: int | None = 5
    padding: int = 0

    @property
    def random_step(self):
        return False

    @property
    def observation_space(self):
        return Box(0, 10, (2,))

    @property
    def action_space(self):
        return Discrete(2)

    def default_params(self):
        return 0.0

    def observe(self, state):
        return jnp.stack([state.left, state.start]).astype(jnp.float32)

    def reset(self, key, params):
        start = jax.random.randint(key, (), 2, 7)
        state = Countdown(start, start, jnp.zeros(self.padding))
        return self.observe(state), state

    def step(self, key, state, action, params):
        state = state._replace(left=state.left - 1)
        over = state.left == 0
        return Step(self.observe(state), state, jnp.where(over, 10.0, 1.0), over, {})


def count_policy():
    """Its memory counts the steps of the episode."""
    return Policy(
        lambda key, obs, memory: (jnp.zeros(len(obs), jnp.int32), memory + 1, {"memory": memory}), jnp.int32(0)
    )


@pytest.mark.parametrize(
    ("padding", "num_envs", "how"), [(0, 3, "all beforehand"), (100, 3, "when needed"), (48, 11, "in reserve")]
)
def test_rollout_against_a_plain_loop(padding, num_envs, how):
    env, length = CountdownEnv(padding=padding), 50
    size = (2 + padding) * 4 + 8  # state and observation
    reserve = "in reserve" if size * num_envs >= RESERVE_BYTES else "all beforehand"
    assert how == ("when needed" if size > BULK_START_BYTES else reserve)
    state = episode.reset(env, 0.0, jax.random.key(0), num_envs)
    policy = count_policy()
    out = rollout(env, 0.0, policy, state, initial_memory(policy, num_envs), jax.random.key(1), length)
    tr = out.transitions
    returns, lengths, count, starts = 0.0, 0, 0, []
    for b in range(num_envs):
        left, begun, t, total = int(state.obs[b, 0]), int(state.obs[b, 1]), 0, 0.0
        for step in range(length):
            np.testing.assert_array_equal(tr.obs[step, b], [left, begun])
            assert tr.extras["memory"][step, b] == t  # the policy's memory starts anew with every episode
            np.testing.assert_array_equal(tr.next_obs[step, b], [left - 1, begun])  # the true successor
            assert bool(tr.terminated[step, b]) == (left == 1)
            assert bool(tr.truncated[step, b]) == (t == 4)
            reward = 10.0 if left == 1 else 1.0
            assert tr.reward[step, b] == reward
            left, t, total = left - 1, t + 1, total + reward
            if left == 0 or t == 5:
                returns, lengths, count = returns + total, lengths + t, count + 1
                following = tr.obs[step + 1, b] if step + 1 < length else out.episode.obs[b]
                assert following[0] == following[1]
                left = begun = int(following[0])
                starts.append(begun)
                t, total = 0, 0.0
        assert out.episode.t[b] == t
        assert out.memory[b] == t
    assert (float(out.stats.return_sum), int(out.stats.length_sum), int(out.stats.count)) == (returns, lengths, count)
    assert len(set(starts)) == 5  # every new episode from a fresh draw


@pytest.mark.parametrize("max_steps", [1, 2, 9])
def test_starts_in_reserve_are_fresh_independent_draws(max_steps):
    """However soon the episodes end, no start is seen twice; 16 bytes each, so 512 of them are kept in reserve."""
    env, params = envs.make("CartPole-v1", max_steps=max_steps)
    policy = Policy(lambda key, obs, memory: (jax.random.bernoulli(key, 0.5, (512,)).astype(jnp.int32), memory, ()))
    state = episode.reset(env, params, jax.random.key(0), 512)
    # The environments differ in age, so that some are short of a start while others are not.
    state = state._replace(t=jnp.arange(512, dtype=jnp.int32) % max_steps)
    assert RESERVE_BYTES <= 16 * 512
    transitions = jax.jit(lambda key: rollout(env, params, policy, state, (), key, 12).transitions)(jax.random.key(1))
    ended = (transitions.terminated | transitions.truncated)[:-1]
    starts = np.asarray(transitions.obs[1:][ended])
    assert len(starts) >= 512 * (12 // max_steps - 1)
    assert len(np.unique(starts, axis=0)) == len(starts)
    for i in range(4):
        assert stats.kstest(starts[:, i], "uniform", (-0.05, 0.1)).pvalue > 1e-3
    assert np.abs(np.corrcoef(starts[1:].T, starts[:-1].T) - np.eye(8)).max() < 0.2


def test_rollouts_compose():
    """Two rollouts in a row see the same episodes as their states say; nothing is lost in between."""
    env = CountdownEnv()
    policy = count_policy()
    first = rollout(
        env, 0.0, policy, episode.reset(env, 0.0, jax.random.key(0), 2), jnp.zeros(2, jnp.int32), jax.random.key(1), 3
    )
    second = rollout(env, 0.0, policy, first.episode, first.memory, jax.random.key(2), 3)
    np.testing.assert_array_equal(second.transitions.obs[0], first.episode.obs)
    np.testing.assert_array_equal(second.transitions.extras["memory"][0], first.memory)


def test_evaluate_counts_whole_episodes_once():
    env = CountdownEnv()
    result = jax.jit(lambda key: evaluate(env, 0.0, count_policy(), key, 400))(jax.random.key(0))
    assert bool(result.finished.all())
    # A start of s ≤ 5 ends after s steps with s − 1 + 10, one of 6 is cut after 5 steps with 5.
    table = {2: 11.0, 3: 12.0, 4: 13.0}
    lengths, returns = np.asarray(result.lengths), np.asarray(result.returns)
    for length, value in table.items():
        assert (returns[lengths == length] == value).all()
    assert set(returns[lengths == 5]) == {14.0, 5.0}
    # Uniform starts 2 … 6: each a fifth, whatever the length.
    np.testing.assert_allclose([np.mean(lengths == n) for n in (2, 3, 4, 5)], [0.2, 0.2, 0.2, 0.4], atol=0.07)


def test_evaluate_gives_every_policy_the_same_starts():
    env, params = envs.make("CartPole-v1")
    left = Policy(lambda key, obs, memory: (jnp.zeros(len(obs), jnp.int32), memory, ()))
    key = jax.random.key(3)
    first, second = (evaluate(env, params, left, key, 8) for _ in range(2))
    np.testing.assert_array_equal(first.returns, second.returns)


def test_evaluate_has_a_bound_where_nothing_else_has(monkeypatch):
    """Episodes that it cuts are told from the others."""
    monkeypatch.setattr(sys.modules["jaxrl.evaluate"], "MOST_STEPS", 4)
    result = evaluate(CountdownEnv(max_steps=None), 0.0, count_policy(), jax.random.key(0), 64)
    assert int(result.lengths.max()) == 4
    np.testing.assert_array_equal(result.returns[~result.finished], 4.0)
    assert set(np.asarray(result.lengths)[result.finished].tolist()) == {2, 3, 4}
    assert 0 < int(result.finished.sum()) < 64
    result = evaluate(CountdownEnv(max_steps=None), 0.0, count_policy(), jax.random.key(0), 64, max_steps=3)
    assert not bool(result.finished.all())
    assert bool(result.finished.any())


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Breakout-MinAtar"])
def test_example_is_one_step_of_a_rollout(name):
    env, params = envs.make(name)

    def act(key, obs, memory):
        return jax.vmap(lambda k: spaces.sample(env.action_space, k))(jax.random.split(key, 2)), memory, ()

    def collect(key):
        return rollout(env, params, Policy(act), episode.reset(env, params, key, 2), (), key, 3).transitions

    steps = jax.eval_shape(collect, jax.random.key(0))
    assert jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), steps) == example(env)
