"""Empty: walk to the goal in the far corner of an empty room.

Start: the agent in the top left corner, facing right. In the names with Random: uniform over all free cells but the
    goal, in any direction. The goal is in the bottom right corner.
Ends: the agent enters the goal. Time limit: 4 · size² steps.
Observation, action, reward, source: see `envs.gridworld.minigrid.world`. As in the original, walls hide nothing.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from envs.gridworld.minigrid import world
from envs.gridworld.minigrid.world import GOAL, MiniGrid, State


@dataclass(frozen=True)
class Empty(MiniGrid):
    """A room of size × size cells, its walls included."""

    max_steps: int | None = 256
    see_through_walls: bool = True
    size: int = 8
    random_start: bool = False

    def __post_init__(self) -> None:
        """Raises InputError for a size without a start and a goal."""
        super().__post_init__()
        world.check_size("Empty", self.size, 4)

    @property
    def shape(self) -> tuple[int, int]:
        """Size × size."""
        return self.size, self.size

    def layout(self, key: jax.Array) -> State:
        """Places the agent."""
        inner = self.size - 2
        grid = world.walled(*self.shape)
        grid[-2, -2] = GOAL
        place = jnp.int32(0)
        if self.random_start:
            # The goal is the last cell, so the others are 0 … inner² − 2.
            place = jax.random.randint(key, (), 0, 4 * (inner * inner - 1), jnp.int32)
        cell, direction = place >> 2, place & 3
        return world.start(jnp.asarray(grid), 1 + cell % inner, 1 + cell // inner, direction)
