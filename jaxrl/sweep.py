"""Sweeps: a grid of hyper-parameters, configuration and environment parameters × seeds, as few programs as possible.

Traced axes (`hp.*` and parameters of the environment) become lanes of one vmapped program; static axes (`config.*` and
static fields of the environment) need one compilation for each combination of values.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env
from envs.errors import InputError, unknown
from jaxrl import agents
from jaxrl.placement import map_runs, spread
from jaxrl.train import make_train, schedule, with_total_steps
from jaxrl.types import Agent

if TYPE_CHECKING:
    import xarray


class Program(NamedTuple):
    """One compilation of a sweep: the static values it fixes and the traced values of its lanes."""

    static: dict[str, Any]  # axis -> value
    traced: list[dict[str, Any]]  # one entry for each combination of traced values
    agent: Agent  # made with the static values


def plan(
    agent: ModuleType,
    env: Env,
    env_params: Any,
    config: Any,
    hp: Any,
    grid: Mapping[str, Sequence[Any]],
    env_steps: int,
    num_evals: int,
) -> list[Program]:
    """Divides a grid into programs and checks all of them.

    Args:
        agent: the algorithm's module.
        env: the environment.
        env_params: its parameters.
        config: base configuration.
        hp: base hyper-parameters.
        grid: axis -> values; an axis is "hp.FIELD", "config.FIELD", "env.FIELD" (a parameter or a static field).
        env_steps: environment steps of each run at most.
        num_evals: evaluations per run.

    Raises:
        InputError: an axis that does not exist (the message has the nearest) or has no values, values of the wrong
            type, an impossible configuration, too small a budget.
    """
    traced_defaults = {f"hp.{name}": value for name, value in hp._asdict().items()}
    if hasattr(env_params, "_asdict"):
        traced_defaults |= {f"env.{name}": value for name, value in env_params._asdict().items()}
    static_axes = [f"config.{field.name}" for field in dataclasses.fields(config)]
    static_axes += [f"env.{name}" for name in env.options()]
    for axis, values in grid.items():
        if axis not in traced_defaults and axis not in static_axes:
            raise unknown(f"sweep axis of {agent.__name__.rpartition('.')[2]}", axis, [*traced_defaults, *static_axes])
        if len(values) == 0 or len(set(values)) != len(values):
            raise InputError(f"sweep axis {axis} needs one or more different values, got {list(values)}.")
        for value in values if axis in traced_defaults else ():
            dtype = _dtype(traced_defaults[axis])
            if np.ndim(value) or not np.can_cast(np.asarray(value).dtype, dtype, "same_kind"):
                raise InputError(f"sweep axis {axis}: {value!r} is not a number of type {dtype}.")
    traced = {axis: values for axis, values in grid.items() if axis in traced_defaults}
    static = {axis: values for axis, values in grid.items() if axis not in traced_defaults}
    lanes = [dict(zip(traced, values, strict=True)) for values in itertools.product(*traced.values())]
    programs = []
    for values in itertools.product(*static.values()):
        fixed = dict(zip(static, values, strict=True))
        owners = _by_owner(fixed)
        made = agent.make(env.replace(**owners["env"]), dataclasses.replace(config, **owners["config"]))
        schedule(made, env_steps, num_evals)
        programs.append(Program(fixed, lanes, made))
    return programs


def sweep(
    agent: str | ModuleType,
    env: Env,
    env_params: Any,
    *,
    env_steps: int,
    seeds: int | Sequence[int] = 8,
    grid: Mapping[str, Sequence[Any]] | None = None,
    config: Any = None,
    hp: Any = None,
    num_evals: int = 10,
    eval_episodes: int = 32,
    report: Callable[[str], None] | None = None,
) -> "xarray.Dataset":
    """Trains every combination of a grid with every seed.

    Args:
        agent: name or module of an algorithm.
        env: the environment.
        env_params: its parameters.
        env_steps: environment steps of each run at most.
        seeds: how many (0, 1, …), or which.
        grid: axis -> values, see `plan`; {} or None trains the base settings alone.
        config: base configuration; the agent's defaults by default.
        hp: base hyper-parameters; the agent's defaults by default.
        num_evals: evaluations per run.
        eval_episodes: whole episodes per evaluation, from the same starts in every run.
        report: called with a line of text before the start and after each program.

    Returns:
        Evaluation and training curves with a dimension for every axis of the grid, then seed and env_step. A lane that
        diverged holds NaN and hurts no other. Combinations that reach different numbers of environment steps
        (static axes that change the size of an iteration) share the nominal env_step of the smallest.

    Raises:
        InputError: an unknown axis, an impossible configuration, too small a budget; before anything is trained.
    """
    module = agents.get(agent) if isinstance(agent, str) else agent
    grid = dict(grid or {})
    config = module.Config() if config is None else config
    hp = module.Hyperparams() if hp is None else hp
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    hp = with_total_steps(hp, env_steps)
    report = report or (lambda line: None)
    programs = plan(module, env, env_params, config, hp, grid, env_steps, num_evals)
    lanes = len(programs[0].traced)
    report(f"{len(programs)} program(s) to compile, {lanes * len(seeds)} runs in each ({lanes} × {len(seeds)} seeds).")

    parts = []
    for index, program in enumerate(programs):
        started = time.perf_counter()
        arguments = _lanes(program.traced, seeds, hp, env_params)
        train = jax.jit(map_runs(_without_state(make_train(program.agent, env_steps, num_evals, eval_episodes))))
        metrics, evaluation = jax.tree.map(np.asarray, train(*spread(arguments)))
        parts.append((metrics, evaluation))
        settings = ", ".join(f"{axis}={value}" for axis, value in program.static.items()) or "all"
        report(f"program {index + 1}/{len(programs)} ({settings}): {time.perf_counter() - started:.1f} s")
    env_step = min(
        (schedule(program.agent, env_steps, num_evals).env_steps for program in programs), key=lambda steps: steps[-1]
    )
    return _labelled(programs, parts, grid, seeds, env_step)


def _by_owner(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{"hp.gamma": 0.9} -> {"hp": {"gamma": 0.9}, "config": {}, "env": {}}."""
    owners: dict[str, dict[str, Any]] = {"hp": {}, "config": {}, "env": {}}
    for axis, value in values.items():
        owner, _, field = axis.partition(".")
        owners[owner][field] = value
    return owners


