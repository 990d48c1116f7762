"""DoorKey: find the key, open the locked door with it, and walk to the goal behind.

Start: a wall from top to bottom in a uniform column, so that both sides have a free one; in it a locked yellow door in
    a uniform row, the last one excepted; agent (in any direction) and yellow key on different uniform cells to the
    left; the goal in the bottom right corner.
Ends: the agent enters the goal. Time limit: 10 · size² steps.
Observation, action, reward, source: see `envs.gridworld.minigrid.world`.
"""

from dataclasses import dataclass

import jax
import numpy as np

from envs.gridworld.minigrid import world
from envs.gridworld.minigrid.world import GOAL, KEY, LOCKED, WALL, YELLOW, MiniGrid, State


@dataclass(frozen=True)
class DoorKey(MiniGrid):
    """Two rooms in size × size cells, the walls included."""

    max_steps: int | None = 640
    size: int = 8

    def __post_init__(self) -> None:
        """Raises InputError for a size without two rooms."""
        super().__post_init__()
        world.check_size("DoorKey", self.size, 5)

    @property
    def shape(self) -> tuple[int, int]:
        """Size × size."""
        return self.size, self.size

    def layout(self, key: jax.Array) -> State:
        """Draws wall, door, agent and key."""
        u = jax.random.uniform(key, (5,))
        split = 2 + world.below(u[0], self.size - 4)
        door = 1 + world.below(u[1], self.size - 3)
        width = split - 1
        cells = width * (self.size - 2)
        agent = world.below(u[2], cells)
        key_at = world.below(u[3], cells - 1)
        key_at += key_at >= agent

        grid = world.walled(*self.shape)
        grid[-2, -2] = GOAL
        grid = world.paint(grid, np.arange(self.size)[:, None], split, WALL)
        grid = world.paint(grid, door, split, LOCKED | YELLOW)
        grid = world.paint(grid, 1 + key_at // width, 1 + key_at % width, KEY | YELLOW)
        return world.start(grid, 1 + agent % width, 1 + agent // width, world.below(u[4], 4))
