"""MultiRoom: walk through a chain of rooms, opening a door into each, to the goal in the last one.

Start: the rooms lie somewhere in 25 × 25 cells, each of uniform width and height between 4 and `max_room_size` cells,
    walls included. Each next room is put at a random door of the last one; of 8 tries the first that lies within the
    grid and meets no earlier room is taken, and if none does, everything is drawn anew. The doors are closed, each of
    another colour than the one before. The agent stands on a uniform cell of the first room, in any direction, the goal
    on one of the last.
Ends: the agent enters the goal. Time limit: 20 steps for each room.
Observation, action, reward, source: see `envs.gridworld.minigrid.world`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import InputError
from envs.gridworld.minigrid import world
from envs.gridworld.minigrid.world import CLOSED, EMPTY, GOAL, WALL, MiniGrid, State

_SIDE = 25  # of the grid
_LEAST = 4  # of a room
_TRIES = 8  # to place a next room


class Room(NamedTuple):
    """A room or, with an axis in front, several."""

    x: jax.Array  # i32[] its first column
    y: jax.Array  # i32[] its first row
    width: jax.Array  # i32[] walls included
    height: jax.Array  # i32[] walls included
    wall: jax.Array  # i32[] the one with the door to enter it: 0 right, 1 bottom, 2 left, 3 top
    door_x: jax.Array  # i32[] that door
    door_y: jax.Array  # i32[]


@dataclass(frozen=True)
class MultiRoom(MiniGrid):
    """A chain of rooms in 25 × 25 cells."""

    max_steps: int | None = 40
    rooms: int = 2
    max_room_size: int = 4

    def __post_init__(self) -> None:
        """Raises InputError for fewer than two rooms, or a size of rooms that cannot be placed."""
        super().__post_init__()
        if self.rooms < 2:
            raise InputError(f"MultiRoom: rooms={self.rooms} must be at least 2.")
        if not _LEAST <= self.max_room_size <= 10:
            raise InputError(f"MultiRoom: max_room_size={self.max_room_size} must be from {_LEAST} to 10.")

    @property
    def shape(self) -> tuple[int, int]:
        """25 × 25."""
        return _SIDE, _SIDE

    def layout(self, key: jax.Array) -> State:
        """Draws chains of rooms until one is complete (most are), then what is in them."""
        key_rooms, key_rest = jax.random.split(key)

        def again(carry: tuple) -> tuple:
            attempt, _, _ = carry
            return attempt + 1, *self.chain(jax.random.fold_in(key_rooms, attempt))

        nowhere = Room(*jnp.zeros((len(Room._fields), self.rooms), jnp.int32))
        _, room, _ = jax.lax.while_loop(lambda carry: ~carry[-1], again, (jnp.int32(0), nowhere, jnp.bool_(False)))

        u = jax.random.uniform(key_rest, (4 + self.rooms,))
        grid = jnp.full(self.shape, EMPTY, jnp.uint8)
        y, x = np.arange(_SIDE)[:, None], np.arange(_SIDE)
        colour = world.below(u[0], 6)
        for i in range(self.rooms):
            left, top = x - room.x[i], y - room.y[i]
            inside = (left >= 0) & (left < room.width[i]) & (top >= 0) & (top < room.height[i])
            edge = (left == 0) | (left == room.width[i] - 1) | (top == 0) | (top == room.height[i] - 1)
            grid = jnp.where(inside & edge, np.uint8(WALL), grid)
            if i > 0:
                if i > 1:
                    other = world.below(u[3 + i], 5)
                    colour = other + (other >= colour)
                grid = world.paint(grid, room.door_y[i], room.door_x[i], CLOSED | colour << 4)

        def within(i: int, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
            """A uniform cell of a room."""
            width = room.width[i] - 2
            cell = world.below(uniform, width * (room.height[i] - 2))
            return room.x[i] + 1 + cell % width, room.y[i] + 1 + cell // width

        agent_x, agent_y = within(0, u[1])
        goal_x, goal_y = within(-1, u[2])
        grid = world.paint(grid, goal_y, goal_x, GOAL)
        return world.start(grid, agent_x, agent_y, world.below(u[3], 4))

    def chain(self, key: jax.Array) -> tuple[Room, jax.Array]:
        """Draws the rooms, each field i32[rooms]; returns them and whether all could be placed, bool[]."""
        u = jax.random.uniform(key, (self.rooms, _TRIES, 3))
        sizes = range(_LEAST, self.max_room_size + 1)
        # All places for the first room, so that it needs one try. Its last row must not be the grid's last one.
        columns = np.array([(x, size) for size in sizes for x in range(_SIDE - size + 1)])
        rows = np.array([(y, size) for size in sizes for y in range(_SIDE - size)])
        x, width = jnp.asarray(columns)[world.below(u[0, 0, 0], len(columns))]
        y, height = jnp.asarray(rows)[world.below(u[0, 0, 1], len(rows))]
        placed = [Room(x, y, width, height, jnp.int32(2), x, y)]
        complete = jnp.bool_(True)
        for i in range(1, self.rooms):
            tries = self.beside(placed[-1], u[i])
            free = (tries.x >= 0) & (tries.x + tries.width <= _SIDE)
            free &= (tries.y >= 0) & (tries.y + tries.height < _SIDE)
            for other in placed[:-1]:
                apart = (tries.x + tries.width < other.x) | (other.x + other.width <= tries.x)
                apart |= (tries.y + tries.height < other.y) | (other.y + other.height <= tries.y)
                free &= apart
            first = jnp.argmax(free)
            complete &= free[first]
            placed.append(jax.tree.map(lambda field, first=first: field[first], tries))
        return jax.tree.map(lambda *fields: jnp.stack(fields).astype(jnp.int32), *placed), complete

    def beside(self, last: Room, u: jax.Array) -> Room:
        """Draws places for a room after `last`: each field i32[tries]. `u` is f32[tries, 3], uniform."""
        sizes = self.max_room_size - _LEAST + 1
        # What a draw leaves of its number after the point is uniform again.
        choice = u[:, 0] * 3
        exit_wall = choice.astype(jnp.int32)
        exit_wall += exit_wall >= last.wall
        across = (exit_wall & 1) == 0  # the door is in a side wall: the rooms lie side by side
        place = 1 + world.below(choice % 1, jnp.where(across, last.height, last.width) - 2)
        door_x = last.x + jnp.where(across, jnp.where(exit_wall == 0, last.width - 1, 0), place)
        door_y = last.y + jnp.where(across, place, jnp.where(exit_wall == 1, last.height - 1, 0))
        choice = u[:, 1] * sizes
        width = _LEAST + choice.astype(jnp.int32)
        height = _LEAST + world.below(choice % 1, sizes)
        length = jnp.where(across, height, width)
        before = length - 2 - world.below(u[:, 2], length - 2)  # cells of the new wall before the door
        x = jnp.where(across, jnp.where(exit_wall == 0, door_x, door_x - width + 1), door_x - before)
        y = jnp.where(across, door_y - before, jnp.where(exit_wall == 1, door_y, door_y - height + 1))
        return Room(x, y, width, height, exit_wall ^ 2, door_x, door_y)
