"""Wrappers of observations, on an environment that counts, where every expectation is plain arithmetic."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import episode, spaces
from envs.base import Env, Step
from envs.errors import InputError
from envs.spaces import Box, Discrete
from envs.wrappers import FrameStack, frame_stack_4


class CounterState(NamedTuple):
    n: jax.Array  # f32[]


@dataclass(frozen=True)
class Counter(Env[CounterState, Any]):
    """Starts at 10·k for a random k in 1 … 9 and counts on; ends at a number whose last digit is `end`.

    Observes the number in an array of `shape`, negated in every second entry of its last axis.
    """

    shape: tuple[int, ...] = (2,)
    end: int = 9

    @property
    def random_step(self):
        return False

    @property
    def observation_space(self):
        return Box(-100.0, 100.0, self.shape)

    @property
    def action_space(self):
        return Discrete(2)

    def default_params(self):
        return ()

    def observe(self, n):
        sign = np.where(np.arange(self.shape[-1]) % 2, -1.0, 1.0) if self.shape else 1.0
        return (jnp.zeros(self.shape) + n * sign).astype(jnp.float32)

    def reset(self, key, params):
        n = 10 * jax.random.randint(key, (), 1, 10).astype(jnp.float32)
        return self.observe(n), CounterState(n)

    def step(self, key, state, action, params):
        n = state.n + 1
        return Step(self.observe(n), CounterState(n), n, n % 10 == self.end, {})


def play(env, steps, num_envs=3):
    """Steps under episode: (first obs, time steps, following states), NumPy arrays [steps, B, ...]."""
    first = episode.reset(env, env.default_params(), jax.random.key(0), num_envs)

    def body(state, key):
        following, ts = episode.step(env, env.default_params(), key, state, jnp.zeros(num_envs, jnp.int32))
        return following, (ts, following)

    _, (ts, after) = jax.lax.scan(body, first, jax.random.split(jax.random.key(1), steps))
    return jax.device_get((first, ts, after))


@pytest.mark.parametrize(("max_steps", "end"), [(4, 9), (None, 4)], ids=["truncated", "terminated"])
def test_frame_stack_over_episodes(max_steps, end):
    """However an episode ends, the successor has its frames, and the next start has none of them."""
    first, ts, after = play(FrameStack(Counter(max_steps=max_steps, end=end), 3), 9)
    assert first.obs.shape == (3, 2, 3)
    np.testing.assert_array_equal(first.obs[:, 1], -first.obs[:, 0])
    starts = first.obs[:, 0, 0]
    for t in range(9):
        i = t % 4 + 1  # the counter of its episode
        expected = np.maximum(np.array([i - 2, i - 1, i]), 0)
        np.testing.assert_array_equal(ts.next_obs[t, :, 0], starts[:, None] + expected)
        np.testing.assert_array_equal(ts.next_obs[t, :, 1], -(starts[:, None] + expected))
        ended = ts.terminated[t] | ts.truncated[t]
        assert (ended == (i == 4)).all()
        if i == 4:
            assert (ts.truncated[t] == (max_steps is not None)).all()
            starts = after.obs[t, :, 0, 0]
            np.testing.assert_array_equal(after.obs[t, :, 0], np.repeat(starts[:, None], 3, 1))
            np.testing.assert_array_equal(starts % 10, 0)
        else:
            np.testing.assert_array_equal(after.obs[t], ts.next_obs[t])


@pytest.mark.parametrize(
    ("shape", "stacked"), [((), (4,)), ((2,), (2, 4)), ((5, 6), (5, 6, 4)), ((5, 6, 2), (5, 6, 8))]
)
def test_frame_stack_shapes(shape, stacked):
    """Pictures are joined on their channels, [c0 c1 c0 c1 …]; everything else on a new axis."""
    env = frame_stack_4(Counter(shape=shape))
    assert env.observation_space == Box(-100.0, 100.0, stacked)
    obs, state = env.reset(jax.random.key(0), ())
    out = env.step(jax.random.key(0), state, 0, ())
    assert out.obs.shape == stacked
    start = float(obs.reshape(-1)[0])
    plane = np.asarray(out.obs).reshape(-1, stacked[-1])[0]
    if len(shape) == 3:
        np.testing.assert_array_equal(plane, [start, -start] * 3 + [start + 1, -start - 1])
    else:
        np.testing.assert_array_equal(plane, [start] * 3 + [start + 1])


def test_frame_stack_bounds_follow_the_coordinates():
    env = FrameStack(envs.make("CartPole-v1")[0], 2)
    space = env.observation_space
    assert space.shape == (4, 2)
    np.testing.assert_array_equal(space.upper, np.repeat(env.env.observation_space.upper[:, None], 2, 1))
    assert hash(space) == hash(env.observation_space)
    pixels = FrameStack(envs.make("Breakout-MinAtar")[0], 2)
    assert pixels.observation_space == Box(False, True, (10, 10, 8), np.bool_)
    obs, _ = pixels.reset(jax.random.key(0), envs.make("Breakout-MinAtar")[1])
    assert spaces.contains(pixels.observation_space, obs)


def test_frame_stack_of_one_frame_adds_nothing_but_the_axis():
    env = FrameStack(Counter(), 1)
    obs, state = env.reset(jax.random.key(0), ())
    assert state.frames.size == 0
    out = env.step(jax.random.key(0), state, 0, ())
    np.testing.assert_array_equal(out.obs[:, 0], obs[:, 0] + np.array([1, -1]))


def test_frame_stack_refuses():
    with pytest.raises(InputError, match="frames=0"):
        FrameStack(Counter(), 0)
    with pytest.raises(InputError, match="Box"):
        FrameStack(envs.make("GridWorld-4x4")[0])
