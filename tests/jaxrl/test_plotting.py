import numpy as np
import pytest
from PIL import Image

from envs.errors import InputError
from jaxrl import plotting, results, statistics

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


@pytest.fixture
def figures(monkeypatch):
    """The figures that would be written, without their pixels."""
    drawn = []
    monkeypatch.setattr(plotting, "_written", lambda figure, path, overwrite: drawn.append(figure))
    return drawn


def legend(figure):
    """(the labels, the title)."""
    (found,) = figure.legends
    return [text.get_text() for text in found.get_texts()], found.get_title().get_text()


@pytest.mark.parametrize("seeds", [2, 3, 10, 16])
def test_one_rule_for_any_number_of_seeds(figures, seeds):
    """A picture with 3 and 10 seeds shows the same statistic of both, with the same kind of band."""
    plotting.learning_curve({"PPO": dataset(seeds), "DQN": dataset(10, speed=0.5)}, "x.png")
    (axes,) = figures[0].axes
    assert [line.get_linewidth() > 2 for line in axes.lines] == [True, False, False] * 2
    assert len(axes.collections) == 2
    names, title = legend(figures[0])
    assert names == [f"PPO ({seeds} seeds)", "DQN (10 seeds)"]
    assert title == (
        "line: IQM over seeds; band: its 95 % interval, which may leave the picture\n"
        "a seed's value: mean over 4 evaluation episodes"
    )
    assert axes.get_xlabel() == "environment steps"
    assert axes.get_ylabel() == "evaluation return"


def test_one_seed_has_no_band(figures):
    plotting.learning_curve({"DQN": dataset(1)}, "x.png", variable="evaluation_length")
    (axes,) = figures[0].axes
    assert (len(axes.lines), len(axes.collections)) == (1, 0)
    assert legend(figures[0])[0] == ["DQN (1 seed)"]
    assert legend(figures[0])[1].startswith("line: the only seed")
    assert axes.get_ylabel() == "evaluation length (steps)"
    plotting.learning_curve({"DQN": dataset(1), "PPO": dataset(3)}, "x.png")
    assert "no band: one seed" in legend(figures[1])[1]


@pytest.mark.parametrize("name", ["iqm", "mean", "median"])
def test_the_band_is_the_interval_of_the_statistic(figures, name):
    data = dataset(16)
    plotting.learning_curve({"PPO": data}, "x.png", statistic=name)
    (axes,) = figures[0].axes
    end = data.evaluation_return.isel(env_step=-1).values
    statistic = plotting.STATISTICS[name]
    assert axes.lines[0].get_ydata()[-1] == pytest.approx(statistic(end))
    edges = axes.collections[0].get_paths()[0].vertices
    at_end = edges[edges[:, 0] == STEPS[-1], 1]
    assert (at_end.min(), at_end.max()) == pytest.approx(statistics.stratified_bootstrap(end, statistic))
    assert f"line: {plotting.NAMES[name]} over seeds" in legend(figures[0])[1]
    if name == "iqm":
        row = results.summary(data)[0]
        assert (row.low, row.high) == pytest.approx((at_end.min(), at_end.max()))


def test_the_axis_spans_the_runs_and_not_a_wide_band(figures):
    data = dataset(2, speed=0.5)
    plotting.learning_curve({"PPO": data}, "x.png")
    bottom, top = figures[0].axes[0].get_ylim()
    runs = data.evaluation_return.values
    assert runs.min() - 0.06 * np.ptp(runs) <= bottom <= runs.min()
    assert runs.max() <= top <= runs.max() + 0.06 * np.ptp(runs)


def test_a_sweep_is_a_line_for_each_configuration(figures):
    swept = dataset(12, dims={"hp.learning_rate": [1e-4, 1e-3], "layers": ["(64,)", "(8,)"]})
    plotting.learning_curve({"PPO": swept}, "x.png")
    names, _ = legend(figures[0])
    assert names[0] == "PPO, hp.learning_rate=0.0001, layers=(64,) (12 seeds)"
    assert len(names) == 4
    plotting.learning_curve({str(i): dataset(2) for i in range(9)}, "x.png")
    lines = figures[1].axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines if line.get_linewidth() > 1}) == 9


