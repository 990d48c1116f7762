"""Catch of the Behaviour Suite: move a paddle under a falling ball.

Observation: f32[rows, columns], 1 at the ball and at the paddle (one 1 where the paddle has the ball), else 0.
Action: 0 moves the paddle to the left, 1 leaves it, 2 moves it to the right; the walls stop it.
Reward: when the ball reaches the paddle's row, 1 if the paddle is under it, else −1; 0 before.
Ends: the ball reaches the paddle's row, the last, after rows − 1 steps.
Start: the ball in a random column of the first row, the paddle in the middle of the last (column columns // 2).
Source, time limit and common deviations: see `envs.bsuite`. Experiment "catch": as it is.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.drawing import Canvas
from envs.errors import InputError
from envs.spaces import Box, Discrete


class State(NamedTuple):
    """Ball and paddle."""

    ball_x: jax.Array  # i32[] column
    ball_y: jax.Array  # i32[] row, from the top
    paddle_x: jax.Array  # i32[] column


@dataclass(frozen=True)
class Catch(Env[State, Any]):
    """A ball that falls straight down, and a paddle."""

    rows: int = 10
    columns: int = 5

    def __post_init__(self) -> None:
        """Raises InputError for a board on which nothing can fall."""
        if self.rows < 2 or self.columns < 1:
            raise InputError(f"Catch needs two rows and a column or more: rows={self.rows} columns={self.columns}.")

    @property
    def random_step(self) -> bool:
        """False: only the ball's column is random."""
        return False

    @property
    def observation_space(self) -> Box:
        """f32[rows, columns] of zeros and ones."""
        return Box(0.0, 1.0, (self.rows, self.columns))

    @property
    def action_space(self) -> Discrete:
        """0: left, 1: stay, 2: right."""
        return Discrete(3)

    def default_params(self) -> tuple[()]:
        """There are none."""
        return ()

    def reset(self, key: jax.Array, params: Any) -> tuple[jax.Array, State]:
        """Drops a ball."""
        del params
        column = jax.random.randint(key, (), 0, self.columns, jnp.int32)
        state = State(column, jnp.int32(0), jnp.int32(self.columns // 2))
        return self._observe(state), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Any) -> Step:
        """Moves the paddle, then the ball."""
        del key, params
        paddle_x = jnp.clip(state.paddle_x + action - 1, 0, self.columns - 1).astype(jnp.int32)
        new = State(state.ball_x, state.ball_y + 1, paddle_x)
        down = new.ball_y == self.rows - 1
        reward = jnp.where(down, jnp.where(paddle_x == new.ball_x, 1.0, -1.0), 0.0)
        return Step(self._observe(new), new, reward.astype(jnp.float32), down, {})

    def _observe(self, state: State) -> jax.Array:
        row, column = np.arange(self.rows)[:, None], np.arange(self.columns)
        ball = (row == state.ball_y) & (column == state.ball_x)
        paddle = (row == self.rows - 1) & (column == state.paddle_x)
        return (ball | paddle).astype(jnp.float32)

    def render(self, state: State, params: Any) -> np.ndarray:
        """The board, 40 pixels per cell: a yellow ball and a blue paddle."""
        del params
        size = 40
        canvas = Canvas(height=self.rows * size, width=self.columns * size, background="black")
        x, y = int(state.paddle_x) * size, (self.rows - 1) * size
        canvas.rectangle((x + 2, y + size * 0.6), (x + size - 2, y + size - 4), "blue")
        center = (int(state.ball_x) + 0.5) * size, (int(state.ball_y) + 0.5) * size
        canvas.circle(center, size * 0.3, "yellow")
        return canvas.pixels
