"""Unlock and UnlockPickup: find the key and open the locked door; then also pick up the box behind it.

Start: two rooms of 4 × 4 cells side by side; between them a locked door of any colour in a uniform row; its key on a
    uniform cell of the left room. The agent is in the left room, on a uniform pair of cell and direction in which
    neither key nor door is right ahead. UnlockPickup also puts a box of any colour into the right room, on a uniform
    cell that is not (row 3, column 8) or next to it.
Ends: Unlock when the door is opened, UnlockPickup when the box is picked up. Time limit: 288 steps.
Observation, action, reward, source: see `envs.gridworld.minigrid.world`. UnlockPickup's mission is the colour of the
    box.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from envs.gridworld.minigrid import world
from envs.gridworld.minigrid.world import BOX, KEY, LOCKED, PICK_UP, TOGGLE, WALL, MiniGrid, State

_ROOM = 4  # cells on each side of a room
_DOOR_X = _ROOM + 1
_CELLS = [(x, y) for y in range(1, _ROOM + 1) for x in range(1, _ROOM + 1)]  # of the left room
_POSES = np.array([(x, y, d) for x, y in _CELLS for d in range(4)])  # i32[64, 3] all poses of the agent
_AHEAD = np.array([(x + (1, 0, -1, 0)[d], y + (0, 1, 0, -1)[d]) for x, y, d in _POSES])
# The original keeps objects away from the middle of the whole grid, where its agent stands at first.
_BOX_CELLS = np.array([(x + _DOOR_X, y) for x, y in _CELLS if abs(x + _DOOR_X - 8) + abs(y - 3) >= 2])


@dataclass(frozen=True)
class Unlock(MiniGrid):
    """Open the door. `State.target` is the colour of the box, 0 without one."""

    max_steps: int | None = 288
    has_box: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, int]:
        """6 × 11."""
        return _ROOM + 2, 2 * _ROOM + 3

    def layout(self, key: jax.Array) -> State:
        """Draws door, key and agent."""
        u = jax.random.uniform(key, (6,))
        colour = world.below(u[0], 6) << 4
        door_y = 1 + world.below(u[1], _ROOM)
        key_x, key_y = jnp.asarray(_CELLS)[world.below(u[2], len(_CELLS))]
        x, y, _ = _POSES.T
        ahead_x, ahead_y = _AHEAD.T
        is_key = (x == key_x) & (y == key_y)
        faces = ((ahead_x == key_x) & (ahead_y == key_y)) | ((ahead_x == _DOOR_X) & (ahead_y == door_y))
        x, y, direction = jnp.asarray(_POSES)[world.among(~is_key & ~faces, u[3])]

        grid = world.walled(*self.shape)
        grid[:, _DOOR_X] = WALL
        grid = world.paint(grid, door_y, _DOOR_X, LOCKED | colour)
        grid = world.paint(grid, key_y, key_x, KEY | colour)
        target = jnp.int32(0)
        if self.has_box:
            box_x, box_y = jnp.asarray(_BOX_CELLS)[world.below(u[4], len(_BOX_CELLS))]
            target = world.below(u[5], 6)
            grid = world.paint(grid, box_y, box_x, BOX | target << 4)
        return world.start(grid, x, y, direction, target)

    def outcome(self, state: State, action: jax.Array, ahead: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The door has been opened; it is the only one."""
        opened = (action == TOGGLE) & world.fits(state.carrying, ahead)
        return opened, opened


@dataclass(frozen=True)
class UnlockPickup(Unlock):
    """Open the door and pick up the box behind it."""

    has_box: ClassVar[bool] = True
    colour_in_mission: ClassVar[bool] = True

    def outcome(self, state: State, action: jax.Array, ahead: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The box has been picked up: it is the only one, and was ahead."""
        picked_up = (action == PICK_UP) & ((ahead & 15) == BOX) & (state.carrying == ahead)
        return picked_up, picked_up