def _lanes(traced: list[dict[str, Any]], seeds: Sequence[int], hp: Any, env_params: Any) -> tuple[Any, Any, Any]:
    """The arguments of every run, [combinations · seeds, ...]: the seed varies fastest."""
    settings = []
    for values in traced:
        by_owner = _by_owner(values)
        settings.append(
            (hp._replace(**by_owner["hp"]), env_params._replace(**by_owner["env"]) if by_owner["env"] else env_params)
        )

    def stack(base: Any, *leaves: Any) -> jax.Array:
        # The dtype is the base value's: 1 beside 0.5 is a float.
        column = jnp.stack([jnp.asarray(leaf, _dtype(base)) for leaf in leaves])
        return jnp.repeat(column, len(seeds), axis=0)

    stacked_hp, stacked_params = jax.tree.map(stack, (hp, env_params), *settings)
    keys = jax.vmap(jax.random.key)(jnp.asarray(list(seeds) * len(traced), jnp.uint32))
    return keys, stacked_hp, stacked_params


def _dtype(leaf: Any) -> np.dtype:
    """The dtype that a hyper-parameter or parameter of the environment has in the program: at most 32 bits."""
    return np.dtype(jax.dtypes.canonicalize_dtype(np.asarray(0.0 if leaf is None else leaf).dtype))


def _without_state(train: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the curves alone: the final states of a sweep would only fill the memory."""

    def curves(key: jax.Array, hp: Any, env_params: Any) -> tuple[Any, Any]:
        result = train(key, hp, env_params)
        episodes = jax.tree.map(lambda x: x.sum(1), result.metrics.episodes)
        scalars = jax.tree.map(lambda x: x.mean(1), result.metrics.scalars)
        return result.metrics._replace(episodes=episodes, scalars=scalars), result.evaluation

    return curves


def _labelled(
    programs: list[Program], parts: list[Any], grid: dict[str, Any], seeds: list[int], env_step: np.ndarray
) -> "xarray.Dataset":
    """Joins the programs' lanes and gives every axis of the grid its own dimension, in the grid's order."""
    from jaxrl import results

    combos = [program.static | values for program in programs for values in program.traced]
    index = [tuple(list(grid[axis]).index(combo[axis]) for axis in grid) for combo in combos]
    order = np.lexsort(np.asarray(index, int).reshape(len(combos), -1).T[::-1]) if grid else np.zeros(1, int)
    lengths = [len(values) for values in grid.values()]

    def gather(*leaves: np.ndarray) -> np.ndarray:
        joined = np.concatenate(leaves).reshape(len(combos), len(seeds), *leaves[0].shape[1:])
        return joined[order].reshape(*lengths, *joined.shape[1:])

    metrics, evaluation = jax.tree.map(gather, *parts)
    episodes = metrics.episodes
    return results.curves(
        env_steps=env_step,
        seeds=seeds,
        returns=evaluation.returns,
        lengths=evaluation.lengths,
        train=(episodes.return_sum, episodes.length_sum, episodes.count),
        scalars=metrics.scalars,
        dims={axis: list(values) for axis, values in grid.items()},
    )
