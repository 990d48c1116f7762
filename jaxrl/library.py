"""Training and reading runs and sweeps from Python, as the command line does: `jaxrl.fit`, `jaxrl.load`.

A run directory that `fit` writes is one that the command line reads, where names stand for its agent and environment.
They are found for objects, too: for an environment that `envs.make` made, and for an agent that its module makes of its
configuration.
"""

import ast
import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import envs
from envs import values
from envs.base import Env
from envs.errors import InputError
from envs.registry import find
from jaxrl import agents, driver, evaluations, policy_state, runs
from jaxrl import seeds as seeding
from jaxrl.driver import Fit
from jaxrl.rollout import initial_memory
from jaxrl.sweep import Store, lanes, plan, read_plan, sweep
from jaxrl.train import fields_of, with_fields, with_total_steps
from jaxrl.types import Agent, Policy

if TYPE_CHECKING:
    import xarray


def fit(
    agent: Any,
    env: Any,
    hp: Any = None,
    *,
    seeds: int | Sequence[int],
    env_steps: int,
    num_evals: int = 20,
    eval_episodes: int = 32,
    keep_episodes: bool = False,
    config: Any = None,
    evaluate: Sequence[str] = (),
    directory: Path | str | None = None,
    resume: bool = False,
    init: Any = None,
    callback: "Callable[[xarray.Dataset], bool | None] | None" = None,
    progress: bool | None = None,
    shared: Any = (),
) -> Fit:
    """Trains one run per seed, all in one compiled program.

        jaxrl.fit("ppo", "CartPole-v1", seeds=8, env_steps=200_000, directory="runs/first")
        jaxrl.fit(agent, env_params, hp, seeds=8, env_steps=200_000)

    Args:
        agent: its name, its module, or an `Agent` from its module's `make`.
        env: with a name or module: the name of an environment, or what `envs.make` returned; with an `Agent`: the
            parameters of its environment.
        hp: hyper-parameters, the same for every run; the agent's defaults by default.
        seeds: how many (0, 1, …), or which; the run of a seed is the same whatever the other seeds are.
        env_steps: environment steps of each run at most.
        num_evals: evaluations (and checkpoints) per run, beside that of the untrained policy.
        eval_episodes: whole episodes per evaluation.
        keep_episodes: keep each of them in the results (`evaluation_episode_return`), beside their means.
        config: of an agent given by its name or module; its defaults by default.
        evaluate: what such an agent evaluates beside its greedy policy; see `jaxrl.evaluations`.
        directory: where configuration, checkpoints, results, curve and policies are written; new, or empty.
        resume: go on from the newest checkpoint in `directory`, bitwise as if never interrupted.
        init: what the runs begin with: a run directory, or a batched state, as `Fit.state` and `Run.state` are, of as
            many runs or of one. They take over what was learnt; schedules and all that counts begin anew
            (`jaxrl.warm_start`).
        callback: called after every evaluation with the results so far; where it returns True the runs end there.
        progress: show a live bar; by default only on a terminal.
        shared: what all runs have in common, such as a dataset: one copy on each device.

    Raises:
        InputError: bad settings, a directory in use, sizes that do not fit into memory, a damaged checkpoint; before
            anything is computed.
        NonFiniteError: a NaN in training; the last checkpoint is from before it.
    """
    made, env_params, module = _made(agent, env, config, evaluate)
    if hp is None:
        if module is None:
            raise InputError(f"no module of the name {made.name!r} has hyper-parameters: give hp.")
        hp = module.Hyperparams()
    seeds = tuple(seeding.numbers(seeds))
    if isinstance(init, Path | str) and directory is None:
        init = runs.restore(runs.read_spec(init), init)[1]
    if directory is None:
        if resume:
            raise InputError("resume=True goes on with the run in a directory: give one.")
        return driver.fit(
            made,
            env_params,
            hp,
            seeds=seeds,
            env_steps=env_steps,
            num_evals=num_evals,
            eval_episodes=eval_episodes,
            keep_episodes=keep_episodes,
            init=init,
            callback=callback,
            progress=progress,
            shared=shared,
        )
    spec = spec_of(made, env_params, hp, seeds, env_steps, num_evals, eval_episodes, shared, module)
    spec = dataclasses.replace(spec, keep_episodes=keep_episodes)
    return runs.train(spec, directory, resume=resume, init=init, callback=callback, progress=progress, shared=shared)