def test_runs_that_are_not_finite_are_named(figures):
    data = dataset(4)
    data["evaluation_return"][2, -3:] = np.nan
    for draw in (plotting.learning_curve, plotting.performance_profile):
        draw({"PPO": data, "DQN": dataset(3)}, "x.png")
        assert legend(figures[-1])[0] == ["PPO (4 seeds, not finite: seed 2)", "DQN (3 seeds)"]
    assert "counts as below all" in legend(figures[-1])[1]
    plotting.seed_curves({"PPO": data}, "x.png")
    assert figures[-1].axes[0].get_title(loc="left") == "PPO (4 seeds, not finite: seed 2)"
    swept = dataset(4, steps=STEPS[:3], dims={"hp.learning_rate": [1e-4, 1e-3], "hp.gamma": [0.9, 0.99]})
    swept["evaluation_return"][0, 1, 3] = np.nan
    plotting.heat_map(swept, "x.png")
    assert "not finite:\n1 of 4" in [text.get_text() for text in figures[-1].axes[0].texts]
    data["evaluation_return"][:] = np.nan
    with pytest.raises(InputError, match="no run has a finite evaluation_return"):
        plotting.performance_profile({"PPO": data}, "x.png")


def test_seeds_can_be_told_apart(figures):
    plotting.seed_curves({"PPO": dataset(10), "DQN": dataset(3)}, "x.png", "CartPole-v1", statistic="mean")
    (figure,) = figures
    first, second = figure.axes
    looks = [(line.get_color(), line.get_linestyle()) for line in first.lines[:-1]]
    assert len(set(looks)) == 10
    assert [(line.get_color(), line.get_linestyle()) for line in second.lines[:-1]] == looks[:3]  # the same seeds
    np.testing.assert_allclose(first.lines[-1].get_ydata(), dataset(10).evaluation_return.mean("seed"))
    assert legend(figure)[0] == ["mean over seeds", *(f"seed {seed}" for seed in range(10))]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["PPO (10 seeds)", "DQN (3 seeds)"]
    plotting.seed_curves({"PPO": dataset(30)}, "x.png")
    panel, scale = figures[1].axes
    assert len({line.get_color() for line in panel.lines}) == 31
    assert scale.get_xlabel() == "seed"
    with pytest.raises(InputError, match="17 configurations are too many"):
        plotting.seed_curves({str(i): dataset(1) for i in range(17)}, "x.png")


def test_the_band_of_a_profile_is_wilsons(figures):
    data = dataset(5)
    plotting.performance_profile({"PPO": data}, "x.png")
    (axes,) = figures[0].axes
    end = data.evaluation_return.isel(env_step=-1).values
    x, y = axes.lines[0].get_data()
    middle = len(x) // 2
    assert y[middle] == pytest.approx((end > x[middle]).mean())
    low, high = statistics.share_interval(y[middle], 5)
    edges = axes.collections[0].get_paths()[0].vertices
    heights = edges[np.isclose(edges[:, 0], x[middle]), 1]
    assert min(abs(heights - low)) < 1e-9
    assert min(abs(heights - high)) < 1e-9
    assert "(Wilson's) of the share at each" in legend(figures[0])[1]


@pytest.mark.parametrize("steps", [STEPS[:1], STEPS[:2]])
@pytest.mark.parametrize("seeds", [1, 3, 12])
def test_few_evaluations(tmp_path, steps, seeds):
    path = plotting.learning_curve({"A": dataset(seeds, steps)}, tmp_path / "x.png")
    assert has_colour(pixels(path), plotting.COLOURS[0])


@pytest.mark.parametrize("seeds", [3, 12])
def test_nan_leaves_a_gap(tmp_path, seeds):
    data = dataset(seeds)
    data["evaluation_return"][0, 3:5] = np.nan
    data["evaluation_return"][:, 8] = np.nan
    plotting.learning_curve({"A": data}, tmp_path / "x.png")
    plotting.seed_curves({"A": data}, tmp_path / "y.png")


SWEPT = {"hp.learning_rate": [1e-4, 1e-3], "hp.gamma": [0.9, 0.99]}


