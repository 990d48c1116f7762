"""Commands that train: train, sweep, resume."""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import envs
from envs.errors import InputError
from envs.values import Bounds
from jaxrl import agents
from jaxrl.cache import use_cache
from jaxrl.cli.flags import EvaluationNames, parse_axis, parse_flags, parse_space
from jaxrl.cli.printing import print_outcome
from jaxrl.train import Episodes, Evaluations, Steps

LARGEST = 2**32 - 1  # of a seed
Runs = Annotated[int, Bounds(1, 10**6)]  # side by side or one after the other


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Flags of `jaxrl train`."""

    seeds: Runs = 1
    """How many runs; they train side by side in one program."""
    first_seed: Annotated[int, Bounds(0, LARGEST)] = 0
    """Seed of the first run; the others count up from it."""
    steps: Steps = 500_000
    """Environment steps of each run, at most."""
    evals: Evaluations = 20
    """Evaluations (each with a checkpoint) per run."""
    eval_episodes: Episodes = 32
    """Whole episodes per evaluation; the same initial states every time."""
    evaluations: EvaluationNames = ()
    """What is evaluated beside the greedy policy: sampling (the policy that explores), own_reward (without wrappers
    that change the reward), test (levels that training does not see)."""
    keep_episodes: bool = False
    """Keep each evaluation episode in the results (evaluation_episode_return), beside their means."""
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """A run directory: begin with what its runs learnt, seed by seed, or all with its only one. Hyper-parameters and
    environment may differ, not agent, networks and spaces; schedules and all that counts begin anew."""
    out: Path | None = None
    """Run directory; runs/AGENT-ENV-TIME unless given. One that is in use is never overwritten."""
    imports: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules that register agents or environments of your own; kept with the run."""
    cache: bool = True
    """Keep XLA's compiled programs in the user's cache directory for the next start."""


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Flags of `jaxrl sweep`."""

    grid: Annotated[list[str], tyro.conf.UseAppendAction] = dataclasses.field(default_factory=list)
    """AXIS=VALUE,VALUE…, once for each axis: hp.FIELD, config.FIELD or env.FIELD. Every combination is trained."""
    search: Annotated[list[str], tyro.conf.UseAppendAction] = dataclasses.field(default_factory=list)
    """AXIS=LOW:HIGH, AXIS=log:LOW:HIGH or AXIS=VALUE,VALUE…, in place of --grid: --trials of them are drawn."""
    trials: Runs = 32
    """Draws of a --search."""
    sampler: Literal["sobol", "random"] = "sobol"
    """How a --search draws: evenly spread or independent."""
    seeds: Runs = 8
    """Runs for each combination."""
    steps: Steps = 500_000
    """Environment steps of each run, at most."""
    evals: Evaluations = 10
    """Evaluations per run."""
    eval_episodes: Episodes = 32
    """Whole episodes per evaluation; the same initial states in every run."""
    evaluations: EvaluationNames = ()
    """What is evaluated beside the greedy policy: sampling, own_reward, test; as in `jaxrl train`."""
    out: Path | None = None
    """Directory of the results; runs/sweep-AGENT-ENV-TIME unless given. One that is in use is never overwritten."""
    keep_episodes: bool = False
    """Keep each evaluation episode in the results (evaluation_episode_return), beside their means."""
    keep_policies: bool = False
    """Keep the policies of all runs, for `jaxrl evaluate` and `jaxrl render` with --trial."""
    share: str = ""
    """I/N: do every N-th chunk from the I-th (0 …) on, beside N − 1 other processes with the same --out."""
    coordinator: str = ""
    """HOST:PORT of process 0: joins the N processes of --share by jax.distributed, so that each waits for the rest."""
    imports: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules that register agents or environments of your own; kept with the run."""
    cache: bool = True
    """Keep XLA's compiled programs in the user's cache directory for the next start."""


