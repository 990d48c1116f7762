"""Pictures of results. Figures are made with matplotlib's objects (Agg): no display, no global state of pyplot.

Every picture has one statistic over seeds, the same for three seeds and for a thousand, and says which it is, what its
spread is, and of how many seeds. No file is overwritten unless `overwrite` is given.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.errors import InputError, unknown
from jaxrl import outputs, results, statistics

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

STATISTICS = {"iqm": statistics.iqm, "mean": statistics.mean, "median": statistics.median}
NAMES = {"iqm": "IQM", "mean": "mean", "median": "median"}  # as pictures write them
MOST_PANELS = 16  # of a picture with one for each configuration
# Okabe and Ito's colours, which remain distinct for the colour-blind; then line styles take over
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")


def learning_curve(
    datasets: "Mapping[str, xr.Dataset]",
    path: str | Path,
    title: str = "",
    variable: str = "evaluation_return",
    statistic: str = "iqm",
    overwrite: bool = False,
) -> Path:
    """Draws one curve for each dataset, and for each configuration of a sweep, against environment steps.

    The line is a statistic over seeds, the band its 95 % interval at every point (`jaxrl.statistics`); one seed has no
    band. The axis spans what the runs did: the band of a few seeds may be wider, and then leaves the picture.

    Args:
        datasets: {label: what `results.curves` or `results.load` returned}.
        path: the picture to write; its suffix is the format (png, pdf, svg).
        title: above the axes.
        variable: what to draw.
        statistic: "iqm", "mean" or "median".
        overwrite: whether a picture that is there may be replaced.

    Returns:
        The path of the picture.

    Raises:
        InputError: nothing to draw, a dataset without `variable`, an unknown statistic or format, or a file that exists
            or cannot be written.
    """
    from matplotlib.figure import Figure

    lines = _configurations(datasets, variable)
    reduce = _statistic(statistic)
    # The legend stands below the axes, where it hides no curve and squeezes none; the picture grows with it.
    figure = Figure(figsize=(8, 5.1 + 0.24 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    single = banded = False
    edges = []
    for i, (label, curve) in enumerate(lines):
        steps, runs = _runs(curve, variable)
        look = {"color": COLOURS[i % len(COLOURS)], "marker": "o" if len(steps) == 1 else None}
        style = STYLES[i // len(COLOURS) % len(STYLES)]
        middle = reduce(runs, axis=0)
        axes.plot(steps, middle, style, linewidth=2.2, label=f"{label} ({_seeds(curve, runs)})", **look)
        edges += [middle]
        if len(runs) == 1:
            single = True
            continue
        banded = True
        low, high = statistics.bootstrap_curve(runs.T, reduce)
        edges += [np.maximum(low, runs.min(0)), np.minimum(high, runs.max(0))]
        axes.fill_between(steps, low, high, color=look["color"], alpha=0.13, linewidth=0)
        for edge in (low, high):  # seen where bands lie on one another
            axes.plot(steps, edge, style, color=look["color"], alpha=0.5, linewidth=0.7)
        if len(steps) == 1:
            axes.vlines(steps, low, high, color=look["color"], linewidth=2.2)
    _span(axes, np.concatenate(edges))
    _curve_axes(axes, lines[0][1], variable, title)
    what = [f"line: {NAMES[statistic]} over seeds" if banded else "line: the only seed"]
    what += ["band: its 95 % interval, which may leave the picture"] if banded else []
    what += ["no band: one seed"] if banded and single else []
    _legend(figure, "; ".join(what), lines[0][1], variable)
    return _written(figure, path, overwrite)


def seed_curves(
    datasets: "Mapping[str, xr.Dataset]",
    path: str | Path,
    title: str = "",
    variable: str = "evaluation_return",
    statistic: str = "iqm",
    overwrite: bool = False,
) -> Path:
    """Draws every seed's curve, a panel for each dataset and configuration, and a statistic over them in black.

    A seed has the same colour in all panels: its own in the legend where there are few, otherwise one of a scale.

    Args:
        datasets: as `learning_curve` takes them; at most MOST_PANELS configurations.
        path: the picture to write.
        title: above it.
        variable: what to draw.
        statistic: "iqm", "mean" or "median".
        overwrite: whether a picture that is there may be replaced.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    lines = _configurations(datasets, variable)
    reduce = _statistic(statistic)
    if len(lines) > MOST_PANELS:
        raise InputError(f"{len(lines)} configurations are too many for a panel each; at most {MOST_PANELS} fit.")
    seeds = sorted({int(seed) for _, curve in lines for seed in curve["seed"].values})
    colours = COLOURS[:-1]  # black is the statistic's
    few = len(seeds) <= 2 * len(colours)
    scale, norm = colormaps["viridis"], Normalize(seeds[0], max(seeds[-1], seeds[0] + 1))
    columns = min(len(lines), 3 if len(lines) != 4 else 2)
    rows = -(-len(lines) // columns)
    figure = Figure(figsize=(8 if columns == 1 else 4.6 * columns, 4.2 * rows + 1.0), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(lines) :]:
        axes.set_visible(False)
    for axes, (label, curve) in zip(panels.flat, lines, strict=False):
        steps, runs = _runs(curve, variable)
        marker = "o" if len(steps) == 1 else None
        for seed, run in zip(curve["seed"].values, runs, strict=True):
            i = seeds.index(int(seed))
            colour = colours[i % len(colours)] if few else scale(norm(seed))
            style = STYLES[i // len(colours)] if few else "-"
            width = 1.3 if few else max(0.4, min(1.0, 30 / len(runs)))
            axes.plot(steps, run, style, color=colour, linewidth=width, marker=marker, markersize=4)
        if len(runs) > 1:
            axes.plot(steps, reduce(runs, axis=0), color="black", linewidth=2.6, marker=marker)
        _curve_axes(axes, curve, variable, f"{label} ({_seeds(curve, runs)})")
        axes.title.set_fontsize(11)
        axes.label_outer()
    figure.suptitle(textwrap.fill(title, 30 * columns + 30), fontsize=13)
    handles = [Line2D([], [], color="black", linewidth=2.6, label=f"{NAMES[statistic]} over seeds")]
    if few:
        handles += [
            Line2D([], [], linestyle=STYLES[i // len(colours)], color=colours[i % len(colours)], label=f"seed {seed}")
            for i, seed in enumerate(seeds)
        ]
    else:
        bar = figure.colorbar(ScalarMappable(norm, scale), ax=panels, location="bottom", shrink=0.4, aspect=40)
        bar.set_label("seed", fontsize=10)
    figure.legend(handles=handles, loc="outside lower center", frameon=False, fontsize=10, ncols=4)
    return _written(figure, path, overwrite)


def _statistic(name: str) -> statistics.Statistic:
    if name not in STATISTICS:
        raise unknown("statistic", name, STATISTICS)
    return STATISTICS[name]


def _configurations(datasets: "Mapping[str, xr.Dataset]", variable: str) -> "list[tuple[str, xr.Dataset]]":
    """(label, curves over seed and env_step) of every dataset and of every configuration of a sweep."""
    if not datasets:
        raise InputError("there are no results to draw.")
    lines = []
    for label, dataset in datasets.items():
        if variable not in dataset:
            raise unknown(f"variable of {label!r}", variable, list(map(str, dataset.data_vars)))
        for swept, curve in results.configurations(dataset[[variable]]):
            lines.append(
                (", ".join(filter(None, (label, *(f"{k}={format_value(v)}" for k, v in swept.items())))), curve)
            )
    return lines


def format_value(value: Any) -> str:
    """Writes a setting the short way."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _runs(curve: "xr.Dataset", variable: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps [E], values f64[seeds, E])."""
    return curve["env_step"].values, curve[variable].transpose("seed", "env_step").values.astype(np.float64)


def _seeds(curve: "xr.Dataset", runs: np.ndarray) -> str:
    """How many seeds there are, and which of them end without a number: [seeds, E] -> "4 seeds, seed 2 not finite"."""
    lost = [str(seed) for seed in curve["seed"].values[~np.isfinite(runs[:, -1])]]
    count = f"{len(runs)} {'seed' if len(runs) == 1 else 'seeds'}"
    if not lost:
        return count
    named = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    return f"{count}, not finite: seed {named}"


def _span(axes: "Axes", values: np.ndarray) -> None:
    """Lets the vertical axis span the finite ones of these values, with a margin."""
    finite = values[np.isfinite(values)]
    if finite.size:
        margin = 0.05 * float(np.ptp(finite)) or 0.05 * max(abs(float(finite[0])), 1.0)
        axes.set_ylim(finite.min() - margin, finite.max() + margin)


def _curve_axes(axes: "Axes", curve: "xr.Dataset", variable: str, title: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    units = curve[variable].attrs.get("units", "")
    name = variable.replace("_", " ")
    axes.set_xlabel("environment steps", fontsize=12)
    axes.set_ylabel(name if units in ("", "1", "return") else f"{name} ({units})", fontsize=12)
    axes.set_title(textwrap.fill(title, 68), loc="left", fontsize=13, pad=10)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_steps(value)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(x=0.01)
    _plain_axes(axes)


def _legend(figure: "Figure", what: str, curve: "xr.Dataset", variable: str) -> None:
    """The legend below the axes, under a title that says what is drawn and what a seed's value is."""
    from matplotlib.font_manager import FontProperties

    value = curve[variable].attrs.get("description", "")
    legend = figure.legend(loc="outside lower left", frameon=False, fontsize=11, alignment="left")
    text = "\n".join(filter(None, (what, f"a seed's value: {value}" if value else "")))
    width = int(12 * figure.get_figwidth())
    legend.set_title("\n".join(textwrap.fill(line, width) for line in text.split("\n")), prop=FontProperties(size=10))


def heat_map(
    dataset: "xr.Dataset",
    path: str | Path,
    title: str = "",
    variable: str = "evaluation_return",
    axes: tuple[str, str] | None = None,
    statistic: str = "iqm",
    overwrite: bool = False,
) -> Path:
    """Draws a statistic over seeds at the end of a sweep, and its 95 % interval, for each pair of values of two axes.

    Args:
        dataset: of a grid; axes beyond the two are averaged over.
        path: the picture to write.
        title: above it.
        variable: what to draw.
        axes: (rows, columns); by default the first two axes of the grid with more than one value.
        statistic: "iqm", "mean" or "median".
        overwrite: whether a picture that is there may be replaced.

    Raises:
        InputError: fewer than two axes, or unknown ones.
    """
    from matplotlib.figure import Figure

    reduce = _statistic(statistic)
    grid = [
        str(name)
        for name, size in dataset.sizes.items()
        if name not in ("seed", "env_step", "trial", "episode") and size > 1
    ]
    rows, columns = axes or (grid if len(grid) == 2 else grid[:2] if len(grid) > 2 else (None, None))
    if rows not in grid or columns not in grid or rows == columns:
        raise InputError(f"a heat map needs two axes of a grid; these results have {', '.join(grid) or 'none'}.")
    others = [name for name in grid if name not in (rows, columns)]
    last = dataset[variable].isel(env_step=-1).transpose(rows, columns, "seed", ...)
    runs = last.values.reshape(*last.shape[:3], -1).mean(-1)  # [rows, columns, seeds]
    table = reduce(runs, axis=-1)
    bounds = statistics.bootstrap_curve(runs.reshape(-1, runs.shape[-1]), reduce)
    low, high = (bound.reshape(table.shape) for bound in bounds)
    figure = Figure(figsize=(2.8 + 1.35 * table.shape[1], 2.2 + 0.8 * table.shape[0]), layout="constrained")
    picture = figure.add_subplot()
    picture.set_facecolor("#dddddd")  # of cells that are not finite
    image = picture.imshow(np.ma.masked_invalid(table), cmap="viridis", aspect="auto")
    for i, j in np.ndindex(*table.shape):
        lost = int((~np.isfinite(runs[i, j])).sum())
        dark = not lost and image.norm(table[i, j]) < 0.6  # pyright: ignore[reportOperatorIssue]
        look: dict[str, Any] = {"ha": "center", "va": "center", "color": "white" if dark else "black"}
        if lost:
            picture.text(j, i, f"not finite:\n{lost} of {runs.shape[-1]}", fontsize=8, **look)
            continue
        several, at = runs.shape[-1] > 1, {"xycoords": "data", "textcoords": "offset points"}
        picture.annotate(f"{table[i, j]:.4g}", (j, i), (0, 6 if several else 0), fontsize=10, **at, **look)
        if several:
            picture.annotate(f"{low[i, j]:.4g} – {high[i, j]:.4g}", (j, i), (0, -8), fontsize=7.5, **at, **look)
    for name, ticks, labels in ((columns, picture.set_xticks, 0), (rows, picture.set_yticks, 1)):
        values = dataset[name].values
        ticks(range(len(values)), [f"{v:g}" if isinstance(v, float | np.floating) else str(v) for v in values])
        (picture.set_ylabel if labels else picture.set_xlabel)(name, fontsize=11)
    picture.set_title(textwrap.fill(title, 40), loc="left", fontsize=12)
    picture.tick_params(length=0)
    seeds = dataset.sizes["seed"]
    over = f", mean over {', '.join(others)}" if others else ""
    spread = "its 95 % interval below" if seeds > 1 else "no interval"
    what = f"{NAMES[statistic]} of {seeds} {'seed' if seeds == 1 else 'seeds'}, {spread}"
    figure.colorbar(image).set_label(textwrap.fill(f"{variable.replace('_', ' ')}{over}: {what}", 44), fontsize=9)
    return _written(figure, path, overwrite)


def slices(
    dataset: "xr.Dataset",
    path: str | Path,
    title: str = "",
    variable: str = "evaluation_return",
    statistic: str = "iqm",
    overwrite: bool = False,
) -> Path:
    """Draws the end of every run of a sweep against each swept axis, one panel for each.

    Args:
        dataset: of a grid or of trials.
        path: the picture to write.
        title: above it.
        variable: what to draw.
        statistic: "iqm", "mean" or "median", drawn with its 95 % interval for each configuration.
        overwrite: whether a picture that is there may be replaced.

    Raises:
        InputError: nothing was swept.
    """
    from matplotlib.figure import Figure

    reduce = _statistic(statistic)
    parts = results.configurations(dataset[[variable]])
    names = [name for name in parts[0][0] if name != "trial"]
    if not names:
        raise InputError("nothing was swept in these results.")
    figure = Figure(figsize=(3.4 * len(names) + 1, 4.1), layout="constrained")
    figure.suptitle(textwrap.fill(title, 30 * len(names)), fontsize=12)
    ends = np.stack([curve[variable].isel(env_step=-1).values for _, curve in parts])  # [configurations, seeds]
    middle = reduce(ends, axis=-1)
    low, high = statistics.bootstrap_curve(ends, reduce)
    first = None
    for index, name in enumerate(names):
        panel = figure.add_subplot(1, len(names), index + 1, sharey=first)
        first = first or panel
        values: list[Any] = [swept[name] for swept, _ in parts]
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        kinds = sorted(set(values), key=None if numeric else str)
        if numeric and len(kinds) == len(values):
            x = np.array(values, np.float64)
            if x.min() > 0 and x.max() / x.min() >= 30:
                panel.set_xscale("log")
        else:  # the configurations that share a value stand beside one another
            x = _beside([kinds.index(value) for value in values])
            panel.set_xticks(range(len(kinds)), [format_value(value) for value in kinds])
        panel.plot(x, ends, ".", color=COLOURS[0], alpha=0.3, markersize=5)
        if ends.shape[1] > 1:
            panel.vlines(x, low, high, color=COLOURS[1], linewidth=1.2, alpha=0.7)
        panel.plot(x, middle, "o", color=COLOURS[1], markersize=5)
        panel.set_xlabel(name, fontsize=11)
        if index == 0:
            panel.set_ylabel(variable.replace("_", " "), fontsize=11)
            _span(panel, np.concatenate([ends.ravel(), middle]))
        _plain_axes(panel)
    count = ends.shape[1]
    what = (
        f"blue: runs; orange: {NAMES[statistic]} of {count} seeds with its 95 % interval, which may leave the picture"
    )
    one = "blue and orange: the only seed of each configuration"
    figure.supxlabel(textwrap.fill(what if count > 1 else one, 46 * len(names) + 12), fontsize=9, color="#555555")
    return _written(figure, path, overwrite)


def _beside(positions: Sequence[int]) -> np.ndarray:
    """Spreads out what stands at the same position, within ± 0.3 of it."""
    counts = np.bincount(positions)
    ranks = np.array([positions[:i].count(position) for i, position in enumerate(positions)])
    return np.array(positions) + 0.6 * ((ranks + 0.5) / counts[positions] - 0.5)


def performance_profile(
    datasets: "Mapping[str, xr.Dataset]",
    path: str | Path,
    title: str = "",
    variable: str = "evaluation_return",
    overwrite: bool = False,
) -> Path:
    """Draws the share of runs whose end lies above each value (Agarwal et al. 2021), with its 95 % interval.

    The band is Wilson's interval of the share at each value by itself. A run that is not finite counts as below all
    values, and the legend names it.

    Args:
        datasets: {label: results}.
        path: the picture to write.
        title: above it.
        variable: what to draw.
        overwrite: whether a picture that is there may be replaced.

    Raises:
        InputError: nothing to draw, or not one finite value.
    """
    from matplotlib.figure import Figure

    lines = _configurations(datasets, variable)
    ends = [_runs(curve, variable)[1][:, -1:] for _, curve in lines]  # [seeds, 1] each
    everything = np.concatenate(ends)
    everything = everything[np.isfinite(everything)]
    if not everything.size:
        raise InputError(f"no run has a finite {variable} at its end.")
    span = np.ptp(everything) or 1.0
    thresholds = np.linspace(everything.min() - 0.02 * span, everything.max() + 0.02 * span, 201)
    figure = Figure(figsize=(7, 4.6 + 0.24 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    for i, ((label, curve), runs) in enumerate(zip(lines, ends, strict=True)):
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]
        profile = statistics.performance_profile(runs, thresholds)
        low, high = statistics.share_interval(profile, len(runs))
        axes.fill_between(thresholds, low, high, color=colour, alpha=0.2, linewidth=0, step="post")
        axes.step(thresholds, profile, style, color=colour, where="post", label=f"{label} ({_seeds(curve, runs)})")
    axes.set_xlabel(f"{variable.replace('_', ' ')} τ at the end", fontsize=12)
    axes.set_ylabel("share of seeds above τ", fontsize=12)
    axes.set_ylim(-0.02, 1.02)
    axes.set_title(textwrap.fill(title, 60), loc="left", fontsize=13)
    _plain_axes(axes)
    lost = any(not np.isfinite(runs).all() for runs in ends)
    what = "band: 95 % interval (Wilson's) of the share at each τ; one seed has none"
    _legend(figure, what + ("; what is not finite counts as below all τ" if lost else ""), lines[0][1], variable)
    return _written(figure, path, overwrite)


def value_map(
    values: np.ndarray,
    path: str | Path,
    actions: np.ndarray | None = None,
    arrows: Sequence[tuple[int, int]] = ((-1, 0), (0, 1), (1, 0), (0, -1)),
    title: str = "",
    overwrite: bool = False,
) -> Path:
    """Draws the values of a grid world's cells as colours and numbers, and a policy as arrows.

    Args:
        values: f[H, W], NaN where there is no state (walls, for example).
        path: the picture to write.
        actions: i[H, W] the action in each cell, −1 where none is taken; None draws no arrows.
        arrows: (rows down, columns right) of each action; by default up, right, down, left.
        title: above it.
        overwrite: whether a picture that is there may be replaced.
    """
    from matplotlib.figure import Figure

    height, width = np.shape(values)
    figure = Figure(figsize=(1.6 + 0.85 * width, 0.9 + 0.85 * height), layout="constrained")
    axes = figure.add_subplot()
    image = draw_values(axes, values, actions, arrows)
    axes.set_title(title, loc="left", fontsize=11)
    figure.colorbar(image, shrink=0.8).set_label("value")
    return _written(figure, path, overwrite)


def draw_values(
    axes: "Axes", values: np.ndarray, actions: np.ndarray | None, arrows: Sequence[tuple[int, int]]
) -> "AxesImage":
    """Draws what `value_map` draws into axes; returns the coloured cells, for a colour bar."""
    height, width = np.shape(values)
    axes.set_facecolor("#555555")
    image = axes.imshow(np.ma.masked_invalid(values), cmap="viridis")
    for i, j in np.ndindex(height, width):
        if np.isnan(values[i, j]):
            continue
        colour = "white" if image.norm(values[i, j]) < 0.6 else "black"  # pyright: ignore[reportOperatorIssue]
        arrow = None if actions is None or actions[i, j] < 0 else arrows[int(actions[i, j])]
        axes.text(
            j, i + (0.3 if arrow else 0), f"{values[i, j]:.2f}", ha="center", va="center", color=colour, fontsize=8
        )
        if arrow:
            down, right = arrow
            axes.annotate(
                "",
                (j + 0.2 * right, i - 0.1 + 0.2 * down),
                (j - 0.2 * right, i - 0.1 - 0.2 * down),
                arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.6},
            )
    axes.set_xticks(np.arange(width))
    axes.set_yticks(np.arange(height))
    axes.tick_params(length=0, labelsize=9)
    return image


def action_values(
    values: np.ndarray,
    actions: np.ndarray,
    path: str | Path,
    names: Sequence[str] = (),
    title: str = "",
    overwrite: bool = False,
) -> Path:
    """Draws the value of every action along a trajectory, and marks the one that was taken.

    Args:
        values: f[T, A].
        actions: i[T] taken.
        path: the picture to write.
        names: of the actions; their numbers unless given.
        title: above it.
        overwrite: whether a picture that is there may be replaced.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    steps = np.arange(len(values))
    for action in range(values.shape[1]):
        label = names[action] if names else f"action {action}"
        axes.plot(steps, values[:, action], color=COLOURS[action % len(COLOURS)], linewidth=1.4, label=label)
        taken = actions == action
        axes.plot(steps[taken], values[taken, action], "o", color=COLOURS[action % len(COLOURS)], markersize=3.5)
    axes.set_xlabel("step of the episode", fontsize=12)
    axes.set_ylabel("value (dots: the action taken)", fontsize=12)
    axes.set_title(textwrap.fill(title, 68), loc="left", fontsize=13)
    _plain_axes(axes)
    figure.legend(loc="outside lower left", frameon=False, fontsize=10, ncols=4)
    return _written(figure, path, overwrite)


def _plain_axes(axes: "Axes") -> None:
    axes.tick_params(labelsize=11, length=0)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#888888")


def _written(figure: "Figure", path: str | Path, overwrite: bool) -> Path:
    return outputs.write(path, lambda new: figure.savefig(new, dpi=150), overwrite)


def format_steps(value: float) -> str:
    """Writes a number of steps the short way: 500, 100k, 1.5M, 2B."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"
