"""Memory: look at the object in the first room, walk down a hallway, and turn to the same object at its end.

Start: a small room at the left with a green key or ball; a hallway in the middle row; where it ends, a key and a ball
    above and below, either way round; the agent in the middle row, uniformly from the room to the end of the hallway,
    facing right. In the names with Random the end of the hallway is uniform too.
Ends: the agent stands before one of the two objects at the end: 1 − time cost for the same kind as in the room, 0 for
    the other. Time limit: 5 · size² steps.
Action 3 (pick up) is taken as 5 (toggle), which does nothing here: objects stay where they are.
Observation, reward, source: see `envs.gridworld.minigrid.world`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.errors import InputError
from envs.gridworld.minigrid import world
from envs.gridworld.minigrid.world import BALL, GREEN, KEY, PICK_UP, TOGGLE, WALL, MiniGrid, Params, State


@dataclass(frozen=True)
class Memory(MiniGrid):
    """A hallway in size × size cells. `State.target` is the cell to go to, row · size + column."""

    max_steps: int | None = 245
    size: int = 7
    random_length: bool = False

    def __post_init__(self) -> None:
        """Raises InputError for a size without a middle row, or too small."""
        super().__post_init__()
        world.check_size("Memory", self.size, 7)
        if self.size % 2 == 0:
            raise InputError(f"Memory: size={self.size} must be odd.")

    @property
    def shape(self) -> tuple[int, int]:
        """Size × size."""
        return self.size, self.size

    def layout(self, key: jax.Array) -> State:
        """Draws the hallway, the agent and the objects."""
        u = jax.random.uniform(key, (4,))
        middle, last = self.size // 2, self.size - 3
        end = 4 + world.below(u[0], self.size - 6) if self.random_length else jnp.int32(last)
        shown, above = ((u[i] < 0.5).astype(jnp.int32) + KEY for i in (1, 2))  # KEY or BALL

        grid = world.walled(*self.shape)
        grid[[middle - 2, middle + 2], 1:5] = WALL
        grid[[middle - 1, middle + 1], 4] = WALL
        x, y = np.arange(self.size), np.arange(self.size)[:, None]
        hallway = (abs(y - middle) == 1) & (x > 4) & (x < end)
        crossing = ((x == end) & (y != middle)) | (x == end + 2)
        grid = jnp.where(hallway | crossing, np.uint8(WALL), grid)
        grid = world.paint(grid, middle - 1, 1, shown | GREEN)
        grid = world.paint(grid, middle - 2, end + 1, above | GREEN)
        grid = world.paint(grid, middle + 2, end + 1, (KEY + BALL - above) | GREEN)
        target = jnp.where(shown == above, middle - 1, middle + 1) * self.size + end + 1
        return world.start(grid, 1 + world.below(u[3], end), middle, 0, target)

    def outcome(self, state: State, action: jax.Array, ahead: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Before which of the two objects the agent stands."""
        del action, ahead
        column, row = state.target % self.size, state.target // self.size
        there = (state.x == column) & (abs(state.y - self.size // 2) == 1)
        return there & (state.y == row), there

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """As in every task, but nothing can be picked up."""
        return super().step(key, state, jnp.where(action == PICK_UP, TOGGLE, action), params)
