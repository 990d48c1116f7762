"""Maze: find the way to the goal in a maze that is different in every level.

Observation: bool[S, S, 3] the whole maze from above, S = 2 · max_cells + 1: wall, goal, agent. With `view=w` (odd)
    bool[w, w, 3], the part around the agent, who stands in its middle; beyond the maze there are walls.
Action: 0 up, 1 down, 2 left, 3 right. A move into a wall leaves the agent where it is.
Reward: `goal_reward` (1) for the step into the goal, else 0.
Ends: the agent enters the goal. Time limit: 200 steps.
Level: n × n cells, n uniform in min_cells … max_cells, in the upper left of the grid; between neighbours a wall or a
    passage. The passages are a spanning tree of the cells, that of least weight under random weights: there is exactly
    one way between any two cells. Agent and goal start on different uniform cells.
Source: as the game Maze of `envs.procgen.levels`' source, whose mazes are trees by Kruskal's algorithm too (the same
    distribution: a uniform order of the walls is an order by random weights).
Deviations from it: cells and bits instead of pictures, four actions of its fifteen, reward 1 instead of 10, 200 steps
    instead of 500; there the agent starts in the lower left, and small mazes are centred.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.drawing import Canvas
from envs.errors import InputError
from envs.procgen.levels import Leveled, level_key
from envs.spaces import Box, Discrete


class State(NamedTuple):
    """A maze, the agent and the goal in it. Row and column count grid cells, outer walls included."""

    wall: jax.Array  # bool[S, S]
    row: jax.Array  # i32[] the agent's
    col: jax.Array  # i32[]
    goal_row: jax.Array  # i32[]
    goal_col: jax.Array  # i32[]
    level: jax.Array  # i32[] its number


class Params(NamedTuple):
    """The levels to play, and what the goal is worth."""

    start_level: int = 0  # number of the first level
    num_levels: int = 0  # how many levels; 0: all from the first on
    goal_reward: float = 1.0


@dataclass(frozen=True)
class Maze(Leveled[State, Params]):
    """A perfect maze."""

    max_steps: int | None = 200
    min_cells: int = 3  # on each side of the smallest mazes
    max_cells: int = 7  # on each side of the largest
    view: int | None = None  # side of the part that is seen, odd; None: all

    def __post_init__(self) -> None:
        """Raises InputError for sizes that make no maze, or a view without a middle."""
        if not 2 <= self.min_cells <= self.max_cells <= 16:
            raise InputError(
                f"Maze: min_cells={self.min_cells} and max_cells={self.max_cells} must be from 2 to 16 and in order."
            )
        if self.view is not None and (self.view < 3 or self.view % 2 == 0):
            raise InputError(f"Maze: view={self.view} must be odd and at least 3, or None.")

    @property
    def side(self) -> int:
        """S, the number of grid cells on each side."""
        return 2 * self.max_cells + 1

    @property
    def observation_space(self) -> Box:
        """See the module."""
        side = self.view or self.side
        return Box(0, 1, (side, side, 3), np.bool_)

    @property
    def action_space(self) -> Discrete:
        """0: up, 1: down, 2: left, 3: right."""
        return Discrete(4)

    def default_params(self) -> Params:
        """All levels."""
        return Params()

    def level(self, number: jax.Array) -> State:
        """Builds the maze and places agent and goal."""
        n = self.max_cells
        words = jax.random.bits(level_key(number), (2 * (n * n - 1) + 4,), jnp.uint32)
        side = self.min_cells + (words[0] % (self.max_cells - self.min_cells + 1)).astype(jnp.int32)
        root, agent, goal = (
            (words[i] % k).astype(jnp.int32) for i, k in ((1, side * side), (2, side * side), (3, side * side - 1))
        )
        goal += goal >= agent
        right, down = spanning_tree(words[4:], n, side, jnp.stack([root // side, root % side]))
        cell = (np.arange(n) < side) & (np.arange(n)[:, None] < side)
        # Each cell becomes a square of four: itself, the passages to the right and down, and a pillar.
        square = jnp.stack([cell, right, down, jnp.zeros_like(cell)]).reshape(2, 2, n, n)
        floor = square.transpose(2, 0, 3, 1).reshape(2 * n, 2 * n)
        return State(
            wall=~jnp.pad(floor, ((1, 0), (1, 0))),
            row=2 * (agent // side) + 1,
            col=2 * (agent % side) + 1,
            goal_row=2 * (goal // side) + 1,
            goal_col=2 * (goal % side) + 1,
            level=number,
        )

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Moves the agent."""
        del key
        row = state.row + (action == 1) - (action == 0)
        col = state.col + (action == 3) - (action == 2)
        free = ~state.wall[row, col]
        new = state._replace(
            row=jnp.where(free, row, state.row).astype(jnp.int32), col=jnp.where(free, col, state.col).astype(jnp.int32)
        )
        arrived = (new.row == state.goal_row) & (new.col == state.goal_col)
        reward = jnp.where(arrived, params.goal_reward, 0).astype(jnp.float32)
        return Step(self.observe(new), new, reward, arrived, {})

    def observe(self, state: State) -> jax.Array:
        """Shows the maze, or the part around the agent."""
        if self.view is None:
            row, col, wall = np.arange(self.side), np.arange(self.side), state.wall
        else:
            row, col = (at + np.arange(self.view) - self.view // 2 for at in (state.row, state.col))
            last = self.side - 1  # the outer wall, which goes on beyond
            wall = state.wall[jnp.clip(row, 0, last)[:, None], jnp.clip(col, 0, last)]
        goal = (row == state.goal_row)[:, None] & (col == state.goal_col)
        agent = (row == state.row)[:, None] & (col == state.col)
        channel = np.arange(3)
        return jnp.where(channel == 0, wall[..., None], jnp.where(channel == 1, goal[..., None], agent[..., None]))

    def render(self, state: State, params: Params) -> np.ndarray:
        """The maze from above with a green goal and a blue agent, about 480 pixels wide; what is seen is lighter."""
        del params
        size = 2 * max(4, 240 // self.side)
        reach = self.side if self.view is None else self.view // 2
        canvas = Canvas(self.side * size, self.side * size, "black")
        agent, goal = (int(state.row), int(state.col)), (int(state.goal_row), int(state.goal_col))
        for (row, col), is_wall in np.ndenumerate(np.asarray(state.wall)):
            seen = max(abs(row - agent[0]), abs(col - agent[1])) <= reach
            color = ((70, 74, 90), (225, 225, 225)) if seen else ((35, 38, 50), (150, 150, 150))
            if (row, col) == goal:
                color = ("green", "green")
            corner = (col * size, row * size)
            canvas.rectangle(corner, (corner[0] + size, corner[1] + size), color[0 if is_wall else 1])
        canvas.circle(((agent[1] + 0.5) * size, (agent[0] + 0.5) * size), 0.35 * size, "blue")
        return canvas.pixels


def spanning_tree(words: jax.Array, n: int, side: jax.Array, root: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws a spanning tree of a grid by depth-first search: on to a random new neighbour or, if there is none, back.

    Args:
        words: u32[2 (n² − 1)] uniform, one for each move: every cell but the root is entered and left once.
        n: rows and columns of the grid.
        side: i32[] only the first `side` rows and columns belong to the tree.
        root: i32[2] row and column of the cell to start from.

    Returns:
        (right, down), bool[n, n] each: from which cells the tree goes to the right and downwards.
    """
    # Cells with a border around them; up, down, left, right as distances between their numbers, and two ways to stay.
    pitch = n + 2
    moves = jnp.array([-pitch, pitch, -1, 1, 0, 0])
    row, col = np.divmod(np.arange(pitch * pitch), pitch)
    outside = (row < 1) | (row > side) | (col < 1) | (col > side)
    start = (root[0] + 1) * pitch + root[1] + 1
    entered = jnp.where(outside, 4, -1).at[start].set(4)  # by which move; −1: not yet, 4: by none

    def one_round(carry: tuple[jax.Array, jax.Array], word: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        cell, entered = carry
        new = entered[cell + moves[:4]] < 0
        number = jnp.sum(new)
        chosen = jnp.argmax(jnp.cumsum(new) > ((word >> 16).astype(jnp.int32) * number >> 16))
        move = jnp.where(number > 0, chosen, entered[cell] ^ 1)
        following = cell + moves[move]
        return (following, entered.at[following].set(jnp.where(number > 0, move, entered[following]))), None

    (_, entered), _ = jax.lax.scan(one_round, (start, entered), words)
    entered = entered.reshape(pitch, pitch)
    cells, right_of, below = entered[1:-1, 1:-1], entered[1:-1, 2:], entered[2:, 1:-1]
    return (cells == 2) | (right_of == 3), (cells == 0) | (below == 1)
