"""The command line: `jaxrl train AGENT ENV`, `jaxrl resume RUN`, `jaxrl --help`.

Every field of the agent's Config and Hyperparams and of the environment is a flag. Bad input ends with one message and
exit status 2; JAXRL_TRACEBACK=1 shows where it was found. XLA's compiled programs are cached in the user's cache
directory; --no-cache or JAXRL_CACHE=off switches that off, JAXRL_CACHE=DIR moves it.
"""

import argparse
import ast
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

import envs
from envs.errors import InputError, unknown
from jaxrl import agents

# jaxrl.driver, results and the rest are imported inside the commands: `jaxrl list` should not wait for a backend.

MOST_NUMBERS = 32  # a parameter of the environment with more of them (a map) is set from Python, not by a flag


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Flags of `jaxrl train`."""

    seeds: int = 1
    """How many runs; they train side by side in one program."""
    first_seed: int = 0
    """Seed of the first run; the others count up from it."""
    steps: int = 500_000
    """Environment steps of each run, at most."""
    evals: int = 20
    """Evaluations (each with a checkpoint) per run."""
    eval_episodes: int = 32
    """Whole episodes per evaluation; the same initial states every time."""
    evaluations: tuple[str, ...] = ()
    """What is evaluated beside the greedy policy: sampling (the policy that explores), own_reward (without wrappers
    that change the reward), test (levels that training does not see)."""
    out: Path | None = None
    """Run directory; runs/AGENT-ENV-TIME unless given. One that is in use is never overwritten."""
    cache: bool = True
    """Keep XLA's compiled programs in the user's cache directory for the next start."""


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Flags of `jaxrl sweep`."""

    grid: Annotated[list[str], tyro.conf.UseAppendAction] = dataclasses.field(default_factory=list)
    """AXIS=VALUE,VALUE…, once for each axis: hp.FIELD, config.FIELD or env.FIELD. Every combination is trained."""
    search: Annotated[list[str], tyro.conf.UseAppendAction] = dataclasses.field(default_factory=list)
    """AXIS=LOW:HIGH, AXIS=log:LOW:HIGH or AXIS=VALUE,VALUE…, in place of --grid: --trials of them are drawn."""
    trials: int = 32
    """Draws of a --search."""
    sampler: Literal["sobol", "random"] = "sobol"
    """How a --search draws: evenly spread or independent."""
    seeds: int = 8
    """Runs for each combination."""
    steps: int = 500_000
    """Environment steps of each run, at most."""
    evals: int = 10
    """Evaluations per run."""
    eval_episodes: int = 32
    """Whole episodes per evaluation; the same initial states in every run."""
    evaluations: tuple[str, ...] = ()
    """What is evaluated beside the greedy policy: sampling, own_reward, test; as in `jaxrl train`."""
    out: Path | None = None
    """Directory of the results; runs/sweep-AGENT-ENV-TIME unless given. One that is in use is never overwritten."""
    share: str = ""
    """I/N: do every N-th chunk from the I-th (0 …) on, beside N − 1 other processes with the same --out."""
    coordinator: str = ""
    """HOST:PORT of process 0: joins the N processes of --share by jax.distributed, so that each waits for the rest."""
    cache: bool = True
    """Keep XLA's compiled programs in the user's cache directory for the next start."""


@dataclasses.dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run or a sweep that was interrupted: a run bitwise as if it never had been."""

    run: tyro.conf.Positional[Path]
    """The run directory."""
    cache: bool = True
    """Keep XLA's compiled programs in the user's cache directory for the next start."""


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate the greedy policies of a run, every seed's, by whole episodes."""

    run: tyro.conf.Positional[Path]
    """The run directory."""
    episodes: int = 100
    """Whole episodes for each seed."""
    gymnasium: bool = False
    """Also play the same weights, run by NumPy alone, in Gymnasium's own environment."""
    evaluations: tuple[str, ...] = ()
    """What is evaluated beside the greedy policy: sampling, own_reward, test; as in `jaxrl train`."""
    cache: bool = True
    """Keep XLA's compiled programs in the user's cache directory for the next start."""


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


