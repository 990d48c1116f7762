"""Pong on pixels: keep the ball from passing your paddle, and play it past the other one; the first to 21 points wins.

After the Atari 2600's Video Olympics (1977) as the Arcade Learning Environment plays it. A game of its own, not an
emulation: the rules below are Atari's where they say so, and results here are not results on Atari.

Observation: u8[84, 84, 1], see `envs.pixels.screen`: the field between two walls, the paddles (yours on the right), the
    ball unless it waits for the serve, and above the field both scores as bars that grow by 3 Atari pixels a point.
    `pixels=False`: f32[9] in -1 … 1: the ball's x, y and velocity (0 while it waits), y of the right and of the left
    paddle, the part of the wait that is left, points of the right and of the left player. The scripted opponent's aim
    is hidden in both.
Action: 0 stays, 1 moves the paddle up, 2 down, for the `frame_skip` frames of one step.
Reward: 1 for a point, -1 for a point of the opponent.
Ends: somebody has `points_to_win` points. Time limit: 27,000 steps, as the usual 108,000 frames.
Start: both paddles in the middle, no points, a serve to either side.
Random decisions: side of the first serve, height and direction of every serve, the opponent's aim.

As in Atari (sizes, greys and speeds measured in ale-py 0.12.1; frame skip and time limit as usual since Mnih et al.
2015; points and serves as in the manual of Video Olympics): a field of 160 × 160 between two walls, paddles 16 high, a
ball of 2 × 4; 21 points; a pause of about a second, then a serve under 45° to the player who lost the point, at about 1
pixel a frame along the field; the place where the ball meets the paddle sets its angle; the opponent follows the ball
at 2 pixels a frame; random play loses by 20.6 points (Atari: 20.7, Mnih et al. 2015).
Not as in Atari: the exact speeds and angles (Atari has a few of each; here the angle grows steadily from the paddle's
middle, and the speed by a fixed amount with every hit of a rally); paddles start and stop at once and stay inside the
field; the ball is only met by the paddle's front; serves start at a random height; the opponent's aim is ours; FIRE is
left out of the actions; the score is drawn as bars.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.pixels import screen
from envs.pixels.screen import Rectangle
from envs.spaces import Box, Discrete

STAY, UP, DOWN = range(3)

# Atari pixels. Positions of the ball and the paddles are those of their centres.
TOP, BOTTOM = 34, 194  # the field
MIDDLE = (TOP + BOTTOM) / 2
BALL_WIDTH, BALL_HEIGHT = 2, 4
PADDLE_WIDTH, PADDLE_HEIGHT = 4, 16
LEFT_PADDLE_X, RIGHT_PADDLE_X = 16, 140  # left edges
LEFT_FACE = LEFT_PADDLE_X + PADDLE_WIDTH + BALL_WIDTH / 2  # x of a ball that touches the front of a paddle
RIGHT_FACE = RIGHT_PADDLE_X - BALL_WIDTH / 2
HIGHEST, LOWEST = TOP + BALL_HEIGHT / 2, BOTTOM - BALL_HEIGHT / 2  # y of a ball that touches a wall
REACH = (PADDLE_HEIGHT + BALL_HEIGHT) / 2  # of a paddle: how far from its centre it still meets the ball
SERVE_ANGLE = np.pi / 4
SERVE_SPREAD = 48  # serves start within this distance of the middle

FIELD, LIGHT, LEFT_GREY, RIGHT_GREY = 87, 236, 147, 148
_BACKDROP = screen.backdrop(
    FIELD,
    [(Rectangle(0, TOP - 10, screen.WIDTH, 10), LIGHT), (Rectangle(0, BOTTOM, screen.WIDTH, 16), LIGHT)],
)


class State(NamedTuple):
    """Ball, paddles and score."""

    x: jax.Array  # f32[] the ball's centre, Atari pixels
    y: jax.Array  # f32[]
    vx: jax.Array  # f32[] its velocity, Atari pixels per frame; after a point that of the coming serve
    vy: jax.Array  # f32[]
    left: jax.Array  # f32[] y of the opponent's paddle
    right: jax.Array  # f32[] y of the player's paddle
    left_points: jax.Array  # i32[]
    right_points: jax.Array  # i32[]
    hits: jax.Array  # i32[] by paddles since the serve
    wait: jax.Array  # i32[] frames until the serve
    aim: jax.Array  # f32[] how far below its paddle's middle the scripted opponent wants to meet the ball


class Params(NamedTuple):
    """Speeds are in Atari pixels per frame."""

    paddle_speed: float = 3.0  # of a paddle that an action moves
    opponent_speed: float = 2.0  # of the scripted opponent's: less is easier
    opponent_error: float = 11.0  # its aim is uniform in ± this, Atari pixels; from 10 on it can miss by itself
    serve_speed: float = 1.5  # of the ball
    hit_speed: float = 0.25  # what a hit adds
    max_speed: float = 4.0  # of the ball
    max_angle: float = float(np.pi / 3)  # of a ball met by the paddle's edge, from the horizontal
    serve_delay: int = 60  # frames between a point and the serve
    points_to_win: int = 21


class Draws(NamedTuple):
    """The random decisions of one step: each is used at most once, since a serve takes `serve_delay` frames."""

    height: jax.Array  # f32[] in -1 … 1
    down: jax.Array  # bool[]
    aim: jax.Array  # f32[] in -1 … 1


@dataclass(frozen=True)
class Pong(Env[State, Params]):
    """Two paddles and a ball; the right paddle is the player's."""

    pixels: bool = True  # observe the screen, else a vector
    frame_skip: int = 4  # frames in one step, all under one action
    max_steps: int | None = 27_000

    @property
    def observation_space(self) -> Box:
        """u8[84, 84, 1], or f32[9] with `pixels=False`."""
        return screen.SPACE if self.pixels else Box(-1.0, 1.0, (9,))

    @property
    def action_space(self) -> Discrete:
        """0: stay, 1: up, 2: down."""
        return Discrete(3)

    def default_params(self) -> Params:
        """An opponent against which random play loses by about 20.6 points, as on Atari."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Starts a game that either side may serve."""
        word = jax.random.bits(key, (), jnp.uint32)
        blank = State(*(jnp.float32(MIDDLE if name in ("left", "right") else 0) for name in State._fields))
        blank = blank._replace(left_points=jnp.int32(0), right_points=jnp.int32(0))
        to_right = (word & 1) == 1
        state = _serve(blank, to_right, _draws(word), params)
        return self.observe(state, params), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """One step against the scripted opponent."""

        def follow(state: State) -> jax.Array:
            move = jnp.clip(state.y - state.aim - state.left, -params.opponent_speed, params.opponent_speed)
            return jnp.where(state.wait == 0, move, 0.0)

        return self._play(key, state, action, params, follow)

    def versus(
        self, key: jax.Array, state: State, action: jax.Array, opponent_action: jax.Array, params: Params
    ) -> Step:
        """One step of two players: `action` moves the right paddle, `opponent_action` the left one.

        Reward and observation are the right player's. The left player's reward is the negative, and
        `observe(mirrored(state), params)` is its view, as if it played on the right; actions mean the same to both.
        """
        move = _move(opponent_action, params)
        return self._play(key, state, action, params, lambda _: move)

    def _play(
        self, key: jax.Array, state: State, action: jax.Array, params: Params, opponent: Callable[[State], jax.Array]
    ) -> Step:
        draws = _draws(jax.random.bits(key, (), jnp.uint32))
        move = _move(action, params)
        # A loop in the program: compiled once, not once for every frame.
        new = jax.lax.fori_loop(
            0, self.frame_skip, lambda _, now: _frame(now, opponent(now), move, draws, params), state
        )
        gained, lost = new.right_points - state.right_points, new.left_points - state.left_points
        terminated = jnp.maximum(new.right_points, new.left_points) >= params.points_to_win
        return Step(self.observe(new, params), new, (gained - lost).astype(jnp.float32), terminated, {})

    def observe(self, state: State, params: Params) -> jax.Array:
        """What the right player sees of `state`."""
        return _screen(state) if self.pixels else _vector(state, params)

    def render(self, state: State, params: Params) -> np.ndarray:
        """The screen in colour: 630 × 480 pixels."""
        del params
        paper = screen.Paper((144, 72, 17))
        paper.paint(Rectangle(0, TOP - 10, screen.WIDTH, 10), (236, 236, 236))
        paper.paint(Rectangle(0, BOTTOM, screen.WIDTH, 16), (236, 236, 236))
        orange, green = (213, 130, 74), (92, 186, 92)
        left_bar, right_bar, left, right, ball = (Rectangle(*map(float, box)) for box in _boxes(state))
        for box, color in ((left_bar, orange), (right_bar, green), (left, orange), (right, green)):
            paper.paint(box, color)
        if int(state.wait) == 0:
            paper.paint(ball, (236, 236, 236))
        return paper.pixels


