"""What the MiniGrid tasks share: the grid, the seven actions, the agent's view of 7 × 7 cells, and the picture.

Source: M. Chevalier-Boisvert et al., "Minigrid & Miniworld" (NeurIPS 2023, datasets and benchmarks), and the behaviour
of its package minigrid 3.2.0, with which the rules, views and rewards agree exactly.

Common to all tasks:
    Observation: u8[7, 7, 3] what the agent sees: column from the left, row from the top, and (object, colour, state).
        The agent stands at column 3, row 6 and looks up; that cell shows what it carries. Objects: 0 not seen,
        1 empty, 2 wall, 4 door, 5 key, 6 ball, 7 box, 8 goal. Colours: 0 red, 1 green, 2 blue, 3 purple, 4 yellow,
        5 grey. States, of doors alone: 0 open, 1 closed, 2 locked. Walls and closed doors hide what is behind them
        unless `see_through_walls`.
        `observation="dict"`: {"image": the above, "direction": i32[] 0 right, 1 down, 2 left, 3 up}, and "mission":
        i32[] the colour of the object to get, in tasks where it varies.
        `observation="one_hot"`: f32[7, 7, 20], the 11 objects, 6 colours and 3 states as indicators.
    Action: 0 turn left, 1 turn right, 2 forward, 3 pick up, 4 drop, 5 toggle, 6 done (nothing). What is acted on is
        the cell ahead. A locked door opens with a key of its colour; toggling a box destroys it.
    Reward: 1 − `time_cost` · t / max_steps for the step t (from 1) that completes the task, else 0. The state counts t,
        since the reward depends on it; the time limit itself is `envs.episode`'s. Without one the reward is 1.
    Ends: the task is completed, or lost where a task says so. Time limit: as many steps as each task says.
Common deviations from the original:
    The plain picture is the default observation, its dict an option; missions are numbers, not sentences.
    Layouts come from JAX keys, with the original's distribution. They are drawn without its repeated tries.
    Objects that no task here uses (floor, lava, things in boxes) are left out.
"""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.drawing import Canvas
from envs.errors import InputError, unknown
from envs.spaces import Box, Discrete, Space

VIEW = 7  # cells on each side of the view
TURN_LEFT, TURN_RIGHT, FORWARD, PICK_UP, DROP, TOGGLE, DONE = range(7)

# A cell is one byte: the kind in the lower half, the colour in the upper. A door's state is part of its kind.
UNSEEN, EMPTY, _WALL, _, OPEN, KEY, BALL, BOX, _GOAL, _, CLOSED, LOCKED = range(12)
RED, GREEN, BLUE, PURPLE, YELLOW, GREY = (colour << 4 for colour in range(6))
WALL = _WALL | GREY
GOAL = _GOAL | GREEN

_COLORS = ("red", "green", "blue", "purple", "yellow", "grey")  # names of `envs.drawing`
_OBSERVATIONS = ("image", "dict", "one_hot")


class State(NamedTuple):
    """A grid and the agent in it."""

    grid: jax.Array  # u8[rows, columns] one byte for each cell, see above
    x: jax.Array  # i32[] the agent's column
    y: jax.Array  # i32[] its row
    direction: jax.Array  # i32[] 0 right, 1 down, 2 left, 3 up
    carrying: jax.Array  # u8[] the object it holds, or EMPTY
    target: jax.Array  # i32[] what a task has to remember; 0 if nothing
    t: jax.Array  # i32[] steps taken: the reward depends on it


class Params(NamedTuple):
    """The one constant that can be set."""

    time_cost: float = 0.9  # of the reward, lost evenly over the time limit


