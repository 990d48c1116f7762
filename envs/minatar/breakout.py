"""MinAtar Breakout: keep a ball in play with a paddle and break three rows of bricks.

Observation: bool[10, 10, 4]: paddle, ball, trail (where the ball was one step ago), brick.
Action: 1 moves the paddle to the left, 3 to the right; the others do nothing (minimal set: 0, 1, 3).
Reward: 1 for each brick broken.
Ends: the ball reaches the bottom row beside the paddle. Time limit: none.
Start: paddle in column 4, all 30 bricks in rows 1 to 3, the ball in row 3 at the left or the right wall (even odds),
    moving down and away from the wall.
Rules: the ball moves one cell diagonally. A wall turns it sideways, the ceiling turns it down. A brick breaks, turns
    it vertically and keeps it in its row, unless the step before already met a brick: then it passes through. On the
    bottom row the paddle turns it up, and also sideways when it only meets the paddle after the sideways move. New
    bricks appear when the ball comes down to the bottom row with none left. There is no difficulty ramp.
Source and deviations: see `envs.minatar.game`; the rules are those of MinAtar 1.0.15 exactly.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.minatar import game
from envs.minatar.game import Mark

_TOP, _BOTTOM = 1, 3  # the rows of bricks
_WALL = (1 << 30) - 1  # all bricks


class State(NamedTuple):
    """Paddle, ball and bricks."""

    paddle: jax.Array  # i32[] column
    x: jax.Array  # i32[] the ball's column
    y: jax.Array  # i32[] the ball's row
    dx: jax.Array  # i32[] its next sideways move, -1 or 1
    dy: jax.Array  # i32[] its next vertical move, -1 (up) or 1
    last_x: jax.Array  # i32[] its column one step ago
    last_y: jax.Array  # i32[] its row one step ago
    bricks: jax.Array  # u32[] bit 10 (row - 1) + column is set where a brick stands
    struck: jax.Array  # bool[] the last step met a brick
    last_action: jax.Array  # i32[] the action executed last


class Params(NamedTuple):
    """The one constant that can be set."""

    sticky_prob: float = 0.1  # probability of executing the last action again


class Draws(NamedTuple):
    """The random decision of one step."""

    repeat: jax.Array  # bool[] execute the last action again


@dataclass(frozen=True)
class Breakout(game.Game[State, Params, Draws]):
    """A ball, a paddle and three rows of bricks."""

    used_actions: ClassVar[tuple[int, ...]] = (game.NONE, game.LEFT, game.RIGHT)
    channels: ClassVar[dict[str, Mark]] = {
        "paddle": Mark("light"),
        "ball": Mark("yellow", 0.8, disc=True),
        "trail": Mark("yellow", 0.35, disc=True),
        "brick": Mark("red"),
    }

    def default_params(self) -> Params:
        """The original's constants."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Starts with the ball on either side."""
        state = self.start((jax.random.bits(key, (), jnp.uint32) & 1) == 1)
        return self.observe(state, params), state

    def start(self, right: jax.Array) -> State:
        """The initial state with the ball at the left or the `right` wall."""
        x = jnp.where(right, 9, 0)
        y = jnp.int32(_BOTTOM)
        return State(
            paddle=jnp.int32(4),
            x=x,
            y=y,
            dx=jnp.where(right, -1, 1),
            dy=jnp.int32(1),
            last_x=x,
            last_y=y,
            bricks=jnp.uint32(_WALL),
            struck=jnp.bool_(False),
            last_action=jnp.int32(game.NONE),
        )

    def draw(self, key: jax.Array, params: Params) -> Draws:
        """Draws from one word."""
        return Draws(game.repeats(jax.random.bits(key, (), jnp.uint32), params.sticky_prob))

    def transition(self, state: State, action: jax.Array, draws: Draws, params: Params) -> Step:
        """Moves the paddle, then the ball."""
        action = self.executed(action, draws.repeat, state.last_action)
        move = (action == game.RIGHT).astype(jnp.int32) - (action == game.LEFT)
        paddle = jnp.clip(state.paddle + move, 0, 9)

        x, y = state.x + state.dx, state.y + state.dy
        dx = jnp.where((x < 0) | (x > 9), -state.dx, state.dx)
        x = jnp.clip(x, 0, 9)

        ceiling = y < 0
        place = _brick(x, y)
        meets_brick = (state.bricks & place) != 0
        breaks = meets_brick & ~state.struck
        bricks = jnp.where(breaks, state.bricks ^ place, state.bricks)

        bottom = y == 9
        bricks = jnp.where(bottom & (bricks == 0), jnp.uint32(_WALL), bricks)
        # The paddle counts as hit head-on where the ball was above it before this step, not where it lands.
        head_on = bottom & (state.x == paddle)
        corner = bottom & ~head_on & (x == paddle)

        stays = breaks | head_on | corner
        dy = jnp.where(stays | ceiling, -state.dy, state.dy)
        dx = jnp.where(corner, -dx, dx)
        y = jnp.where(stays, state.y, jnp.maximum(y, 0))
        new = State(paddle, x, y, dx, dy, state.x, state.y, bricks, meets_brick, action)
        terminated = bottom & ~head_on & ~corner
        return Step(self.observe(new, params), new, breaks.astype(jnp.float32), terminated, {})

    def observe(self, state: State, params: Params) -> jax.Array:
        """The four channels as cells."""
        del params
        y = np.arange(game.SIZE)
        place = np.clip(game.SIZE * (y - _TOP), 0, 20).astype(np.uint32)
        bricks = jnp.where((y >= _TOP) & (y <= _BOTTOM), (state.bricks >> place) & game.ROW, 0)
        paddle = game.cell(state.paddle, jnp.int32(9))
        return game.grid([paddle, game.cell(state.x, state.y), game.cell(state.last_x, state.last_y), bricks])


def _brick(x: jax.Array, y: jax.Array) -> jax.Array:
    """The bit of the brick in column x, row y; 0 in rows that never have one."""
    inside = (y >= _TOP) & (y <= _BOTTOM)
    return jnp.where(inside, game.bit(jnp.where(inside, game.SIZE * (y - _TOP) + x, 0)), jnp.uint32(0))