def mirrored(state: State) -> State:
    """The same game with the sides exchanged: what was on the left is on the right."""
    return state._replace(
        x=screen.WIDTH - state.x,
        vx=-state.vx,
        left=state.right,
        right=state.left,
        left_points=state.right_points,
        right_points=state.left_points,
    )


def _draws(word: jax.Array) -> Draws:
    """Cuts up a word, u32; bit 0 is left over."""

    def unit(bits: jax.Array) -> jax.Array:  # 15 bits, in -1 … 1
        return (bits & 0x7FFF).astype(jnp.float32) / 16383.5 - 1

    return Draws(height=unit(word >> 17), down=((word >> 16) & 1) == 1, aim=unit(word >> 1))


def _move(action: jax.Array, params: Params) -> jax.Array:
    """How far an action moves a paddle in one frame, downwards."""
    return jnp.where(action == UP, -params.paddle_speed, jnp.where(action == DOWN, params.paddle_speed, 0.0))


def _serve(state: State, to_right: jax.Array, draws: Draws, params: Params) -> State:
    """Puts the ball in the middle, to start when the wait is over."""
    vx, vy = params.serve_speed * np.cos(SERVE_ANGLE), params.serve_speed * np.sin(SERVE_ANGLE)
    return state._replace(
        x=jnp.float32(screen.WIDTH / 2),
        y=MIDDLE + SERVE_SPREAD * draws.height,
        vx=jnp.where(to_right, vx, -vx).astype(jnp.float32),
        vy=jnp.where(draws.down, vy, -vy).astype(jnp.float32),
        hits=jnp.int32(0),
        wait=jnp.asarray(params.serve_delay, jnp.int32),
        aim=params.opponent_error * draws.aim,
    )


