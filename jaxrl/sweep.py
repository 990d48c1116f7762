"""Sweeps: hyper-parameters, configuration and environment parameters × seeds, in as few programs as possible.

A sweep tries every combination of a grid, or a list of trials such as `sample` draws. Traced axes (`hp.*` and
parameters of the environment) become lanes of one vmapped program; static axes (`config.*` and static fields of the
environment) need one compilation for each combination of their values. The runs of a program are done in chunks that
fit into memory, all by the same compiled program.

With a directory every finished chunk is kept, and a sweep that was interrupted goes on with the chunks that are not
there yet. Several processes, on one machine or many, may share a sweep through such a directory: see `share`.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env
from envs.errors import InputError, unknown
from envs.values import as_array, convert, kinds, known, of_array
from jaxrl import agents, checkpoint, evaluations, files, memory, placement, policy_state, results
from jaxrl import seeds as seeding
from jaxrl.memory import free_memory
from jaxrl.train import fields_of, make_train, require_one_player, schedule, with_fields, with_total_steps
from jaxrl.types import Agent

if TYPE_CHECKING:
    import xarray

PLAN_FILE = "plan.json"  # what the chunks in a directory belong to
CHUNKS = "chunks"  # directory of finished chunks
_PLACE = "chunk"  # entry of a chunk's file: where it belongs


class Range(NamedTuple):
    """An interval to draw from."""

    low: float
    high: float
    log: bool = False  # evenly in the logarithm
    whole: bool = False  # whole numbers, both ends included


def sample(
    space: Mapping[str, Range | Sequence[Any]],
    trials: int,
    method: Literal["sobol", "random"] = "sobol",
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Draws trials for `sweep`: each axis from a `Range` or from a list of choices.

    Args:
        space: axis -> where to draw from; axes as in `plan`.
        trials: how many.
        method: scrambled Sobol points, which fill the space evenly, or independent uniform draws (Bergstra & Bengio
            2012).
        seed: of the draws.

    Raises:
        InputError: an empty range, or a logarithmic one that reaches 0.
    """
    from scipy.stats import qmc

    for axis, values in space.items():
        if isinstance(values, Range):
            if not values.low < values.high or (values.log and values.low <= 0) or math.isinf(values.high - values.low):
                raise InputError(f"{axis}: {values} is empty or endless, or logarithmic and not above 0.")
        elif len(values) == 0:
            raise InputError(f"{axis} has no values to choose from.")
    if trials < 1 or not space:
        raise InputError(f"trials={trials} must be at least 1, of at least one axis.")
    if method == "sobol":
        unit = qmc.Sobol(len(space), rng=np.random.default_rng(seed)).random_base2((trials - 1).bit_length())[:trials]
    else:
        unit = np.random.default_rng(seed).random((trials, len(space)))

    def place(values: Range | Sequence[Any], u: float) -> Any:
        if not isinstance(values, Range):
            return values[int(u * len(values))]
        low, high = values.low, values.high + values.whole  # of whole numbers each is an interval as wide as the others
        drawn = low * (high / low) ** u if values.log else low + (high - low) * u
        return min(math.floor(drawn), int(values.high)) if values.whole else float(drawn)

    return [{axis: place(values, u) for (axis, values), u in zip(space.items(), row, strict=True)} for row in unit]


class Axis(NamedTuple):
    """What can be swept."""

    kind: Any  # the type of its values, see `envs.values`
    traced: bool  # all values share a program
    value: Any  # of the base settings


def axes_of(config: Any, hp: Any, env: Env, env_params: Any) -> dict[str, Axis]:
    """Every axis that there is, by name: "hp.FIELD", "config.FIELD", and "env.FIELD" of fields and parameters."""
    found = {f"config.{name}": Axis(kind, False, getattr(config, name)) for name, kind in kinds(config).items()}
    options = env.options()
    found |= {f"env.{name}": Axis(kind, False, options[name]) for name, kind in env.option_kinds().items()}
    for name, kind in kinds(hp).items():
        value = getattr(hp, name)
        found[f"hp.{name}"] = Axis(kind if known(kind) else of_array(value), True, value)
    for name, value in fields_of(env_params).items():
        found[f"env.{name}"] = Axis(of_array(value), True, value)
    return found