@dataclasses.dataclass(frozen=True)
class RenderOptions:
    """Film an episode of a trained policy."""

    run: tyro.conf.Positional[Path]
    """The run directory."""
    out: Path | None = None
    """A .gif or .mp4 file (.mp4 needs ffmpeg); RUN/episode.gif unless given."""
    seed: int | None = None
    """Seed of the run whose policy plays; the run's first unless given."""
    episode: int = 0
    """Seed of the episode's initial state."""
    fps: int = 30
    """Frames per second."""


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


def train(agent: str, env: str, argv: list[str]) -> None:
    """`jaxrl train AGENT ENV`."""
    options, config, hp, env_options = _parse(TrainOptions, "train", agent, env, argv)
    _use_cache(options.cache)
    from jaxrl import results, runs
    from jaxrl.placement import use_all_cores

    _require(options, "seeds", "steps", "evals", "eval_episodes")
    if options.first_seed < 0:
        raise InputError(f"--first-seed {options.first_seed} must not be negative.")
    seeds = tuple(range(options.first_seed, options.first_seed + options.seeds))
    sizes = (options.evals, options.eval_episodes, options.evaluations)
    spec = runs.Spec(agent, env, seeds, options.steps, config, hp, env_options, *sizes)
    use_all_cores(options.seeds, envs.make(env, **env_options)[0].observation_space)
    directory = options.out or _new_directory(f"{agent}-{env}")
    out = runs.train(spec, directory, command=["jaxrl", "train", agent, env, *argv])
    _print_outcome(f"{agent} on {env}", results.summary(out.results), out.cost, directory, options.steps)


def resume(options: ResumeOptions) -> None:
    """`jaxrl resume RUN`."""
    _use_cache(options.cache)
    from jaxrl import results, runs
    from jaxrl.placement import use_all_cores

    command = results.read_config(options.run).get("command") or []
    if command[:2] == ["jaxrl", "sweep"]:
        agent, env, *argv = command[2:]
        swept, config, hp, env_options = _parse(SweepOptions, "sweep", agent, env, argv)
        alone = dataclasses.replace(swept, out=options.run, share="", coordinator="")
        _sweep(alone, agent, env, argv, config, hp, env_options, resume=True)
        return
    spec = runs.read_spec(options.run)
    use_all_cores(len(spec.seeds), envs.make(spec.env, **spec.env_options)[0].observation_space)
    out = runs.train(spec, options.run, resume=True)
    _print_outcome(f"{spec.agent} on {spec.env}", results.summary(out.results), out.cost, options.run, spec.env_steps)


def sweep(agent: str, env: str, argv: list[str]) -> None:
    """`jaxrl sweep AGENT ENV --grid AXIS=VALUES`."""
    _join(argv)
    options, config, hp, env_options = _parse(SweepOptions, "sweep", agent, env, argv)
    _use_cache(options.cache)
    _sweep(options, agent, env, argv, config, hp, env_options)


