"""CliffWalking: walk along a cliff to the goal (Sutton & Barto 2018, example 6.6), as Gymnasium's CliffWalking-v1.

Observation: i32[] the cell of 4 × 12, row × 12 + column; row 0 is at the top.
Action: 0 up, 1 right, 2 down, 3 left. A move off the grid leaves the agent where it is.
Cliff: the bottom row between the start (left) and the goal (right). Who steps into it is back at the start, and the
    episode goes on.
Slip (`is_slippery`): the move goes where it should with probability `success_rate` (1/3), else to one of the two sides.
Reward: −100 for a step into the cliff, −1 for any other.
Ends: the agent enters the goal. Time limit: none.
Deviations from Gymnasium: rewards and the success rate are parameters, probabilities are float32; a step's info does
    not repeat its probability. The tables give the cells of the cliff and of the goal, from which no episode acts, the
    moves that Gymnasium gives them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.spaces import Discrete
from envs.tabular import Finite, Outcome, State
from envs.toy_text.board import board, place_agent

ROWS, COLS = 4, 12
START, GOAL = 36, 47


class Params(NamedTuple):
    """Rewards, and how slippery the ground is."""

    step_reward: float = -1.0
    fall_reward: float = -100.0  # of a step into the cliff, instead of step_reward
    success_rate: float = 1 / 3  # probability that a move goes where it should; only where it is slippery


@dataclass(frozen=True)
class CliffWalking(Finite[Params]):
    """A path along a cliff."""

    is_slippery: bool = False

    @property
    def num_states(self) -> int:
        """The cells."""
        return ROWS * COLS

    @property
    def num_outcomes(self) -> int:
        """Straight on, or to either side."""
        return 3 if self.is_slippery else 1

    @property
    def starts(self) -> tuple[int, ...]:
        """The bottom left cell."""
        return (START,)

    @property
    def action_space(self) -> Discrete:
        """0: up, 1: right, 2: down, 3: left."""
        return Discrete(4)

    def default_params(self) -> Params:
        """The book's rewards and Gymnasium's slip."""
        return Params()

    def probability(self, index: jax.Array, action: jax.Array, params: Params) -> jax.Array:
        """One side, straight on, the other side."""
        if not self.is_slippery:
            return jnp.ones(1, jnp.float32)
        side = (1 - jnp.asarray(params.success_rate, jnp.float32)) / 2
        return jnp.stack([side, params.success_rate, side])

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: Params) -> Outcome:
        """Moves by one cell, and back to the start from the cliff."""
        direction = (action + k - 1) % 4 if self.is_slippery else action
        row, col = index // COLS, index % COLS
        row = jnp.clip(row + (direction == 2) - (direction == 0), 0, ROWS - 1)
        col = jnp.clip(col + (direction == 1) - (direction == 3), 0, COLS - 1)
        cell = row * COLS + col
        fell = (cell > START) & (cell < GOAL)
        reward = jnp.where(fell, params.fall_reward, params.step_reward)
        return Outcome(jnp.where(fell, START, cell), reward, cell == GOAL)

    def render(self, state: State, params: Params) -> np.ndarray:
        """The path from above: start yellow, cliff red, goal green, agent blue."""
        del params
        bottom = ["yellow", *["red"] * (COLS - 2), "green"]
        canvas = board([*[["white"] * COLS] * (ROWS - 1), bottom])
        place_agent(canvas, *divmod(int(state.index), COLS))
        return canvas.pixels
