"""A run by names: what `config.json` says, and everything built from it.

The only part of the library, with the command line, that knows the registry of environments.
"""

import dataclasses
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import envs
from envs.errors import InputError, unknown
from jaxrl import agents, evaluations
from jaxrl.driver import Fit, fit
from jaxrl.train import schedule, with_total_steps
from jaxrl.types import Agent

CURVE_FILE = "curve.png"
FORMAT = 2  # of the states in a run directory; 1: before learners were taken apart from loops


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

    def build(self) -> tuple[Agent, Any]:
        """Returns (agent, env_params).

        Raises:
            InputError: an unknown name, field or value, or sizes that do not fit together.
        """
        env, env_params = envs.make(self.env, **self.env_options)
        agent = agents.get(self.agent).make(env, self.config)
        return evaluations.add(agent, self.evaluations, env_params), env_params

    def to_json(self) -> dict[str, Any]:
        """Returns the entries of `config.json`; hyper-parameters with the horizon of the schedules filled in."""
        from jaxrl.results import plain

        entries = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return plain(entries | {"hp": with_total_steps(self.hp, self.env_steps), "format": FORMAT})


def read_spec(directory: Path | str) -> Spec:
    """Reads back what `train` wrote.

    Raises:
        InputError: no run directory, or a `config.json` that is damaged or from another version.
    """
    from jaxrl import results

    path = Path(directory)
    entries = results.read_config(path)
    names = [field.name for field in dataclasses.fields(Spec)]
    if entries.get("format", 1) != FORMAT:
        git = (entries.get("provenance") or {}).get("git") or {}
        commit = f" (commit {git['commit'][:12]})" if git.get("commit") else ""
        raise InputError(
            f"{path} was written by another version of jaxrl{commit}, whose states this one does not read. Its results "
            "plot, compare and export as they are, and policies/seed-N.npz play by `jaxrl.portable`; to resume, "
            "evaluate or render it use that version."
        )
    missing = [name for name in names if name not in entries]
    if missing:
        raise InputError(f"{path / results.CONFIG_FILE} is damaged: it has no {', '.join(missing)}.")
    module = agents.get(entries["agent"])
    config = module.Config(**_fields(path, module.Config, entries["config"]))
    hp = module.Hyperparams(**_fields(path, module.Hyperparams, entries["hp"]))
    options = {name: _untuple(value) for name, value in entries["env_options"].items()}
    values = {name: entries[name] for name in names}
    values |= {"config": config, "hp": hp, "seeds": tuple(entries["seeds"]), "env_options": options}
    values["evaluations"] = tuple(entries["evaluations"])
    return Spec(**values)


def _fields(path: Path, kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    allowed = typing.get_type_hints(kind)
    for name in values:
        if name not in allowed:
            raise InputError(f"{path / 'config.json'} is of another version: {unknown(kind.__module__, name, allowed)}")
    return {name: _untuple(value) for name, value in values.items()}


def _untuple(value: Any) -> Any:
    """JSON has no tuples; configurations have no lists."""
    return tuple(map(_untuple, value)) if isinstance(value, list) else value


def train(
    spec: Spec,
    directory: Path | str,
    *,
    resume: bool = False,
    command: list[str] | None = None,
    progress: bool | None = None,
) -> Fit:
    """Trains a batch of runs into a run directory: configuration, checkpoints, results, curve, policies, cost.

    Args:
        spec: the runs; with `resume` what `read_spec` returned.
        directory: must not exist, or be empty, unless `resume`.
        resume: go on from the newest checkpoint; from the beginning if there is none yet.
        command: the command line, kept in `config.json`.
        progress: show a live bar; by default only on a terminal.

    Raises:
        InputError: bad settings, a directory in use, a damaged or foreign checkpoint.
        NonFiniteError: a NaN in training.
    """
    from jaxrl import checkpoint, plotting, results
    from jaxrl.export import reason_against

    agent, env_params = spec.build()
    schedule(agent, spec.env_steps, spec.num_evals)
    reason = reason_against(agent, with_total_steps(spec.hp, spec.env_steps), env_params)
    if reason:
        print(f"There will be no policy files: {reason}", file=sys.stderr)
    path = Path(directory)
    if not resume:
        results.create_run_directory(path)
        results.write_config(path, spec.to_json() | {"command": command, "env_params": results.plain(env_params)})
    out = fit(
        agent,
        env_params,
        spec.hp,
        seeds=spec.seeds,
        env_steps=spec.env_steps,
        num_evals=spec.num_evals,
        eval_episodes=spec.eval_episodes,
        directory=path,
        identity=spec.to_json(),
        resume=resume and bool(checkpoint.steps(path / "checkpoints")),
        progress=progress,
    )
    plotting.learning_curve({spec.agent: out.results}, path / CURVE_FILE, title=spec.env)
    if not reason:
        export_policies(spec, agent, out.state, path)
    return out


def restore(spec: Spec, directory: Path | str) -> tuple[Agent, Any, int]:
    """Restores the newest checkpoint of a run; returns (agent, batched state, evaluations done).

    Raises:
        InputError: no checkpoint, or one that is damaged or belongs to another run.
    """
    from jaxrl import checkpoint

    agent, env_params = spec.build()
    hp = with_total_steps(spec.hp, spec.env_steps)

    def init(keys: jax.Array) -> Any:
        return jax.vmap(lambda key: agent.init(key, *jax.tree.map(np.asarray, (hp, env_params))))(keys)

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), len(spec.seeds)))
    template = jax.eval_shape(init, keys)
    state, done = checkpoint.restore(Path(directory) / "checkpoints", template, spec.to_json())
    return agent, state, done


def policy_file(directory: Path | str, seed: int) -> Path:
    """Where the portable policy of a seed lies."""
    return Path(directory) / "policies" / f"seed-{seed}.npz"


def export_policies(spec: Spec, agent: Agent, state: Any, directory: Path) -> None:
    """Writes the greedy policy of every seed as a file that NumPy alone can run."""
    from jaxrl.export import export_policy

    for lane, seed in enumerate(spec.seeds):
        path = policy_file(directory, seed)
        path.parent.mkdir(exist_ok=True)
        one = jax.tree.map(lambda x, lane=lane: x[lane], state)
        export_policy(
            path,
            agent.policy,
            one,
            agent.env.observation_space,
            agent.env.action_space,
            agent.policy(one).memory,
            {"agent": spec.agent, "env": spec.env, "seed": seed},
        )