def _sweep(
    options: SweepOptions,
    agent: str,
    env: str,
    argv: list[str],
    config: Any,
    hp: Any,
    env_options: dict[str, Any],
    resume: bool = False,
) -> None:
    import jaxrl
    from jaxrl import evaluations, plotting, results
    from jaxrl.sweep import combinations, plan, sample

    _require(options, "seeds", "steps", "evals", "eval_episodes", "trials")
    grid, space = dict(map(_axis, options.grid)), dict(map(_space, options.search))
    if len(grid) != len(options.grid) or len(space) != len(options.search):
        raise InputError("--grid or --search names an axis twice.")
    if grid and space:
        raise InputError("--grid and --search do not go together; --search takes lists of values, too.")
    trials = sample(space, options.trials, options.sampler) if space else None
    share = _share(options.share)
    if share and options.out is None:
        raise InputError("--share needs the --out that the processes have in common.")
    jaxrl.use_all_cores()
    made, params = envs.make(env, **env_options)
    wanted = combinations(grid) if trials is None else trials
    for program in plan(agents.get(agent), made, params, config, hp, wanted, options.steps, options.evals):
        evaluations.add(program.agent, options.evaluations, program.env_params)
    directory = options.out or _new_directory(f"sweep-{agent}-{env}")
    if share is None and not resume:
        results.create_run_directory(directory)
    directory.mkdir(parents=True, exist_ok=True)  # whichever process comes first
    if not (directory / results.CONFIG_FILE).exists():
        settings = {"agent": agent, "env": env, "env_options": env_options, "grid": grid, "config": config, "hp": hp}
        results.write_config(
            directory, settings | dataclasses.asdict(options) | {"command": ["jaxrl", "sweep", agent, env, *argv]}
        )

    def run() -> Any:
        return jaxrl.sweep(
            agent,
            made,
            params,
            env_steps=options.steps,
            seeds=options.seeds,
            grid=None if trials else grid,
            trials=trials,
            config=config,
            hp=hp,
            num_evals=options.evals,
            eval_episodes=options.eval_episodes,
            directory=directory,
            share=share,
            prepare=lambda agent: evaluations.add(agent, options.evaluations),
            report=lambda line: print(line, file=sys.stderr),
        )

    dataset = run()
    if options.coordinator:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("chunks")  # every process has done its share
        dataset = run() if share and share[0] == 0 else None
    if dataset is None:
        return
    results.save(dataset, directory / "results.nc")
    plotting.learning_curve({agent: dataset}, directory / "curve.png", title=env)
    _print_outcome(f"{agent} on {env}", results.summary(dataset), None, directory, options.steps)


def evaluate(options: EvaluateOptions) -> None:
    """`jaxrl evaluate RUN`."""
    _use_cache(options.cache)
    import jax

    from jaxrl import evaluations, runs
    from jaxrl.evaluate import evaluate as play
    from jaxrl.placement import map_runs, use_all_cores

    _require(options, "episodes")
    use_all_cores()
    spec = runs.read_spec(options.run)
    agent, env_params = spec.build()
    wanted = evaluations.add(agent._replace(evaluations=()), options.evaluations, env_params).evaluations
    agent, state, _ = runs.restore(spec, options.run)
    # Other starts than in the evaluations during training, and others for every run: the episodes are independent.
    keys = jax.random.split(jax.random.key(2**31 - 2), len(spec.seeds))
    greedy = map_runs(lambda s, key: play(agent.env, s.env_params, agent.policy(s), key, options.episodes))
    ours = np.asarray(jax.jit(greedy)(state, keys).returns, np.float64)
    others = {}
    for other in wanted:

        def one_run(s: Any, key: Any, other: Any = other) -> Any:
            return play(other.env, other.params(s, ()), other.policy(s, ()), key, options.episodes)

        others[other.name] = np.asarray(jax.jit(map_runs(one_run))(state, keys).returns, np.float64)
    theirs = None
    if options.gymnasium:
        from jaxrl import gymnasium_check

        theirs = gymnasium_check.returns(spec, options.run, options.episodes)
    _print_evaluation(spec, ours, theirs, others)


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
    _print_table(f"{options.statistic} over seeds, {curves[0][0]}", header, rows)


def render(options: RenderOptions) -> None:
    """`jaxrl render RUN`."""
    from jaxrl import film, runs

    spec = runs.read_spec(options.run)
    seed = spec.seeds[0] if options.seed is None else options.seed
    if seed not in spec.seeds:
        raise InputError(f"{options.run} has no run of seed {seed}; its seeds: {', '.join(map(str, spec.seeds))}.")
    agent, state, _ = runs.restore(spec, options.run)
    frames, episode_return = film.episode(agent, state, spec.seeds.index(seed), options.episode)
    path = film.write(frames, options.out or options.run / "episode.gif", options.fps)
    print(f"{path}: {len(frames)} frames, return {episode_return:g}")


