"""What the MinAtar games share: the six actions, sticky actions, the 10 × 10 grid and its picture.

Source: K. Young and T. Tian, "MinAtar: An Atari-Inspired Testbed for Thorough and Reproducible Reinforcement
Learning Experiments" (arXiv 1903.03176, 2019), and the behaviour of its package MinAtar 1.0.15.

Every game splits a step in two: `draw` turns a key into the random decisions of one step, and `transition` is a
deterministic function of (state, action, draws). The tests replay the same decisions in the original package.

Common to all five:
    Observation: bool[10, 10, C], row from the top, column from the left, channel as the game lists them.
    Action: 0 none, 1 left, 2 up, 3 right, 4 down, 5 fire; `minimal_actions=True` keeps those that the game uses.
    Sticky actions: with probability `sticky_prob` the action executed at the previous step is executed again.
    Time limit: none, but Freeway counts down to a terminal state. `max_steps` can set one.
Common deviations from the original:
    The previous action of a new episode is 0 (none); the original keeps that of the episode before.
    The original ignores actions after the end of an episode; here what a step from such a state does is undefined.
    The random decisions come from JAX keys and have the original's distributions (each game says how closely).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.drawing import Canvas, Color
from envs.spaces import Box, Discrete

SIZE = 10  # cells on each side of the grid
ROW = (1 << SIZE) - 1  # a row in which every cell is set: bit x is column x
NONE, LEFT, UP, RIGHT, DOWN, FIRE = range(6)
_CELL = 40  # pixels on each side of a cell in the picture

StateT = TypeVar("StateT")
ParamsT = TypeVar("ParamsT")
DrawsT = TypeVar("DrawsT")


class Mark(NamedTuple):
    """How a channel is drawn in a cell."""

    color: Color
    size: float = 0.9  # of the cell
    disc: bool = False  # a disc, else a square


@dataclass(frozen=True)
class Game(Env[StateT, ParamsT], Generic[StateT, ParamsT, DrawsT]):
    """A MinAtar game. A game's state has a field `last_action`: i32[], the action executed last."""

    minimal_actions: bool = False  # whether the action space has only the actions that the game uses

    used_actions: ClassVar[tuple[int, ...]]  # the actions that the game uses, ascending
    channels: ClassVar[dict[str, Mark]]  # the channels of the observation in order, and how they are drawn

    @property
    def observation_space(self) -> Box:
        """bool[10, 10, C]: row, column, channel."""
        return Box(0, 1, (SIZE, SIZE, len(self.channels)), np.bool_)

    @property
    def action_space(self) -> Discrete:
        """All six actions, or those that the game uses in the same order."""
        return Discrete(len(self.used_actions) if self.minimal_actions else 6)

    def draw(self, key: jax.Array, params: ParamsT) -> DrawsT:
        """Draws the random decisions of one step."""
        raise NotImplementedError

    def transition(self, state: StateT, action: jax.Array, draws: DrawsT, params: ParamsT) -> Step:
        """Advances one step, given its random decisions."""
        raise NotImplementedError

    def observe(self, state: StateT, params: ParamsT) -> jax.Array:
        """Returns the observation of `state`, bool[10, 10, C]."""
        raise NotImplementedError

    def step(self, key: jax.Array, state: StateT, action: jax.Array, params: ParamsT) -> Step:
        """One step of the game."""
        return self.transition(state, action, self.draw(key, params), params)

    def executed(self, action: jax.Array, repeat: jax.Array, last_action: jax.Array) -> jax.Array:
        """Returns the action in 0 … 5 that takes effect: the chosen one, or the last one where `repeat` holds."""
        if self.minimal_actions and self.used_actions != tuple(range(len(self.used_actions))):
            action = jnp.asarray(self.used_actions, jnp.int32)[action]
        return jnp.where(repeat, last_action, action)

    def render(self, state: StateT, params: ParamsT) -> np.ndarray:
        """The grid with the mark of each channel that is set, in their order: 400 × 400 pixels."""
        obs = np.asarray(self.observe(state, params))
        canvas = Canvas(SIZE * _CELL, SIZE * _CELL, (14, 16, 26))
        for y, x in np.ndindex(SIZE, SIZE):
            _paint(canvas, x, y, Mark((26, 29, 44), 0.95))
        for c, mark in enumerate(self.channels.values()):
            for y, x in np.argwhere(obs[:, :, c]):
                _paint(canvas, x, y, mark)
        return canvas.pixels


def _paint(canvas: Canvas, x: int, y: int, mark: Mark) -> None:
    """Draws a mark in the cell at column `x`, row `y`."""
    center_x, center_y, radius = (x + 0.5) * _CELL, (y + 0.5) * _CELL, mark.size * _CELL / 2
    if mark.disc:
        canvas.circle((center_x, center_y), radius, mark.color)
    else:
        corner, opposite = (center_x - radius, center_y - radius), (center_x + radius, center_y + radius)
        canvas.rectangle(corner, opposite, mark.color)


def repeats(word: jax.Array, sticky_prob: Any) -> jax.Array:
    """Whether the last action is executed again: bool, True with probability `sticky_prob` to within 2^-24.

    Args:
        word: u32, uniform. Only its upper 24 bits are used; the lower 8 are independent of the result.
    """
    return (word >> 8).astype(jnp.int32).astype(jnp.float32) * 2.0**-24 < sticky_prob


def bit(x: jax.Array) -> jax.Array:
    """Returns u32 with only bit `x` set; `x` is in 0 … 31."""
    return jnp.uint32(1) << x.astype(jnp.uint32)


def cell(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns bit rows, u32[10], with only the cell in column `x`, row `y` set."""
    return jnp.where(jnp.arange(SIZE) == y, bit(x), jnp.uint32(0))


def grid(channels: Sequence[jax.Array]) -> jax.Array:
    """Turns the bit rows of C channels, each u32[10], into cells: bool[10, 10, C] at (y, x, c) is bit x of row y of c.

    A chain of selects, not a stack: compilers fuse it with what computes the rows, and a concatenation or padding
    inside that loop costs a branch for every cell (several times the whole step).
    """
    x = np.arange(SIZE, dtype=np.uint32)[:, None]
    channel = np.arange(len(channels))
    rows = channels[0][:, None, None]
    for i, other in enumerate(channels[1:], 1):
        rows = jnp.where(channel == i, other[:, None, None], rows)
    return ((rows >> x) & 1).astype(jnp.bool_)