def _settled(known_axes: Mapping[str, Axis], axis: str, value: Any) -> Any:
    """A value of an axis as its field wants it.

    Raises:
        InputError: no such axis, or a value that it cannot have.
    """
    if axis not in known_axes:
        raise unknown("sweep axis", axis, known_axes)
    found = known_axes[axis]
    name = f"sweep axis {axis}"
    if axis.startswith("env.") and found.traced:
        like = np.asarray(found.value, _dtype(found.value))
        array = as_array(name, value, like)
        return int(array) if array.shape == () and array.dtype.kind == "i" else value
    try:
        return convert(name, value, found.kind)
    except InputError as error:
        whole = isinstance(value, float) and "a whole number" in str(error)
        raise InputError(f"{error}{' Range(LOW, HIGH, whole=True) draws such.' if whole else ''}") from None


class Program(NamedTuple):
    """One compilation of a sweep: the static values it fixes and the traced values of its lanes."""

    static: dict[str, Any]  # axis -> value
    trials: list[int]  # which trials of the sweep these are
    traced: list[dict[str, Any]]  # the traced values of each
    agent: Agent  # made with the static values
    env_params: Any  # of that agent's environment


def plan(
    agent: Any,
    env: Env,
    env_params: Any,
    config: Any,
    hp: Any,
    trials: Sequence[Mapping[str, Any]],
    env_steps: int,
    num_evals: int,
) -> list[Program]:
    """Divides trials into programs and checks all of them.

    Args:
        agent: the algorithm's module, or what stands for it (`jaxrl.agents`).
        env: the environment.
        env_params: its parameters.
        config: base configuration.
        hp: base hyper-parameters.
        trials: axis -> value, the same axes in all; an axis is "hp.FIELD", "config.FIELD" or "env.FIELD" (a parameter
            or a static field). `combinations` makes them of a grid, `sample` draws them.
        env_steps: environment steps of each run at most.
        num_evals: evaluations per run.

    Raises:
        InputError: an axis that does not exist (the message has the nearest), values of the wrong type, an impossible
            configuration, too small a budget.
    """
    known_axes = axes_of(config, hp, env, env_params)
    grouped: dict[Any, tuple[dict[str, Any], list[int], list[dict[str, Any]]]] = {}
    for index, given in enumerate(trials):
        if given.keys() != trials[0].keys():
            raise InputError(f"trial {index} has the axes {list(given)}, the first {list(trials[0])}.")
        trial = {axis: _settled(known_axes, axis, value) for axis, value in given.items()}
        static = {axis: value for axis, value in trial.items() if not known_axes[axis].traced}
        _, members, traced = grouped.setdefault(repr(static), (static, [], []))
        members.append(index)
        traced.append({axis: value for axis, value in trial.items() if known_axes[axis].traced})
    programs = []
    for static, members, traced in grouped.values():
        owners = _by_owner(static)
        other = env.replace(**owners["env"])
        made = agent.make(other, dataclasses.replace(config, **owners["config"]))
        require_one_player(made)
        schedule(made, env_steps, num_evals)
        params = _params_of(other, env, env_params) if owners["env"] else env_params
        programs.append(Program(static, members, traced, made, params))
    return programs


def _params_of(env: Env, base: Env, base_params: Any) -> Any:
    """The parameters of an environment that differs from `base` in static fields.

    They are its own defaults, but for those that `base_params` had changed in those of `base`.

    Raises:
        InputError: a changed parameter does not fit the environment.
    """
    defaults, known = (jax.tree.map(lambda x: np.asarray(x, _dtype(x)), one.default_params()) for one in (env, base))
    (own, structure), (old, _) = jax.tree_util.tree_flatten_with_path(defaults), jax.tree.flatten(known)
    given = jax.tree.leaves(base_params)
    if jax.tree.structure(known) != jax.tree.structure(base_params) or len(own) != len(old):
        if _same(known, base_params):
            return defaults
        raise InputError(f"the parameters given for {base} are not of the form that {env} has.")
    leaves = []
    for (path, fresh), before, now in zip(own, old, given, strict=True):
        if _same(before, now):
            leaves.append(fresh)
        elif np.shape(fresh) == np.shape(now):
            leaves.append(now)
        else:
            name = jax.tree_util.keystr(path).lstrip(".")
            raise InputError(f"{env}: its {name} has shape {np.shape(fresh)}, the one given {np.shape(now)}.")
    return jax.tree.unflatten(structure, leaves)