@dataclass(frozen=True)
class MiniGrid(Env[State, Params]):
    """A task in a grid world. A subclass writes `shape` and `layout`, and `outcome` where its end is not the goal."""

    observation: Literal["image", "dict", "one_hot"] = "image"
    see_through_walls: bool = False

    colour_in_mission: ClassVar[bool] = False  # whether the mission names the colour `State.target`

    def __post_init__(self) -> None:
        """Raises InputError for another kind of observation."""
        if self.observation not in _OBSERVATIONS:
            raise unknown("observation", self.observation, _OBSERVATIONS)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid, its outer walls included."""
        raise NotImplementedError

    def layout(self, key: jax.Array) -> State:
        """Draws the start of an episode."""
        raise NotImplementedError

    def outcome(self, state: State, action: jax.Array, ahead: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns (whether the task is completed, whether the episode ends), bool[] each.

        Args:
            state: after the action.
            action: the action.
            ahead: u8[] what was ahead of the agent before it.
        """
        del state
        arrived = (action == FORWARD) & (ahead == GOAL)
        return arrived, arrived

    @property
    def random_step(self) -> bool:
        """False: all chance is in the layout."""
        return False

    @property
    def costly_reset(self) -> bool:
        """True: a layout and its view cost more than a step."""
        return True

    @property
    def observation_space(self) -> Space:
        """See the module."""
        if self.observation == "one_hot":
            return Box(0, 1, (VIEW, VIEW, 20))
        image = Box(0, 10, (VIEW, VIEW, 3), np.uint8)
        if self.observation == "image":
            return image
        mission = {"mission": Discrete(6)} if self.colour_in_mission else {}
        return {"image": image, "direction": Discrete(4), **mission}

    @property
    def action_space(self) -> Discrete:
        """0: turn left, 1: turn right, 2: forward, 3: pick up, 4: drop, 5: toggle, 6: done."""
        return Discrete(7)

    def default_params(self) -> Params:
        """The original's constant."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[Any, State]:
        """Draws a layout."""
        del params
        state = self.layout(key)
        return self.observe(state), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Turns, walks, or acts on the cell ahead."""
        del key
        dx, dy = vector(state.direction)
        y, x = state.y + dy, state.x + dx
        ahead = state.grid[y, x]
        kind = ahead & 15

        walks = (action == FORWARD) & ((kind == EMPTY) | (kind == OPEN) | (kind == _GOAL))
        picks_up = (action == PICK_UP) & (kind >= KEY) & (kind <= BOX) & (state.carrying == EMPTY)
        drops = (action == DROP) & (kind == EMPTY)  # with empty hands, EMPTY
        toggled = jnp.where(kind == OPEN, ahead ^ (OPEN ^ CLOSED), ahead)
        toggled = jnp.where(kind == CLOSED, ahead ^ (OPEN ^ CLOSED), toggled)
        toggled = jnp.where(fits(state.carrying, ahead), ahead ^ (OPEN ^ LOCKED), toggled)
        toggled = jnp.where(kind == BOX, EMPTY, toggled)

        left_behind = jnp.where(action == TOGGLE, toggled, ahead)
        left_behind = jnp.where(picks_up, EMPTY, left_behind)
        left_behind = jnp.where(drops, state.carrying, left_behind)
        carrying = jnp.where(picks_up, ahead, jnp.where(drops, EMPTY, state.carrying))
        turn = (action == TURN_RIGHT).astype(jnp.int32) - (action == TURN_LEFT)
        new = State(
            grid=paint(state.grid, y, x, left_behind),
            x=jnp.where(walks, x, state.x),
            y=jnp.where(walks, y, state.y),
            direction=(state.direction + turn) & 3,
            carrying=carrying.astype(jnp.uint8),
            target=state.target,
            t=state.t + 1,
        )
        completed, terminated = self.outcome(new, action, ahead)
        spent = 0.0 if self.max_steps is None else params.time_cost * new.t / self.max_steps
        reward = jnp.where(completed, 1 - spent, 0).astype(jnp.float32)
        return Step(self.observe(new), new, reward, terminated, {})

    def view(self, state: State) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns (cell, y, x), each [7, 7]: what is in each cell of the view (u8), and where that cell is (i32).

        What is hidden is UNSEEN; beyond the grid there are walls.
        """
        rows, cols = self.shape
        dx, dy = vector(state.direction)
        forward, right = VIEW - 1 - np.arange(VIEW)[None, :], np.arange(VIEW)[:, None] - VIEW // 2
        x = state.x + dx * forward - dy * right
        y = state.y + dy * forward + dx * right
        inside = (x >= 0) & (x < cols) & (y >= 0) & (y < rows)
        place = jnp.clip(y, 0, rows - 1) * cols + jnp.clip(x, 0, cols - 1)
        cell = jnp.where(inside, state.grid.reshape(-1)[place], WALL)
        if not self.see_through_walls:
            cell = jnp.where(visible(cell), cell, UNSEEN)
        standing = (forward == 0) & (right == 0)
        return jnp.where(standing, state.carrying, cell).astype(jnp.uint8), y, x

    def observe(self, state: State) -> Any:
        """Returns the observation of `state`."""
        cell, _, _ = self.view(state)
        if self.observation == "one_hot":
            return jnp.asarray(_ONE_HOT)[cell]
        image = jnp.asarray(_IMAGE)[cell]
        if self.observation == "image":
            return image
        mission = {"mission": state.target} if self.colour_in_mission else {}
        return {"image": image, "direction": state.direction, **mission}

    def render(self, state: State, params: Params) -> np.ndarray:
        """The grid from above with the agent as a red triangle, about 480 pixels wide; what it sees is lighter."""
        del params
        rows, cols = self.shape
        size = 2 * max(8, 240 // max(rows, cols))
        cell, y, x = (np.asarray(part) for part in _view(self, state))
        seen = {(int(y[i, j]), int(x[i, j])) for i, j in np.argwhere(cell != UNSEEN)}
        canvas = Canvas(rows * size, cols * size, (14, 16, 26))
        for (row, col), code in np.ndenumerate(np.asarray(state.grid)):
            _draw(canvas, int(code), row * size, col * size, size, (row, col) in seen)
        center = np.array([int(state.x) + 0.5, int(state.y) + 0.5]) * size
        ahead = np.array(_VECTORS[int(state.direction)])
        right = np.array([-ahead[1], ahead[0]])
        corners = [0.38 * ahead, -0.35 * ahead + 0.32 * right, -0.35 * ahead - 0.32 * right]
        canvas.polygon([(x, y) for x, y in (center + size * corner for corner in corners)], "red")
        if int(state.carrying) != EMPTY:
            left, top = center - 0.2 * size
            _draw(canvas, int(state.carrying), top, left, 0.4 * size, seen=None)
        return canvas.pixels


def _image(code: int) -> tuple[int, int, int]:
    """What an observation shows of a cell: (object, colour, state)."""
    kind, colour = code & 15, code >> 4
    return (OPEN, colour, kind - CLOSED + 1) if kind in (CLOSED, LOCKED) else (kind, colour, 0)


_IMAGE = np.array([_image(code) for code in range(6 << 4)], np.uint8)  # u8[96, 3]
_ONE_HOT = np.concatenate(  # f32[96, 20]
    [_IMAGE[:, part, None] == np.arange(n) for part, n in enumerate((11, 6, 3))], -1, dtype=np.float32
)
_VECTORS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def vector(direction: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The step in a direction: (dx, dy), i32[] each."""
    sign = 1 - (direction & 2)
    vertical = direction & 1
    return sign * (1 - vertical), sign * vertical