def parity(options: ParityOptions) -> None:
    """`jaxrl parity ENV`."""
    from envs.interop.parity import parity as compare
    from envs.interop.parity import table

    _require(options, "samples")
    report = compare(options.env, options.samples, options.seed, options.episodes)
    header, *rows = table(report)
    _print_table(f"{report.name} against {report.reference}", header, rows)
    if not report.passed:
        raise InputError(f"{report.name} differs from {report.reference}.")


def list_names(options: ListOptions) -> None:
    """`jaxrl list envs|agents`."""
    if options.what == "envs":
        rows = []
        for name in envs.names():
            env, _ = envs.make(name)
            rows.append((name, str(env.observation_space), str(env.action_space), str(env.max_steps or "none")))
        _print_table("", ("environment", "observations", "actions", "time limit"), rows)
    elif options.what == "agents":
        rows = [(name, (agents.get(name).__doc__ or "").split("\n", 1)[0]) for name in agents.NAMES]
        _print_table("", ("agent", "what it is"), rows)
    else:
        raise unknown("list", options.what, ("envs", "agents"))


def reproduce(options: ReproduceOptions) -> None:
    """`jaxrl reproduce STUDY… | --all`."""
    from jaxrl import reproduce as published
    from jaxrl.placement import use_all_cores

    _use_cache(options.cache)
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
            f"{verdict.reference.value:g} ± {verdict.reference.tolerance:g} ({verdict.reference.compare})",
            f"{verdict.value:.5g} ({verdict.low:.5g} – {verdict.high:.5g})"
            if verdict.runs > 1
            else f"{verdict.value:.6g}",
            str(verdict.runs),
            verdict.word,
        )
        for verdict in verdicts
    ]
    _print_table("", ("id", "claim", "published", "ours (95 % interval)", "runs", "verdict"), rows)


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """Measure speeds beside the peers that are installed (extra `bench`); results go to benchmarks/results/."""

    suites: tyro.conf.Positional[tuple[Literal["stepping", "training", "startup", "replay", "operations"], ...]] = ()
    """Which; all of them unless given."""
    page: bool = False
    """Only make docs/performance.md anew from the results that are there."""


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


# command -> (options, what runs it)
_PLAIN: dict[str, tuple[type, Callable[[Any], None]]] = {
    "resume": (ResumeOptions, resume),
    "evaluate": (EvaluateOptions, evaluate),
    "plot": (PlotOptions, plot),
    "compare": (CompareOptions, compare),
    "export": (ExportOptions, export),
    "render": (RenderOptions, render),
    "parity": (ParityOptions, parity),
    "reproduce": (ReproduceOptions, reproduce),
    "bench": (BenchOptions, bench),
    "list": (ListOptions, list_names),
}
_BOUND: dict[str, Callable[[str, str, list[str]], None]] = {"train": train, "sweep": sweep}

