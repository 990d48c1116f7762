"""Commands about the framework itself: parity, reproduce, bench, list."""

import dataclasses
import sys
from pathlib import Path
from typing import Literal

import tyro

import envs
from envs.errors import InputError, unknown
from jaxrl import agents
from jaxrl.cache import use_cache
from jaxrl.cli.printing import print_table


@dataclasses.dataclass(frozen=True)
class ReproduceOptions:
    """Run studies of experiments/ and compare what they measure with the published numbers."""

    studies: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of studies."""
    all: bool = False
    """All of them; with --quick those that have a form of seconds or minutes."""
    quick: bool = False
    """Fewer runs or steps; only prints. The full form replaces experiments/results/STUDY/."""
    cache: bool = True
    """Keep XLA's compiled programs in the user's cache directory for the next start."""


@dataclasses.dataclass(frozen=True)
class ParityOptions:
    """Compare an environment step by step with the implementation that it follows."""

    env: tyro.conf.Positional[str]
    """Name of the environment."""
    samples: int = 10_000
    """States and actions to inject."""
    episodes: int | None = None
    """Whole episodes of the original; as many as are cheap there unless given."""
    seed: int = 0
    """Seed of the samples."""


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """List what there is."""

    what: tyro.conf.Positional[str] = "agents"
    """envs or agents."""


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """Measure speeds beside the peers that are installed (extra `bench`); results go to benchmarks/results/."""

    suites: tyro.conf.Positional[tuple[Literal["stepping", "training", "startup", "replay", "operations"], ...]] = ()
    """Which; all of them unless given."""
    page: bool = False
    """Only make docs/performance.md anew from the results that are there."""


def parity(options: ParityOptions) -> None:
    """`jaxrl parity ENV`."""
    from envs.interop.parity import parity as compare
    from envs.interop.parity import table

    report = compare(options.env, options.samples, options.seed, options.episodes)
    header, *rows = table(report)
    print_table(f"{report.name} against {report.reference}", header, rows)
    if not report.passed:
        raise InputError(f"{report.name} differs from {report.reference}.")


def reproduce(options: ReproduceOptions) -> None:
    """`jaxrl reproduce STUDY… | --all`."""
    from jaxrl import reproduce as published
    from jaxrl.placement import use_all_cores

    if options.cache:
        use_cache()
    use_all_cores()
    directory = published.experiments()
    names = list(options.studies)
    if options.all:
        names = [
            name
            for name in published.studies(directory)
            if not options.quick or getattr(published.load(directory, name), "QUICK", False)
        ]
    if not names:
        raise InputError(f"name a study or give --all. Studies: {', '.join(published.studies(directory))}.")
    verdicts = []
    for name in names:
        print(f"{name} …", flush=True)
        command = ["jaxrl", "reproduce", name]
        verdicts += published.reproduce(name, quick=options.quick, command=command)
    rows = [
        (
            verdict.reference.id,
            verdict.reference.claim,
            f"{verdict.reference.value:g} ± {verdict.reference.tolerance:g} "
            f"({verdict.reference.compare}, {verdict.reference.origin})",
            f"{verdict.value:.5g} ({verdict.low:.5g} – {verdict.high:.5g}), {verdict.reference.statistic}"
            if verdict.runs > 1
            else f"{verdict.value:.6g}",
            str(verdict.runs),
            verdict.word,
        )
        for verdict in verdicts
    ]
    print_table("", ("id", "claim", "reference", "ours (95 % interval)", "runs", "verdict"), rows)


def bench(options: BenchOptions) -> None:
    """`jaxrl bench [SUITE…]`."""
    import subprocess

    import jaxrl

    checkout = Path(jaxrl.__file__).parents[1]
    if not (checkout / "benchmarks" / "page.py").exists():
        raise InputError("no benchmarks/ beside the package: `jaxrl bench` needs a checkout of the repository.")
    suites = () if options.page else options.suites or ("stepping", "training", "startup", "replay", "operations")
    for name in (*suites, "page"):
        print(f"{name} …", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=checkout, check=True)


def list_names(options: ListOptions) -> None:
    """`jaxrl list envs|agents`."""
    if options.what == "envs":
        rows = []
        for name in envs.names():
            env, _ = envs.make(name)
            rows.append((name, str(env.observation_space), str(env.action_space), str(env.max_steps or "none")))
        print_table("", ("environment", "observations", "actions", "time limit"), rows)
    elif options.what == "agents":
        rows = [(name, (agents.get(name).__doc__ or "").split("\n", 1)[0]) for name in agents.names()]
        print_table("", ("agent", "what it is"), rows)
    else:
        raise unknown("list", options.what, ("envs", "agents"))