def _made(agent: Any, env: Any, config: Any, evaluate: Sequence[str]) -> tuple[Agent, Any, Any]:
    """(agent, parameters of its environment, its module if it has a known one)."""
    if isinstance(agent, Agent):
        if config is not None or evaluate or isinstance(env, str):
            raise InputError(
                f"{agent.name} is made already, with its environment and configuration: fit(agent, env_params, hp)."
            )
        return agent, env, _known(agent.name)
    module = agents.get(agent) if isinstance(agent, str) else agent
    pair = envs.make(env) if isinstance(env, str) else env
    if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], Env)):
        raise InputError(f"env={env!r} must be a name, or the (environment, parameters) that envs.make returns.")
    made = module.make(pair[0], module.Config() if config is None else config)
    return evaluations.add(made, evaluate, pair[1]), pair[1], module


def _known(name: str) -> Any:
    """What `agents.get` finds under a name; None: no such name."""
    try:
        return agents.get(name)
    except InputError:
        return None


# ------------------------------------------------------------------------------------------ names of what is there


@dataclasses.dataclass(frozen=True)
class Objects(runs.Spec):
    """A batch of runs of whose agent or environment no name is known: `agent` and `env` only say what it was."""

    made: Any = ()  # (agent, env_params)
    objects: tuple[str, ...] = ()  # which of "agent" and "environment" have no name

    def build(self) -> tuple[Agent, Any]:
        """Returns (agent, env_params)."""
        return self.made

    def to_json(self) -> dict[str, Any]:
        """Returns the entries of `config.json`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(runs.Spec)}
        return runs.Spec(**fields).to_json() | {"objects": list(self.objects)}

    def recorded(self, directory: Path | str) -> "runs.Spec":
        """Returns these runs with the budget that a run directory says."""
        from jaxrl import results

        entries = results.read_config(directory)
        budget = {name: entries.get(name) for name in ("env_steps", "num_evals")}
        return dataclasses.replace(self, **budget, hp=_with_values(self.hp, entries.get("hp") or {}))


def spec_of(
    agent: Agent,
    env_params: Any,
    hp: Any,
    seeds: Sequence[int],
    env_steps: int,
    num_evals: int = 20,
    eval_episodes: int = 32,
    shared: Any = (),
    module: Any = None,
) -> runs.Spec:
    """Describes a batch of runs by names where there are some, and otherwise by the objects themselves.

    An environment has the name from which `envs.make` makes the same. An agent has that of its module if the module
    makes the same program of its configuration: not where it was made with another loss, say.
    """
    named = find(agent.env, env_params)
    known = None if module is None else _name_of(module)
    if known and not _is_of(agent, module, hp, env_params, shared):
        known = None
    objects = tuple(what for what, there in (("agent", known), ("environment", named)) if not there)
    name, options = named or (repr(agent.env), {})
    entries = {
        "agent": known or agent.name,
        "env": name,
        "seeds": tuple(seeds),
        "env_steps": env_steps,
        "config": agent.config,
        "hp": hp,
        "env_options": options,
        "num_evals": num_evals,
        "eval_episodes": eval_episodes,
        "evaluations": tuple(evaluated.name for evaluated in agent.evaluations),
    }
    if objects:
        return Objects(**entries, made=(agent, env_params), objects=objects)
    return runs.Spec(**entries)


def _name_of(module: Any) -> str | None:
    """The name under which `agents.get` finds an algorithm's module, or what stands for one; None: it does not."""
    place = getattr(module, "__module__", None)
    own = f"{module.__name__}:" if isinstance(module, ModuleType) else f"{place}:{getattr(module, '__qualname__', '')}"
    for name in (agents.name_of(module), *(set(agents.names()) - set(agents.NAMES)), own):
        if _known(name) is module and not name.startswith("__main__"):
            return name
    return None


