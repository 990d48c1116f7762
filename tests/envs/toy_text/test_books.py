"""The book's small MDPs: single steps worked out by hand, what their parameters do, and their noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from envs.errors import InputError
from envs.tabular import State, reachable
from envs.toy_text.bandit import Bandit
from envs.toy_text.maximization_bias import MaximizationBias
from envs.toy_text.maze import BLOCKING, DYNA, SHORTCUT, Maze
from envs.toy_text.random_walk import RandomWalk
from envs.toy_text.windy_gridworld import WindyGridworld

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def tables_of(name, **options):
    env, params = envs.make(name, **options)
    return jax.device_get(jit(env.tables)(params))


def test_the_wind():
    up, down, left, right, _, up_right, down_left, _, stay = range(9)
    following = tables_of("WindyGridworld-v0", moves=9).next_state[:, :, 0]
    for (row, col), action, expected in [
        ((3, 0), right, (3, 1)),
        ((3, 3), right, (2, 4)),  # the wind of the column that the move starts from
        ((3, 6), right, (1, 7)),
        ((3, 6), down, (2, 6)),
        ((0, 6), down, (0, 6)),
        ((1, 7), down, (0, 7)),
        ((3, 8), left, (2, 7)),  # one right of the goal: left leads to the cell above it
        ((5, 7), stay, (3, 7)),
        ((0, 0), up, (0, 0)),
        ((6, 9), right, (6, 9)),
        ((4, 5), up_right, (2, 6)),
        ((4, 9), down_left, (5, 8)),
    ]:
        assert following[row * 10 + col, action] == expected[0] * 10 + expected[1], (row, col, action)
    four = tables_of("WindyGridworld-v0")
    np.testing.assert_array_equal(four.next_state[:, :, 0], following[:, :4])
    arrives = four.next_state == 37
    np.testing.assert_array_equal(four.terminated, arrives)
    assert (four.reward == -1).all()


def test_the_wind_varies_where_there_is_one():
    tables = tables_of("WindyGridworldStochastic-v0")
    right = 3
    np.testing.assert_allclose(tables.probability, 1 / 3, atol=1e-7)
    assert set(tables.next_state[3 * 10 + 2, right]) == {33}
    assert set(tables.next_state[3 * 10 + 3, right]) == {34, 24, 14}
    assert set(tables.next_state[4 * 10 + 6, right]) == {37, 27, 17}
    assert set(tables.next_state[1 * 10 + 6, right]) == {7}  # two or three rows up is out of the grid, and so is one
    with pytest.raises(InputError, match="moves=5"):
        WindyGridworld(moves=5)


def test_mazes():
    assert [sum(row.count("#") for row in layout) for layout in (DYNA, BLOCKING, SHORTCUT)] == [7, 8, 8]
    tables = tables_of("DynaMaze-v0")
    up, down, left, right = range(4)
    for (row, col), action, expected in [
        ((2, 0), right, (2, 1)),
        ((2, 1), right, (2, 1)),  # a wall
        ((0, 6), right, (0, 6)),
        ((2, 0), left, (2, 0)),
        ((5, 4), down, (5, 4)),
        ((1, 8), up, (0, 8)),
    ]:
        assert tables.next_state[row * 9 + col, action, 0] == expected[0] * 9 + expected[1]
    np.testing.assert_array_equal(tables.reward == 1, tables.next_state == 8)
    np.testing.assert_array_equal(tables.terminated, tables.next_state == 8)
    assert tables.reward[reachable(tables)].sum() == 1  # the goal is entered from below alone
    assert tables.start.argmax() == 2 * 9


def test_walls_that_move_are_parameters():
    env, params = envs.make("BlockingMaze-v0")
    below_the_passage, up = State(np.int32(4 * 9 + 8)), np.int32(0)
    step = jit(env.step)
    assert int(step(jax.random.key(0), below_the_passage, up, params).obs) == 3 * 9 + 8
    changed = env.changed_params()
    assert changed.walls.sum() == params.walls.sum()
    assert int(step(jax.random.key(0), below_the_passage, up, changed).obs) == 4 * 9 + 8
    before, after = env.render(below_the_passage, params), env.render(below_the_passage, changed)
    different = (before != after).any(-1)
    assert different[150:200, :50].any()
    assert different[150:200, 400:].any()
    assert not different[:150].any()
    with pytest.raises(InputError, match="never changes"):
        envs.make("DynaMaze-v0")[0].changed_params()
    for wrong in (("S.", "G"), ("S.", "XG"), ("..", ".G"), ("SG", "SG")):
        with pytest.raises(InputError, match="layout="):
            Maze(layout=wrong)
    with pytest.raises(InputError, match="changed must have"):
        Maze(layout=("S.", ".G"), changed=("S.", "G."))


def test_random_walk():
    tables = tables_of("RandomWalk-19")
    assert tables.start.argmax() == 10
    assert tables.next_state[10, 0].tolist() == [9, 11]
    assert tables.reward[[1, 19], 0].tolist() == [[-1, 0], [0, 1]]
    assert tables.terminated[[1, 19], 0].tolist() == [[True, False], [False, True]]
    assert tables.reward[2:19].max() == tables.reward[2:19].min() == 0
    with pytest.raises(InputError, match="n=0"):
        RandomWalk(n=0)


def test_maximization_bias():
    env, params = envs.make("MaximizationBias-v0")
    tables = tables_of("MaximizationBias-v0")
    assert tables.next_state[:2, :, 0].tolist() == [[1] + [2] * 9, [2] * 10]
    assert tables.terminated[:2, :, 0].tolist() == [[False] + [True] * 9, [True] * 10]
    assert jax.vmap(env.action_mask)(jnp.arange(2)).tolist() == [[True] * 2 + [False] * 8, [True] * 10]
    keys = jax.random.split(jax.random.key(0), 20_000)
    step = jit(jax.vmap(env.step, (0, None, None, None)))
    from_a, from_b = (jax.device_get(step(keys, State(np.int32(i)), np.int32(0), params)) for i in (0, 1))
    assert not from_a.reward.any()
    assert not from_a.terminated.any()
    assert from_a.info["action_mask"].all()  # B is reached
    assert stats.kstest(from_b.reward, stats.norm(-0.1, 1).cdf).pvalue > 0.01
    with pytest.raises(InputError, match="actions=1"):
        MaximizationBias(actions=1)


def test_short_corridor():
    tables = tables_of("ShortCorridor-v0")
    assert tables.next_state[:3, :, 0].tolist() == [[0, 1], [2, 0], [1, 3]]
    assert tables.terminated[:3, :, 0].tolist() == [[False, False], [False, False], [False, True]]
    env, params = envs.make("ShortCorridor-v0")
    out = jit(env.step)(jax.random.key(0), State(np.int32(0)), np.int32(1), params)
    assert (int(out.obs), int(env.index(out.state))) == (0, 1)


def test_three_states():
    tables = tables_of("ThreeState-v0", rewards=(7.0, 2.0, 1.0))
    assert tables.next_state[:, :, 0].tolist() == [[0, 1], [1, 2], [2, 2]]
    assert tables.reward[:, :, 0].tolist() == [[0, 7], [0, 2], [0, 1]]
    assert not tables.terminated.any()


def test_a_testbed_is_a_vmap():
    """2,000 bandits: their means and rewards are as in the book; the best arm's mean is 1.5388 on average."""
    env, params = envs.make("Bandit-10")
    assert params.means.shape == (1, 10)

    @jit
    @jax.vmap
    def pull(key):
        key_params, key_step = jax.random.split(key)
        params = env.draw_params(key_params)
        best = env.step(key_step, State(jnp.int32(0)), jnp.argmax(params.means[0]), params)
        worst = env.step(key_step, State(jnp.int32(0)), jnp.argmin(params.means[0]), params)
        return params.means[0], best, worst

    means, best, worst = jax.device_get(pull(jax.random.split(jax.random.key(0), 2000)))
    assert stats.kstest(means.ravel(), "norm").pvalue > 0.01
    top = means.max(-1)
    assert top.mean() == pytest.approx(1.5388, abs=4 * top.std() / np.sqrt(2000))
    assert stats.kstest(best.reward - top, "norm").pvalue > 0.01
    assert best.info["best"].all()
    assert not best.info["regret"].any()
    assert best.terminated.all()
    assert not worst.info["best"].any()
    np.testing.assert_allclose(worst.info["regret"], top - means.min(-1), atol=1e-6)


def test_contexts_have_their_own_arms():
    tables = tables_of("ContextualBandit-v0")
    assert tables.start.tolist() == pytest.approx([0.2] * 5)
    env, params = envs.make("ContextualBandit-v0", std=0.0)
    step = jit(jax.vmap(jax.vmap(env.step, (None, None, 0, None)), (None, 0, None, None)))
    out = jax.device_get(step(jax.random.key(0), State(jnp.arange(5)), jnp.arange(10), params))
    np.testing.assert_array_equal(out.reward, params.means)
    np.testing.assert_array_equal(out.obs, np.repeat(np.arange(5)[:, None], 10, 1))
    assert out.info["best"].sum(-1).tolist() == [1] * 5
    with pytest.raises(InputError, match="arms=0"):
        Bandit(arms=0)
