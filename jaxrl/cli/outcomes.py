"""Commands about results that are there: plot, compare, export."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from envs.errors import InputError, unknown
from jaxrl.cli.printing import print_table


@dataclasses.dataclass(frozen=True)
class PlotOptions:
    """Draw the results of one or more runs or sweeps into one picture."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories."""
    kind: Literal["curves", "seeds", "profile", "heat", "slices"] = "curves"
    """Learning curves; curves of every seed; share of runs above each return; of one sweep: a heat map of two axes, or
    every run against each axis."""
    variable: str = "evaluation_return"
    """What is drawn."""
    statistic: Literal["iqm", "mean", "median"] = "iqm"
    """Over the seeds, for all runs of the picture and however many seeds they have."""
    out: Path = Path("curve.png")
    """The picture."""
    overwrite: bool = False
    """Replace a picture that is there."""
    title: str = ""
    """Its title."""


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Write the results of a run or sweep for other tools."""

    run: tyro.conf.Positional[Path]
    """The run directory."""
    out: tyro.conf.Positional[Path]
    """A .csv, .parquet or .json file (the last for marl-eval), or a directory: TensorBoard's event files, one writer
    for each seed."""
    overwrite: bool = False
    """Replace a file that is there; directories are never replaced."""
    wandb: str = ""
    """Project of Weights & Biases to log to instead, one run for each seed; `out` is then its local directory."""


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Compare two runs: the difference of their returns, its interval, and a verdict."""

    runs: tyro.conf.Positional[tuple[Path, Path]]
    """Two run directories, of the same environment."""
    statistic: Literal["iqm", "mean", "median"] = "iqm"
    """Over the seeds."""
    evaluation: str = "greedy"
    """Which of the runs' evaluations, where there are several (`jaxrl train --evaluations`)."""
    tolerance: float | None = None
    """Differences up to it do not matter: "the same" is said when the whole interval lies within it, and else never."""


def plot(options: PlotOptions) -> None:
    """`jaxrl plot RUN…`."""
    from jaxrl import outputs, plotting, results

    if not options.runs:
        raise InputError("plot needs at least one run directory.")
    out = outputs.check(options.out, options.overwrite)
    labels, common = describe(options.runs, [results.read_config(run) for run in options.runs])
    datasets = {label: results.load(run / "results.nc") for label, run in zip(labels, options.runs, strict=True)}
    if options.kind in ("heat", "slices") and len(datasets) != 1:
        raise InputError(f"--kind {options.kind} shows one sweep, not {len(datasets)}.")
    for label, dataset in datasets.items():
        if options.variable not in dataset:
            raise unknown(f"variable of {label}", options.variable, list(map(str, dataset.data_vars)))
    dataset, *_ = datasets.values()
    title, variable = options.title or common, options.variable
    statistic, overwrite = options.statistic, options.overwrite
    if options.kind == "heat":
        path = plotting.heat_map(dataset, out, title, variable, statistic=statistic, overwrite=overwrite)
    elif options.kind == "slices":
        path = plotting.slices(dataset, out, title, variable, statistic, overwrite)
    elif options.kind == "profile":
        path = plotting.performance_profile(datasets, out, title, variable, overwrite)
    elif options.kind == "seeds":
        path = plotting.seed_curves(datasets, out, title, variable, statistic, overwrite)
    else:
        path = plotting.learning_curve(datasets, out, title, variable, statistic, overwrite)
    print(path)


def export(options: ExportOptions) -> None:
    """`jaxrl export RUN OUT`."""
    from jaxrl import outputs, results, tables

    suffix = options.out.suffix
    if suffix not in ("", ".csv", ".parquet", ".json"):
        raise InputError(f"{options.out} is no .csv, .parquet or .json file, and no directory.")
    if suffix and not options.wandb:
        outputs.check(options.out, options.overwrite)
    config = results.read_config(options.run)
    dataset = results.load(options.run / "results.nc")
    if options.wandb:
        tables.to_wandb(dataset, options.wandb, options.out, config)
    elif suffix == ".csv":
        tables.to_csv(dataset, options.out, options.overwrite)
    elif suffix == ".parquet":
        tables.to_parquet(dataset, options.out, options.overwrite)
    elif suffix == ".json":
        algorithm, task = str(config.get("agent")), str(config.get("env"))
        tables.to_marl_eval({algorithm: dataset}, options.out, "jaxrl", task, overwrite=options.overwrite)
    else:
        tables.to_tensorboard(dataset, options.out)
    print(options.out)


