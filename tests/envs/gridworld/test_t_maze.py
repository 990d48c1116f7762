"""The T-maze by hand, and its best return."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import episode
from envs.gridworld.t_maze import EAST, NORTH, SOUTH, WEST, State


@pytest.fixture(scope="module")
def maze():
    """(one step taken by hand, params) in a corridor of length 3."""
    env, params = envs.make("TMaze-v0", corridor_length=3)
    return jax.jit(functools.partial(env.step, jax.random.key(0), params=params)), env, params


def at(position, north=True):
    return State(jnp.int32(position), jnp.bool_(north), jnp.int32(0))


@pytest.mark.parametrize(
    ("position", "action", "reward", "after", "seen", "ends"),
    [
        (0, EAST, 0.0, 1, [1, 0, 1], False),
        (0, WEST, -0.1, 0, [0, 1, 1], False),
        (0, NORTH, -0.1, 0, [0, 1, 1], False),
        (1, SOUTH, -0.1, 1, [1, 0, 1], False),
        (1, WEST, 0.0, 0, [0, 1, 1], False),  # the sign is still there
        (2, EAST, 0.0, 3, [0, 1, 0], False),
        (3, EAST, -0.1, 3, [0, 1, 0], False),
        (3, WEST, 0.0, 2, [1, 0, 1], False),
        (3, NORTH, 4.0, 3, [0, 1, 0], True),
        (3, SOUTH, -0.1, 3, [0, 1, 0], True),
    ],
)
def test_one_step(maze, position, action, reward, after, seen, ends):
    step, _, _ = maze
    out = step(at(position), action)
    assert (float(out.reward), int(out.state.position), bool(out.terminated)) == (np.float32(reward), after, ends)
    np.testing.assert_array_equal(out.obs, seen)
    # The mirrored maze: north and south change places everywhere.
    mirrored = step(at(position, north=False), {NORTH: SOUTH, SOUTH: NORTH}.get(action, action))
    assert (float(mirrored.reward), bool(mirrored.terminated)) == (np.float32(reward), ends)
    np.testing.assert_array_equal(mirrored.obs, seen[::-1] if after == 0 else seen)


def test_best_returns():
    """A policy that keeps the sign in mind earns 4 in every episode; one that turns without it 1.95 on average."""
    env, params = envs.make("TMaze-v0", corridor_length=7)
    start = episode.reset(env, params, jax.random.key(1), 512)

    @jax.jit
    def play(state):
        signs = state.obs

        def body(state, t):
            remembered = jnp.where(signs[:, 2] == 1, NORTH, SOUTH)  # seen at the start alone
            blind = jnp.full_like(remembered, NORTH)
            turn = jnp.where(jnp.arange(512) < 256, remembered, blind)
            state, ts = episode.step(env, params, jax.random.key(2), state, jnp.where(t < 7, EAST, turn))
            return state, (ts.reward, ts.terminated)

        return jax.lax.scan(body, state, jnp.arange(8))[1]

    reward, terminated = play(start)
    assert not terminated[:-1].any()
    assert terminated[-1].all()
    total = np.asarray(reward.sum(0))
    np.testing.assert_array_equal(total[:256], 4.0)
    assert abs(total[256:].mean() - 1.95) < 4 * 2.05 / 16  # 4 standard errors


def test_picture():
    """The goal is green on the side that the sign names, and the agent is where it is."""
    env, params = envs.make("TMaze-v0", corridor_length=3)
    picture = env.render(at(2, north=True), params)
    mirrored = env.render(at(2, north=False), params)
    assert picture.shape == (3 * 100 + 20, 4 * 100 + 20, 3)
    assert tuple(picture[60, 360]) == tuple(mirrored[260, 360]) == (70, 160, 90)
    assert tuple(picture[160, 260]) == (60, 110, 200)
    assert tuple(picture[160, 160]) == (255, 255, 255)