_USAGE = """usage: jaxrl COMMAND …

  train AGENT ENV [flags]   train one run per seed, all in one compiled program
  sweep AGENT ENV --grid …  train every combination of a grid, or drawn ones (--search), with every seed
  resume RUN                go on with an interrupted run or sweep
  evaluate RUN              evaluate a trained run, also in the real Gymnasium
  plot RUN…                 draw learning curves, profiles, or a sweep's heat map
  compare RUN RUN           the difference of two runs, with its interval
  export RUN OUT            results as CSV, Parquet, marl-eval's JSON, TensorBoard or Weights & Biases
  render RUN                film an episode
  parity ENV                compare an environment with its original, step by step
  reproduce STUDY…|--all    run studies, and compare them with the published numbers
  bench [SUITE…]            measure speeds beside the peers
  list envs|agents          list what there is

`jaxrl COMMAND --help` lists the flags; for train and sweep `jaxrl train AGENT ENV --help`.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 1 for an unexpected failure, 2 for bad input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    from jaxrl.driver import NonFiniteError

    try:
        _dispatch(arguments)
    except (InputError, NonFiniteError) as error:
        if os.environ.get("JAXRL_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; `jaxrl resume RUN` goes on from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, end="")
        return
    command, rest = arguments[0], arguments[1:]
    if command in _PLAIN:
        options, run = _PLAIN[command]
        run(tyro.cli(options, args=rest, prog=f"jaxrl {command}"))
    elif command in _BOUND:
        names = rest[:2]
        if len(names) < 2 or any(name.startswith("-") for name in names):
            raise InputError(
                f"usage: jaxrl {command} AGENT ENV [flags]. Agents: {', '.join(agents.NAMES)}. "
                "Environments: `jaxrl list envs`."
            )
        _BOUND[command](names[0], names[1], rest[2:])
    else:
        raise unknown("command", command, [*_BOUND, *_PLAIN])


def _parse(kind: type, command: str, agent: str, env: str, argv: list[str]) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Parses the flags of a command about an agent and an environment.

    Returns:
        (options of type `kind`, Config, Hyperparams, the environment's fields that differ from its own).
    """
    module = agents.get(agent)
    made, params = envs.make(env)
    own = made.options()
    own |= {
        name: _as_tuples(np.asarray(value).tolist())
        for name, value in (params._asdict().items() if params else ())
        if np.size(value) <= MOST_NUMBERS
    }
    env_fields = [(name, _flag_type(value), dataclasses.field(default=value)) for name, value in own.items()]
    env_type = dataclasses.make_dataclass("EnvironmentFields", env_fields, frozen=True)
    combined = dataclasses.make_dataclass(
        kind.__name__,
        [
            ("options", tyro.conf.OmitArgPrefixes[kind], dataclasses.field(default_factory=kind)),
            ("hp", module.Hyperparams, dataclasses.field(default=module.Hyperparams())),
            ("config", module.Config, dataclasses.field(default=module.Config())),
            ("env", env_type, dataclasses.field(default_factory=env_type)),
        ],
    )
    parsed: Any = tyro.cli(combined, args=argv, prog=f"jaxrl {command} {agent} {env}", description=module.__doc__ or "")
    changed = {name: getattr(parsed.env, name) for name in own if getattr(parsed.env, name) != own[name]}
    return parsed.options, parsed.config, parsed.hp, changed


def _as_tuples(value: Any) -> Any:
    """Nested lists as nested tuples, which can be the default of a field."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _flag_type(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple[(*map(_flag_type, value),)]
    return int | None if value is None else type(value)


def _require(options: Any, *names: str) -> None:
    """Raises InputError unless the named options are at least 1."""
    for name in names:
        if getattr(options, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(options, name)} must be at least 1.")


def _axis(text: str) -> tuple[str, list[Any]]:
    """Reads `hp.gamma=0.9,0.99` as ("hp.gamma", [0.9, 0.99]): values are Python literals, anything else is text."""
    axis, equals, values = text.partition("=")
    if not equals or not values:
        raise InputError(f"--grid {text!r} is not AXIS=VALUE,VALUE…, such as hp.gamma=0.9,0.99.")
    try:
        parsed = list(ast.literal_eval(f"[{values}]"))
    except (ValueError, SyntaxError):
        parsed = [{"True": True, "False": False}.get(part, part) for part in values.split(",")]
    return axis, parsed


def _space(text: str) -> tuple[str, Any]:
    """Reads `hp.gamma=0.9:0.99`, `hp.learning_rate=log:1e-4:1e-2`, or an axis as `_axis` does."""
    from jaxrl.sweep import Range

    axis, equals, bounds = text.partition("=")
    if not equals or ":" not in bounds:
        return _axis(text)
    log = bounds.startswith("log:")
    try:
        low, high = map(float, bounds.removeprefix("log:").split(":"))
    except ValueError:
        raise InputError(f"--search {text!r} is not AXIS=LOW:HIGH or AXIS=log:LOW:HIGH.") from None
    return axis, Range(low, high, log)


def _share(text: str) -> tuple[int, int] | None:
    """Reads `1/4` as (1, 4)."""
    if not text:
        return None
    index, slash, count = text.partition("/")
    if not slash or not index.isdecimal() or not count.isdecimal() or int(index) >= int(count):
        raise InputError(f"--share {text!r} is not I/N with 0 ≤ I < N, such as 0/4.")
    return int(index), int(count)


def _join(argv: list[str]) -> None:
    """Joins the processes of --coordinator, if there is one: that must happen before anything else uses JAX."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--coordinator", default="")
    parser.add_argument("--share", default="")
    known, _ = parser.parse_known_args(argv)
    if not known.coordinator:
        return
    share = _share(known.share)
    if share is None:
        raise InputError("--coordinator needs --share I/N.")
    import jax

    jax.distributed.initialize(known.coordinator, share[1], share[0])


