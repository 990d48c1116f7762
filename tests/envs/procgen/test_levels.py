"""Levels by number: the same for ever, apart in training and testing, all of them solvable."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from envs.errors import InputError
from envs.procgen.maze import Maze
from envs.procgen.maze import State as MazeState
from envs.procgen.platformer import Platformer
from envs.procgen.platformer import State as PlatformerState

# Programs that run once are not worth optimising.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]  # of the maze: up, down, left, right
GAMES = {"maze": Maze(), "platformer": Platformer()}


@functools.cache
def levels(game, number=600):
    """The first levels, as NumPy arrays [number, ...]."""
    return jax.device_get(jit(jax.vmap(GAMES[game].level))(jnp.arange(number)))


def one(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def distances(wall, start):
    """Steps from a cell to all others by breadth-first search; unreachable ones are left out."""
    found, edge = {start: 0}, [start]
    while edge:
        row, col = edge.pop(0)
        for dr, dc in MOVES:
            to = row + dr, col + dc
            if not wall[to] and to not in found:
                found[to] = found[row, col] + 1
                edge.append(to)
    return found


def drawing(state):
    marks = {(int(state.row), int(state.col)): "A", (int(state.goal_row), int(state.goal_col)): "G"}
    return [
        "".join(marks.get((r, c), "#" if w else ".") for c, w in enumerate(row)) for r, row in enumerate(state.wall)
    ]


def test_levels_are_what_they_were():
    """A number stands for the same level in every version and on every machine, or no result could be repeated."""
    assert drawing(one(levels("maze"), 2))[:9] == [
        "###############",
        "#A....#.#######",
        "#.###.#.#######",
        "#...#.#.#######",
        "###.#.#.#######",
        "#...#...#######",
        "#.#####.#######",
        "#G..#...#######",
        "###############",
    ]
    state = one(levels("platformer"), 8)
    assert state.ground[: int(state.coin) + 1].tolist() == [2, 2, 2, 2, 1, 2, 2, 1, 1, 0, 0, 1, 2, 2, 2, 2]
    state = one(levels("platformer"), 0)
    assert (np.flatnonzero(state.spikes).tolist(), int(state.coin)) == ([5, 6, 9, 10], 15)


@pytest.mark.parametrize("game", GAMES)
def test_a_level_depends_on_its_number_alone(game):
    env = GAMES[game]
    params = env.default_params()._replace(start_level=7, num_levels=5)
    keys = jax.random.split(jax.random.key(0), 400)
    _, states = jax.device_get(jit(jax.vmap(env.reset, (0, None)))(keys, params))
    counts = np.bincount(states.level, minlength=12)
    assert counts[:7].sum() == 0
    assert stats.chisquare(counts[7:]).pvalue > 1e-3
    for i in range(0, 400, 9):
        expected = one(levels(game), states.level[i])
        for a, b in zip(one(states, i), expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("game", GAMES)
def test_training_and_test_levels_are_apart(game):
    """By number always; and hardly ever does the same level come under two numbers."""
    env = GAMES[game]
    reset = jit(jax.vmap(lambda key, params: env.reset(key, params)[1].level, (0, None)))
    keys = jax.random.split(jax.random.key(1), 400)
    train = np.asarray(reset(keys, env.default_params()._replace(num_levels=50)))
    test = np.asarray(reset(keys, env.default_params()._replace(start_level=50)))
    assert train.min() >= 0
    assert train.max() < 50 <= test.min()
    assert test.max() > 2**30, "all the others, not some"
    states = levels(game)._replace(level=np.zeros(600, int))
    looks = [b"".join(np.asarray(leaf).tobytes() for leaf in one(states, i)) for i in range(600)]
    assert len(set(looks[50:]) & set(looks[:50])) <= 2
    assert len(set(looks)) > 590


def test_mazes_are_spanning_trees():
    found = levels("maze")
    sides = []
    for i in range(len(found.level)):
        wall = found.wall[i]
        cells = ~wall[1::2, 1::2]
        side = int(cells.any(1).sum())
        assert cells[:side, :side].all()
        assert cells.sum() == side * side
        assert wall[0::2, 0::2].all(), "pillars"
        passages = (~wall).sum() - side * side
        assert passages == side * side - 1
        reached = distances(wall, (int(found.row[i]), int(found.col[i])))
        assert len(reached) == side * side + passages, "connected, so a tree"
        assert (int(found.goal_row[i]), int(found.goal_col[i])) in reached
        assert (found.row[i], found.col[i]) != (found.goal_row[i], found.goal_col[i])
        sides.append(side)
    counts = np.bincount(sides, minlength=8)
    assert counts[:3].sum() == 0
    assert stats.chisquare(counts[3:]).pvalue > 1e-3


def tree_by_depth_first_search(n, rng):
    """The textbook's recursion; returns how many neighbours each cell is joined to."""
    degree = np.zeros((n, n), int)
    seen = np.zeros((n, n), bool)

    def visit(cell):
        seen[cell] = True
        for move in rng.permutation(4):
            to = cell[0] + MOVES[move][0], cell[1] + MOVES[move][1]
            if min(to) >= 0 and max(to) < n and not seen[to]:
                degree[cell] += 1
                degree[to] += 1
                visit(to)

    visit(tuple(rng.integers(n, size=2)))
    return degree


