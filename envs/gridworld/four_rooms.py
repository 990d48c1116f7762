"""FourRooms: find the way through the hallways of four connected rooms, with slipping moves.

Source: R. Sutton, D. Precup and S. Singh, "Between MDPs and semi-MDPs", Artificial Intelligence 112 (1999), section 3:
    the map of 13 × 13 cells, 104 of them free, and the moves. Start, goal, reward and time limit as in gymnax 1.0's
    FourRooms-misc.

Observation: i32[] the agent's cell, one of 104, counted along the rows from the top left; with `random_goal` i32[2],
    the agent's cell and the goal's. `observation="coordinates"`: f32[2] row and column of the agent, walls counted
    (1 … 11); with `random_goal` f32[4], the goal's after them.
Action: 0 up, 1 down, 2 left, 3 right. With probability `fail_prob` (1/3) the move goes in one of the other three
    directions instead, each equally likely. A move into a wall leaves the agent where it is.
Reward: 1 for the step into the goal, else 0.
Ends: the agent enters the goal. Time limit: 500 steps.
Start: uniform over all cells but the goal. The goal is `params.goal`, row 8, column 9 unless given; it may be changed
    during a run. With `random_goal` each episode draws its own, uniformly.
Deviations from the paper: it has no time limit and places goals in a hallway, e.g. `goal=(7, 9)`. From gymnax: the
    order of the actions (there: up, right, down, left), no fixed start (there, as an option: (4, 1)), and the goal is
    observed only where it varies.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.drawing import Canvas
from envs.errors import unknown
from envs.spaces import Box, Discrete, MultiDiscrete, Space
from envs.tabular import Finite, Outcome, State

_MAP = """
#############
#.....#.....#
#.....#.....#
#...........#
#.....#.....#
#.....#.....#
##.####.....#
#.....###.###
#.....#.....#
#.....#.....#
#...........#
#.....#.....#
#############
"""
_FREE = np.array([list(row) for row in _MAP.split()]) == "."  # bool[13, 13]
_CELLS = np.argwhere(_FREE).astype(np.int32)  # i32[104, 2] row and column of each cell
_NUM = len(_CELLS)
_CELL_AT = np.where(_FREE, np.cumsum(_FREE).reshape(_FREE.shape) - 1, _NUM).astype(np.int32)  # _NUM in walls
_MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])
_AFTER = _CELL_AT[tuple(np.moveaxis(_CELLS[:, None] + _MOVES, -1, 0))]
_AFTER = np.where(_AFTER == _NUM, np.arange(_NUM)[:, None], _AFTER).astype(np.int32)  # i32[104, 4] where moves lead


class Params(NamedTuple):
    """Slips and the goal."""

    fail_prob: float  # probability that a move goes in one of the other directions
    goal: Any  # i32[2] row and column, walls counted; in a wall it is never reached. Not used with random_goal


@dataclass(frozen=True)
class FourRooms(Finite[Params]):
    """Four rooms, four hallways. A state's index is goal · 104 + cell with `random_goal`, else the cell."""

    max_steps: int | None = 500
    random_goal: bool = False  # each episode has its own goal
    observation: Literal["cell", "coordinates"] = "cell"

    def __post_init__(self) -> None:
        """Raises InputError for another kind of observation."""
        if self.observation not in ("cell", "coordinates"):
            raise unknown("observation", self.observation, ("cell", "coordinates"))

    @property
    def num_states(self) -> int:
        """104, or 104² with `random_goal`."""
        return _NUM * _NUM if self.random_goal else _NUM

    @property
    def num_outcomes(self) -> int:
        """The four directions."""
        return 4

    @property
    def observation_space(self) -> Space:
        """See the module."""
        if self.observation == "coordinates":
            return Box(1, 11, (4,))
        return MultiDiscrete((_NUM, _NUM)) if self.random_goal else Discrete(_NUM)

    @property
    def action_space(self) -> Discrete:
        """0: up, 1: down, 2: left, 3: right."""
        return Discrete(4)

    def default_params(self) -> Params:
        """The paper's slips, gymnax's goal."""
        return Params(fail_prob=1 / 3, goal=np.array([8, 9], np.int32))

    def _goal(self, index: jax.Array, params: Params) -> jax.Array:
        """The cell of the goal in state `index`."""
        return index // _NUM if self.random_goal else jnp.asarray(_CELL_AT)[params.goal[0], params.goal[1]]

    def start(self, params: Params) -> jax.Array:
        """Uniform over the states whose cell is not the goal."""
        states = jnp.arange(self.num_states)
        free = states % _NUM != self._goal(states, params)
        return free / jnp.sum(free)

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Places the agent, and the goal with `random_goal`."""
        # One draw for both, and a step over the goal instead of a second try.
        draw = jax.random.randint(key, (), 0, (_NUM - 1) * self.num_states // _NUM, jnp.int32)
        cell = draw % (_NUM - 1)
        if self.random_goal:
            goal = draw // (_NUM - 1)
            index = goal * _NUM + cell + (cell >= goal)
        else:
            index = cell + (cell >= self._goal(cell, params))
        return self.observe(index), State(index)

    def probability(self, index: jax.Array, action: jax.Array, params: Params) -> jax.Array:
        """Of going up, down, left, right."""
        del index
        return jnp.where(jnp.arange(4) == action, 1 - params.fail_prob, params.fail_prob / 3)

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: Params) -> Outcome:
        """Goes in direction `k`."""
        del action
        cell, goal = index % _NUM, self._goal(index, params)
        after = jnp.asarray(_AFTER)[cell, k]
        arrived = after == goal
        return Outcome(index - cell + after, arrived, arrived)

    def observe(self, index: jax.Array) -> jax.Array:
        """What is seen in a state."""
        parts = [index % _NUM, index // _NUM] if self.random_goal else [index]
        if self.observation == "coordinates":
            return jnp.concatenate([jnp.asarray(_CELLS, jnp.float32)[part] for part in parts])
        return jnp.stack(parts) if self.random_goal else index

    def render(self, state: State, params: Params) -> np.ndarray:
        """The rooms from above, 30 pixels per cell: grey walls, a green goal and a blue agent."""
        size = 30
        canvas = Canvas(size * _FREE.shape[0], size * _FREE.shape[1], "grey")
        goal = int(self._goal(jnp.asarray(state.index), params))
        for cell, (row, col) in enumerate(_CELLS.tolist()):
            corner, opposite = (col * size + 1, row * size + 1), ((col + 1) * size - 1, (row + 1) * size - 1)
            canvas.rectangle(corner, opposite, "green" if cell == goal else "white")
        row, col = _CELLS[int(state.index) % _NUM].tolist()
        canvas.circle((col * size + size / 2, row * size + size / 2), size * 0.3, "blue")
        return canvas.pixels