def fits(carrying: jax.Array, door: jax.Array) -> jax.Array:
    """Whether `door` is a locked door, and `carrying` the key to it; both as in a cell, u8[]."""
    return ((door & 15) == LOCKED) & (carrying == (door ^ (LOCKED ^ KEY)))


def visible(cell: jax.Array) -> jax.Array:
    """Returns bool[7, 7]: which cells of a view are seen, given what is in all of them, u8[7, 7].

    The original's rule, row by row from the agent's own: light spreads sideways through cells that do not block it,
    and from each of those to the three cells above. Here a row is a word, and bit i is column i.
    """
    kind = cell & 15
    clear = (kind != _WALL) & (kind < CLOSED)
    column = np.arange(VIEW, dtype=np.int32)[:, None]
    clear = jnp.sum(jnp.where(clear, 1 << column, 0), 0)  # i32[7] one word for each row
    ahead = jnp.int32(1 << VIEW // 2)
    rows: list[Any] = [None] * VIEW
    for j in reversed(range(VIEW)):
        lit = spread(ahead & clear[j], clear[j])
        beside = (lit | lit << 1 | lit >> 1) & (1 << VIEW) - 1
        rows[j] = ahead | beside
        ahead = beside
    # Four rows to a word: to stack them all would make compilers repeat the loop for every cell.
    words = [sum(row << VIEW * j for j, row in enumerate(part)) for part in (rows[:4], rows[4:])]
    row = np.arange(VIEW)
    return jnp.where(row < 4, *words) >> (VIEW * (row % 4) + column) & 1 == 1


def spread(lit: jax.Array, clear: jax.Array) -> jax.Array:
    """Spreads the bits `lit` to both sides as far as the bits of `clear` are set, by up to 7 places."""
    up = down = lit
    clear_up = clear_down = clear
    for places in (1, 2, 4):
        up |= clear_up & up << places
        down |= clear_down & down >> places
        clear_up &= clear_up << places
        clear_down &= clear_down >> places
    return up | down


def walled(rows: int, cols: int) -> np.ndarray:
    """An empty grid within walls, u8[rows, cols]."""
    grid = np.full((rows, cols), WALL, np.uint8)
    grid[1:-1, 1:-1] = EMPTY
    return grid


def paint(grid: Any, y: Any, x: Any, cell: Any) -> jax.Array:
    """Returns the grid with `cell` at (y, x). A select: compilers fuse it, and a scatter they would not."""
    rows, cols = grid.shape
    here = (np.arange(rows)[:, None] == y) & (np.arange(cols) == x)
    return jnp.where(here, cell, grid).astype(jnp.uint8)


def start(grid: jax.Array, x: Any, y: Any, direction: Any, target: Any = 0) -> State:
    """The first state of an episode: nothing carried, no step taken."""
    x, y, direction, target = (jnp.asarray(value, jnp.int32) for value in (x, y, direction, target))
    return State(grid, x, y, direction, jnp.uint8(EMPTY), target, jnp.int32(0))


def below(uniform: jax.Array, n: Any) -> jax.Array:
    """Turns a uniform number in [0, 1) into an integer in 0 … n − 1, i32[]; exact to n · 2⁻²³."""
    return (uniform * n).astype(jnp.int32)


def among(mask: jax.Array, uniform: jax.Array) -> jax.Array:
    """Turns a uniform number into the index of one of the True entries of `mask`, bool[n], equally likely: i32[]."""
    rank = jnp.cumsum(mask)
    return jnp.argmax(rank > below(uniform, rank[-1])).astype(jnp.int32)


def check_size(name: str, size: int, least: int) -> None:
    """Raises InputError for a grid that is too small for its task."""
    if size < least:
        raise InputError(f"{name}: size={size} must be at least {least}.")


@functools.partial(jax.jit, static_argnums=0)
def _view(env: MiniGrid, state: State) -> Any:
    return env.view(state)


def _draw(canvas: Canvas, code: int, top: float, left: float, size: float, seen: bool | None) -> None:
    """Paints one cell with its corner at (left, top); `seen` None: the object alone, without its floor."""
    kind, color = code & 15, _COLORS[code >> 4]

    def box(margin: float, color: Any, width: float = 1.0, height: float = 1.0) -> None:
        """A box in the middle of the cell."""
        half = size * (0.5 - margin)
        x, y = left + size / 2, top + size / 2
        canvas.rectangle((x - half * width, y - half * height), (x + half * width, y + half * height), color)

    if seen is not None:
        box(0.02, (70, 76, 102) if seen else (26, 29, 44))
    if kind == _WALL:
        box(0.0, (165, 165, 165) if seen else (115, 115, 115))
    elif kind == _GOAL:
        box(0.02, (90, 200, 110) if seen else "green")
    elif kind == OPEN:
        canvas.rectangle((left, top), (left + 0.16 * size, top + size), color)
    elif kind in (CLOSED, LOCKED):
        box(0.02, color)
        box(0.10, (20, 20, 30))
        box(0.16, color)
        if kind == LOCKED:
            x, y = left + 0.5 * size, top + 0.42 * size
            canvas.circle((x, y), 0.1 * size, (20, 20, 30))
            canvas.line((x, y), (x, y + 0.24 * size), 0.08 * size, (20, 20, 30))
        else:
            canvas.circle((left + 0.72 * size, top + 0.5 * size), 0.07 * size, (20, 20, 30))
    elif kind == KEY:
        x = left + 0.5 * size
        canvas.line((x, top + 0.35 * size), (x, top + 0.82 * size), 0.1 * size, color)
        for tooth in (0.66, 0.8):
            canvas.line((x, top + tooth * size), (x + 0.16 * size, top + tooth * size), 0.08 * size, color)
        canvas.circle((x, top + 0.3 * size), 0.17 * size, color)
        canvas.circle((x, top + 0.3 * size), 0.07 * size, (20, 20, 30))
    elif kind == BALL:
        canvas.circle((left + 0.5 * size, top + 0.5 * size), 0.32 * size, color)
    elif kind == BOX:
        box(0.14, color)
        box(0.2, (20, 20, 30))
        box(0.2, color, height=0.2)