def test_mazes_have_the_shape_of_depth_first_trees():
    """Dead ends, corridors and forks, counted in ours and in trees by the textbook's recursion."""
    n, number = 5, 300
    env = Maze(min_cells=n, max_cells=n)
    wall = np.asarray(jit(jax.vmap(env.level))(jnp.arange(number)).wall)
    ours = sum((~wall[:, 1 + dr : 2 * n + 1 + dr : 2, 1 + dc : 2 * n + 1 + dc : 2]).astype(int) for dr, dc in MOVES)
    rng = np.random.default_rng(0)
    theirs = np.stack([tree_by_depth_first_search(n, rng) for _ in range(number)])
    for degree in (1, 2, 3):
        a, b = (ours == degree).sum((1, 2)), (theirs == degree).sum((1, 2))
        assert stats.ttest_ind(a, b, equal_var=False).pvalue > 1e-3, degree
    for cell in ((0, 0), (0, 2), (2, 2)):
        a, b = (np.bincount(x[:, *cell], minlength=5)[1:4] for x in (ours, theirs))
        keep = a + b > 10
        assert stats.chi2_contingency([a[keep], b[keep]]).pvalue > 1e-3, cell


def test_the_shortest_way_through_a_maze():
    env, params = envs.make("Maze-Procgen-v0", goal_reward=3.0)
    step = jit(env.step)
    state = jax.tree.map(jnp.asarray, one(levels("maze"), 2))
    goal = int(state.goal_row), int(state.goal_col)
    left = distances(np.asarray(state.wall), goal)
    length = left[int(state.row), int(state.col)]
    bumped = False
    for taken in range(1, length + 1):
        at = int(state.row), int(state.col)
        for action, (dr, dc) in enumerate(MOVES):
            out = step(None, state, jnp.int32(action), params)
            to = at[0] + dr, at[1] + dc
            expected = at if state.wall[to] else to
            bumped |= expected == at
            assert (int(out.state.row), int(out.state.col)) == expected
            assert bool(out.terminated) == (expected == goal)
            assert float(out.reward) == 3 * (expected == goal)
            if left.get(to) == left[at] - 1:
                best = out
        state = best.state
        assert bool(best.terminated) == (taken == length)
    assert bumped


def test_what_is_seen_of_a_maze():
    state = one(levels("maze"), 2)
    whole = np.asarray(GAMES["maze"].observe(state))
    np.testing.assert_array_equal(whole[..., 0], state.wall)
    assert np.argwhere(whole[..., 1]).tolist() == [[state.goal_row, state.goal_col]]
    assert np.argwhere(whole[..., 2]).tolist() == [[state.row, state.col]]
    part = np.asarray(Maze(view=7).observe(state))
    assert np.argwhere(part[..., 2]).tolist() == [[3, 3]]
    padded = np.pad(whole[..., :2], ((3, 3), (3, 3), (0, 0)))
    padded[..., 0] |= np.pad(np.zeros(state.wall.shape, bool), 3, constant_values=True)
    row, col = int(state.row), int(state.col)
    np.testing.assert_array_equal(part[..., :2], padded[row : row + 7, col : col + 7])


def leap(state, action):
    """The platformer's rules once more, on plain numbers: (x, y, rise) -> (x, y, rise, end)."""
    ground, spikes, coin, (x, y, rise) = state
    if action >= 3 and y == ground[x]:
        rise = 2
    to = min(max(x + (0, -1, 1)[action % 3], 0), coin)
    if ground[to] <= y:
        x = to
    if rise > 0:
        y, rise = y + 1, rise - 1
    elif y > ground[x]:
        y -= 1
    end = ""
    if y == ground[x]:
        end = "dead" if y == 0 or spikes[x] else "coin" if x == coin else ""
    return x, y, rise, end