def _is_of(agent: Agent, module: Any, hp: Any, env_params: Any, shared: Any) -> bool:
    """Whether a module makes this agent of its configuration: init, step and policy are the same programs."""
    names = [evaluated.name for evaluated in agent.evaluations]
    if not isinstance(agent.config, module.Config) or type(hp) is not module.Hyperparams:
        return False
    try:
        other = evaluations.add(module.make(agent.env, agent.config), names)
    except (InputError, TypeError):
        return False

    def programs(agent: Agent) -> list[str]:
        arguments = (jax.random.key(0), *jax.tree.map(np.asarray, (with_total_steps(hp, 1), env_params)))
        state = jax.eval_shape(agent.init, *arguments, shared)

        def act(state: Any, key: jax.Array, obs: Any) -> Any:
            policy = agent.policy(state, shared)
            return policy.act(key, obs, initial_memory(policy, 1))

        obs = jax.eval_shape(lambda key: envs.episode.reset(agent.env, env_params, key, 1).obs, jax.random.key(0))
        return [
            jax.jit(lambda *arguments: agent.init(*arguments, shared)).lower(*arguments).as_text(),
            jax.jit(lambda state: agent.step(state, shared)).lower(state).as_text(),
            jax.jit(act).lower(state, jax.random.key(0), obs).as_text(),
        ]

    return programs(agent) == programs(other)


def make_env(name: str) -> tuple[Env, Any]:
    """Returns (environment, parameters) of a name."""
    return envs.make(name)


@contextlib.contextmanager
def sweep_directory(
    directory: Path | str, module: Any, env: Env, env_params: Any, settings: Mapping[str, Any], shared: bool
) -> Iterator[None]:
    """Locks the directory of a sweep, and writes its `config.json` where the command line has not.

    Args:
        directory: new, empty, or that of the sweep.
        module: the algorithm's.
        env: the environment.
        env_params: its parameters.
        settings: what else config.json says.
        shared: other processes work there, too.

    Raises:
        InputError: it is that of a run, or in use.
    """
    from jaxrl import files, results

    path = Path(directory)
    files.make_directory(path)
    with files.lock(path, shared):
        if not (path / results.CONFIG_FILE).exists():
            named, agent = find(env, env_params), _name_of(module)
            objects = [what for what, there in (("agent", agent), ("environment", named)) if not there]
            name, options = named or (repr(env), {})
            names = {
                "sweep": True,
                "agent": agent or agents.name_of(module),
                "env": name,
                "env_options": options,
                "objects": objects,
            }
            results.write_config(path, {**names, **settings})
        elif not is_sweep(results.read_config(path)):
            raise InputError(f"{path} is the directory of a run; a sweep needs its own.")
        try:
            yield
        except files.WriteError as error:
            hint = f"Finished chunks are kept: when there is room, the same sweep or `jaxrl resume {path}` goes on."
            raise InputError(f"{error} {hint}") from error


def resume_sweep(directory: Path | str, report: Callable[[str], None]) -> "xarray.Dataset":
    """Goes on with a sweep that was begun from Python.

    Raises:
        InputError: no sweep, a damaged one, or one of whose agent or environment no name is known.
    """
    from jaxrl import results

    path = Path(directory)
    entries = results.read_config(path)
    _refuse_objects(path, entries)
    module, config, hp, options = runs.read_settings(path, entries)
    trials, seeds = _planned(path)
    grid, chosen = entries["grid"], [{axis: runs.untuple(x) for axis, x in trial.items()} for trial in trials]
    dataset = sweep(
        module,
        *envs.make(entries["env"], **options),
        env_steps=entries["steps"],
        seeds=seeds,
        grid=None if grid is None else {axis: [runs.untuple(x) for x in values] for axis, values in grid.items()},
        trials=chosen if grid is None else None,
        config=config,
        hp=hp,
        num_evals=entries["evals"],
        eval_episodes=entries["eval_episodes"],
        directory=path,
        report=report,
        evaluate=entries["evaluations"],
        keep_policies=entries["keep_policies"],
        keep_episodes=entries["keep_episodes"],
    )
    assert dataset is not None  # no other process shares it
    return dataset


def _refuse_objects(path: Path, entries: Mapping[str, Any]) -> None:
    if entries.get("objects"):
        raise InputError(
            f"{path} was swept from Python, and no name stands for its {' and '.join(entries['objects'])}: there is "
            "nothing to make it anew from. Its results plot and export as they are; a name (`envs.register`, or "
            "MODULE:NAME) before the sweep changes that."
        )


def is_sweep(entries: Mapping[str, Any]) -> bool:
    """Whether `config.json` is that of a sweep."""
    return bool(entries.get("sweep")) or (entries.get("command") or [])[:2] == ["jaxrl", "sweep"]


# ------------------------------------------------------------------------------------------------------- reading