@dataclasses.dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run or a sweep that was interrupted: a run bitwise as if it never had been."""

    run: tyro.conf.Positional[Path]
    """The run directory."""
    steps: Steps | None = None
    """A larger budget, to train a run for longer than it was begun with; its schedules then end with that."""
    checkpoint: int | None = None
    """Go on from this checkpoint (its number of evaluations) instead of the newest good one."""
    cache: bool = True
    """Keep XLA's compiled programs in the user's cache directory for the next start."""


def train(agent: str, env: str, argv: list[str]) -> None:
    """`jaxrl train AGENT ENV`."""
    options, config, hp, env_options = parse_flags(TrainOptions, "train", agent, env, argv)
    if options.cache:
        use_cache()
    from jaxrl import results, runs
    from jaxrl.placement import use_all_cores

    if options.first_seed + options.seeds - 1 > LARGEST:
        raise InputError(f"--first-seed {options.first_seed} --seeds {options.seeds}: seeds go up to {LARGEST}.")
    spec = runs.Spec(
        agent=agent,
        env=env,
        seeds=tuple(range(options.first_seed, options.first_seed + options.seeds)),
        env_steps=options.steps,
        config=config,
        hp=hp,
        env_options=env_options,
        num_evals=options.evals,
        eval_episodes=options.eval_episodes,
        evaluations=options.evaluations,
        keep_episodes=options.keep_episodes,
        imports=options.imports,
    )
    use_all_cores(options.seeds, envs.make(env, **env_options)[0].observation_space)
    command = ["jaxrl", "train", agent, env, *argv]
    out = runs.train(spec, options.out, command=command, progress=True, init=options.from_)
    directory = out.directory or Path()
    print_outcome(f"{agent} on {env}", results.summary(out.results), out.cost, directory, options.steps)


def resume(options: ResumeOptions) -> None:
    """`jaxrl resume RUN`."""
    if options.cache:
        use_cache()
    from jaxrl import library, results, runs
    from jaxrl.placement import use_all_cores

    recorded = results.read_config(options.run)
    command = recorded.get("command") or []
    if library.is_sweep(recorded):
        if options.steps is not None or options.checkpoint is not None:
            raise InputError("--steps and --checkpoint are for single runs; a sweep keeps no states.")
        if not command:  # it was begun from Python
            use_all_cores()
            dataset = library.resume_sweep(options.run, lambda line: print(line, file=sys.stderr))
            title = f"{recorded['agent']} on {recorded['env']}"
            print_outcome(title, results.summary(dataset), None, options.run, recorded["steps"])
            return
        agent, env, *argv = command[2:]
        swept, config, hp, env_options = parse_flags(SweepOptions, "sweep", agent, env, argv)
        alone = dataclasses.replace(swept, out=options.run, share="", coordinator="")
        _sweep(alone, agent, env, argv, config, hp, env_options, resume=True)
        return
    spec = runs.read_spec(options.run)
    if options.steps is not None:
        spec = spec.extended(options.steps)
    use_all_cores(len(spec.seeds), envs.make(spec.env, **spec.env_options)[0].observation_space)
    out = runs.train(spec, options.run, resume=True, step=options.checkpoint, progress=True)
    cost = out.cost if out.cost["env_steps"] else None
    print_outcome(f"{spec.agent} on {spec.env}", results.summary(out.results), cost, options.run, spec.env_steps)
    if cost is None:
        print("it was finished already: `--steps N` trains it for longer")


def sweep(agent: str, env: str, argv: list[str]) -> None:
    """`jaxrl sweep AGENT ENV --grid AXIS=VALUES`."""
    _join(argv)
    options, config, hp, env_options = parse_flags(SweepOptions, "sweep", agent, env, argv)
    if options.cache:
        use_cache()
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
    from jaxrl import results
    from jaxrl.sweep import axes_of, combinations, evaluated, plan, sample

    made, params = envs.make(env, **env_options)
    known = axes_of(config, hp, made, params)
    grid = dict(parse_axis(text, known) for text in options.grid)
    space = dict(parse_space(text, known) for text in options.search)
    if len(grid) != len(options.grid) or len(space) != len(options.search):
        raise InputError("--grid or --search names an axis twice.")
    if grid and space:
        raise InputError("--grid and --search do not go together; --search takes lists of values, too.")
    trials = sample(space, options.trials, options.sampler) if space else None
    share = _share(options.share)
    if share and options.out is None:
        raise InputError("--share needs the --out that the processes have in common.")
    jaxrl.use_all_cores()
    wanted = combinations(grid) if trials is None else trials
    for program in plan(agents.get(agent), made, params, config, hp, wanted, options.steps, options.evals):
        evaluated(program, options.evaluations)
    with _sweep_directory(options.out, f"sweep-{agent}-{env}", share is not None, resume) as directory:
        if not (directory / results.CONFIG_FILE).exists():
            settings = {
                "agent": agent,
                "env": env,
                "env_options": env_options,
                "grid": grid,
                "config": config,
                "hp": hp,
            }
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
                evaluate=options.evaluations,
                keep_policies=options.keep_policies,
                keep_episodes=options.keep_episodes,
                report=lambda line: print(line, file=sys.stderr),
            )

        dataset = run()
        if options.coordinator:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("chunks")  # every process has done its share
            dataset = run() if share and share[0] == 0 else None
        if dataset is None:
            return
        print_outcome(f"{agent} on {env}", results.summary(dataset), None, directory, options.steps)


@contextlib.contextmanager
def _sweep_directory(out: Path | None, name: str, shared: bool, resume: bool) -> Iterator[Path]:
    """The directory of a sweep, locked: for those that share it, or for this process alone."""
    from jaxrl import files, results

    if not shared or out is None:
        with results.run_directory(out, name, resume) as directory:
            yield directory
        return
    files.make_directory(out)  # whichever process comes first
    with files.lock(out, shared=True):
        yield out


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