@pytest.mark.parametrize(
    "draw",
    [
        lambda *a, **k: plotting.learning_curve({"A": dataset(2)}, *a, **k),
        lambda *a, **k: plotting.seed_curves({"A": dataset(2)}, *a, **k),
        lambda *a, **k: plotting.performance_profile({"A": dataset(2)}, *a, **k),
        lambda *a, **k: plotting.heat_map(dataset(2, dims=SWEPT), *a, **k),
        lambda *a, **k: plotting.slices(dataset(2, dims=SWEPT), *a, **k),
        lambda *a, **k: plotting.value_map(np.eye(2), *a, **k),
        lambda *a, **k: plotting.action_values(np.eye(2), np.array([0, 1]), *a, **k),
    ],
)
def test_no_picture_is_overwritten_unless_that_is_asked_for(draw, tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"x\.png exists; nothing is overwritten"):
        draw(path)
    assert path.read_bytes() == b"mine"
    draw(path, overwrite=True)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1


def test_other_formats(tmp_path):
    for suffix in ("svg", "pdf"):
        assert plotting.learning_curve({"A": dataset(2)}, tmp_path / f"x.{suffix}").stat().st_size > 1000


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match="no results to draw"):
        plotting.learning_curve({}, tmp_path / "x.png")
    with pytest.raises(InputError, match=r"of 'A' 'evaluation_retrn'\. Did you mean 'evaluation_return'"):
        plotting.learning_curve({"A": dataset(2)}, tmp_path / "x.png", variable="evaluation_retrn")
    with pytest.raises(InputError, match=r"unknown statistic 'iqr'\. Did you mean 'iqm'"):
        plotting.learning_curve({"A": dataset(2)}, tmp_path / "x.png", statistic="iqr")
    for name in ("missing/x.png", "x.nonsense"):
        with pytest.raises(InputError, match="cannot write"):
            plotting.learning_curve({"A": dataset(2)}, tmp_path / name)
    assert not list(tmp_path.iterdir())


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


def test_the_heat_map_holds_the_statistic_at_the_end_and_its_interval(figures):
    swept = dataset(5, steps=STEPS[:3], dims={"hp.learning_rate": [1e-4, 1e-3, 1e-2], "hp.gamma": [0.9, 0.99]})
    plotting.heat_map(swept, "x.png", axes=("hp.gamma", "hp.learning_rate"))
    axes = figures[0].axes[0]
    end = np.sort(swept.evaluation_return.isel(env_step=-1).transpose("hp.gamma", "hp.learning_rate", "seed"), -1)
    np.testing.assert_allclose(axes.images[0].get_array(), end[..., 1:-1].mean(-1))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.0001", "0.001", "0.01"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("hp.learning_rate", "hp.gamma")
    low, high = statistics.stratified_bootstrap(end[0, 0])
    assert [text.get_text() for text in axes.texts[:2]] == [f"{end[0, 0, 1:-1].mean():.4g}", f"{low:.4g} – {high:.4g}"]
    assert figures[0].axes[1].get_ylabel().replace("\n", " ") == (
        "evaluation return: IQM of 5 seeds, its 95 % interval below"
    )
    plotting.heat_map(dataset(1, steps=STEPS[:3], dims=SWEPT), "x.png")
    assert len(figures[1].axes[0].texts) == 4  # no interval of one seed
    assert "IQM of 1 seed, no interval" in figures[1].axes[1].get_ylabel().replace("\n", " ")


def test_slices_of_a_grid_stand_beside_one_another(figures):
    swept = dataset(3, steps=STEPS[:3], dims=SWEPT)
    plotting.slices(swept, "x.png", statistic="mean")
    panel = figures[0].axes[0]
    middles = panel.lines[-1]
    np.testing.assert_allclose(middles.get_xdata(), [-0.15, 0.15, 0.85, 1.15])
    end = swept.evaluation_return.isel(env_step=-1).values.reshape(4, 3)
    np.testing.assert_allclose(middles.get_ydata(), end.mean(-1))
    low, high = statistics.stratified_bootstrap(end[2], statistics.mean)
    np.testing.assert_allclose(panel.collections[0].get_segments()[2][:, 1], [low, high])
    assert "mean of 3 seeds with its 95 % interval" in figures[0]._supxlabel.get_text()
