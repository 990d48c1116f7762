"""A run by names: what `config.json` says, and everything built from it.

The only part of the library, with the command line, that knows the registry of environments.
"""

import contextlib
import dataclasses
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import jax
import numpy as np

import envs
from envs.errors import InputError, unknown
from envs.modules import import_all
from envs.values import Bounds, Size, convert, require
from jaxrl import agents, evaluations
from jaxrl.driver import Fit, fit
from jaxrl.train import schedule, with_total_steps
from jaxrl.types import Agent

if TYPE_CHECKING:
    import xarray

    from jaxrl.portable import PortablePolicy


_A_STATE = "a state"  # what config.json says that a run began with where it was no run directory


@dataclasses.dataclass(frozen=True)
class Spec:
    """Everything that determines a batch of runs."""

    agent: str  # name of the algorithm
    env: str  # name of the environment
    seeds: tuple[int, ...]
    env_steps: int  # of each run, at most
    config: Any  # the agent's Config
    hp: Any  # the agent's Hyperparams
    env_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # what differs from the environment's own
    num_evals: int = 20
    eval_episodes: int = 32
    evaluations: tuple[str, ...] = ()  # beside that of the greedy policy; see `jaxrl.evaluations`
    earlier: tuple[tuple[int, int], ...] = ()  # (env_steps, num_evals) of the budgets that this one extends
    imports: tuple[str, ...] = ()  # modules that register the agent or the environment
    keep_episodes: bool = False  # in the results, each evaluation episode beside their means

    def build(self) -> tuple[Agent, Any]:
        """Returns (agent, env_params).

        Raises:
            InputError: an unknown name, field or value, or sizes that do not fit together.
        """
        import_all(self.imports)
        env, env_params = envs.make(self.env, **self.env_options)
        agent = agents.get(self.agent).make(env, self.config)
        return evaluations.add(agent, self.evaluations, env_params), env_params

    def to_json(self) -> dict[str, Any]:
        """Returns the entries of `config.json`; hyper-parameters with the horizon of the schedules filled in."""
        from jaxrl.results import FORMAT, plain

        entries = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return plain(entries | {"hp": with_total_steps(self.hp, self.env_steps), "format": FORMAT})

    def identity(self) -> dict[str, Any]:
        """Returns what a checkpoint must agree on: all that the state depends on, but not how long the run is."""
        entries = self.to_json()
        budget = ("env_steps", "num_evals", "earlier", "eval_episodes", "evaluations", "imports", "keep_episodes")
        hp = {name: value for name, value in entries["hp"].items() if name != "total_steps"}
        env = self.build()[0].env
        rest = {name: value for name, value in entries.items() if name not in budget}
        return rest | {"hp": hp, "environment": {name: repr(value) for name, value in env.options().items()}}

    def recorded(self, directory: Path | str) -> "Spec":
        """Returns what a run directory says, to be compared with this."""
        return read_spec(directory)

    def extended(self, env_steps: int) -> "Spec":
        """Returns these runs with a larger budget: as many evaluations for a step as before, where the old ones stay.

        Schedules that ended with the old budget end with the new one.

        Raises:
            InputError: the budget is not larger.
        """
        if env_steps <= self.env_steps:
            raise InputError(
                f"--steps {env_steps:,}: the budget of the run is {self.env_steps:,} already; give a larger one."
            )
        more = max(1, round(self.num_evals * (env_steps - self.env_steps) / self.env_steps))
        hp = self.hp
        if getattr(hp, "total_steps", None) == self.env_steps:
            hp = dataclasses.replace(hp, total_steps=float(env_steps))
        earlier = (*self.earlier, (self.env_steps, self.num_evals))
        return dataclasses.replace(self, env_steps=env_steps, num_evals=self.num_evals + more, hp=hp, earlier=earlier)


