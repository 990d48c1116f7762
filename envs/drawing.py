"""A small anti-aliased RGB canvas on NumPy for `Env.render`: no display, no graphics library.

Coordinates are (x, y) pixels from the top left corner; y grows downwards.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

COLORS = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (150, 150, 150),
    "light": (225, 225, 225),
    "tan": (202, 152, 101),
    "slate": (100, 110, 190),
    "red": (204, 77, 77),
    "green": (70, 160, 90),
    "blue": (60, 110, 200),
    "yellow": (235, 200, 60),
    "purple": (150, 80, 170),
    "ice": (190, 225, 245),
}
Color = str | tuple[int, int, int]
Point = tuple[float, float]


class Canvas:
    """An RGB picture that shapes are painted on, each blended at its edge by its distance to the pixel centres."""

    def __init__(self, height: int, width: int, background: Color = "white") -> None:
        self.pixels = np.empty((height, width, 3), np.uint8)  # u8[height, width, 3]
        self.pixels[:] = _rgb(background)

    def rectangle(self, corner: Point, opposite: Point, color: Color) -> None:
        """Fills the axis-parallel box between two opposite corners."""
        (x0, x1), (y0, y1) = sorted((corner[0], opposite[0])), sorted((corner[1], opposite[1]))
        window, x, y = self._window(x0, y0, x1, y1)
        cover = np.clip(np.minimum(np.minimum(x - x0, x1 - x), np.minimum(y - y0, y1 - y)) + 0.5, 0, 1)
        self._blend(window, cover, color)

    def circle(self, center: Point, radius: float, color: Color) -> None:
        """Fills a disc."""
        cx, cy = center
        window, x, y = self._window(cx - radius, cy - radius, cx + radius, cy + radius)
        self._blend(window, np.clip(radius - np.hypot(x - cx, y - cy) + 0.5, 0, 1), color)

    def line(self, start: Point, end: Point, width: float, color: Color) -> None:
        """Draws a segment with round ends, `width` pixels thick."""
        (x0, y0), (x1, y1) = start, end
        r = width / 2
        window, x, y = self._window(min(x0, x1) - r, min(y0, y1) - r, max(x0, x1) + r, max(y0, y1) + r)
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-12), 0, 1)
        distance = np.hypot(x - x0 - along * dx, y - y0 - along * dy)
        self._blend(window, np.clip(r - distance + 0.5, 0, 1), color)

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """Fills a convex polygon given by its corners in order."""
        corners = np.asarray(points, float)
        (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
        window, x, y = self._window(x0, y0, x1, y1)
        following = np.roll(corners, -1, 0)
        area = np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1])
        depth = np.full(x.shape, np.inf)
        for (ax, ay), (bx, by) in zip(corners, following, strict=True):
            length = max(np.hypot(bx - ax, by - ay), 1e-12)
            depth = np.minimum(depth, np.sign(area) * ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / length)
        self._blend(window, np.clip(depth + 0.5, 0, 1), color)

    def curve(self, points: Sequence[Point], width: float, color: Color) -> None:
        """Draws the segments between consecutive points."""
        for start, end in pairwise(points):
            self.line(start, end, width, color)

    def _window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
        """Returns the pixels that a shape with these bounds can touch, and the x and y of their centres."""
        height, width, _ = self.pixels.shape
        left, right = (int(np.clip(v, 0, width)) for v in (np.floor(x0 - 1), np.ceil(x1 + 1)))
        top, bottom = (int(np.clip(v, 0, height)) for v in (np.floor(y0 - 1), np.ceil(y1 + 1)))
        y, x = np.mgrid[top:bottom, left:right] + 0.5
        return (slice(top, bottom), slice(left, right)), x, y

    def _blend(self, window: tuple[slice, slice], cover: np.ndarray, color: Color) -> None:
        old = self.pixels[window].astype(float)
        new = old + cover[..., None] * (np.asarray(_rgb(color)) - old)
        self.pixels[window] = np.rint(new).astype(np.uint8)


def _rgb(color: Color) -> tuple[int, int, int]:
    return COLORS[color] if isinstance(color, str) else color
