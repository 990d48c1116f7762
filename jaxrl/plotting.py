"""Pictures of results. Figures are made with matplotlib's objects (Agg): no display, no global state of pyplot."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.errors import InputError
from jaxrl import results, statistics

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

FEW_SEEDS = 10  # below it a bootstrap interval says little, and every run can be shown instead
# Okabe and Ito's colours, which remain distinct for the colour-blind; then line styles take over
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")


def learning_curve(
    datasets: "Mapping[str, xr.Dataset]",
    path: str | Path,
    title: str = "",
    variable: str = "evaluation_return",
    every_seed: bool = False,
) -> Path:
    """Draws one curve for each dataset, and for each configuration of a sweep, against environment steps.

    With 10 seeds or more: the interquartile mean and its 95 % stratified-bootstrap band. With fewer, or with
    `every_seed`: the mean, and every seed as a thin line.

    Args:
        datasets: {label: what `results.curves` or `results.load` returned}.
        path: the picture to write; its suffix is the format (png, pdf, svg).
        title: above the axes.
        variable: what to draw.
        every_seed: show the seeds one by one however many there are.

    Returns:
        The path of the picture.

    Raises:
        InputError: nothing to draw, a dataset without `variable`, an unknown format, or a file that cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if not datasets:
        raise InputError("there are no results to draw.")
    lines = []
    for label, dataset in datasets.items():
        if variable not in dataset:
            raise InputError(
                f"the results of {label!r} have no {variable!r}; they have {', '.join(map(str, dataset.data_vars))}."
            )
        for swept, curve in results.configurations(dataset[[variable]]):
            settings = ", ".join(
                f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in swept.items()
            )
            lines.append((", ".join(filter(None, (label, settings))), curve))

    # The legend stands below the axes, where it hides no curve and squeezes none; the picture grows with it.
    figure = Figure(figsize=(8, 4.9 + 0.24 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    drawn = set()
    for i, (label, curve) in enumerate(lines):
        drawn.add(
            _draw(
                axes,
                label,
                curve,
                variable,
                COLOURS[i % len(COLOURS)],
                STYLES[i // len(COLOURS) % len(STYLES)],
                every_seed,
            )
        )
    first = lines[0][1]
    name = variable.replace("_", " ")
    units = first[variable].attrs.get("units", "")
    axes.set_xlabel("environment steps", fontsize=12)
    axes.set_ylabel(name if units in ("", "1", "return") else f"{name} ({units})", fontsize=12)
    axes.set_title(textwrap.fill(title, 68), loc="left", fontsize=13, pad=10)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_steps(value)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(x=0.01)
    _plain_axes(axes)
    legend = figure.legend(loc="outside lower left", frameon=False, fontsize=11, alignment="left")
    legend.set_title("\n".join(sorted(drawn)), prop=FontProperties(size=10))
    return _written(figure, path)


def _draw(
    axes: "Axes", label: str, curve: "xr.Dataset", variable: str, colour: str, style: str, every_seed: bool
) -> str:
    """Draws the runs of one configuration; returns what the line and its surroundings are, for the legend."""
    steps = curve["env_step"].values
    runs = curve[variable].transpose("seed", "env_step").values.astype(np.float64)
    marker = "o" if len(steps) == 1 else None
    count = len(runs)
    label = f"{label} ({count} {'seed' if count == 1 else 'seeds'})"
    if count < FEW_SEEDS or every_seed:
        if count > 1:
            faint = min(0.35, max(0.05, 10 / count))  # so that the mean is seen among hundreds
            axes.plot(steps, runs.T, color=colour, linewidth=0.8, alpha=faint, marker=marker, markersize=3)
        axes.plot(steps, runs.mean(0), style, color=colour, linewidth=2.2, label=label, marker=marker)
        return "line: mean, thin: seeds" if count > 1 else "line: the only seed"
    low, high = statistics.bootstrap_curve(runs.T)
    axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(steps, statistics.iqm(runs, axis=0), style, color=colour, linewidth=2.2, label=label, marker=marker)
    if marker:
        axes.vlines(steps, low, high, color=colour, linewidth=2.2)
    return "line: IQM, band: 95 % interval"


def heat_map(
    dataset: "xr.Dataset",
    path: str | Path,
    title: str = "",
    variable: str = "evaluation_return",
    axes: tuple[str, str] | None = None,
) -> Path:
    """Draws the interquartile mean over seeds at the end of a sweep for each pair of values of two axes.

    Args:
        dataset: of a grid; axes beyond the two are averaged over.
        path: the picture to write.
        title: above it.
        variable: what to draw.
        axes: (rows, columns); by default the first two axes of the grid with more than one value.

    Raises:
        InputError: fewer than two axes, or unknown ones.
    """
    from matplotlib.figure import Figure

    grid = [str(name) for name, size in dataset.sizes.items() if name not in ("seed", "env_step", "trial") and size > 1]
    rows, columns = axes or (grid if len(grid) == 2 else grid[:2] if len(grid) > 2 else (None, None))
    if rows not in grid or columns not in grid or rows == columns:
        raise InputError(f"a heat map needs two axes of a grid; these results have {', '.join(grid) or 'none'}.")
    others = [name for name in grid if name not in (rows, columns)]
    last = dataset[variable].isel(env_step=-1).transpose(rows, columns, "seed", ...)
    table = statistics.iqm(last.values.reshape(*last.shape[:3], -1).mean(-1), axis=-1)
    figure = Figure(figsize=(2.6 + 1.1 * table.shape[1], 2.0 + 0.7 * table.shape[0]), layout="constrained")
    picture = figure.add_subplot()
    image = picture.imshow(table, cmap="viridis", aspect="auto")
    dark = image.norm(table) < 0.6  # pyright: ignore[reportOperatorIssue]
    for i, j in np.ndindex(*table.shape):
        picture.text(
            j, i, f"{table[i, j]:.4g}", ha="center", va="center", color="white" if dark[i, j] else "black", fontsize=10
        )
    for name, ticks, labels in ((columns, picture.set_xticks, 0), (rows, picture.set_yticks, 1)):
        values = dataset[name].values
        ticks(range(len(values)), [f"{v:g}" if isinstance(v, float | np.floating) else str(v) for v in values])
        (picture.set_ylabel if labels else picture.set_xlabel)(name, fontsize=11)
    picture.set_title(textwrap.fill(title, 40), loc="left", fontsize=12)
    picture.tick_params(length=0)
    seeds = dataset.sizes["seed"]
    over = f", mean over {', '.join(others)}" if others else ""
    figure.colorbar(image).set_label(f"{variable.replace('_', ' ')}, IQM of {seeds} seeds{over}")
    return _written(figure, path)


def slices(dataset: "xr.Dataset", path: str | Path, title: str = "", variable: str = "evaluation_return") -> Path:
    """Draws the end of every run of a sweep against each swept axis, one panel for each.

    Args:
        dataset: of a grid or of trials.
        path: the picture to write.
        title: above it.
        variable: what to draw.

    Raises:
        InputError: nothing was swept.
    """
    from matplotlib.figure import Figure

    parts = results.configurations(dataset)
    names = [name for name in parts[0][0] if name != "trial"]
    if not names:
        raise InputError("nothing was swept in these results.")
    figure = Figure(figsize=(3.4 * len(names) + 1, 3.8), layout="constrained")
    figure.suptitle(textwrap.fill(title, 30 * len(names)), fontsize=12)
    ends = np.stack([curve[variable].isel(env_step=-1).values for _, curve in parts])  # [trials, seeds]
    middle = statistics.iqm(ends, axis=-1)
    first = None
    for index, name in enumerate(names):
        panel = figure.add_subplot(1, len(names), index + 1, sharey=first)
        first = first or panel
        values: list[Any] = [swept[name] for swept, _ in parts]
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        kinds = sorted(set(map(str, values)))
        x = np.array(values if numeric else [kinds.index(str(value)) for value in values], np.float64)
        panel.plot(x, ends, ".", color=COLOURS[0], alpha=0.25, markersize=5)
        panel.plot(x, middle, "o", color=COLOURS[1], markersize=5)
        if not numeric:
            panel.set_xticks(range(len(kinds)), kinds)
        elif x.min() > 0 and x.max() / x.min() >= 30:
            panel.set_xscale("log")
        panel.set_xlabel(name, fontsize=11)
        if index == 0:
            panel.set_ylabel(f"{variable.replace('_', ' ')}: runs, and their IQM", fontsize=10)
        _plain_axes(panel)
    return _written(figure, path)


def performance_profile(
    datasets: "Mapping[str, xr.Dataset]", path: str | Path, title: str = "", variable: str = "evaluation_return"
) -> Path:
    """Draws the share of runs whose end lies above each value, with its 95 % bootstrap band (Agarwal et al. 2021).

    Args:
        datasets: {label: results without a sweep}.
        path: the picture to write.
        title: above it.
        variable: what to draw.
    """
    from matplotlib.figure import Figure

    ends = {}
    for label, dataset in datasets.items():
        for swept, curve in results.configurations(dataset[[variable]]):
            settings = ", ".join(f"{name}={value}" for name, value in swept.items())
            ends[", ".join(filter(None, (label, settings)))] = np.asarray(curve[variable].isel(env_step=-1).values)
    if not ends:
        raise InputError("there are no results to draw.")
    everything = np.concatenate(list(ends.values()))
    span = np.ptp(everything) or 1.0
    thresholds = np.linspace(everything.min() - 0.02 * span, everything.max() + 0.02 * span, 201)
    figure = Figure(figsize=(7, 4.4 + 0.24 * len(ends)), layout="constrained")
    axes = figure.add_subplot()
    rng = np.random.default_rng(0)
    for i, (label, runs) in enumerate(ends.items()):
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]
        drawn = runs[rng.integers(len(runs), size=(1000, len(runs)))]
        low, high = np.quantile((drawn[..., None] > thresholds).mean(1), (0.025, 0.975), axis=0)
        axes.fill_between(thresholds, low, high, color=colour, alpha=0.2, linewidth=0, step="post")
        profile = statistics.performance_profile(runs, thresholds)
        axes.step(thresholds, profile, style, color=colour, where="post", label=f"{label} ({len(runs)} seeds)")
    axes.set_xlabel(f"{variable.replace('_', ' ')} τ", fontsize=12)
    axes.set_ylabel("share of runs above τ", fontsize=12)
    axes.set_ylim(-0.02, 1.02)
    axes.set_title(textwrap.fill(title, 60), loc="left", fontsize=13)
    _plain_axes(axes)
    figure.legend(loc="outside lower left", frameon=False, fontsize=11)
    return _written(figure, path)


def value_map(
    values: np.ndarray,
    path: str | Path,
    actions: np.ndarray | None = None,
    arrows: Sequence[tuple[int, int]] = ((-1, 0), (0, 1), (1, 0), (0, -1)),
    title: str = "",
) -> Path:
    """Draws the values of a grid world's cells as colours and numbers, and a policy as arrows.

    Args:
        values: f[H, W], NaN where there is no state (walls, for example).
        path: the picture to write.
        actions: i[H, W] the action in each cell, −1 where none is taken; None draws no arrows.
        arrows: (rows down, columns right) of each action; by default up, right, down, left.
        title: above it.
    """
    from matplotlib.figure import Figure

    height, width = np.shape(values)
    figure = Figure(figsize=(1.6 + 0.85 * width, 0.9 + 0.85 * height), layout="constrained")
    axes = figure.add_subplot()
    image = draw_values(axes, values, actions, arrows)
    axes.set_title(title, loc="left", fontsize=11)
    figure.colorbar(image, shrink=0.8).set_label("value")
    return _written(figure, path)


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
    values: np.ndarray, actions: np.ndarray, path: str | Path, names: Sequence[str] = (), title: str = ""
) -> Path:
    """Draws the value of every action along a trajectory, and marks the one that was taken.

    Args:
        values: f[T, A].
        actions: i[T] taken.
        path: the picture to write.
        names: of the actions; their numbers unless given.
        title: above it.
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
    return _written(figure, path)


def _plain_axes(axes: "Axes") -> None:
    axes.tick_params(labelsize=11, length=0)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#888888")


def _written(figure: "Figure", path: str | Path) -> Path:
    path = Path(path)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:  # ValueError: a suffix that matplotlib has no writer for
        raise InputError(f"cannot write the picture {path}: {error}") from error
    return path


def format_steps(value: float) -> str:
    """Writes a number of steps the short way: 500, 100k, 1.5M, 2B."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"