def test_every_platformer_level_can_be_solved():
    found = levels("platformer")
    for i in range(300):
        ground, spikes, coin = found.ground[i].tolist(), found.spikes[i].tolist(), int(found.coin[i])
        start = int(found.x[i]), int(found.y[i]), 0
        assert start[1] == ground[1]
        seen, edge, solved = {start}, [start], False
        while edge and not solved:
            at = edge.pop()
            for action in range(6):
                *to, end = leap((ground, spikes, coin, at), action)
                solved |= end == "coin"
                if not end and tuple(to) not in seen:
                    seen.add(tuple(to))
                    edge.append(tuple(to))
        assert solved, i


def test_platformer_steps():
    """All actions from everywhere in some levels, against the rules above."""
    env = GAMES["platformer"]
    params = env.default_params()
    step = jit(jax.vmap(env.step, (None, 0, 0, None)))
    for i in (0, 1, 2):
        level = one(levels("platformer"), i)
        ground, spikes, coin = level.ground.tolist(), level.spikes.tolist(), int(level.coin)
        cases = [
            (x, y, rise, action)
            for x in range(coin)
            for y in range(max(ground[x], 1), 8)
            for rise in range(2 if y > ground[x] else 1)
            for action in range(6)
            if not (y == ground[x] and spikes[x])
        ]
        x, y, rise, action = map(jnp.asarray, np.array(cases, np.int32).T)
        states = PlatformerState(*(np.stack([leaf] * len(cases)) for leaf in level))
        out = jax.device_get(step(None, states._replace(x=x, y=y, rise=rise), action, params))
        for k, (*at, action) in enumerate(cases):
            *to, end = leap((ground, spikes, coin, at), action)
            assert [out.state.x[k], out.state.y[k], out.state.rise[k]] == to
            assert out.terminated[k] == bool(end)
            assert out.reward[k] == (end == "coin")
        assert out.terminated.any()


def test_what_is_seen_of_a_platformer():
    ground = jnp.array([2, 0, 3, 3, 1, 2, 2, 2, 5, 5, 5, 5], jnp.int32)
    spikes = jnp.zeros(12, jnp.bool_).at[2].set(True)
    x, y, coin, zero = map(jnp.int32, (1, 2, 7, 0))
    env = Platformer(max_pieces=1)
    obs = np.asarray(env.observe(PlatformerState(ground, spikes, coin, x, y, jnp.int32(1), zero)))
    shown = [
        "".join(next((mark for c, mark in ((3, "A"), (2, "C"), (1, "^"), (0, "#")) if cell[c]), ".") for cell in row)
        for row in obs
    ]
    assert shown == [
        "...........",
        "...........",
        "...........",
        "...........",
        "...........",
        "....^......",
        "...A##...C.",
        "..#.##.###.",
        "..#.######.",
    ]
    assert np.argwhere(obs[..., 4]).tolist() == [[6, 3]], "it rises"
    obs = env.observe(PlatformerState(ground, spikes, coin, x, y, zero, zero))
    assert not obs[..., 4].any()


def test_bad_sizes():
    for build, message in (
        (lambda: Maze(min_cells=5, max_cells=4), "min_cells=5 and max_cells=4"),
        (lambda: Maze(view=4), "view=4 must be odd"),
        (lambda: Platformer(max_pieces=0), "max_pieces=0 must be at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            build()


def test_pictures():
    state = one(levels("maze"), 2)
    picture = GAMES["maze"].render(state, None)
    assert picture.shape == (480, 480, 3)
    for row in range(15):
        for col in range(15):
            expected = (70, 74, 90) if state.wall[row, col] else (225, 225, 225)
            expected = (60, 110, 200) if (row, col) == (state.row, state.col) else expected
            expected = (70, 160, 90) if (row, col) == (state.goal_row, state.goal_col) else expected
            assert tuple(picture[row * 32 + 16, col * 32 + 16].tolist()) == expected
    assert isinstance(state, MazeState)
    level = one(levels("platformer"), 0)
    picture = GAMES["platformer"].render(level, None)
    assert picture.shape == (216, 960, 3)
    feet = 216 - int(level.y) * 24
    assert picture[feet - 12, 36].tolist() == [60, 110, 200]
    assert picture[feet + 12, 36].tolist() == [120, 90, 60]
