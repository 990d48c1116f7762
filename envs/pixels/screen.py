"""The screen of the pixel games: the Atari 2600's 160 × 210 pixels, scaled to 84 × 84 greys, and its picture in colour.

Games think in Atari pixels, x to the right and y downwards, and in fractions of them. Each of the 84 × 84 pixels shows
the mean of the area that it covers, which is what scaling a larger picture down by areas gives: a ball that moves by a
tenth of a pixel is seen to move. Measured against the screens of ale-py 0.12.1, averaged over the same areas: the field
of Pong (57 frames) and of Breakout (12) differs by 1 of 255 greys at most where the objects are at the same places.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.drawing import Canvas, Color
from envs.spaces import Box

WIDTH, HEIGHT = 160, 210  # Atari pixels
SIZE = 84  # observed pixels on each side
SPACE = Box(0, 255, (SIZE, SIZE, 1), np.uint8)
_ZOOM = 3  # pixels of the coloured picture for each Atari pixel


class Rectangle(NamedTuple):
    """An axis-parallel box in Atari pixels."""

    x: Any  # left edge
    y: Any  # upper edge
    width: Any
    height: Any


def columns(x: Any, width: Any) -> Any:
    """How much of each column of observed pixels lies in [x, x + width), f32[..., 84] for x of shape [...]."""
    return _cover(x, width, WIDTH)


def rows(y: Any, height: Any) -> Any:
    """How much of each row of observed pixels lies in [y, y + height), f32[..., 84] for y of shape [...]."""
    return _cover(y, height, HEIGHT)


def _cover(start: Any, length: Any, extent: int) -> Any:
    scale = np.float32(SIZE / extent)
    pixel = np.arange(SIZE, dtype=np.float32)
    low, high = (scale * start)[..., None], (scale * (start + length))[..., None]
    # Methods, not functions of NumPy or JAX, so that numbers give NumPy arrays: constants of a compiled program.
    return (high - pixel).clip(0, 1) - (low - pixel).clip(0, 1)


def backdrop(grey: int, boxes: Sequence[tuple[Rectangle, int]]) -> np.ndarray:
    """What never changes, f32[84, 84]: boxes that do not overlap, with their greys, on an even `grey`."""
    light = np.full((SIZE, SIZE), grey, np.float32)
    for box, value in boxes:
        light += (value - grey) * np.outer(rows(box.y, box.height), columns(box.x, box.width))
    return light


def picture(background: np.ndarray, vertical: jax.Array, horizontal: jax.Array) -> jax.Array:
    """Adds lights to a background: u8[84, 84, 1], capped at white.

    Args:
        background: f32[84, 84].
        vertical: f32[n, 84] how bright each light is in every row, above the background.
        horizontal: f32[n, 84] how much of every column it fills.
    """
    # The two small arrays are computed first and kept. Without the barrier the compiler works out every entry again
    # at each of the 7,056 pixels: ten times the whole step.
    vertical, horizontal = jax.lax.optimization_barrier((vertical, horizontal))
    light = jnp.asarray(background)
    for i in range(vertical.shape[0]):
        light = light + vertical[i][:, None] * horizontal[i][None, :]
    return (jnp.minimum(light, 255.0) + 0.5).astype(jnp.uint8)[:, :, None]


class Paper:
    """A coloured picture for people, u8[630, 480, 3], painted in Atari pixels."""

    def __init__(self, background: Color) -> None:
        self._canvas = Canvas(HEIGHT * _ZOOM, WIDTH * _ZOOM, background)

    def paint(self, box: Rectangle, color: Color) -> None:
        """Fills a box."""
        x, y, width, height = (float(v) * _ZOOM for v in box)
        self._canvas.rectangle((x, y), (x + width, y + height), color)

    @property
    def pixels(self) -> np.ndarray:
        """u8[630, 480, 3]."""
        return self._canvas.pixels