def _same(one: Any, other: Any) -> bool:
    first, second = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def combinations(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values of a grid, the last axis varying fastest.

    Raises:
        InputError: an axis without values, or with one twice.
    """
    for axis, values in grid.items():
        if len(values) == 0 or len({_hashable(value) for value in values}) != len(values):
            raise InputError(f"sweep axis {axis} needs one or more different values, got {list(values)}.")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _hashable(value: Any) -> Any:
    """A value of a grid, or what stands for an array."""
    return repr(np.asarray(value).tolist()) if isinstance(value, list | np.ndarray) else value


def evaluated(program: Program, names: Sequence[str]) -> Program:
    """The program with further evaluations (`jaxrl.evaluations`), which the parameters of all its trials must allow.

    Raises:
        InputError: an evaluation that the agent, the environment or a trial cannot have.
    """
    for traced in program.traced:
        own = {axis.removeprefix("env."): value for axis, value in traced.items() if axis.startswith("env.")}
        params = with_fields(program.env_params, **own) if own else program.env_params
        evaluations.add(program.agent, names, params)
    return program._replace(agent=evaluations.add(program.agent, names))


def sweep(
    agent: Any,
    env: Env | str,
    env_params: Any = None,
    *,
    env_steps: int,
    seeds: int | Sequence[int] = 8,
    grid: Mapping[str, Sequence[Any]] | None = None,
    trials: Sequence[Mapping[str, Any]] | None = None,
    config: Any = None,
    hp: Any = None,
    num_evals: int = 10,
    eval_episodes: int = 32,
    directory: Path | str | None = None,
    share: tuple[int, int] | None = None,
    memory_limit: int | None = None,
    report: Callable[[str], None] | None = None,
    shared: Any = (),
    evaluate: Sequence[str] = (),
    keep_policies: bool = False,
    keep_episodes: bool = False,
) -> "xarray.Dataset | None":
    """Trains every combination of a grid, or every one of a list of trials, with every seed.

    Args:
        agent: name or module of an algorithm, or what stands for one (`jaxrl.agents`).
        env: the environment, or its name.
        env_params: its parameters; with a name its defaults unless given.
        env_steps: environment steps of each run at most.
        seeds: how many (0, 1, …), or which.
        grid: axis -> values, see `combinations`; with neither grid nor trials the base settings are trained alone.
        trials: settings one by one, see `sample`.
        config: base configuration; the agent's defaults by default.
        hp: base hyper-parameters; the agent's defaults by default.
        num_evals: evaluations per run.
        eval_episodes: whole episodes per evaluation, from the same starts in every run.
        directory: where configuration, finished chunks, results and a picture are written, as `jaxrl sweep` does it;
            chunks of the same sweep that are there already are not done again.
        share: (index, count): of `count` processes that share a directory this one does every count-th chunk, from
            the index-th on. By default the process's place among those of `jax.distributed`.
        memory_limit: bytes that a chunk may take; by default most of what is free.
        report: called with a line of text before the start and after each chunk.
        shared: what all runs have in common, such as a dataset; one copy on each device.
        evaluate: what is evaluated beside the greedy policy; see `jaxrl.evaluations`.
        keep_policies: keep what the policies read of the final states with the chunks; `jaxrl.load(directory)` has
            them, and so have `jaxrl evaluate` and `jaxrl render` with --trial.
        keep_episodes: keep each evaluation episode in the results, beside their means.

    Returns:
        Evaluation and training curves: with a dimension for every axis of the grid, or with the dimension "trial" and
        the axes as coordinates along it; then seed and env_step. A lane that diverged holds NaN and hurts no other.
        Where static axes change the size of an iteration, trials are evaluated after slightly different numbers of
        environment steps: env_step has the smallest, the variable `env_steps_taken` each one's own. A diagnostic that
        some programs do not report is NaN there. None where other processes have chunks left to do.

    Raises:
        InputError: an unknown axis, an impossible configuration, too small a budget, a directory that belongs to
            another sweep; before anything is trained.
    """
    module = agents.get(agent) if isinstance(agent, str) else agent
    if isinstance(env, str):
        from jaxrl.library import make_env

        env, defaults = make_env(env)
        env_params = defaults if env_params is None else env_params
    if keep_policies and directory is None:
        raise InputError("policies are kept in a directory: give one.")
    if grid is not None and trials is not None:
        raise InputError("a sweep takes a grid or trials, not both.")
    config = module.Config() if config is None else config
    hp = module.Hyperparams() if hp is None else hp
    seeds = list(seeding.numbers(seeds))
    hp = with_total_steps(hp, env_steps)
    report = report or (lambda line: None)
    known_axes = axes_of(config, hp, env, env_params)
    if grid is not None:
        grid = {axis: [_settled(known_axes, axis, value) for value in listed] for axis, listed in grid.items()}
    wanted = combinations(grid or {}) if trials is None else trials
    wanted = [{axis: _settled(known_axes, axis, value) for axis, value in trial.items()} for trial in wanted]
    if not wanted or not seeds:
        raise InputError(f"a sweep of {len(wanted)} trials and {len(seeds)} seeds has nothing to do.")
    programs = plan(module, env, env_params, config, hp, wanted, env_steps, num_evals)
    programs = [evaluated(program, evaluate) for program in programs]
    index, count = share or (jax.process_index(), jax.process_count())
    if not 0 <= index < count or (count > 1 and directory is None):
        raise InputError(f"share={index, count} must be an index below a count, and needs a directory above 1.")
    limit = memory_limit or free_memory()
    jobs = [
        _Job(program, seeds, hp, env_steps, num_evals, eval_episodes, shared, keep_policies) for program in programs
    ]
    chunks = [job.chunk(limit) for job in jobs]
    name = getattr(module, "__name__", type(module).__qualname__)
    settings = [name, repr(env), env_params, config, hp, seeds, wanted, env_steps, num_evals, eval_episodes]
    settings.append([evaluated.name for evaluated in programs[0].agent.evaluations])
    if jax.tree.leaves(shared):
        settings.append(checkpoint.fingerprint(shared))
    if keep_policies:
        settings.append("policies")
    settings = [json.dumps(results.plain(setting)) for setting in settings]
    axes = None if trials is not None else dict(grid or {})
    with contextlib.ExitStack() as stack:
        if directory is not None:
            from jaxrl.library import sweep_directory

            known = {"config": config, "hp": hp, "grid": axes, "trials": None if trials is None else wanted}
            known |= {"seeds": seeds, "steps": env_steps, "evals": num_evals, "eval_episodes": eval_episodes}
            known |= {"evaluations": list(evaluate), "keep_policies": keep_policies, "keep_episodes": keep_episodes}
            stack.enter_context(sweep_directory(directory, module, env, env_params, known, count > 1))
        store = Store(directory)
        chunks = store.open(settings, chunks)
        report(
            f"{len(programs)} program(s) to compile, {len(wanted) * len(seeds)} runs ({len(wanted)} × {len(seeds)} "
            f"seeds), at most {max(chunks)} at a time; state of a run "
            f"{memory.readable(memory.size(jobs[0].state()))}, {memory.readable(limit)} may be used."
        )
        parts = _train(jobs, chunks, store, (index, count), limit, report)
        if parts is None:
            return None
        taken = [np.asarray([0, *schedule(program.agent, env_steps, num_evals).env_steps]) for program in programs]
        dataset = _labelled(programs, parts, wanted, axes, seeds, taken, keep_episodes)
        if directory is not None:
            from jaxrl import plotting

            path = Path(directory)
            results.save(dataset, path / results.RESULTS_FILE)
            title = str(results.read_config(path)["env"])
            plotting.learning_curve(
                {programs[0].agent.name: dataset}, path / results.CURVE_FILE, title=title, overwrite=True
            )
    return dataset


def _train(
    jobs: "list[_Job]",
    chunks: list[int],
    store: "Store",
    share: tuple[int, int],
    limit: int,
    report: Callable[[str], None],
) -> list[dict[str, np.ndarray]] | None:
    """Does the chunks of a share that are not there yet.

    Returns:
        The curves of each program by name, [runs, ...]; None where chunks of other processes are missing.
    """
    index, count = share
    place, mine = 0, 0
    for number, (job, size) in enumerate(zip(jobs, chunks, strict=True)):
        for start in range(0, job.num_runs, size):
            place += 1
            if store.has(number, start) or (place - 1) % count != index:
                continue
            started = time.perf_counter()
            said = job.compile(size, limit)
            if said:
                report(said)
            store.put(number, start, job.run(start, size))
            mine += 1
            values = ", ".join(f"{axis}={value}" for axis, value in job.program.static.items()) or "all"
            report(
                f"program {number + 1}/{len(jobs)} ({values}), runs {start + 1} to "
                f"{min(start + size, job.num_runs)} of {job.num_runs}: {time.perf_counter() - started:.1f} s"
            )
        job.forget()
    parts = []
    for number, (job, size) in enumerate(zip(jobs, chunks, strict=True)):
        starts = range(0, job.num_runs, size)
        pieces = [piece for start in starts if (piece := store.get(number, start)) is not None]
        if len(pieces) < len(starts):
            report(f"share {index + 1} of {count} is done ({mine} chunks); the others are not yet.")
            return None
        curves = [name for name in pieces[0] if not name.startswith("policy.")]
        parts.append({name: np.concatenate([piece[name] for piece in pieces]) for name in curves})
    return parts


class _Job:
    """The runs of one program, done chunk by chunk."""

    def __init__(
        self,
        program: Program,
        seeds: Sequence[int],
        hp: Any,
        env_steps: int,
        num_evals: int,
        eval_episodes: int,
        shared: Any = (),
        keep_policies: bool = False,
    ) -> None:
        self.program = program
        self.shared = shared
        self.arguments = lanes(program.traced, seeds, hp, program.env_params)
        self.num_runs = len(program.traced) * len(seeds)
        iterations = np.asarray([0, *schedule(program.agent, env_steps, num_evals).iterations])
        train = make_train(program.agent, env_steps, num_evals, eval_episodes, at_start=True)
        kept = ()
        if keep_policies:
            one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self.state())
            kept = policy_state.read(program.agent, one, shared)
        self.train = _without_state(train, iterations, kept)
        self.compiled: Any = None
        self.part = 0  # runs that the compiled program does at a time

    def state(self) -> Any:
        """Shapes of one run's state, with a leading axis of one run."""
        one = jax.tree.map(lambda x: x[:1], self.arguments)
        return jax.eval_shape(jax.vmap(lambda *args: self.program.agent.init(*args, self.shared)), *one)

    def chunk(self, limit: int) -> int:
        """How many runs to do at a time: what the backend likes, and no more than fit.

        Raises:
            InputError: not even one fits.
        """
        state = self.state()
        memory.require(self.program.agent.name, 1, state, limit)
        fit = max(1, int(limit / (1.5 * memory.size(state))))  # half as much again for what is temporary
        shards = min(self.num_runs, jax.local_device_count())
        most = placement.CPU_LANES * shards if jax.default_backend() == "cpu" else self.num_runs
        size = min(self.num_runs, most, fit)
        return size // shards * shards if size > shards else size

    def compile(self, size: int, limit: int) -> str:
        """Compiles the program once, for as many runs of a chunk as fit; returns what to say, or an empty text.

        Raises:
            InputError: not even one run fits.
        """
        if self.compiled is not None:
            return ""
        started = time.perf_counter()
        self.part = size
        while True:
            shapes = placement.spread(self._slice(0, self.part))
            shared = placement.replicate(self.shared, self.part)
            mapped = placement.map_runs(self.train, lanes=self.part)
            program = jax.jit(lambda arguments, shared, mapped=mapped: mapped(*arguments, shared=shared))
            self.compiled = program.lower(shapes, shared).compile(placement.compiler_options(self.part))
            shards = placement.layout(self.part, lanes=self.part).shards
            needed = memory.needed([self.compiled], shards, shared)
            if needed <= limit:
                break
            if self.part == 1:
                memory.require(self.program.agent.name, 1, self.state(), limit, needed)
            self.part = max(1, min(self.part - 1, int(self.part * limit / needed)))
        self.shared = shared
        parts = "" if self.part == size else f", {self.part} runs at a time of {size}"
        return f"compiled in {time.perf_counter() - started:.1f} s; that takes {memory.readable(needed)}{parts}"

    def _slice(self, start: int, size: int) -> Any:
        """The arguments of `size` runs; a chunk that is not full is filled up with copies of the last run."""
        rows = np.minimum(np.arange(start, start + size), self.num_runs - 1)
        return jax.tree.map(lambda x: x[rows], self.arguments)

    def run(self, start: int, size: int) -> dict[str, np.ndarray]:
        """Trains the runs of a chunk; returns their curves by name, [runs, ...]."""
        pieces = [self._run(first) for first in range(start, min(start + size, self.num_runs), self.part)]
        wanted = min(size, self.num_runs - start)
        return {name: np.concatenate([piece[name] for piece in pieces])[:wanted] for name in pieces[0]}

    def _run(self, start: int) -> dict[str, np.ndarray]:
        metrics, evaluation, others, kept = self.compiled(placement.spread(self._slice(start, self.part)), self.shared)
        curves = {f"evaluation.{name}": x for name, x in evaluation._replace(info=())._asdict().items()}
        curves |= {f"info.{name}": x for name, x in dict(evaluation.info).items()}
        for other, values in others.items():
            curves |= {f"others.{other}.{name}": x for name, x in values._replace(info=())._asdict().items()}
        curves |= {f"episodes.{name}": x for name, x in metrics.episodes._asdict().items()}
        curves |= {f"scalars.{name}": x for name, x in metrics.scalars.items()} | kept
        # (): an environment without costs
        return {name: np.asarray(x) for name, x in curves.items() if not isinstance(x, tuple)}

    def forget(self) -> None:
        """Frees the compiled program."""
        self.compiled = None


class Store:
    """Finished chunks: in memory, or as files in a directory."""

    def __init__(self, directory: Path | str | None) -> None:
        self.directory = None if directory is None else Path(directory)
        self.kept: dict[tuple[int, int], dict[str, np.ndarray]] = {}
        self.name: str | None = None  # of the sweep, in its chunks

    def open(self, settings: list[str], chunks: list[int]) -> list[int]:
        """Writes what the chunks belong to, or checks it; returns the sizes of chunks to use."""
        if self.directory is None:
            return chunks
        path = self.directory / PLAN_FILE
        files.make_directory(self.directory / CHUNKS)
        # Whichever of several processes comes first decides; a link appears with its whole content.
        temporary = self.directory / f".{PLAN_FILE}.{os.getpid()}.tmp"
        files.write(temporary, files.sealed({"settings": settings, "chunks": chunks}))
        try:
            os.link(temporary, path)
            files.sync(path.parent)
            return chunks
        except FileExistsError:
            pass
        except OSError as error:
            raise files.WriteError(f"cannot write {path}: {files.reason(error)}.") from error
        finally:
            temporary.unlink()
        known = read_plan(self.directory)
        found, sizes = known["settings"], known["chunks"]
        different = [f"{mine} for {theirs}" for mine, theirs in zip(settings, found, strict=False) if mine != theirs]
        if different or len(found) != len(settings):
            raise InputError(f"{self.directory} holds another sweep: here {'; '.join(different)[:600]} there.")
        return sizes

    def policies(self, program: int) -> dict[str, np.ndarray]:
        """What is kept of the final states of a program's runs, [runs, ...] by name; {} where nothing is."""
        if self.directory is None:
            return {}
        starts = sorted(int(path.stem.split("-")[1]) for path in (self.directory / CHUNKS).glob(f"{program:04d}-*.npz"))
        pieces = [piece for start in starts if (piece := self.get(program, start)) is not None]
        names = [name for name in (pieces[0] if pieces else ()) if name.startswith("policy.")]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}

    def _path(self, program: int, start: int) -> Path:
        assert self.directory is not None
        return self.directory / CHUNKS / f"{program:04d}-{start:06d}.npz"

    def has(self, program: int, start: int) -> bool:
        """Whether a chunk is done."""
        return self.get(program, start) is not None

    def put(self, program: int, start: int, curves: dict[str, np.ndarray]) -> None:
        """Keeps a chunk's curves, and what else is kept of its runs."""
        if self.directory is None:
            self.kept[program, start] = curves
            return
        content = io.BytesIO()
        np.savez(content, **curves, **{_PLACE: self._place(program, start)})  # pyright: ignore[reportArgumentType]
        files.write(self._path(program, start), content.getvalue())

    def get(self, program: int, start: int) -> dict[str, np.ndarray] | None:
        """A chunk's curves; None where it is not done, or its file is damaged: then it is done again."""
        if self.directory is None:
            return self.kept.get((program, start))
        try:
            with self._path(program, start).open("rb") as file:
                found = dict(np.load(file, allow_pickle=False).items())  # each array has a CRC-32 in the file
            return found if np.array_equal(found.pop(_PLACE), self._place(program, start)) else None
        except Exception:  # a damaged file can fail in whatever way
            return None

    def _place(self, program: int, start: int) -> np.ndarray:
        """Which chunk of which sweep: u8[bytes of the text that says so]."""
        assert self.directory is not None
        if self.name is None:
            self.name = files.digest(read_plan(self.directory))
        return np.frombuffer(f"{self.name} {program} {start}".encode(), np.uint8)


