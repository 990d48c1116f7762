"""The rules of MiniGrid by hand on small drawn grids, without the original (see test_minigrid_parity)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import spaces
from envs.errors import InputError
from envs.gridworld.minigrid import world
from envs.gridworld.minigrid.door_key import DoorKey
from envs.gridworld.minigrid.empty import Empty
from envs.gridworld.minigrid.key_corridor import KeyCorridor
from envs.gridworld.minigrid.memory import Memory
from envs.gridworld.minigrid.multi_room import MultiRoom
from envs.gridworld.minigrid.unlock import UnlockPickup
from envs.gridworld.minigrid.world import DROP, FORWARD, PICK_UP, TOGGLE, TURN_LEFT, TURN_RIGHT

# Programs that run once are not worth optimising.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

LETTERS = {
    ".": world.EMPTY,
    "#": world.WALL,
    "G": world.GOAL,
    "K": world.KEY | world.YELLOW,
    "k": world.KEY | world.RED,
    "L": world.LOCKED | world.YELLOW,
    "D": world.CLOSED | world.BLUE,
    "O": world.OPEN | world.BLUE,
    "B": world.BALL | world.RED,
    "X": world.BOX | world.GREEN,
}


def scene(drawing, direction=0):
    """A grid by letters; A is the agent, on an empty cell."""
    rows = drawing.split()
    grid = np.array([[LETTERS[letter] for letter in row.replace("A", ".")] for row in rows], np.uint8)
    (y, x) = next((row, text.index("A")) for row, text in enumerate(rows) if "A" in text)
    return world.start(jnp.asarray(grid), x, y, direction)


@functools.lru_cache
def jitted(env):
    return jit(env.step)


def act(env, state, *actions):
    """Takes the actions; returns the last step."""
    out = None
    for action in actions:
        out = jitted(env)(None, state, jnp.int32(action), env.default_params())
        state = out.state
    return out


def drawn(state):
    return [
        "".join({code: letter for letter, code in LETTERS.items()}[int(code)] for code in row) for row in state.grid
    ]


def test_door_key_by_hand():
    env = DoorKey(size=6, max_steps=360)
    state = scene("###### #A.L.# #K.#.# #..#.# #..#G# ######")
    out = act(env, state, FORWARD, TOGGLE)
    assert drawn(out.state)[1] == "#..L.#", "the door stays locked without a key"
    out = act(env, out.state, TURN_RIGHT, TURN_RIGHT, FORWARD, TURN_LEFT, PICK_UP)
    assert (drawn(out.state)[2], int(out.state.carrying)) == ("#..#.#", world.KEY | world.YELLOW)
    assert out.obs[3, 6].tolist() == [5, 4, 0], "it sees what it carries"
    out = act(env, out.state, TURN_LEFT, FORWARD, TOGGLE)
    assert out.state.grid[1, 3] == world.OPEN | world.YELLOW
    out = act(env, out.state, FORWARD, FORWARD, TURN_RIGHT, FORWARD, FORWARD)
    assert not out.terminated
    assert float(out.reward) == 0
    out = act(env, out.state, FORWARD)
    assert out.terminated
    assert float(out.reward) == pytest.approx(1 - 0.9 * 16 / 360)
    assert int(out.state.t) == 16


def test_only_the_key_of_the_colour_fits():
    env = DoorKey(size=5)
    out = act(env, scene("##### #AkL# #..#. #..#. #####"), PICK_UP, FORWARD, TOGGLE)
    assert int(out.state.carrying) == world.KEY | world.RED
    assert int(out.state.grid[1, 3]) == world.LOCKED | world.YELLOW


def test_objects_doors_and_boxes():
    env = DoorKey(size=5)
    out = act(env, scene("##### #AB.# #X..# #D..# #####"), PICK_UP)
    assert drawn(out.state)[1] == "#...#"
    out = act(env, out.state, TURN_RIGHT, PICK_UP, DROP)
    assert drawn(out.state)[2] == "#X..#", "its hands are full, and there is no room to drop"
    out = act(env, out.state, TOGGLE)
    assert drawn(out.state)[2] == "#...#", "boxes vanish"
    out = act(env, out.state, DROP)
    assert drawn(out.state)[2] == "#B..#"
    assert int(out.state.carrying) == world.EMPTY
    out = act(env, out.state, PICK_UP, FORWARD, TOGGLE)
    assert drawn(out.state)[3] == "#O..#"
    out = act(env, out.state, DROP)
    assert drawn(out.state)[3] == "#O..#", "nothing can be put into a door"
    out = act(env, out.state, FORWARD)
    assert (int(out.state.x), int(out.state.y)) == (1, 3)
    out = act(env, out.state, TURN_LEFT, TURN_LEFT, FORWARD, TURN_LEFT, TURN_LEFT, TOGGLE)
    assert drawn(out.state)[3] == "#D..#"
    out = act(env, out.state, FORWARD)
    assert (int(out.state.x), int(out.state.y)) == (1, 2), "closed doors are walls"


def test_walls_and_closed_doors_hide_what_is_behind():
    hidden, plain = (jit(DoorKey(size=9, see_through_walls=through).observe) for through in (False, True))
    state = scene(
        "######### #.......# #.......# ##O#.#### #...A...# ####D#### #.......# #.......# #########", direction=3
    )
    # The agent looks up from row 4: five rows of the grid, then walls beyond. Through the gap above it and the open
    # door it sees rows 1 and 2; the wall itself is seen from below.
    image = np.asarray(hidden(state))[:, :, 0].T
    assert image.tolist() == [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [2, 2, 2, 2, 2, 2, 2],
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1],
        [2, 4, 2, 1, 2, 2, 2],
        [1, 1, 1, 1, 1, 1, 1],
    ]
    down = state._replace(direction=jnp.int32(1))
    image = np.asarray(hidden(down))[:, :, 0].T
    assert image[4:].tolist() == [[0, 0, 0, 0, 0, 0, 0], [2, 2, 2, 4, 2, 2, 2], [1, 1, 1, 1, 1, 1, 1]]
    assert (image[:4] == 0).all()
    assert np.asarray(hidden(down))[3, 5].tolist() == [4, 2, 1], "a closed blue door"
    image = np.asarray(plain(down))[:, :, 0].T
    assert image[2:].tolist() == [[2] * 7, [1] * 7, [1] * 7, [2, 2, 2, 4, 2, 2, 2], [1] * 7]


def test_other_observations():
    state = act(Empty(size=5), scene("##### #AB.# #k..# #..G# #####"), PICK_UP).state
    image, both, one_hot = (
        jit(Empty(size=5, observation=kind).observe)(state) for kind in ("image", "dict", "one_hot")
    )
    assert set(both) == {"image", "direction"}
    np.testing.assert_array_equal(both["image"], image)
    assert int(both["direction"]) == 0
    one_hot = np.asarray(one_hot)
    np.testing.assert_array_equal(one_hot[..., :11].argmax(-1), image[..., 0])
    np.testing.assert_array_equal(one_hot[..., 11:17].argmax(-1), image[..., 1])
    np.testing.assert_array_equal(one_hot[..., 17:].argmax(-1), image[..., 2])
    assert (one_hot.sum(-1) == 3).all()

    env = UnlockPickup(observation="dict")
    obs, state = jit(env.reset)(jax.random.key(1), env.default_params())
    boxes = np.asarray(state.grid)[(np.asarray(state.grid) & 15) == world.BOX]
    assert boxes.tolist() == [world.BOX | int(obs["mission"]) << 4]
    assert spaces.contains(env.observation_space, jax.device_get(obs))


def test_reward_follows_the_time_limit_and_its_cost():
    state = scene("##### #...# #...# #.AG# #####")
    for env, expected in ((Empty(size=5, max_steps=10), 0.91), (Empty(size=5, max_steps=None), 1)):
        assert float(act(env, state, FORWARD).reward) == pytest.approx(expected)
    env, params = envs.make("MiniGrid-Empty-5x5-v0", time_cost=0.5, max_steps=10)
    assert float(jitted(env)(None, state, jnp.int32(FORWARD), params).reward) == pytest.approx(0.95)


def test_bad_sizes():
    for build, message in (
        (lambda: Empty(size=3), "size=3 must be at least 4"),
        (lambda: DoorKey(size=4), "size=4 must be at least 5"),
        (lambda: Memory(size=8), "size=8 must be odd"),
        (lambda: MultiRoom(rooms=1), "rooms=1 must be at least 2"),
        (lambda: MultiRoom(max_room_size=11), "max_room_size=11 must be from 4 to 10"),
        (lambda: KeyCorridor(room_size=2), "room_size=2 must be at least 3"),
        (lambda: Empty(observation="onehot"), "Did you mean 'one_hot'"),
    ):
        with pytest.raises(InputError, match=message):
            build()


def test_picture():
    env = DoorKey(size=6)
    state = scene("###### #A.L.# #K.#.# #..#.# #..#G# ######", direction=1)
    picture = env.render(state, env.default_params()).astype(int)
    assert picture.shape == (480, 480, 3)

    def middle(row, col):
        return picture[row * 80 + 40, col * 80 + 40]

    assert middle(1, 1).tolist() == [204, 77, 77], "the agent"
    assert middle(4, 4)[1] > middle(4, 4)[[0, 2]].max(), "the goal is green"
    assert middle(2, 2).sum() > middle(2, 4).sum() + 60, "what is seen is lighter"
    assert middle(2, 0).sum() > middle(0, 2).sum() + 60, "walls too"
    assert np.ptp(middle(0, 2)) == 0, "walls are grey"
    key = picture[160:240, 80:160].reshape(-1, 3)
    assert ((key[:, 0] > 200) & (key[:, 1] > 170) & (key[:, 2] < 100)).mean() > 0.05, "the key is yellow"