def read_spec(directory: Path | str) -> Spec:
    """Reads back what `train` wrote.

    Raises:
        InputError: no run directory, or a `config.json` that is damaged or from another version.
    """
    from jaxrl import results

    path = Path(directory)
    entries = results.read_config(path)
    file = path / results.CONFIG_FILE
    if entries.get("format", 1) != results.FORMAT:
        git = (entries.get("provenance") or {}).get("git") or {}
        commit = f" (commit {git['commit'][:12]})" if git.get("commit") else ""
        raise InputError(
            f"{path} was written by another version of jaxrl{commit}, whose states this one does not read. Its results "
            "plot, compare and export as they are, and policies/seed-N.npz play by `jaxrl.portable`; to resume, "
            "evaluate or render it use that version."
        )
    names = [field.name for field in dataclasses.fields(Spec)]
    if entries.get("sweep") or (entries.get("command") or [])[:2] == ["jaxrl", "sweep"]:
        raise InputError(f"{path} is a sweep, not one batch of runs: `jaxrl plot` shows it, `jaxrl resume` goes on.")
    if entries.get("objects"):
        raise InputError(
            f"{path} was trained from Python, and no name stands for its {' and '.join(entries['objects'])}. In Python "
            f"jaxrl.load({str(path)!r}, agent=…) reads it, with the agent that it was trained with. For the command "
            "line train by names: `envs.register`, or MODULE:NAME."
        )
    missing = [name for name in names if name not in entries]
    if missing:
        raise InputError(f"{file} is damaged: it has no {', '.join(missing)}.")
    values: dict[str, Any] = {name: untuple(entries[name]) for name in names}
    for name, kind in _KINDS.items():
        try:
            values[name] = convert(name, values[name], kind)
        except InputError as error:
            raise InputError(f"{file}: {error}") from error
    values["env_steps"] = _whole(file, "env_steps", values["env_steps"])
    values["earlier"] = tuple((_whole(file, "earlier", steps), evals) for steps, evals in values["earlier"])
    if len(set(values["seeds"])) != len(values["seeds"]) or not values["seeds"]:
        raise InputError(f"{file}: seeds={list(values['seeds'])} must be one or more different numbers.")
    _, values["config"], values["hp"], values["env_options"] = read_settings(path, entries)
    return Spec(**values)


def read_settings(directory: Path | str, entries: Mapping[str, Any]) -> tuple[ModuleType, Any, Any, dict[str, Any]]:
    """Reads what the `config.json` of a run or a sweep says about agent and environment.

    Returns:
        (the agent's module, its configuration, its hyper-parameters, the environment's options).

    Raises:
        InputError: it is damaged, of another version, or names what is not there.
    """
    from jaxrl import results

    file = Path(directory) / results.CONFIG_FILE
    import_all(entries.get("imports") or ())
    module = agents.get(entries["agent"])
    config, hp = _settings(file, module.Config, entries["config"]), _settings(file, module.Hyperparams, entries["hp"])
    options = {name: untuple(value) for name, value in _entries(file, entries["env_options"]).items()}
    return module, config, hp, options


# What config.json may say; the settings of agent and environment are checked by what they are settings of.
_KINDS = {
    "agent": str,
    "env": str,
    "seeds": tuple[Annotated[int, Bounds(0)], ...],
    "env_steps": Annotated[float, Bounds(1)],
    "num_evals": Size,
    "eval_episodes": Size,
    "evaluations": tuple[str, ...],
    "imports": tuple[str, ...],
    "keep_episodes": bool,
    "earlier": tuple[tuple[Annotated[float, Bounds(1)], Size], ...],
}


def _whole(file: Path, name: str, value: float) -> int:
    """Budgets outgrow the 32 bits that other whole numbers have."""
    if value != int(value):
        raise InputError(f"{file}: {name}={value} must be a whole number.")
    return int(value)


