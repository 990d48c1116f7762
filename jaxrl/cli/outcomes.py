"""Commands about results that are there: plot, compare, export."""

import dataclasses
from pathlib import Path
from typing import Literal

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
    out: Path = Path("curve.png")
    """The picture."""
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
    wandb: str = ""
    """Project of Weights & Biases to log to instead, one run for each seed; `out` is then its local directory."""


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Compare two runs: the difference of their returns, its interval, and a verdict."""

    runs: tyro.conf.Positional[tuple[Path, Path]]
    """Two run directories, of the same environment."""
    statistic: Literal["iqm", "mean", "median"] = "iqm"
    """Over the seeds."""


def plot(options: PlotOptions) -> None:
    """`jaxrl plot RUN…`."""
    from jaxrl import plotting, results

    if not options.runs:
        raise InputError("plot needs at least one run directory.")
    datasets = {}
    for run in options.runs:
        config = results.read_config(run)
        label = f"{config.get('agent')} {config.get('env')}"
        datasets[label if label not in datasets else f"{label} ({run.name})"] = results.load(run / "results.nc")
    if options.kind in ("heat", "slices") and len(datasets) != 1:
        raise InputError(f"--kind {options.kind} shows one sweep, not {len(datasets)}.")
    for label, dataset in datasets.items():
        if options.variable not in dataset:
            raise unknown(f"variable of {label}", options.variable, list(map(str, dataset.data_vars)))
    (label, dataset), *_ = datasets.items()
    out, title, variable = options.out, options.title, options.variable
    if options.kind == "heat":
        path = plotting.heat_map(dataset, out, title or label, variable)
    elif options.kind == "slices":
        path = plotting.slices(dataset, out, title or label, variable)
    elif options.kind == "profile":
        path = plotting.performance_profile(datasets, out, title, variable)
    else:
        path = plotting.learning_curve(datasets, out, title, variable, every_seed=options.kind == "seeds")
    print(path)


def export(options: ExportOptions) -> None:
    """`jaxrl export RUN OUT`."""
    from jaxrl import results, tables

    config = results.read_config(options.run)
    dataset = results.load(options.run / "results.nc")
    suffix = options.out.suffix
    if options.wandb:
        tables.to_wandb(dataset, options.wandb, options.out, config)
    elif suffix == ".csv":
        tables.to_csv(dataset, options.out)
    elif suffix == ".parquet":
        tables.to_parquet(dataset, options.out)
    elif suffix == ".json":
        tables.to_marl_eval({str(config.get("agent")): dataset}, options.out, "jaxrl", str(config.get("env")))
    elif not suffix:
        tables.to_tensorboard(dataset, options.out)
    else:
        raise InputError(f"{options.out} is no .csv, .parquet or .json file, and no directory.")
    print(options.out)


def compare(options: CompareOptions) -> None:
    """`jaxrl compare RUN RUN`."""
    from jaxrl import results, statistics

    names, curves = [], []
    for run in options.runs:
        config = results.read_config(run)
        names.append(f"{config.get('agent')} ({run.name})")
        parts = results.configurations(results.load(run / "results.nc"))
        if len(parts) != 1:
            raise InputError(f"{run} is a sweep of {len(parts)} configurations: `jaxrl plot` shows it.")
        curves.append((config.get("env"), config.get("env_options"), parts[0][1]))
    if curves[0][:2] != curves[1][:2]:
        raise InputError(f"the runs are of different environments: {curves[0][:2]} and {curves[1][:2]}.")
    statistic = {"iqm": statistics.iqm, "mean": statistics.mean, "median": statistics.median}[options.statistic]
    rows = []
    for what in ("last evaluation", "mean over the run"):
        values = []
        for _, _, curve in curves:
            steps, returns = curve["env_step"].values, curve["evaluation_return"].transpose("seed", "env_step").values
            last = what == "last evaluation"
            values.append(returns[:, -1] if last else statistics.area_under_curve(steps, returns))
        found = statistics.compare(values[0], values[1], statistic)
        rows.append(
            (
                what,
                *(f"{statistic(v):.4g} ({len(v)} seeds)" for v in values),
                f"{found.difference:.4g} ({found.low:.4g} – {found.high:.4g})",
                f"{found.improvement:.2f}",
                found.verdict,
            )
        )
    header = ("evaluation return", *names, "difference (95 %)", "P(first is better)", "the first is")
    print_table(f"{options.statistic} over seeds, {curves[0][0]}", header, rows)
