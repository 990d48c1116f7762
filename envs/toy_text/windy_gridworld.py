"""WindyGridworld: a crosswind pushes the walker upwards (Sutton & Barto 2018, example 6.5, exercises 6.9 and 6.10).

Observation: i32[] the cell of 7 × 10, row × 10 + column; row 0 is at the top.
Action: 0 up, 1 down, 2 left, 3 right; with `moves=8` also 4 up-left, 5 up-right, 6 down-left, 7 down-right (king's
    moves); with `moves=9` also 8, to let the wind do the work. The walker stays inside the grid.
Wind: added to every move, `wind` cells upwards, by the column that the move starts from. `stochastic`: where there is
    wind it is one stronger or one weaker with probability 1/3 each.
Reward: −1. Ends: the walker enters the goal (row 3, column 7). Start: row 3, column 0. Time limit: none.
Shortest ways without randomness: 15 steps with 4 moves, 7 with 8 or 9.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import InputError
from envs.spaces import Discrete
from envs.tabular import Finite, Outcome, State
from envs.toy_text.board import board, center, place_agent

ROWS, COLS = 7, 10
START, GOAL = 30, 37

_DOWN = (-1, 1, 0, 0, -1, -1, 1, 1, 0)
_RIGHT = (0, 0, -1, 1, -1, 1, -1, 1, 0)


class Params(NamedTuple):
    """The weather."""

    wind: Any = (0, 0, 0, 1, 1, 1, 2, 2, 1, 0)  # i32[10] cells upwards, for each column


@dataclass(frozen=True)
class WindyGridworld(Finite[Params]):
    """A grid with a crosswind."""

    moves: int = 4
    stochastic: bool = False

    def __post_init__(self) -> None:
        """Raises InputError for another number of moves."""
        if self.moves not in (4, 8, 9):
            raise InputError(f"moves={self.moves} must be 4, 8 (king's moves) or 9 (also none).")

    @property
    def num_states(self) -> int:
        """The cells."""
        return ROWS * COLS

    @property
    def num_outcomes(self) -> int:
        """The wind as it should be, stronger, weaker."""
        return 3 if self.stochastic else 1

    @property
    def starts(self) -> tuple[int, ...]:
        """The middle of the left side."""
        return (START,)

    @property
    def action_space(self) -> Discrete:
        """The moves."""
        return Discrete(self.moves)

    def default_params(self) -> Params:
        """The book's wind."""
        return Params()

    def probability(self, index: jax.Array, action: jax.Array, params: Params) -> jax.Array:
        """Equal."""
        return jnp.full(self.num_outcomes, 1 / self.num_outcomes, jnp.float32)

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: Params) -> Outcome:
        """Moves, and is blown."""
        row, col = index // COLS, index % COLS
        wind = jnp.asarray(params.wind, jnp.int32)[col]
        if self.stochastic:
            change = jnp.where(k == 2, -1, k)
            wind = wind + jnp.where(wind == 0, 0, change)
        row = jnp.clip(row + jnp.asarray(_DOWN)[action] - wind, 0, ROWS - 1)
        col = jnp.clip(col + jnp.asarray(_RIGHT)[action], 0, COLS - 1)
        cell = row * COLS + col
        return Outcome(cell, -1.0, cell == GOAL)

    def render(self, state: State, params: Params) -> np.ndarray:
        """The grid from above: start yellow, goal green, agent blue; strokes point along the wind."""
        colors: list[list[Any]] = [["white"] * COLS for _ in range(ROWS)]
        colors[START // COLS][START % COLS] = "yellow"
        colors[GOAL // COLS][GOAL % COLS] = "green"
        canvas = board(colors)
        for col, strength in enumerate(np.asarray(params.wind)):
            for i in range(int(strength)):
                for row in range(ROWS):
                    x, y = center(row, col)
                    tip = (x, y - 14 + 9 * i)
                    canvas.curve([(x - 7, tip[1] + 7), tip, (x + 7, tip[1] + 7)], 2, "ice")
        place_agent(canvas, *divmod(int(state.index), COLS))
        return canvas.pixels