def compare(options: CompareOptions) -> None:
    """`jaxrl compare RUN RUN`."""
    from jaxrl import plotting, results, statistics

    configs = [results.read_config(run) for run in options.runs]
    names, common = describe(options.runs, configs)
    curves = []
    for run, config in zip(options.runs, configs, strict=True):
        returns = results.of_evaluation(results.load(run / "results.nc")[["evaluation_return"]], options.evaluation)
        parts = results.configurations(returns)
        if len(parts) != 1:
            raise InputError(f"{run} is a sweep of {len(parts)} configurations: `jaxrl plot` shows it.")
        curves.append((config.get("env"), config.get("env_options"), parts[0][1]))
    if curves[0][:2] != curves[1][:2]:
        raise InputError(f"the runs are of different environments: {curves[0][:2]} and {curves[1][:2]}.")
    ends = [int(curve["env_step"][-1]) for *_, curve in curves]
    until = min(ends)
    rows, reasons = [], []
    for what in ("last evaluation", "mean over the run"):
        values = []
        for name, (*_, curve) in zip(names, curves, strict=True):
            part = curve.isel(env_step=curve["env_step"].values <= until)
            if part.sizes["env_step"] == 0:
                raise InputError(f"{name} has no evaluation within the {until:,} steps of the other run.")
            steps, returns = part["env_step"].values, part["evaluation_return"].transpose("seed", "env_step").values
            values.append(returns[:, -1] if what == "last evaluation" else statistics.area_under_curve(steps, returns))
            lost = [str(seed) for seed in part["seed"].values[~np.isfinite(values[-1])]]
            if lost:
                reasons.append(f"{what}, {name}: not finite for seed {', '.join(lost)}")
        statistic = plotting.STATISTICS[options.statistic]
        found = statistics.compare(values[0], values[1], statistic, tolerance=options.tolerance)
        interval = "no interval" if np.isnan(found.low) else f"{found.low:.4g} – {found.high:.4g}"
        rows.append(
            (
                what,
                *(_with_interval(v, statistic) for v in values),
                f"{found.difference:.4g} ({interval})",
                f"{found.improvement:.2f}",
                found.verdict,
            )
        )
        if found.reason:
            reasons.append(f"{what}: {found.verdict}, for {found.reason}")
    header = ("evaluation return", *names, "difference (95 %)", "P(first is better)", "the first is")
    print_table(f"{plotting.NAMES[options.statistic]} over seeds with its 95 % interval, {common}", header, rows)
    if ends[0] != ends[1]:
        print(f"the first ran for {ends[0]:,} steps and the second for {ends[1]:,}: compared are the first {until:,}")
    for line in reasons:
        print(line)


def _with_interval(values: np.ndarray, statistic: Any) -> str:
    from jaxrl import statistics

    low, high = statistics.stratified_bootstrap(values, statistic)
    count = f"{len(values)} {'seed' if len(values) == 1 else 'seeds'}"
    return f"{statistic(values):.4g}" + (f" ({count})" if np.isnan(low) else f" ({low:.4g} – {high:.4g}, {count})")


# ------------------------------------------------------------------------------------------------- what runs are called

SETTINGS = ("env_options", "config", "hp")  # entries of config.json that hold settings by name
PLAIN = ("env_steps", "steps", "num_evals", "evals", "eval_episodes", "seeds")


def describe(runs: Sequence[Path], configs: Sequence[Mapping[str, Any]]) -> tuple[list[str], str]:
    """Names runs by what differs between them.

    The agent and the environment where they differ, then the settings that differ between the runs of one agent in one
    environment, and, where that is not enough, the part of their paths that differs.

    Args:
        runs: their directories.
        configs: their config.json.

    Returns:
        (a different name for each, what they have in common).

    Raises:
        InputError: a directory is named twice.
    """
    places = [run.resolve() for run in runs]
    for place, run in zip(places, runs, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{run} is named twice.")
    pairs = [(str(config.get("agent")), str(config.get("env"))) for config in configs]
    settings = [_settings(config) for config in configs]
    names, common = [], [pairs[0][kind] for kind in (0, 1) if len({pair[kind] for pair in pairs}) == 1]
    for pair, own in zip(pairs, settings, strict=True):
        alike = [other for other_pair, other in zip(pairs, settings, strict=True) if other_pair == pair]
        parts = [part for kind, part in enumerate(pair) if len({other[kind] for other in pairs}) > 1]
        differing = [name for name in dict.fromkeys(n for other in alike for n in other) if _differs(name, alike)]
        parts += [f"{name}={own.get(name, 'none')}" for name in differing[:MOST_SETTINGS]]
        names.append(", ".join(parts))
    for name in set(names):
        same = [index for index, other in enumerate(names) if other == name]
        if len(same) > 1:
            for index, part in zip(same, _apart([places[index] for index in same]), strict=True):
                names[index] = f"{name} ({part})" if name else part
    return [name or pairs[0][0] for name in names], " ".join(common)


MOST_SETTINGS = 4  # in a name; what differs beyond is left to the paths


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    """What config.json says about a run, by the names of the flags."""
    found = {}
    for group in SETTINGS:
        entries = config.get(group)
        for name, value in entries.items() if isinstance(entries, Mapping) else ():
            if (group, name) != ("hp", "total_steps"):  # follows from env_steps
                found[f"{'env' if group == 'env_options' else group}.{name}"] = _short(value)
    found |= {name.replace("env_steps", "steps"): _short(config[name]) for name in PLAIN if name in config}
    return found


def _short(value: Any) -> str:
    """A setting in few letters: numbers in a row of which each is the next are written as their ends."""
    whole = isinstance(value, list) and len(value) > 1 and all(isinstance(x, int) for x in value)
    if whole and value == list(range(value[0], value[0] + len(value))):
        return f"{value[0]}–{value[-1]}"
    if isinstance(value, float):
        return f"{value:g}"
    return str(tuple(value)) if isinstance(value, list) else str(value)


def _differs(name: str, settings: Sequence[Mapping[str, str]]) -> bool:
    return len({own.get(name) for own in settings}) > 1


def _apart(places: Sequence[Path]) -> list[str]:
    """The parts of paths that tell them apart: without what all of them begin and end with."""
    parts = [list(place.parts) for place in places]
    while all(parts) and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    while all(parts) and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    return ["/".join(part) or "." for part in parts]
