"""The mazes of planning and learning (Sutton & Barto 2018, examples 8.1 to 8.3): DynaMaze, BlockingMaze, ShortcutMaze.

Observation: i32[] the cell of 6 × 9, row × 9 + column; row 0 is at the top.
Action: 0 up, 1 down, 2 left, 3 right. Walls and borders leave the agent where it is.
Reward: 1 for the step into the goal, else 0. Ends: at the goal. Time limit: none.

| name | shortest way | the walls move after | shortest way then |
|---|---|---|---|
| DynaMaze-v0 | 14 | never | |
| BlockingMaze-v0 | 10 | 1,000 steps: the passage closes, another opens at the other side | 16 |
| ShortcutMaze-v0 | 16 | 3,000 steps: a second passage opens, the old one stays | 10 |

The walls move once in the life of a learner, not in each episode, so they are not part of an episode's state, which a
reset would put back. They are a parameter: whoever runs the learner goes on with `env.changed_params()` in the place
of the old parameters from the step in the table on.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import InputError
from envs.spaces import Discrete
from envs.tabular import Finite, Outcome, State
from envs.toy_text.board import board, place_agent

DYNA = (
    ".......#G",
    "..#....#.",
    "S.#....#.",
    "..#......",
    ".....#...",
    ".........",
)
_ABOVE, _BELOW = ("........G", ".........", "........."), (".........", "...S.....")
BLOCKING = (*_ABOVE, "########.", *_BELOW)
BLOCKING_CHANGED = (*_ABOVE, ".########", *_BELOW)
SHORTCUT = (*_ABOVE, ".########", *_BELOW)
SHORTCUT_CHANGED = (*_ABOVE, ".#######.", *_BELOW)


class Params(NamedTuple):
    """The walls."""

    walls: Any  # bool[rows, columns]


@dataclass(frozen=True)
class Maze(Finite[Params]):
    """A maze with one start S and one goal G; # is a wall."""

    layout: tuple[str, ...] = DYNA
    changed: tuple[str, ...] | None = None  # the walls after they have moved; None: they never do

    def __post_init__(self) -> None:
        """Raises InputError for a layout that is no rectangle with one start and one goal, or two that do not fit."""
        for layout in (self.layout, self.changed or self.layout):
            letters = "".join(layout)
            if len({len(row) for row in layout}) != 1 or not set(letters) <= set("SG#."):
                raise InputError(f"layout={layout!r} must be rows of equal length, of the letters S, G, # and '.'.")
            if letters.count("S") != 1 or letters.count("G") != 1:
                raise InputError(f"layout={layout!r} must have one start S and one goal G.")
        if self.changed is not None and _shape(self.changed) != _shape(self.layout):
            raise InputError("changed must have the size, the start and the goal of layout.")

    @property
    def num_states(self) -> int:
        """The cells."""
        return len(self.layout) * len(self.layout[0])

    @property
    def starts(self) -> tuple[int, ...]:
        """The cell S."""
        return ("".join(self.layout).index("S"),)

    @property
    def action_space(self) -> Discrete:
        """0: up, 1: down, 2: left, 3: right."""
        return Discrete(4)

    def default_params(self) -> Params:
        """The walls of `layout`."""
        return Params(_walls(self.layout))

    def changed_params(self) -> Params:
        """The walls of `changed`.

        Raises:
            InputError: the walls of this maze never move.
        """
        if self.changed is None:
            raise InputError("this maze never changes.")
        return Params(_walls(self.changed))

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: Params) -> Outcome:
        """Moves by one cell unless there is a wall."""
        rows, cols = len(self.layout), len(self.layout[0])
        row, col = index // cols, index % cols
        row = jnp.clip(row + (action == 1) - (action == 0), 0, rows - 1)
        col = jnp.clip(col + (action == 3) - (action == 2), 0, cols - 1)
        cell = jnp.where(jnp.asarray(params.walls)[row, col], index, row * cols + col)
        arrived = cell == "".join(self.layout).index("G")
        return Outcome(cell, arrived, arrived)

    def render(self, state: State, params: Params) -> np.ndarray:
        """The maze from above: start yellow, goal green, walls dark, agent blue."""
        color = {"S": "yellow", "G": "green", "#": "white", ".": "white"}
        colors = [[color[letter] for letter in row] for row in self.layout]
        for row, col in np.argwhere(np.asarray(params.walls)):
            colors[row][col] = "slate"
        canvas = board(colors)
        place_agent(canvas, *divmod(int(state.index), len(self.layout[0])))
        return canvas.pixels


@dataclass(frozen=True)
class BlockingMaze(Maze):
    """The maze whose passage closes."""

    layout: tuple[str, ...] = BLOCKING
    changed: tuple[str, ...] | None = BLOCKING_CHANGED


@dataclass(frozen=True)
class ShortcutMaze(Maze):
    """The maze in which a shorter passage opens."""

    layout: tuple[str, ...] = SHORTCUT
    changed: tuple[str, ...] | None = SHORTCUT_CHANGED


def _walls(layout: tuple[str, ...]) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in layout])


def _shape(layout: tuple[str, ...]) -> tuple[int, int, int, int]:
    """Size, start and goal."""
    letters = "".join(layout)
    return len(layout), len(layout[0]), letters.index("S"), letters.index("G")