def _entries(file: Path, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise InputError(f"{file} is damaged: {values!r} must be settings by name.")
    return values


def _settings(file: Path, kind: type, values: Any) -> Any:
    allowed = typing.get_type_hints(kind)
    for name in _entries(file, values):
        if name not in allowed:
            raise InputError(f"{file} is of another version: {unknown(kind.__module__, name, allowed)}")
    try:
        settings = kind(**{name: untuple(value) for name, value in values.items()})
        require(settings)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    return settings


def untuple(value: Any) -> Any:
    """JSON has no tuples; configurations have no lists."""
    return tuple(map(untuple, value)) if isinstance(value, list) else value


def train(
    spec: Spec,
    directory: Path | str | None = None,
    *,
    resume: bool = False,
    step: int | None = None,
    command: list[str] | None = None,
    progress: bool | None = None,
    shared: Any = (),
    init: Any = None,
    callback: "Callable[[xarray.Dataset], bool | None] | None" = None,
) -> Fit:
    """Trains a batch of runs into a run directory: configuration, checkpoints, results, curve, policies, cost.

    Args:
        spec: the runs; with `resume` what `read_spec` returned, or that `extended`.
        directory: must not exist, or be empty, unless `resume`; None: runs/AGENT-ENV-TIME.
        resume: go on from the newest good checkpoint; from the beginning if there never was one.
        step: the checkpoint to go on from instead, by the number of evaluations done.
        command: the command line, kept in `config.json`.
        progress: show a live bar on a terminal and a line for each evaluation elsewhere; by default only the bar.
        shared: what all runs have in common.
        init: what the runs begin with (see `jaxrl.warm_start`): a run directory, or a batched state.
        callback: called after every evaluation with the results so far; where it returns True the runs end there.

    Raises:
        InputError: bad settings, a directory in use, a damaged or foreign checkpoint, a disk that takes no more.
        NonFiniteError: a NaN in training.
    """
    from jaxrl import checkpoint, files, plotting, results
    from jaxrl.export import reason_against

    agent, env_params = spec.build()
    schedule(agent, spec.env_steps, spec.num_evals, spec.earlier)
    portable = agent._replace(
        init=lambda *arguments: agent.init(*arguments, shared), policy=lambda state: agent.policy(state, shared)
    )
    reason = reason_against(portable, with_total_steps(spec.hp, spec.env_steps), env_params)
    if reason:
        print(f"There will be no policy files: {reason}", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        there: list[int] = []
        path = Path(directory) if directory is not None else Path()
        if resume:
            stack.enter_context(results.run_directory(path, resume=True))
            there = checkpoint.steps(path / results.CHECKPOINTS)
            _go_on(spec, path, there, step)
            began_with = results.read_config(path).get("began_with")
            if began_with and not there and init is None:
                if began_with == _A_STATE:
                    raise InputError(f"{path} began with a state given in Python, and has no checkpoint: give init.")
                init = began_with
        began_with = None if init is None else _A_STATE
        if isinstance(init, Path | str):
            began_with = str(Path(init).absolute())
            init = restore(read_spec(init), init)[1]

        def begin() -> Path:
            nonlocal path
            if not resume:
                path = stack.enter_context(results.run_directory(directory, f"{spec.agent}-{spec.env}"))
                entries = {"command": command, "env_params": results.plain(env_params), "began_with": began_with}
                results.write_config(path, spec.to_json() | entries)
            return path

        try:
            out = fit(
                agent,
                env_params,
                spec.hp,
                seeds=spec.seeds,
                env_steps=spec.env_steps,
                num_evals=spec.num_evals,
                eval_episodes=spec.eval_episodes,
                keep_episodes=spec.keep_episodes,
                directory=directory if resume else None,
                identity=spec.identity(),
                resume=bool(there),
                step=step,
                earlier=spec.earlier,
                progress=progress,
                shared=shared,
                init=init,
                callback=callback,
                begin=begin,
            )
            plotting.learning_curve(
                {spec.agent: out.results}, path / results.CURVE_FILE, title=spec.env, overwrite=True
            )
            if not reason:
                export_policies(spec, portable, out.state, path)
        except files.WriteError as error:
            begun = (path / results.CONFIG_FILE).exists()
            hint = f" Nothing that was complete is lost: when there is room, `jaxrl resume {path}` goes on."
            raise InputError(f"{error}{hint if begun else ' Nothing was begun.'}") from error
    return out


def _go_on(spec: Spec, path: Path, there: list[int], step: int | None) -> None:
    """Checks that a run can go on, and writes down what is new: a larger budget, another machine."""
    from jaxrl import checkpoint, results

    checkpoint.tidy(path / results.CHECKPOINTS)
    if step is not None and step not in there:
        raise InputError(f"--checkpoint {step}: there are {', '.join(map(str, there)) or 'none'} in {path}.")
    if not there and (path / results.RESULTS_FILE).exists():
        raise InputError(
            f"{path} has results but no checkpoint to go on from: {path / results.CHECKPOINTS} was moved or emptied. "
            f"Put it back; or, to begin anew, choose another directory or move {results.RESULTS_FILE} away."
        )
    recorded = spec.recorded(path)
    if spec.to_json() != recorded.to_json() and spec.env_steps > recorded.env_steps:
        results.change_config(path, **spec.to_json())
        at = " The schedules end there, too." if spec.hp != recorded.hp else ""
        print(f"{path}: {spec.env_steps:,} steps instead of {recorded.env_steps:,}.{at}", file=sys.stderr)
    done = max(there, default=0) if step is None else step
    different = results.record_resumption(path, done) if done < spec.num_evals else []
    if different:
        print(
            f"{path} goes on with {'; '.join(different)}: equal to an undisturbed run to rounding, not bit for bit.",
            file=sys.stderr,
        )


def restore(spec: Spec, directory: Path | str, step: int | None = None, shared: Any = ()) -> tuple[Agent, Any, int]:
    """Restores a checkpoint of a run; returns (agent, batched state, evaluations done).

    Args:
        spec: what `read_spec` returned.
        directory: the run directory.
        step: which checkpoint, by the number of evaluations done; None: the newest.
        shared: what all runs had in common.

    Raises:
        InputError: no (such) checkpoint, or one that is damaged or belongs to another run.
    """
    from jaxrl import checkpoint, results

    agent, env_params = spec.build()
    hp = with_total_steps(spec.hp, spec.env_steps)

    def init(keys: jax.Array) -> Any:
        return jax.vmap(lambda key: agent.init(key, *jax.tree.map(np.asarray, (hp, env_params)), shared))(keys)

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), len(spec.seeds)))
    template = jax.eval_shape(init, keys)
    identity = spec.identity() | results.belonging(directory)
    if jax.tree.leaves(shared):
        identity["shared"] = checkpoint.fingerprint(shared)
    state, done = checkpoint.restore(Path(directory) / results.CHECKPOINTS, template, identity, step)
    return agent, state, done


