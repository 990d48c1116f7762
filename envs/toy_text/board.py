"""The picture of a board of square cells, for the environments of this package."""

from collections.abc import Sequence

from envs.drawing import Canvas, Color, Point

CELL = 50  # pixels on each side of a cell


def board(colors: Sequence[Sequence[Color]]) -> Canvas:
    """Draws a board whose cells have `colors[row][column]`; row 0 is at the top."""
    canvas = Canvas(height=len(colors) * CELL + 2, width=len(colors[0]) * CELL + 2, background="grey")
    for row, line in enumerate(colors):
        for col, color in enumerate(line):
            canvas.rectangle((col * CELL + 2, row * CELL + 2), ((col + 1) * CELL, (row + 1) * CELL), color)
    return canvas


def center(row: float, col: float) -> Point:
    """Returns the middle of a cell."""
    return (col + 0.5) * CELL + 1, (row + 0.5) * CELL + 1


def place_agent(canvas: Canvas, row: float, col: float) -> None:
    """Draws the agent in a cell."""
    canvas.circle(center(row, col), 0.3 * CELL, "blue")
