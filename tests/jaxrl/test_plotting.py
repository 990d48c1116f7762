import numpy as np
import pytest
from PIL import Image

from envs.errors import InputError
from jaxrl import plotting, results

STEPS = np.arange(0, 500_001, 25_000)


def dataset(seeds, steps=STEPS, speed=1.0, dims=None):
    rng = np.random.default_rng(seeds)
    shape = (*(len(values) for values in (dims or {}).values()), seeds, 1)
    rise = 500 / (1 + np.exp(4 - speed * steps / 5e4 + rng.standard_normal(shape)))
    returns = rise[..., None] + rng.normal(0, 10, (*rise.shape, 4))
    return results.curves(steps, range(seeds), returns, np.maximum(returns, 1), dims=dims)


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def has_colour(picture, colour):
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(picture.astype(int) - rgb).max(-1) <= 2).sum() > 200


def test_a_picture_of_two_curves(tmp_path):
    path = plotting.learning_curve({"PPO": dataset(16), "DQN": dataset(4)}, tmp_path / "curve.png", "CartPole-v1")
    picture = pixels(path)
    assert picture.shape[1] == 1200
    assert has_colour(picture, plotting.COLOURS[0])
    assert has_colour(picture, plotting.COLOURS[1])
    assert not has_colour(picture, plotting.COLOURS[2])
    assert (picture[:, :2] == 255).all()  # nothing runs over the edges
    assert (picture[:, -2:] == 255).all()


def labels(monkeypatch, tmp_path, *args, **kwargs):
    """What a figure says, without its pixels."""
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self))
    plotting.learning_curve(*args, path=tmp_path / "x.png", **kwargs)
    (figure,) = figures
    (axes,) = figure.axes
    (legend,) = figure.legends
    return axes, [text.get_text() for text in legend.get_texts()], legend.get_title().get_text()


def test_many_seeds_are_a_band_and_few_are_lines(monkeypatch, tmp_path):
    axes, names, title = labels(monkeypatch, tmp_path, {"PPO": dataset(16)})
    assert (len(axes.lines), len(axes.collections)) == (1, 1)
    assert names == ["PPO (16 seeds)"]
    assert title == "line: IQM, band: 95 % interval"
    assert axes.get_xlabel() == "environment steps"
    assert axes.get_ylabel() == "evaluation return"
    axes, names, title = labels(monkeypatch, tmp_path, {"DQN": dataset(4)}, variable="evaluation_length")
    assert (len(axes.lines), len(axes.collections)) == (5, 0)
    assert title == "line: mean, thin: seeds"
    assert axes.get_ylabel() == "evaluation length (steps)"
    axes, names, _ = labels(monkeypatch, tmp_path, {"DQN": dataset(1)})
    assert len(axes.lines) == 1
    assert names == ["DQN (1 seed)"]


def test_the_band_is_the_interval_of_the_iqm(monkeypatch, tmp_path):
    data = dataset(16)
    axes, _, _ = labels(monkeypatch, tmp_path, {"PPO": data})
    row = results.summary(data)[0]
    assert axes.lines[0].get_ydata()[-1] == pytest.approx(row.iqm)
    edges = axes.collections[0].get_paths()[0].vertices
    at_end = edges[edges[:, 0] == STEPS[-1], 1]
    assert (at_end.min(), at_end.max()) == pytest.approx((row.low, row.high))


def test_a_sweep_is_a_line_for_each_configuration(monkeypatch, tmp_path):
    swept = dataset(12, dims={"hp.learning_rate": [1e-4, 1e-3], "layers": ["(64,)", "(8,)"]})
    axes, names, _ = labels(monkeypatch, tmp_path, {"PPO": swept})
    assert names[0] == "PPO, hp.learning_rate=0.0001, layers=(64,) (12 seeds)"
    assert len(names) == len(axes.lines) == 4
    many = {str(i): dataset(2) for i in range(9)}
    axes, names, _ = labels(monkeypatch, tmp_path, many)
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines if line.get_linewidth() > 1}
    assert len(looks) == 9