def read_plan(directory: Path) -> dict[str, Any]:
    """What the chunks in a directory belong to: {"settings": JSON texts, "chunks": sizes}.

    Raises:
        InputError: it is missing or damaged.
    """
    path = directory / PLAN_FILE
    try:
        return files.unseal(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {files.reason(error)}.") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}.") from error


def _by_owner(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{"hp.gamma": 0.9} -> {"hp": {"gamma": 0.9}, "config": {}, "env": {}}."""
    owners: dict[str, dict[str, Any]] = {"hp": {}, "config": {}, "env": {}}
    for axis, value in values.items():
        owner, _, field = axis.partition(".")
        owners[owner][field] = value
    return owners


def lanes(traced: list[dict[str, Any]], seeds: Sequence[int], hp: Any, env_params: Any) -> tuple[Any, Any, Any]:
    """The arguments of every run, [combinations · seeds, ...]: the seed varies fastest."""
    settings = []
    for values in traced:
        by_owner = _by_owner(values)
        settings.append(
            (
                with_fields(hp, **by_owner["hp"]),
                with_fields(env_params, **by_owner["env"]) if by_owner["env"] else env_params,
            )
        )

    def stack(base: Any, *leaves: Any) -> jax.Array:
        # The dtype is the base value's: 1 beside 0.5 is a float.
        column = jnp.stack([jnp.asarray(leaf, _dtype(base)) for leaf in leaves])
        return jnp.repeat(column, len(seeds), axis=0)

    stacked_hp, stacked_params = jax.tree.map(stack, (hp, env_params), *settings)
    keys = seeding.keys(list(seeds) * len(traced))
    return keys, stacked_hp, stacked_params


def _dtype(leaf: Any) -> np.dtype:
    """The dtype that a hyper-parameter or parameter of the environment has in the program: at most 32 bits."""
    return np.dtype(jax.dtypes.canonicalize_dtype(np.asarray(0.0 if leaf is None else leaf).dtype))


def _without_state(train: Callable[..., Any], iterations: np.ndarray, kept: Sequence[int] = ()) -> Callable[..., Any]:
    """Returns the curves alone, a number for each stretch: the final states of a sweep would only fill the memory.

    Args:
        train: from `make_train`.
        iterations: i32[stretches] that its stretches really have; the mean over none is NaN.
        kept: places of the leaves of the final state that are returned nevertheless.
    """
    taken = np.arange(iterations.max()) < iterations[:, None]  # [stretches, iterations]

    def curves(key: jax.Array, hp: Any, env_params: Any, shared: Any) -> tuple[Any, Any, Any, Any]:
        result = train(key, hp, env_params, shared)
        # Whole numbers are added as floats: the steps between two evaluations may be more than 32 bits count.
        episodes = jax.tree.map(lambda x: x.sum(1, dtype=jnp.float32), result.metrics.episodes)
        scalars = jax.tree.map(lambda x: jnp.where(taken, x, 0.0).sum(1) / iterations, result.metrics.scalars)
        metrics = result.metrics._replace(episodes=episodes, scalars=scalars)
        return metrics, result.evaluation, result.others, policy_state.take(result.state, kept)

    return curves


def _labelled(
    programs: list[Program],
    parts: list[dict[str, np.ndarray]],
    trials: list[dict[str, Any]],
    grid: dict[str, Any] | None,
    seeds: list[int],
    taken: list[np.ndarray],
    keep_episodes: bool = False,
) -> "xarray.Dataset":
    """Joins the programs' lanes in the order of the trials; a grid's axes each become a dimension.

    Args:
        programs: those that were run.
        parts: of each, its curves by name, [runs, ...].
        trials: of the sweep.
        grid: what they are the combinations of; None: they have one dimension.
        seeds: of each trial.
        taken: of each program, the environment steps at its evaluations.
        keep_episodes: keep each evaluation episode.
    """
    order = np.argsort([trial for program in programs for trial in program.trials])
    dims = {"trial": list(range(len(trials)))} if grid is None else {axis: list(v) for axis, v in grid.items()}
    lengths = [len(values) for values in dims.values()]
    every = {name: piece for part in parts for name, piece in part.items()}

    def gather(name: str) -> np.ndarray:
        # What a program does not report (early_stop has a diagnostic more) is NaN for its runs.
        absent = every[name]
        leaves = [
            part[name] if name in part else np.full((len(part["evaluation.returns"]), *absent.shape[1:]), np.nan)
            for part in parts
        ]
        joined = np.concatenate(leaves).reshape(len(trials), len(seeds), *absent.shape[1:])
        return joined[order].reshape(*lengths, *joined.shape[1:])

    curves = {name: gather(name) for name in every}
    own = np.concatenate([[steps] * len(program.trials) for program, steps in zip(programs, taken, strict=True)])[order]
    dataset = results.curves(
        env_steps=np.min(taken, axis=0),
        seeds=seeds,
        returns=curves["evaluation.returns"],
        lengths=curves["evaluation.lengths"],
        train=(
            curves["episodes.return_sum"],
            curves["episodes.length_sum"],
            curves["episodes.count"].astype(np.int64),
        ),
        costs=curves.get("evaluation.costs"),
        infos={name.removeprefix("info."): x for name, x in curves.items() if name.startswith("info.")},
        keep_episodes=keep_episodes,
        scalars={name.removeprefix("scalars."): x for name, x in curves.items() if name.startswith("scalars.")},
        dims=dims,
        others={
            name.removeprefix("others.").removesuffix(".returns"): (x, curves[name.removesuffix("returns") + "lengths"])
            for name, x in curves.items()
            if name.startswith("others.") and name.endswith(".returns")
        },
    )
    if any((steps != taken[0]).any() for steps in taken):
        notes = {"units": "steps", "description": "environment steps that this trial had really taken"}
        repeated = np.repeat(own[:, None], len(seeds), 1).reshape(*lengths, len(seeds), -1)
        dataset["env_steps_taken"] = (dataset["evaluation_return"].dims, repeated, notes)
    if grid is None:
        axes = {axis: ("trial", results.labels([trial[axis] for trial in trials])) for axis in trials[0]}
        dataset = dataset.assign_coords(axes)
    return dataset
