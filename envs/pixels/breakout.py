"""Breakout on pixels: keep the ball in play with a paddle and break two walls of 108 bricks.

After the Atari 2600's Breakout (1978) as the Arcade Learning Environment plays it. A game of its own, not an emulation:
the rules below are Atari's where they say so, and results here are not results on Atari.

Observation: u8[84, 84, 1], see `envs.pixels.screen`: side walls and ceiling, the bricks, the paddle, the ball unless it
    waits for the serve, and above the ceiling a bar of 8 Atari pixels for every life (right) and for every wall cleared
    (left). `pixels=False`: f32[120] in -1 … 1: the ball's x, y and velocity (0 while it waits), the paddle's x, whether
    it is narrow, the part of the wait that is left, whether the ball can break a brick, hits of this ball (12 or more
    are 1), whether it touched an upper brick, lives, walls cleared, a 1 for each brick that stands (rows from the top),
    and 0 where it does not.
Action: 0 stays, 1 moves the paddle to the right, 2 to the left, for the `frame_skip` frames of one step.
Reward: the points of the bricks broken: 7, 7, 4, 4, 1, 1 for the rows from the top.
Ends: the last ball is lost, or the last wall is cleared. A lost life ends nothing. Time limit: 27,000 steps, as the
    usual 108,000 frames.
Start: the paddle in the middle, a full wall, a serve.
Random decisions: place and direction of every serve.

As in Atari (sizes, greys, speeds, points and the narrow paddle measured in ale-py 0.12.1; frame skip and time limit as
usual since Mnih et al. 2015): 6 rows of 18 bricks, 8 × 6 each, 432 points for a wall and 864 at most; 5 balls; a paddle
of 16, of 12 once the ball has touched the ceiling, until it is lost; the place where the ball meets the paddle sets its
angle; the ball starts at about 1.8 pixels a frame, gets faster with the paddle's hits, reaches 3.9 at once when it
breaks a brick of the upper four rows, and is slow again after a loss; serves come from beside a wall or from the
middle, under 45°. From the arcade's manual: after a brick the ball breaks no other before it has touched the paddle or
the ceiling.
Not as in Atari: the exact speeds and angles (Atari has a few of each; here the angle grows steadily from the paddle's
middle, and hits 4 and 12 make the ball faster); a brick always turns the ball vertically; the paddle starts and stops
at once; the ball is only met by the paddle's top; the serve comes by itself after `serve_delay` frames, and starts some
pixels beside Atari's four places, so FIRE is left out of the actions; the second wall appears when the paddle meets the
ball next, and clearing it ends the game; lives are drawn as a bar, and the score not at all.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.pixels import screen
from envs.pixels.screen import Rectangle
from envs.spaces import Box, Discrete

STAY, RIGHT, LEFT = range(3)

# Atari pixels. Positions of the ball and the paddle are those of their centres.
LEFT_WALL, RIGHT_WALL, CEILING = 8, 152, 32  # where the field begins
BALL_WIDTH, BALL_HEIGHT = 2, 4
PADDLE_Y, PADDLE_HEIGHT, PADDLE_WIDTH, NARROW_WIDTH = 189, 4, 16, 12
LEFTMOST, RIGHTMOST = LEFT_WALL + BALL_WIDTH / 2, RIGHT_WALL - BALL_WIDTH / 2  # x of a ball that touches a side
HIGHEST, FACE = CEILING + BALL_HEIGHT / 2, PADDLE_Y - BALL_HEIGHT / 2  # y of one that touches ceiling or paddle
SERVE_Y, SERVE_ANGLE = 122, np.pi / 4
SERVE_X, SERVE_SPREAD = 12, 8  # serves start this far from a wall or in the middle, give or take the spread
MIDDLE = screen.WIDTH / 2

ROWS, COLUMNS = 6, 18
BRICK_WIDTH, BRICK_HEIGHT, BRICKS_Y = 8, 6, 57
POINTS = (7, 7, 4, 4, 1, 1)  # of a brick in each row from the top
UPPER_ROWS = 4  # those that make the ball fastest
_WALL = (1 << COLUMNS) - 1  # a full row

WALL_GREY, PADDLE_GREY, BALL_GREY = 142, 110, 110
BRICK_GREYS = (110, 129, 131, 148, 124, 85)
BRICK_COLORS = ((200, 72, 72), (198, 108, 58), (180, 122, 48), (162, 162, 42), (72, 160, 72), (66, 72, 200))
_FRAME = (
    Rectangle(0, 17, screen.WIDTH, CEILING - 17),
    Rectangle(0, CEILING, LEFT_WALL, 196 - CEILING),
    Rectangle(RIGHT_WALL, CEILING, screen.WIDTH - RIGHT_WALL, 196 - CEILING),
)
_BACKDROP = screen.backdrop(0, [(box, WALL_GREY) for box in _FRAME])


class State(NamedTuple):
    """Ball, paddle, bricks and lives."""

    x: jax.Array  # f32[] the ball's centre, Atari pixels
    y: jax.Array  # f32[]
    vx: jax.Array  # f32[] its velocity, Atari pixels per frame; before a serve that of the serve
    vy: jax.Array  # f32[]
    paddle: jax.Array  # f32[] x of the paddle
    narrow: jax.Array  # bool[] this ball touched the ceiling
    bricks: jax.Array  # u32[6] rows from the top; bit c is set where the brick in column c stands
    armed: jax.Array  # bool[] the ball can break a brick
    hits: jax.Array  # i32[] of this ball by the paddle
    upper: jax.Array  # bool[] this ball broke a brick in the upper rows
    wait: jax.Array  # i32[] frames until the serve
    lives: jax.Array  # i32[] balls left, this one included
    cleared: jax.Array  # i32[] walls


class Params(NamedTuple):
    """Speeds are in Atari pixels per frame; above 6 a ball can skip a row of bricks."""

    paddle_speed: float = 3.0
    serve_speed: float = 1.8  # of the ball
    speed_4_hits: float = 2.2
    speed_12_hits: float = 2.8
    speed_upper: float = 3.9  # after a brick of the upper rows
    max_angle: float = float(np.pi / 3)  # of a ball met by the paddle's edge, from the vertical
    serve_delay: int = 16  # frames between a loss and the serve
    lives: int = 5
    walls: int = 2  # that end the game when cleared


class Draws(NamedTuple):
    """The random decisions of one step: used at most once, since no ball is lost sooner than it is served."""

    offset: jax.Array  # f32[] in -1 … 1
    outwards: jax.Array  # bool[] from the middle, else from beside a wall
    to_right: jax.Array  # bool[]


@dataclass(frozen=True)
class Breakout(Env[State, Params]):
    """A paddle, a ball and a wall."""

    pixels: bool = True  # observe the screen, else a vector
    frame_skip: int = 4  # frames in one step, all under one action
    max_steps: int | None = 27_000

    @property
    def observation_space(self) -> Box:
        """u8[84, 84, 1], or f32[120] with `pixels=False`."""
        return screen.SPACE if self.pixels else Box(-1.0, 1.0, (12 + ROWS * COLUMNS,))

    @property
    def action_space(self) -> Discrete:
        """0: stay, 1: right, 2: left."""
        return Discrete(3)

    def default_params(self) -> Params:
        """Speeds near Atari's."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Starts a game."""
        blank = State(
            x=jnp.float32(0),
            y=jnp.float32(0),
            vx=jnp.float32(0),
            vy=jnp.float32(0),
            paddle=jnp.float32(MIDDLE),
            narrow=jnp.bool_(False),
            bricks=jnp.full(ROWS, _WALL, jnp.uint32),
            armed=jnp.bool_(True),
            hits=jnp.int32(0),
            upper=jnp.bool_(False),
            wait=jnp.int32(0),
            lives=jnp.asarray(params.lives, jnp.int32),
            cleared=jnp.int32(0),
        )
        state = _serve(blank, _draws(jax.random.bits(key, (), jnp.uint32)), params)
        return self.observe(state, params), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """One step of `frame_skip` frames."""
        draws = _draws(jax.random.bits(key, (), jnp.uint32))
        move = jnp.where(action == RIGHT, params.paddle_speed, jnp.where(action == LEFT, -params.paddle_speed, 0.0))

        def frame(_: int, carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            following, gained = _frame(carry[0], move, draws, params)
            return following, carry[1] + gained

        # A loop in the program: compiled once, not once for every frame.
        new, points = jax.lax.fori_loop(0, self.frame_skip, frame, (state, jnp.int32(0)))
        terminated = (new.lives <= 0) | (new.cleared >= params.walls)
        return Step(self.observe(new, params), new, points.astype(jnp.float32), terminated, {})

    def observe(self, state: State, params: Params) -> jax.Array:
        """The observation of `state`."""
        return _screen(state) if self.pixels else _vector(state, params)

    def render(self, state: State, params: Params) -> np.ndarray:
        """The screen in colour: 630 × 480 pixels."""
        del params
        paper = screen.Paper("black")
        for box in _FRAME:
            paper.paint(box, (142, 142, 142))
        bricks = np.asarray(state.bricks)
        for row, column in np.ndindex(ROWS, COLUMNS):
            if bricks[row] >> column & 1:
                corner = (LEFT_WALL + BRICK_WIDTH * column, BRICKS_Y + BRICK_HEIGHT * row)
                paper.paint(Rectangle(*corner, BRICK_WIDTH, BRICK_HEIGHT), BRICK_COLORS[row])
        cleared, lives, paddle, ball = _boxes(state)
        for box in (cleared, lives):
            paper.paint(box, (142, 142, 142))
        for box in (paddle, ball)[: 2 if int(state.wait) == 0 else 1]:
            paper.paint(box, (200, 72, 72))
        return paper.pixels


def _draws(word: jax.Array) -> Draws:
    """Cuts up a word, u32."""
    offset = (word >> 8).astype(jnp.int32).astype(jnp.float32) / (2**23 - 0.5) - 1
    return Draws(offset, outwards=((word >> 1) & 1) == 1, to_right=(word & 1) == 1)


def _serve(state: State, draws: Draws, params: Params) -> State:
    """Puts a fresh ball below the bricks, to start downwards when the wait is over."""
    vx, vy = params.serve_speed * np.sin(SERVE_ANGLE), params.serve_speed * np.cos(SERVE_ANGLE)
    beside = jnp.where(draws.to_right, LEFT_WALL + SERVE_X, RIGHT_WALL - SERVE_X)
    return state._replace(
        x=jnp.where(draws.outwards, MIDDLE, beside) + SERVE_SPREAD * draws.offset,
        y=jnp.float32(SERVE_Y),
        vx=jnp.where(draws.to_right, vx, -vx).astype(jnp.float32),
        vy=jnp.asarray(vy, jnp.float32),
        narrow=jnp.bool_(False),
        armed=jnp.bool_(True),
        hits=jnp.int32(0),
        upper=jnp.bool_(False),
        wait=jnp.asarray(params.serve_delay, jnp.int32),
    )


def _speed(hits: jax.Array, upper: jax.Array, params: Params) -> jax.Array:
    """The ball's speed."""
    by_hits = jnp.where(hits >= 4, params.speed_4_hits, params.serve_speed)
    by_hits = jnp.where(hits >= 12, params.speed_12_hits, by_hits)
    return jnp.where(upper, params.speed_upper, by_hits)


def _frame(state: State, move: jax.Array, draws: Draws, params: Params) -> tuple[State, jax.Array]:
    """One sixtieth of a second: the paddle moves, then the ball. Returns the points as well, i32[]."""
    half = _half_width(state)
    paddle = jnp.clip(state.paddle + move, LEFT_WALL + half, RIGHT_WALL - half)

    moving = (state.wait == 0).astype(jnp.float32)
    x, y = state.x + moving * state.vx, state.y + moving * state.vy
    beyond_left, beyond_right = x < LEFTMOST, x > RIGHTMOST
    x = jnp.where(beyond_left, 2 * LEFTMOST - x, jnp.where(beyond_right, 2 * RIGHTMOST - x, x))
    vx = jnp.where(beyond_left | beyond_right, -state.vx, state.vx)
    ceiling = y < HIGHEST
    y = jnp.where(ceiling, 2 * HIGHEST - y, y)
    vy = jnp.where(ceiling, -state.vy, state.vy)
    armed = state.armed | ceiling

    # The brick that the ball's leading edge is in.
    rising = vy < 0
    edge = y + jnp.where(rising, -BALL_HEIGHT / 2, BALL_HEIGHT / 2)
    row = jnp.floor((edge - BRICKS_Y) / BRICK_HEIGHT).astype(jnp.int32)
    column = jnp.clip(jnp.floor((x - LEFT_WALL) / BRICK_WIDTH).astype(jnp.int32), 0, COLUMNS - 1)
    place = jnp.where(jnp.arange(ROWS) == row, jnp.uint32(1) << column.astype(jnp.uint32), jnp.uint32(0))
    breaks = armed & (moving > 0) & jnp.any((state.bricks & place) != 0)
    bricks = jnp.where(breaks, state.bricks & ~place, state.bricks)
    points = jnp.where(breaks, jnp.where(row < 2, POINTS[0], jnp.where(row < 4, POINTS[2], POINTS[4])), 0)
    # It turns at the side that it came through; a ball that came from beside the brick stays at its height.
    depth = jnp.where(rising, BRICKS_Y + BRICK_HEIGHT * (row + 1) - edge, edge - BRICKS_Y - BRICK_HEIGHT * row)
    depth = jnp.where(depth <= jnp.abs(vy), depth, jnp.abs(vy) / 2)
    y = jnp.where(breaks, y + jnp.where(rising, 2 * depth, -2 * depth), y)
    vy = jnp.where(breaks, -vy, vy)
    armed &= ~breaks
    last = breaks & jnp.all(bricks == 0)

    meets = (state.y < FACE) & (y >= FACE) & (jnp.abs(x - paddle) <= half + BALL_WIDTH / 2)
    hits = state.hits + meets
    upper = state.upper | (breaks & (row < UPPER_ROWS))
    speed = _speed(hits, upper, params)
    faster = speed / _speed(state.hits, state.upper, params)
    angle = params.max_angle * (x - paddle) / (half + BALL_WIDTH / 2)
    vx = jnp.where(meets, speed * jnp.sin(angle), vx * faster)
    vy = jnp.where(meets, -speed * jnp.cos(angle), vy * faster)
    y = jnp.where(meets, 2 * FACE - y, y)
    bricks = jnp.where(meets & jnp.all(bricks == 0), jnp.uint32(_WALL), bricks)

    lost = y > screen.HEIGHT
    moved = State(
        x=x,
        y=y,
        vx=vx,
        vy=vy,
        paddle=paddle,
        narrow=state.narrow | ceiling,
        bricks=bricks,
        armed=armed | meets,
        hits=hits,
        upper=upper,
        wait=jnp.maximum(state.wait - 1, 0),
        lives=state.lives - lost,
        cleared=state.cleared + last,
    )
    served = _serve(moved, draws, params)
    return jax.tree.map(lambda a, b: jnp.where(lost, a, b), served, moved), points


def _half_width(state: State) -> jax.Array:
    """Half of the paddle's width."""
    return jnp.where(state.narrow, NARROW_WIDTH / 2, PADDLE_WIDTH / 2)


def _boxes(state: State) -> tuple[Rectangle, ...]:
    """The bars of walls cleared and of lives, the paddle and the ball."""
    half = _half_width(state)
    return (
        Rectangle(8, 5, 8 * state.cleared, 8),
        Rectangle(152 - 8 * state.lives, 5, 8 * state.lives, 8),
        Rectangle(state.paddle - half, PADDLE_Y, 2 * half, PADDLE_HEIGHT),
        Rectangle(state.x - BALL_WIDTH / 2, state.y - BALL_HEIGHT / 2, BALL_WIDTH, BALL_HEIGHT),
    )


def _standing(state: State) -> jax.Array:
    """f32[6, 18]: 1 where a brick stands."""
    return ((state.bricks[:, None] >> np.arange(COLUMNS, dtype=np.uint32)) & 1).astype(jnp.float32)


_BRICK_ROWS = np.stack(
    [grey * screen.rows(BRICKS_Y + BRICK_HEIGHT * row, BRICK_HEIGHT) for row, grey in enumerate(BRICK_GREYS)]
)  # f32[6, 84]
_BRICK_COLUMNS = np.stack(
    [screen.columns(LEFT_WALL + BRICK_WIDTH * column, BRICK_WIDTH) for column in range(COLUMNS)]
)  # f32[18, 84]


def _screen(state: State) -> jax.Array:
    """u8[84, 84, 1]."""
    greys = [WALL_GREY, WALL_GREY, PADDLE_GREY, jnp.where(state.wait == 0, BALL_GREY, 0)]
    boxes = _boxes(state)
    vertical = jnp.stack([grey * screen.rows(box.y, box.height) for box, grey in zip(boxes, greys, strict=True)])
    horizontal = jnp.stack([screen.columns(box.x, box.width) for box in boxes])
    vertical = jnp.concatenate([_BRICK_ROWS, vertical])
    horizontal = jnp.concatenate([_standing(state) @ _BRICK_COLUMNS, horizontal])
    return screen.picture(_BACKDROP, vertical, horizontal)


def _vector(state: State, params: Params) -> jax.Array:
    """f32[120] in -1 … 1."""
    seen = (state.wait == 0).astype(jnp.float32)
    half_width, half_height = (RIGHT_WALL - LEFT_WALL) / 2, screen.HEIGHT / 2
    numbers = [
        seen * (state.x - MIDDLE) / half_width,
        seen * (state.y / half_height - 1),
        seen * state.vx / params.speed_upper,
        seen * state.vy / params.speed_upper,
        (state.paddle - MIDDLE) / half_width,
        state.narrow.astype(jnp.float32),
        state.wait / params.serve_delay,
        state.armed.astype(jnp.float32),
        jnp.minimum(state.hits / 12, 1.0),
        state.upper.astype(jnp.float32),
        state.lives / params.lives,
        state.cleared / params.walls,
    ]
    return jnp.concatenate([jnp.stack(numbers), _standing(state).reshape(-1)]).astype(jnp.float32)
