"""GridWorld: walk over an empty grid to the cell in the far corner. Three settings of textbook Q-learning exercises.

Observation: i32[] the cell, row × columns + column; row 0 is at the top.
Action: 0 up, 1 down, 2 left, 3 right. A move off the grid leaves the agent where it is.
Ends: the agent enters the goal, the last cell (bottom right). Time limit: 100 steps.

| name | start | reward |
|---|---|---|
| GridWorld-4x4 | the first cell (top left) | 1 for the step into the goal, else 0 |
| GridWorld-5x5 | uniform over all cells but the goal | 10 for the step into the goal, else −1 |
| GridWorld-3x3 | the first cell | 10 for the step into the goal, else −1 |

Deviations: the exercises have no time limit; the 5x5 one also starts on the goal (an episode of no steps) and never
pays its 10, because its episode ends before the reward of the goal cell is due. The 3x3 grid is the scene of a worked
Q-learning update that gives one transition, right from (1, 1) to (1, 2) for −1; goal and start are chosen here.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.drawing import Canvas
from envs.errors import InputError
from envs.spaces import Discrete
from envs.tabular import Tables, Tabular


class State(NamedTuple):
    """The agent's place."""

    cell: jax.Array  # i32[] row × columns + column


class Params(NamedTuple):
    """Rewards."""

    step_reward: float  # of every step that does not enter the goal
    goal_reward: float  # of the step into the goal, instead of step_reward


@dataclass(frozen=True)
class GridWorld(Tabular[State, Params]):
    """An empty grid with a goal in the corner."""

    max_steps: int | None = 100
    rows: int = 4
    cols: int = 4
    random_start: bool = False  # uniform over all cells but the goal, instead of the first cell
    rewards: tuple[float, float] = (0.0, 1.0)  # what default_params says: (step_reward, goal_reward)

    def __post_init__(self) -> None:
        """Raises InputError for a grid without a cell to start from."""
        if self.rows < 1 or self.cols < 1 or self.rows * self.cols < 2:
            raise InputError(f"a grid needs a start and a goal: rows={self.rows} cols={self.cols} is too small.")

    @property
    def random_step(self) -> bool:
        """False: moves never slip."""
        return False

    @property
    def observation_space(self) -> Discrete:
        """The cells."""
        return Discrete(self.rows * self.cols)

    @property
    def action_space(self) -> Discrete:
        """0: up, 1: down, 2: left, 3: right."""
        return Discrete(4)

    def default_params(self) -> Params:
        """The rewards that the instance was built with."""
        return Params(*self.rewards)

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Places the agent."""
        del params
        if self.random_start:
            cell = jax.random.randint(key, (), 0, self.rows * self.cols - 1, jnp.int32)
        else:
            cell = jnp.zeros((), jnp.int32)
        return cell, State(cell)

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Moves the agent by one cell."""
        del key
        row, col = state.cell // self.cols, state.cell % self.cols
        row = jnp.clip(row + (action == 1) - (action == 0), 0, self.rows - 1)
        col = jnp.clip(col + (action == 3) - (action == 2), 0, self.cols - 1)
        cell = (row * self.cols + col).astype(jnp.int32)
        arrived = cell == self.rows * self.cols - 1
        reward = jnp.where(arrived, params.goal_reward, params.step_reward).astype(jnp.float32)
        return Step(cell, State(cell), reward, arrived, {})

    def index(self, state: State) -> jax.Array:
        """The cell."""
        return state.cell

    def tables(self, params: Params) -> Tables:
        """Takes every action in every cell; the goal has the moves that it would have if episodes went on there."""
        count = self.rows * self.cols
        move = jax.vmap(jax.vmap(self.step, (None, None, 0, None)), (None, 0, None, None))
        out = move(jax.random.key(0), State(jnp.arange(count)), jnp.arange(4), params)
        start = np.zeros(count, np.float32)
        start[: count - 1 if self.random_start else 1] = 1 / (count - 1) if self.random_start else 1
        certain = jnp.ones((count, 4, 1), jnp.float32)
        cell, reward, terminated = (part[..., None] for part in (out.state.cell, out.reward, out.terminated))
        return Tables(certain, cell, reward, terminated, jnp.asarray(start))

    def render(self, state: State, params: Params) -> np.ndarray:
        """The grid from above, 60 pixels per cell: a green goal and a blue agent."""
        del params
        size = 60
        canvas = Canvas(height=self.rows * size + 2, width=self.cols * size + 2, background="grey")
        for row in range(self.rows):
            for col in range(self.cols):
                is_goal = row == self.rows - 1 and col == self.cols - 1
                corner, opposite = (col * size + 2, row * size + 2), ((col + 1) * size, (row + 1) * size)
                canvas.rectangle(corner, opposite, "green" if is_goal else "white")
        row, col = divmod(int(state.cell), self.cols)
        canvas.circle((col * size + size / 2 + 1, row * size + size / 2 + 1), size * 0.3, "blue")
        return canvas.pixels
