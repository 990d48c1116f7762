"""KeyCorridor: find the key in the rooms along a corridor, open the locked room with it and pick up the ball there.

Start: a corridor between two columns of `rooms` rooms of side `room_size`, walls included. One room on the right,
    uniformly chosen, is locked and holds a ball of any colour; the key lies in one of the rooms on the left. All other
    doors are closed, of any colour, and in uniform places of their walls. They are those of the two sides and between
    neighbours on one side, in uniform order, until every room can be reached. The agent is in the corridor's middle,
    on a uniform pair of cell and direction, but not right before the locked door.
Ends: the ball is picked up. Time limit: 30 · room_size² steps.
Observation, action, reward, source: see `envs.gridworld.minigrid.world`. The mission is the colour of the ball.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import InputError
from envs.gridworld.minigrid import world
from envs.gridworld.minigrid.world import BALL, CLOSED, EMPTY, KEY, LOCKED, PICK_UP, WALL, MiniGrid, State


@dataclass(frozen=True)
class KeyCorridor(MiniGrid):
    """Rooms along a corridor. `State.target` is the colour of the ball."""

    max_steps: int | None = 270
    room_size: int = 3
    rooms: int = 1  # on each side

    colour_in_mission: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raises InputError for rooms without a cell."""
        super().__post_init__()
        if self.room_size < 3 or self.rooms < 1:
            raise InputError(f"KeyCorridor: room_size={self.room_size} must be at least 3, rooms={self.rooms} 1.")

    @property
    def shape(self) -> tuple[int, int]:
        """Rooms share their walls."""
        return (self.room_size - 1) * self.rooms + 1, (self.room_size - 1) * 3 + 1

    def layout(self, key: jax.Array) -> State:
        """Draws doors, objects and the agent."""
        n, pitch, inner = self.rooms, self.room_size - 1, self.room_size - 2
        u = jax.random.uniform(key, (6 + 3 * (4 * n - 2),))
        # Of every possible door: its turn, its place in the wall, its colour. First those between the corridor and
        # each room, [side, room], then those between a room and the next one on its side, [side, room].
        turn, place, colour = u[6:].reshape(3, -1)
        place = 1 + world.below(place, inner)
        colour = world.below(colour, 6) << 4
        first = 2 * n  # of the second kind

        locked = world.below(u[0], n)
        is_locked = (np.arange(2)[:, None] == 1) & (np.arange(n) == locked)
        beside = jnp.where(is_locked, jnp.inf, turn[:first].reshape(2, n))
        between = jnp.where(is_locked[:, 1:] | is_locked[:, :-1], jnp.inf, turn[first:].reshape(2, n - 1))
        # The turn after which each room can be reached, by one door or, round by round, through neighbours. Doors are
        # added until the last room can be.
        reached, never = beside, jnp.full((2, 1), jnp.inf)
        for _ in range(n - 1):
            from_above = jnp.concatenate([never, jnp.maximum(reached[:, :-1], between)], 1)
            from_below = jnp.concatenate([jnp.maximum(reached[:, 1:], between), never], 1)
            reached = jnp.minimum(reached, jnp.minimum(from_above, from_below))
        last = jnp.max(jnp.where(is_locked, 0.0, reached))
        exists = jnp.concatenate([(is_locked | (beside <= last)).ravel(), (between <= last).ravel()])
        kind = jnp.where(jnp.pad(is_locked.ravel(), (0, 2 * (n - 1))), LOCKED, CLOSED)
        doors = jnp.where(exists, kind | colour, WALL)
        side, room = (part.ravel() for part in np.mgrid[:2, :n])
        side_2, room_2 = (part.ravel() for part in np.mgrid[:2, : n - 1])
        doors_x = jnp.concatenate([(side + 1) * pitch, 2 * side_2 * pitch + place[first:]])
        doors_y = jnp.concatenate([room * pitch + place[:first], (room_2 + 1) * pitch])

        ball, spot, key_spot = world.below(u[1], 6), world.below(u[2], inner * inner), world.below(u[3], inner * inner)
        key_room = world.below(u[4], n)
        door_y = doors_y[n + locked]
        objects = jnp.stack([BALL | ball << 4, KEY | colour[n + locked]])
        objects_x = jnp.stack([2 * pitch + 1 + spot % inner, 1 + key_spot % inner])
        objects_y = jnp.stack([locked * pitch + 1 + spot // inner, key_room * pitch + 1 + key_spot // inner])

        # The middle part of the corridor, with the openings to the parts above and below, where there are any.
        rows = range((n // 2) * pitch + (n == 1), (n // 2 + 1) * pitch + (n > 2))
        poses = np.array([(x, y, d) for y in rows for x in range(pitch + 1, 2 * pitch) for d in range(4)])
        before_door = (poses[:, 0] == 2 * pitch - 1) & (poses[:, 1] == door_y) & (poses[:, 2] == 0)
        x, y, direction = jnp.asarray(poses)[world.among(~before_door, u[5])]

        grid = np.full(self.shape, EMPTY, np.uint8)
        grid[::pitch], grid[:, ::pitch] = WALL, WALL
        grid[pitch:-1:pitch, pitch + 1 : 2 * pitch] = EMPTY
        at = jnp.concatenate([doors_y, objects_y]), jnp.concatenate([doors_x, objects_x])
        grid = jnp.asarray(grid).at[at].set(jnp.concatenate([doors, objects]).astype(jnp.uint8))
        return world.start(grid, x, y, direction, ball)

    def outcome(self, state: State, action: jax.Array, ahead: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The ball has been picked up: it is the only one, and was ahead."""
        picked_up = (action == PICK_UP) & ((ahead & 15) == BALL) & (state.carrying == ahead)
        return picked_up, picked_up