@dataclasses.dataclass(frozen=True)
class Run:
    """A batch of runs, read from its directory."""

    directory: Path
    agent: Agent
    env_params: Any  # of `agent.env`
    hp: Any  # hyper-parameters; the horizon of the schedules is that of a new run's length
    seeds: tuple[int, ...]
    state: Any  # batched, [seeds, ...], from the newest checkpoint
    config: Mapping[str, Any]  # what config.json says
    shared: Any = ()
    trial: Mapping[str, int] = dataclasses.field(default_factory=dict)  # where in the results of a sweep

    @cached_property
    def results(self) -> "xarray.Dataset":
        """Evaluation and training curves, of dimensions seed and env_step."""
        from jaxrl import results

        return results.load(self.directory / results.RESULTS_FILE).isel(self.trial)

    def state_of(self, seed: int) -> Any:
        """Returns the state of one seed's run, without a run axis.

        Raises:
            InputError: there is no run of that seed.
        """
        if seed not in self.seeds:
            raise InputError(
                f"{self.directory} has no run of seed {seed}; its seeds: {', '.join(map(str, self.seeds))}."
            )
        return jax.tree.map(lambda x: x[self.seeds.index(seed)], self.state)

    def policy(self, seed: int) -> Policy:
        """Returns the greedy policy of one seed, for `jaxrl.evaluate` and `jaxrl.rollout`.

        Raises:
            InputError: there is no run of that seed.
        """
        return self.agent.policy(self.state_of(seed), self.shared)

    @cached_property
    def policies(self) -> dict[int, Policy]:
        """The greedy policies by seed."""
        return {seed: self.policy(seed) for seed in self.seeds}


def load(
    directory: Path | str,
    *,
    agent: Agent | None = None,
    env_params: Any = None,
    hp: Any = None,
    step: int | None = None,
    shared: Any = (),
) -> "Run | Sweep":
    """Reads the directory of a run, or of a sweep.

    Args:
        directory: what `jaxrl train`, `jaxrl sweep` or their like in Python wrote.
        agent: only for a run of which `config.json` says that no name stands for its agent or environment: the agent
            that it was trained with.
        env_params: of its environment, with such an agent; its defaults unless given.
        hp: hyper-parameters of such an agent whatever their values, where its module is not known.
        step: which checkpoint, by the number of evaluations done; None: the newest.
        shared: what all runs had in common.

    Raises:
        InputError: no run directory, no checkpoint, or one that is damaged or belongs to another run.
    """
    from jaxrl import results

    path = Path(directory)
    entries = results.read_config(path)
    if is_sweep(entries):
        return Sweep(path, entries, *_planned(path), shared)
    if entries.get("objects") and agent is not None:
        spec = _with_objects(entries, agent, env_params, hp)
    else:
        spec = runs.read_spec(path)
    made, state, _ = runs.restore(spec, path, step, shared)
    hp = spec.hp
    if getattr(hp, "total_steps", None) == spec.env_steps:
        hp = with_fields(hp, total_steps=None)
    env_params = spec.build()[1]
    return Run(path, made, env_params, hp, spec.seeds, state, entries, shared)


