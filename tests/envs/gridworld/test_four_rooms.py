"""FourRooms against hand-made walks over the rooms' geometry, and against published step counts on the same map."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from envs.errors import InputError
from envs.gridworld.four_rooms import FourRooms
from envs.tabular import State

# Programs that run once are not worth optimising.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]  # up, down, left, right


def free(row, col):
    """The rooms by their walls: columns 0, 6 and 12, rows 0 and 12, row 6 on the left and row 7 on the right."""
    if (row, col) in [(3, 6), (10, 6), (6, 2), (7, 9)]:
        return True  # hallways
    return row not in (0, 12) and col not in (0, 6, 12) and row != (6 if col < 6 else 7)


CELLS = [(row, col) for row in range(13) for col in range(13) if free(row, col)]


def led(cell, direction):
    row, col = CELLS[cell]
    to = row + MOVES[direction][0], col + MOVES[direction][1]
    return CELLS.index(to) if free(*to) else cell


def test_tables_are_the_walks():
    env, params = envs.make("FourRooms-v0", fail_prob=0.3, goal=(7, 9))
    tables = jax.device_get(jit(env.tables)(params))
    goal = CELLS.index((7, 9))
    assert len(CELLS) == env.num_states == 104
    for cell in range(104):
        for action in range(4):
            expected = [0.7 if k == action else 0.1 for k in range(4)]
            np.testing.assert_allclose(tables.probability[cell, action], expected, rtol=1e-6)
            for k in range(4):
                to = led(cell, k)
                assert tables.next_state[cell, action, k] == to
                assert tables.reward[cell, action, k] == tables.terminated[cell, action, k] == (to == goal)
    np.testing.assert_allclose(tables.start, [0 if cell == goal else 1 / 103 for cell in range(104)], rtol=1e-6)


def test_the_map_has_the_step_counts_of_option_critic():
    """Bacon et al. (2017) use this map with another slip: after every real move, with probability 1/3, another one to
    a random free neighbour. From their rules: 430 steps to the east hallway at random, 8.39 at best."""
    env, params = envs.make("FourRooms-v0", fail_prob=0.0)
    lead = np.asarray(jit(env.tables)(params).next_state)[:, 0]  # without slips: where each direction leads
    moved = np.zeros((104, 4, 104))
    for cell in range(104):
        for action in range(4):
            to = lead[cell, action]
            around = [n for n in lead[to] if n != to]
            if to == cell:
                moved[cell, action, cell] = 1
            else:
                moved[cell, action, to] += 2 / 3
                moved[cell, action, around] += 1 / 3 / len(around)
    goal = CELLS.index((7, 9))
    moved[:, :, goal] = 0
    others = np.arange(104) != goal
    at_random = np.linalg.solve(np.eye(104) - moved.mean(1), np.ones(104))
    best = np.zeros(104)
    for _ in range(300):
        best = (1 + moved @ best).min(1)
    assert at_random[others].mean() == pytest.approx(430, abs=0.5)
    assert best[others].mean() == pytest.approx(8.39, abs=0.005)


def test_steps_have_the_frequencies_of_the_tables():
    """Counted over many steps from two cells: an open one, and a corner where two directions are walls."""
    env, params = envs.make("FourRooms-v0")
    n = 3000
    for cell in (CELLS.index((2, 3)), CELLS.index((1, 1))):
        run = jit(jax.vmap(jax.vmap(env.step, (0, None, None, None)), (None, None, 0, None)))
        after = np.asarray(
            run(jax.random.split(jax.random.key(cell), n), State(jnp.int32(cell)), jnp.arange(4), params).obs
        )
        for action in range(4):
            expected = np.zeros(104)
            for k in range(4):
                expected[led(cell, k)] += n * (2 / 3 if k == action else 1 / 9)
            seen = np.bincount(after[action], minlength=104)
            assert seen[expected == 0].sum() == 0
            assert stats.chisquare(seen[expected > 0], expected[expected > 0]).pvalue > 1e-3


def test_starts_are_uniform_beside_the_goal():
    env, params = envs.make("FourRooms-v0")
    obs, state = jit(jax.vmap(env.reset, (0, None)))(jax.random.split(jax.random.key(0), 20_600), params)
    np.testing.assert_array_equal(obs, state.index)
    counts = np.bincount(np.asarray(obs), minlength=104)
    goal = CELLS.index((8, 9))
    assert counts[goal] == 0
    assert stats.chisquare(np.delete(counts, goal)).pvalue > 1e-3


def test_random_goals():
    env, params = envs.make("FourRooms-RandomGoal-v0")
    obs, state = jit(jax.vmap(env.reset, (0, None)))(jax.random.split(jax.random.key(0), 20_800), params)
    cell, goal = np.asarray(obs).T
    np.testing.assert_array_equal(state.index, goal * 104 + cell)
    assert (cell != goal).all()
    for drawn in (cell, goal):
        assert stats.chisquare(np.bincount(drawn, minlength=104)).pvalue > 1e-3
    assert abs(np.corrcoef(cell, goal)[0, 1]) < 0.03
    step = jit(env.step)
    goal = CELLS.index((5, 5))
    for start, arrived in ((CELLS.index((5, 4)), True), (CELLS.index((5, 3)), False)):
        outs = [
            step(jax.random.key(seed), State(jnp.int32(goal * 104 + start)), jnp.int32(3), params) for seed in range(20)
        ]
        went = [out for out in outs if int(out.obs[0]) == led(start, 3)]
        assert len(went) > 5
        assert all(bool(out.terminated) is arrived and float(out.reward) == arrived for out in went)
        assert all(int(out.obs[1]) == goal == int(out.state.index) // 104 for out in outs)


def test_coordinates_are_those_of_the_cells():
    env = FourRooms(observation="coordinates")
    np.testing.assert_array_equal(jax.vmap(env.observe)(jnp.arange(104)), CELLS)
    env = FourRooms(observation="coordinates", random_goal=True)
    assert env.observe(jnp.int32(7 * 104 + 50)).tolist() == [*CELLS[50], *CELLS[7]]
    with pytest.raises(InputError, match="Did you mean 'coordinates'"):
        FourRooms(observation="coordinate")


def test_picture():
    env, params = envs.make("FourRooms-v0")
    picture = env.render(State(np.int32(CELLS.index((2, 4)))), params)
    assert picture.shape == (390, 390, 3)
    for row in range(13):
        for col in range(13):
            colour = picture[row * 30 + 15, col * 30 + 15].tolist()
            expected = {(2, 4): [60, 110, 200], (8, 9): [70, 160, 90]}.get(
                (row, col), [255] * 3 if free(row, col) else [150] * 3
            )
            assert colour == expected
