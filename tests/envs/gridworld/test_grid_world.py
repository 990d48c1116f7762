import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.gridworld.grid_world import GridWorld, Params, State

# Programs that run once are not worth optimising.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

UP, DOWN, LEFT, RIGHT = range(4)


def step(env, params, cell, action):
    return env.step(None, State(jnp.int32(cell)), jnp.int32(action), params)


@pytest.mark.parametrize("rows_cols", [(4, 4), (5, 5), (2, 3)])
def test_every_move_from_every_cell(rows_cols):
    rows, cols = rows_cols
    env, params = GridWorld(rows=rows, cols=cols), Params(-1.0, 10.0)
    move = jit(jax.vmap(jax.vmap(env.step, in_axes=(None, None, 0, None)), in_axes=(None, 0, None, None)))
    out = move(None, State(jnp.arange(rows * cols)), jnp.arange(4), params)
    for cell in range(rows * cols):
        row, col = divmod(cell, cols)
        for action, (dr, dc) in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)]):
            inside = 0 <= row + dr < rows and 0 <= col + dc < cols
            expected = (row + dr) * cols + col + dc if inside else cell
            assert int(out.obs[cell, action]) == int(out.state.cell[cell, action]) == expected
            arrived = expected == rows * cols - 1
            assert bool(out.terminated[cell, action]) is arrived
            assert float(out.reward[cell, action]) == (10 if arrived else -1)


def test_4x4_pays_1_at_the_goal_alone():
    env, params = envs.make("GridWorld-4x4")
    obs, state = env.reset(jax.random.key(0), params)
    assert int(obs) == int(state.cell) == 0
    rewards = []
    for action in (DOWN, DOWN, DOWN, RIGHT, RIGHT, RIGHT):
        out = env.step(None, state, action, params)
        state = out.state
        rewards.append(float(out.reward))
    assert rewards == [0, 0, 0, 0, 0, 1]
    assert out.terminated
    assert int(out.obs) == 15


def test_5x5_starts_anywhere_but_on_the_goal():
    env, params = envs.make("GridWorld-5x5")
    cells, _ = jit(jax.vmap(env.reset, in_axes=(0, None)))(jax.random.split(jax.random.key(0), 2400), params)
    counts = np.bincount(np.asarray(cells), minlength=25)
    assert counts[24] == 0
    assert counts[:24].min() > 60
    assert counts[:24].max() < 150
    assert float(step(env, params, 23, RIGHT).reward) == 10
    assert float(step(env, params, 0, UP).reward) == -1


def test_picture_has_the_agent_and_the_goal_in_their_cells():
    env, params = envs.make("GridWorld-4x4")
    picture = env.render(State(np.int32(6)), params)
    assert picture.shape == (242, 242, 3)
    assert picture[1 * 60 + 31, 2 * 60 + 31].tolist() == [60, 110, 200]
    assert picture[3 * 60 + 31, 3 * 60 + 31].tolist() == [70, 160, 90]
    assert picture[31, 31].tolist() == [255, 255, 255]