def policy_file(directory: Path | str, seed: int) -> Path:
    """Where the portable policy of a seed lies."""
    from jaxrl.results import POLICIES

    return Path(directory) / POLICIES / f"seed-{seed}.npz"


def load_policy(directory: Path | str, seed: int) -> "PortablePolicy":
    """Reads the portable policy of a seed.

    Raises:
        InputError: it is missing or damaged, or of another run or seed.
    """
    from jaxrl import portable, results

    path = policy_file(directory, seed)
    policy = portable.load(path)
    wanted = results.belonging(directory) | {"seed": seed}
    if any(policy.meta.get(name) != value for name, value in wanted.items()):
        raise InputError(f"{path} is the policy of another run or of another seed.")
    return policy


def export_policies(spec: Spec, agent: Agent, state: Any, directory: Path) -> None:
    """Writes the greedy policy of every seed as a file that NumPy alone can run."""
    from jaxrl import files, results
    from jaxrl.export import export_policy

    run = results.belonging(directory)
    for lane, seed in enumerate(spec.seeds):
        path = policy_file(directory, seed)
        files.make_directory(path.parent)
        one = jax.tree.map(lambda x, lane=lane: x[lane], state)
        export_policy(
            path,
            agent.policy,
            one,
            agent.env.observation_space,
            agent.env.action_space,
            agent.policy(one).memory,
            {"agent": spec.agent, "env": spec.env, "seed": seed, **run},
        )
