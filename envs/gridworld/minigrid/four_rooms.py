"""MiniGrid's FourRooms: find the goal in four rooms of 8 × 8 cells, joined by one gap in each wall between them.

Start: the four gaps, the agent (in any direction) and the goal on uniform cells, agent and goal on different ones; both
    may stand in a gap.
Ends: the agent enters the goal. Time limit: 100 steps.
Observation, action, reward, source: see `envs.gridworld.minigrid.world`. `envs.gridworld.four_rooms` is another task.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from envs.gridworld.minigrid import world
from envs.gridworld.minigrid.world import EMPTY, GOAL, WALL, MiniGrid, State

_MIDDLE = 9  # row and column of the inner walls
_ROOM = 8  # cells on each side of a room
_FREE = 4 * _ROOM * _ROOM + 4


@dataclass(frozen=True)
class FourRooms(MiniGrid):
    """A house of 19 × 19 cells, its walls included."""

    max_steps: int | None = 100

    @property
    def shape(self) -> tuple[int, int]:
        """19 × 19."""
        return 19, 19

    def layout(self, key: jax.Array) -> State:
        """Draws gaps, agent and goal."""
        u = jax.random.uniform(key, (7,))
        gap = 1 + world.below(u[:4], _ROOM) + np.array([0, _MIDDLE, 0, _MIDDLE])
        gap_y = jnp.where(np.arange(4) < 2, gap, _MIDDLE)
        gap_x = jnp.where(np.arange(4) < 2, _MIDDLE, gap)

        def at(index: jax.Array) -> tuple[jax.Array, jax.Array]:
            """The cell of an index: first all cells of the rooms, by their columns and rows, then the gaps."""
            row, col = index // (2 * _ROOM), index % (2 * _ROOM)
            i = jnp.maximum(index - (_FREE - 4), 0)
            in_gap = index >= _FREE - 4
            y = jnp.where(in_gap, gap_y[i], 1 + row + (row >= _ROOM))
            return y, jnp.where(in_gap, gap_x[i], 1 + col + (col >= _ROOM))

        agent, goal = world.below(u[4], _FREE), world.below(u[5], _FREE - 1)
        y, x = at(agent)
        goal_y, goal_x = at(goal + (goal >= agent))
        grid = world.walled(*self.shape)
        grid[_MIDDLE], grid[:, _MIDDLE] = WALL, WALL
        for i in range(4):
            grid = world.paint(grid, gap_y[i], gap_x[i], EMPTY)
        return world.start(world.paint(grid, goal_y, goal_x, GOAL), x, y, world.below(u[6], 4))