def _new_directory(name: str) -> Path:
    stem = re.sub(r"[^\w.-]", "_", name)
    return Path("runs") / f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"


def _use_cache(wanted: bool) -> None:
    """Switches on JAX's persistent compilation cache."""
    place = os.environ.get("JAXRL_CACHE", "")
    if not wanted or place.lower() in ("off", "0", "no"):
        return
    import jax

    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", place or str(home / "jaxrl" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, title=title or None, title_justify="left")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width of its own: give the table what it needs instead of folding it to 80 columns.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _print_outcome(title: str, rows: list[Any], cost: dict[str, Any] | None, directory: Path, steps: int) -> None:
    swept = list(rows[0].swept)
    header = [*swept, "env steps", "seeds", "IQM", "95 % interval", "mean ± std", "min", "max"]
    body = [
        [
            *(str(row.swept[name]) for name in swept),
            f"{row.env_step:,}",
            str(row.seeds),
            f"{row.iqm:.1f}",
            f"{row.low:.1f} – {row.high:.1f}",
            f"{row.mean:.1f}" + ("" if np.isnan(row.std) else f" ± {row.std:.1f}"),
            f"{row.min:.1f}",
            f"{row.max:.1f}",
        ]
        for row in rows
    ]
    _print_table(f"{title}: evaluation return", header, body)
    if rows[0].env_step < steps:
        print(f"{steps - rows[0].env_step:,} of {steps:,} steps were left out: they make no whole iteration")
    if cost:
        print(
            f"compile {cost['compile_s']:.1f} s, run {cost['run_s']:.1f} s, {cost['env_steps_per_s']:,} env steps/s, "
            f"peak memory {cost['peak_memory_bytes'] / 2**20:,.0f} MiB, {cost['devices']} × {cost['backend']}"
        )
    print(f"written to {directory}")


def _print_evaluation(spec: Any, ours: np.ndarray, theirs: np.ndarray | None, others: dict[str, np.ndarray]) -> None:
    """Tables of returns [seeds, episodes], ours, (or None) Gymnasium's, and of further evaluations by name."""
    from jaxrl import statistics

    header = ["seed", "mean return", "std of episodes"]
    rows = [[str(seed), f"{r.mean():.1f}", f"{r.std():.1f}"] for seed, r in zip(spec.seeds, ours, strict=True)]
    if theirs is not None:
        header += ["in Gymnasium", "std of episodes"]
        rows = [[*row, f"{r.mean():.1f}", f"{r.std():.1f}"] for row, r in zip(rows, theirs, strict=True)]
    for name, returns in others.items():
        header += [name, "std of episodes"]
        rows = [[*row, f"{r.mean():.1f}", f"{r.std():.1f}"] for row, r in zip(rows, returns, strict=True)]
    _print_table(f"{spec.agent} on {spec.env}: {ours.shape[1]} episodes for each seed", header, rows)
    if theirs is not None:
        # Episodes are the samples, policies the strata: the weights on both sides are the same.
        low, high = statistics.mean_difference(ours, theirs)
        verdict = "the same" if low <= 0 <= high else "different"
        print(
            f"ours {ours.mean():.2f}, Gymnasium {theirs.mean():.2f}, difference {ours.mean() - theirs.mean():.2f} "
            f"(95 % interval {low:.2f} to {high:.2f}): {verdict}"
        )


if __name__ == "__main__":
    sys.exit(main())
