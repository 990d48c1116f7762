"""Pictures of results. Figures are made with matplotlib's objects (Agg): no display, no global state of pyplot."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from envs.errors import InputError
from jaxrl import results, statistics

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

FEW_SEEDS = 10  # below it a bootstrap interval says little, and every run can be shown instead
# Okabe and Ito's colours, which remain distinct for the colour-blind; then line styles take over
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")


def learning_curve(
    datasets: "Mapping[str, xr.Dataset]",
    path: str | Path,
    title: str = "",
    variable: str = "evaluation_return",
) -> Path:
    """Draws one curve for each dataset, and for each configuration of a sweep, against environment steps.

    With 10 seeds or more: the interquartile mean and its 95 % stratified-bootstrap band. With fewer: the mean, and
    every seed as a thin line.

    Args:
        datasets: {label: what `results.curves` or `results.load` returned}.
        path: the picture to write; its suffix is the format (png, pdf, svg).
        title: above the axes.
        variable: what to draw.

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
        for swept, curve in results.configurations(dataset):
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
            _draw(axes, label, curve, variable, COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)])
        )
    first = lines[0][1]
    name = variable.replace("_", " ")
    units = first[variable].attrs.get("units", "")
    axes.set_xlabel("environment steps", fontsize=12)
    axes.set_ylabel(name if units in ("", "1", "return") else f"{name} ({units})", fontsize=12)
    axes.set_title(textwrap.fill(title, 68), loc="left", fontsize=13, pad=10)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_steps(value)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(labelsize=11, length=0)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#888888")
    legend = figure.legend(loc="outside lower left", frameon=False, fontsize=11, alignment="left")
    legend.set_title("\n".join(sorted(drawn)), prop=FontProperties(size=10))
    path = Path(path)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:  # ValueError: a suffix that matplotlib has no writer for
        raise InputError(f"cannot write the picture {path}: {error}") from error
    return path


def _draw(axes: "Axes", label: str, curve: "xr.Dataset", variable: str, colour: str, style: str) -> str:
    """Draws the runs of one configuration; returns what the line and its surroundings are, for the legend."""
    steps = curve["env_step"].values
    runs = curve[variable].transpose("seed", "env_step").values.astype(np.float64)
    marker = "o" if len(steps) == 1 else None
    count = len(runs)
    label = f"{label} ({count} {'seed' if count == 1 else 'seeds'})"
    if count < FEW_SEEDS:
        if count > 1:
            axes.plot(steps, runs.T, color=colour, linewidth=0.8, alpha=0.35, marker=marker, markersize=3)
        axes.plot(steps, runs.mean(0), style, color=colour, linewidth=2.2, label=label, marker=marker)
        return "line: mean, thin: seeds" if count > 1 else "line: the only seed"
    low, high = statistics.bootstrap_curve(runs.T)
    axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(steps, statistics.iqm(runs, axis=0), style, color=colour, linewidth=2.2, label=label, marker=marker)
    if marker:
        axes.vlines(steps, low, high, color=colour, linewidth=2.2)
    return "line: IQM, band: 95 % interval"


def format_steps(value: float) -> str:
    """Writes a number of steps the short way: 500, 100k, 1.5M, 2B."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"