def _planned(path: Path) -> tuple[list[dict[str, Any]], tuple[int, ...]]:
    """(trials, seeds) of a sweep."""
    settings = [json.loads(text) for text in read_plan(path)["settings"]]
    return settings[6], tuple(settings[5])


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep, read from its directory."""

    directory: Path
    config: Mapping[str, Any]  # what config.json says
    trials: list[dict[str, Any]]  # axis -> value
    seeds: tuple[int, ...]
    shared: Any = ()

    @cached_property
    def results(self) -> "xarray.Dataset":
        """What the sweep returned: a dimension for each axis, or "trial"; then seed and env_step."""
        from jaxrl import results

        return results.load(self.directory / results.RESULTS_FILE)

    def run(self, trial: int | str | Mapping[str, Any]) -> Run:
        """Returns the runs of one trial, if the sweep kept its policies.

        Their state holds what the policies read; the rest of it is zeros.

        Args:
            trial: its number, or its settings, also as text: "hp.gamma=0.9,config.num_envs=4".

        Raises:
            InputError: no such trial, policies that were not kept, or an agent or environment that no name stands for.
        """
        number = self._number(trial)
        _refuse_objects(self.directory, self.config)
        module, config, hp, options = runs.read_settings(self.directory, self.config)
        env, env_params = envs.make(self.config["env"], **options)
        steps, evals = (self.config[name] for name in ("steps", "evals"))
        wanted = [{axis: runs.untuple(value) for axis, value in settings.items()} for settings in self.trials]
        programs = plan(module, env, env_params, config, hp, wanted, steps, evals)
        index, program = next((i, program) for i, program in enumerate(programs) if number in program.trials)
        first = program.trials.index(number) * len(self.seeds)
        rows = slice(first, first + len(self.seeds))
        kept = {name: x[rows] for name, x in Store(self.directory).policies(index).items()}
        if not kept:
            raise InputError(f"{self.directory} kept no policies: `jaxrl sweep --keep-policies` does.")
        arguments = lanes(program.traced, self.seeds, with_total_steps(hp, steps), program.env_params)
        one_trial = jax.tree.map(lambda x: x[rows], arguments)
        init = jax.vmap(lambda *one: program.agent.init(*one, self.shared))
        state = policy_state.put(jax.eval_shape(init, *one_trial), kept)
        agent = evaluations.add(program.agent, self.config["evaluations"], program.env_params)
        first_hp, first_params = jax.tree.map(lambda x: np.asarray(x[0]), one_trial[1:])
        dims = ["trial"] if "trial" in self.results.dims else list(self.trials[number])
        place = np.unravel_index(number, [self.results.sizes[dim] for dim in dims])
        where = dict(zip(dims, map(int, place), strict=True))
        return Run(self.directory, agent, first_params, first_hp, self.seeds, state, self.config, self.shared, where)

    def _number(self, trial: int | str | Mapping[str, Any]) -> int:
        if isinstance(trial, str) and trial.isdecimal():
            trial = int(trial)
        if isinstance(trial, int):
            if not 0 <= trial < len(self.trials):
                raise InputError(f"trial {trial}: {self.directory} has {self._listed()}.")
            return trial
        wanted = trial
        if isinstance(wanted, str):
            pairs = (part.partition("=") for part in values.split(wanted))
            wanted = {axis.strip(): value for axis, _, value in pairs}
        for number, settings in enumerate(self.trials):
            if {axis: _value(x) for axis, x in settings.items()} == {axis: _value(x) for axis, x in wanted.items()}:
                return number
        raise InputError(f"trial {trial!r}: {self.directory} has {self._listed()}.")

    def _listed(self) -> str:
        names = [
            f"{number} ({', '.join(f'{axis}={value}' for axis, value in settings.items())})"
            for number, settings in enumerate(self.trials[:12])
        ]
        more = f" and {len(self.trials) - 12} more" if len(self.trials) > 12 else ""
        return f"the trials {', '.join(names)}{more}"


def _value(value: Any) -> Any:
    """A setting as it is compared: text as what it says, tuples as lists."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
    return list(map(_value, value)) if isinstance(value, tuple | list) else value


def play(directory: Path | str, trial: str | None = None, step: int | None = None) -> Run:
    """Reads what the command line lets play: the runs of a directory, or of one trial of a sweep.

    Raises:
        InputError: no such run or trial; the message says which trials there are.
    """
    found = load(directory, step=step)
    if isinstance(found, Run):
        if trial is not None:
            raise InputError(f"--trial {trial}: {directory} is no sweep.")
        return found
    if trial is None:
        raise InputError(f"{directory} is a sweep: --trial says whose policies play. It has {found._listed()}.")
    return found.run(trial)


def _with_objects(entries: Mapping[str, Any], agent: Agent, env_params: Any, hp: Any) -> Objects:
    """The runs that a `config.json` describes, with the objects that it cannot name."""
    if hp is None:
        module = _known(agent.name)
        if module is None:
            raise InputError(f"no module of the name {agent.name!r} has hyper-parameters: give hp.")
        hp = module.Hyperparams()
    return Objects(
        agent=agent.name,
        env=str(entries["env"]),
        seeds=tuple(entries["seeds"]),
        env_steps=entries["env_steps"],
        config=agent.config,
        hp=_with_values(hp, entries["hp"]),
        env_options=entries["env_options"],
        num_evals=entries["num_evals"],
        eval_episodes=entries["eval_episodes"],
        evaluations=tuple(entries["evaluations"]),
        keep_episodes=entries["keep_episodes"],
        made=(agent, agent.env.default_params() if env_params is None else env_params),
        objects=tuple(entries["objects"]),
    )


def _with_values(hp: Any, values: Mapping[str, Any]) -> Any:
    """Hyper-parameters with the values that config.json has."""
    return with_fields(hp, **{name: value for name, value in values.items() if name in fields_of(hp)})