@pytest.mark.parametrize("steps", [STEPS[:1], STEPS[:2]])
@pytest.mark.parametrize("seeds", [1, 3, 12])
def test_few_evaluations(tmp_path, steps, seeds):
    path = plotting.learning_curve({"A": dataset(seeds, steps)}, tmp_path / "x.png")
    assert has_colour(pixels(path), plotting.COLOURS[0])


def test_nan_leaves_a_gap(tmp_path):
    for seeds in (3, 12):
        data = dataset(seeds)
        data["evaluation_return"][0, 3:5] = np.nan
        data["evaluation_return"][:, 8] = np.nan
        plotting.learning_curve({"A": data}, tmp_path / "x.png")


def test_other_formats(tmp_path):
    for suffix in ("svg", "pdf"):
        assert plotting.learning_curve({"A": dataset(2)}, tmp_path / f"x.{suffix}").stat().st_size > 1000


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match="no results to draw"):
        plotting.learning_curve({}, tmp_path / "x.png")
    with pytest.raises(InputError, match="'A' have no 'loss'; they have evaluation_return"):
        plotting.learning_curve({"A": dataset(2)}, tmp_path / "x.png", variable="loss")
    for name in ("missing/x.png", "x.nonsense"):
        with pytest.raises(InputError, match="cannot write the picture"):
            plotting.learning_curve({"A": dataset(2)}, tmp_path / name)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (500, "500"), (1000, "1k"), (100_000, "100k"), (1_500_000, "1.5M"), (2e9, "2B"), (-2500, "-2.5k")],
)
def test_steps_are_written_short(value, text):
    assert plotting.format_steps(value) == text


def test_other_pictures(tmp_path):
    """Each is written, and shows its colours; what cannot be drawn is said."""
    swept = dataset(4, steps=STEPS[:3], dims={"hp.learning_rate": [1e-4, 1e-3, 1e-2], "hp.gamma": [0.9, 0.99]})
    assert has_colour(pixels(plotting.slices(swept, tmp_path / "slices.png")), plotting.COLOURS[1])
    for path in (
        plotting.performance_profile({"PPO": dataset(12), "DQN": dataset(4)}, tmp_path / "profile.png"),
        plotting.action_values(np.eye(2)[[0, 1, 1]], np.array([0, 1, 1]), tmp_path / "q.png", ("left", "right")),
    ):
        picture = pixels(path)
        assert has_colour(picture, plotting.COLOURS[0])
        assert has_colour(picture, plotting.COLOURS[1])
    heat = pixels(plotting.heat_map(swept, tmp_path / "heat.png"))
    assert has_colour(heat, "#440154")  # the ends of the colour scale
    assert has_colour(heat, "#fde725")
    values = np.array([[0.0, np.nan], [0.5, 1.0]])
    cells = pixels(plotting.value_map(values, tmp_path / "map.png", np.array([[1, -1], [2, 0]])))
    assert has_colour(cells, "#555555")  # the wall
    with pytest.raises(InputError, match="a heat map needs two axes"):
        plotting.heat_map(dataset(4, dims={"hp.gamma": [0.9, 0.99]}), tmp_path / "x.png")
    with pytest.raises(InputError, match="nothing was swept"):
        plotting.slices(dataset(4), tmp_path / "x.png")


def test_the_heat_map_holds_the_means_at_the_end(monkeypatch, tmp_path):
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self))
    swept = dataset(5, steps=STEPS[:3], dims={"hp.learning_rate": [1e-4, 1e-3, 1e-2], "hp.gamma": [0.9, 0.99]})
    plotting.heat_map(swept, tmp_path / "x.png", axes=("hp.gamma", "hp.learning_rate"))
    axes = figures[0].axes[0]
    end = np.sort(swept.evaluation_return.isel(env_step=-1).transpose("hp.gamma", "hp.learning_rate", "seed"), -1)
    np.testing.assert_allclose(axes.images[0].get_array(), end[..., 1:-1].mean(-1))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.0001", "0.001", "0.01"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("hp.learning_rate", "hp.gamma")