def _frame(state: State, left_move: jax.Array, right_move: jax.Array, draws: Draws, params: Params) -> State:
    """One sixtieth of a second: the paddles move, then the ball."""
    highest, lowest = TOP + PADDLE_HEIGHT / 2, BOTTOM - PADDLE_HEIGHT / 2
    left = jnp.clip(state.left + left_move, highest, lowest)
    right = jnp.clip(state.right + right_move, highest, lowest)

    moving = (state.wait == 0).astype(jnp.float32)
    x, y = state.x + moving * state.vx, state.y + moving * state.vy
    above, below = y < HIGHEST, y > LOWEST
    y = jnp.where(above, 2 * HIGHEST - y, jnp.where(below, 2 * LOWEST - y, y))
    vy = jnp.where(above | below, -state.vy, state.vy)

    left_meets = (state.x > LEFT_FACE) & (x <= LEFT_FACE) & (jnp.abs(y - left) <= REACH)
    right_meets = (state.x < RIGHT_FACE) & (x >= RIGHT_FACE) & (jnp.abs(y - right) <= REACH)
    meets = left_meets | right_meets
    hits = state.hits + meets
    speed = jnp.minimum(params.serve_speed + params.hit_speed * hits, params.max_speed)
    angle = params.max_angle * (y - jnp.where(right_meets, right, left)) / REACH
    vx = jnp.where(meets, jnp.where(right_meets, -speed, speed) * jnp.cos(angle), state.vx)
    vy = jnp.where(meets, speed * jnp.sin(angle), vy)
    x = jnp.where(meets, 2 * jnp.where(right_meets, RIGHT_FACE, LEFT_FACE) - x, x)

    left_scores, right_scores = x > screen.WIDTH, x < 0
    moved = State(
        x=x,
        y=y,
        vx=vx,
        vy=vy,
        left=left,
        right=right,
        left_points=state.left_points + left_scores,
        right_points=state.right_points + right_scores,
        hits=hits,
        wait=jnp.maximum(state.wait - 1, 0),
        aim=jnp.where(right_meets, params.opponent_error * draws.aim, state.aim),
    )
    # Whoever lost the point is served to.
    served = _serve(moved, left_scores, draws, params)
    return jax.tree.map(lambda a, b: jnp.where(left_scores | right_scores, a, b), served, moved)


def _boxes(state: State) -> tuple[Rectangle, ...]:
    """Both score bars, both paddles and the ball; the left one first."""
    left_bar, right_bar = 3 * state.left_points, 3 * state.right_points
    return (
        Rectangle(8, 8, left_bar, 8),
        Rectangle(152 - right_bar, 8, right_bar, 8),
        Rectangle(LEFT_PADDLE_X, state.left - PADDLE_HEIGHT / 2, PADDLE_WIDTH, PADDLE_HEIGHT),
        Rectangle(RIGHT_PADDLE_X, state.right - PADDLE_HEIGHT / 2, PADDLE_WIDTH, PADDLE_HEIGHT),
        Rectangle(state.x - BALL_WIDTH / 2, state.y - BALL_HEIGHT / 2, BALL_WIDTH, BALL_HEIGHT),
    )


def _screen(state: State) -> jax.Array:
    """u8[84, 84, 1]."""
    greys = [LEFT_GREY, RIGHT_GREY, LEFT_GREY, RIGHT_GREY, jnp.where(state.wait == 0, LIGHT, FIELD)]
    boxes = _boxes(state)
    vertical = jnp.stack(
        [(grey - FIELD) * screen.rows(box.y, box.height) for box, grey in zip(boxes, greys, strict=True)]
    )
    horizontal = jnp.stack([screen.columns(box.x, box.width) for box in boxes])
    return screen.picture(_BACKDROP, vertical, horizontal)


def _vector(state: State, params: Params) -> jax.Array:
    """f32[9] in -1 … 1."""
    seen = state.wait == 0

    def height(y: jax.Array) -> jax.Array:
        return (y - MIDDLE) / ((BOTTOM - TOP) / 2)

    return jnp.stack(
        [
            jnp.where(seen, state.x / (screen.WIDTH / 2) - 1, 0.0),
            jnp.where(seen, height(state.y), 0.0),
            jnp.where(seen, state.vx / params.max_speed, 0.0),
            jnp.where(seen, state.vy / params.max_speed, 0.0),
            height(state.right),
            height(state.left),
            state.wait / params.serve_delay,
            state.right_points / params.points_to_win,
            state.left_points / params.points_to_win,
        ]
    ).astype(jnp.float32)
