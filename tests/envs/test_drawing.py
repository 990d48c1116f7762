import numpy as np
import pytest

from envs.drawing import COLORS, Canvas


def test_rectangle_fills_exactly_its_pixels():
    canvas = Canvas(6, 8)
    canvas.rectangle((5, 1), (2, 4), "black")
    dark = (canvas.pixels == 0).all(-1)
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:5] = True
    np.testing.assert_array_equal(dark, expected)


def test_half_covered_pixels_are_blended():
    canvas = Canvas(4, 4)
    canvas.rectangle((0, 0), (1.5, 4), "black")
    np.testing.assert_array_equal(canvas.pixels[0, :, 0], [0, 128, 255, 255])


@pytest.mark.parametrize("points", [[(2, 2), (18, 2), (10, 18)], [(10, 18), (18, 2), (2, 2)]])
def test_polygon_does_not_depend_on_the_direction(points):
    canvas = Canvas(20, 20)
    canvas.polygon(points, (10, 20, 30))
    np.testing.assert_array_equal(canvas.pixels[5, 10], [10, 20, 30])
    np.testing.assert_array_equal(canvas.pixels[16, 3], [255, 255, 255])


def test_areas_of_circle_and_line():
    canvas = Canvas(60, 60)
    canvas.circle((30, 30), 20, "black")
    assert abs((255.0 - canvas.pixels[..., 0]).sum() / 255 - np.pi * 400) < 5
    canvas = Canvas(60, 60)
    canvas.line((10, 10), (40, 50), 6, "black")
    assert abs((255.0 - canvas.pixels[..., 0]).sum() / 255 - (50 * 6 + np.pi * 9)) < 5


def test_a_line_without_length_is_a_dot():
    canvas = Canvas(20, 20)
    canvas.line((10, 10), (10, 10), 6, "red")
    assert tuple(canvas.pixels[10, 10]) == COLORS["red"]


def test_shapes_outside_the_picture_are_clipped():
    canvas = Canvas(10, 10)
    canvas.circle((-50, 5), 20, "black")
    canvas.rectangle((20, 20), (30, 30), "black")
    canvas.line((-5, 20), (-5, 40), 3, "black")
    canvas.polygon([(20, 0), (30, 0), (25, 9)], "black")
    assert (canvas.pixels == 255).all()
    canvas.curve([(-5, 5), (5, 5), (15, 5)], 4, "blue")
    assert tuple(canvas.pixels[5, 0]) == tuple(canvas.pixels[5, 9]) == COLORS["blue"]
