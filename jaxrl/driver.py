"""The host driver of training: compiled stretches, and between them progress, checkpoints and results on disk.

A run directory holds
    config.json    everything needed to repeat the run
    results.nc     the labelled results so far (xarray)
    checkpoints/   the newest complete states of the whole batch of runs
    cost.json      compile and run seconds, steps per second, peak memory
    curve.png      the learning curve (`jaxrl.runs` adds it and the policies at the end)
    policies/      the greedy policy of each seed, for NumPy alone
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import InputError
from jaxrl.evaluate import Evaluation
from jaxrl.placement import compiler_options, layout, map_runs, replicate, spread
from jaxrl.progress import Progress
from jaxrl.train import evaluate_agent, run_up_to, schedule, with_total_steps
from jaxrl.types import Agent, Metrics

if TYPE_CHECKING:
    import xarray


class NonFiniteError(ArithmeticError):
    """Training produced a NaN or an infinity; the message says where."""


class Fit(NamedTuple):
    """What `fit` returns."""

    state: Any  # the batch of final states, leading axis [seeds]
    results: "xarray.Dataset"  # dimensions seed, env_step
    cost: dict[str, Any]  # see `results.write_cost`


def fit(
    agent: Agent,
    env_params: Any,
    hp: Any,
    *,
    seeds: Sequence[int],
    env_steps: int,
    num_evals: int = 20,
    eval_episodes: int = 32,
    directory: Path | str | None = None,
    identity: dict[str, Any] | None = None,
    resume: bool = False,
    progress: bool | None = None,
    shared: Any = (),
) -> Fit:
    """Trains one run per seed, all in one compiled program, from the host.

    Args:
        agent: from an agent's `make`.
        env_params: parameters of `agent.env`, the same for every run.
        hp: hyper-parameters, the same for every run.
        seeds: the run of a seed is the same whatever the other seeds are.
        env_steps: environment steps of each run at most.
        num_evals: evaluations (and checkpoints) per run.
        eval_episodes: whole episodes per evaluation.
        directory: a run directory made by `results.create_run_directory`; None: nothing is written.
        identity: what a checkpoint must agree on; kept in it.
        resume: go on from the newest checkpoint in `directory`, bitwise as if never interrupted.
        progress: show a live bar; by default only on a terminal.
        shared: what all runs have in common, such as a dataset: one copy on each device. A checkpoint knows its hash.

    Raises:
        InputError: sizes that do not fit, or a checkpoint that is damaged or belongs to another run.
        NonFiniteError: a NaN in training; the last checkpoint is from before it.
    """
    from jaxrl import checkpoint, results

    plan = schedule(agent, env_steps, num_evals)
    hp = with_total_steps(hp, env_steps)
    num_runs = len(seeds)
    if num_runs < 1 or len(set(seeds)) != num_runs:
        raise InputError(f"seeds={list(seeds)} must be one or more different numbers.")
    path = None if directory is None else Path(directory)
    if path is not None and identity is None:
        raise InputError("a run directory needs an identity: what its checkpoints must agree on.")
    identity = dict(identity or {})
    if jax.tree.leaves(shared):
        identity["shared"] = checkpoint.fingerprint(shared)
    shared = replicate(shared, num_runs)
    started = time.perf_counter()

    most = int(plan.iterations.max())

    def stretch(state: Any, given: tuple[jax.Array, Any]) -> tuple[Any, Any]:
        iterations, shared = given
        state, metrics = run_up_to(agent, state, iterations, most, shared)
        return state, (metrics, *evaluate_agent(agent, state, eval_episodes, shared))

    # Copies of hyper-parameters and environment parameters for every run: a run's state holds its own.
    arguments = spread(
        (
            jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32)),
            *jax.tree.map(lambda x: jnp.repeat(np.asarray(x)[None], num_runs, axis=0), (hp, env_params)),
        )
    )
    starts = map_runs(agent.init)
    init = jax.jit(lambda arguments, shared: starts(*arguments, shared=shared))
    done, slices = 0, []
    if resume and path is not None:
        template = jax.eval_shape(init, arguments, shared)
        state, done = checkpoint.restore(path / "checkpoints", template, identity)
        state = spread(state)
        # Results are written before the checkpoint they belong to, so they may be one evaluation ahead of it.
        slices = [results.load(path / "results.nc").isel(env_step=slice(done))] if done else []
    else:
        state = init(arguments, shared)
    fills_layout = num_runs % layout(num_runs).shards == 0
    stretches = map_runs(stretch)
    program = jax.jit(lambda state, given: stretches(state, shared=given), donate_argnums=(0,) if fills_layout else ())
    if done < plan.num_evals:
        program = program.lower(state, (plan.iterations[done], shared)).compile(compiler_options(num_runs))
    compiled = time.perf_counter()

    with Progress(plan, num_runs, done, show=progress) as bar:
        for index in range(done, plan.num_evals):
            iterations = int(plan.iterations[index])
            state, out = program(state, (plan.iterations[index], shared))
            metrics, evaluation, others = jax.tree.map(np.asarray, out)
            metrics = jax.tree.map(lambda x, taken=iterations: x[:, :taken], metrics)
            _check_finite(metrics, evaluation, seeds, int(plan.iterations[:index].sum()), agent)
            slices.append(_labelled(plan.env_steps[index], seeds, metrics, evaluation, others))
            bar.advance(evaluation.returns, metrics.episodes)
            if path is not None:
                results.save(_joined(slices), path / "results.nc")
                checkpoint.save(path / "checkpoints", state, index + 1, identity)
    ended = time.perf_counter()

    steps = int(plan.env_steps[-1] - (plan.env_steps[done - 1] if done else 0)) * num_runs
    cost = {
        "compile_s": round(compiled - started, 3),
        "run_s": round(ended - compiled, 3),
        "env_steps": steps,
        "env_steps_per_s": round(steps / max(ended - compiled, 1e-9)),
        "peak_memory_bytes": results.peak_memory(),
        "backend": jax.default_backend(),
        "devices": jax.local_device_count(),
    }
    if path is not None and done < plan.num_evals:
        results.write_cost(path, cost)
    return Fit(state, _joined(slices), cost)


def _labelled(
    env_step: int, seeds: Sequence[int], metrics: Metrics, evaluation: Evaluation, others: dict[str, Evaluation]
) -> "xarray.Dataset":
    """The results of one stretch: episodes summed and scalars averaged over its iterations."""
    from jaxrl import results

    sums = metrics.episodes.return_sum, metrics.episodes.length_sum, metrics.episodes.count
    return_sum, length_sum, count = (np.sum(x, axis=1, keepdims=True) for x in sums)
    return results.curves(
        env_steps=np.asarray([env_step]),
        seeds=seeds,
        returns=np.expand_dims(evaluation.returns, 1),
        lengths=np.expand_dims(evaluation.lengths, 1),
        costs=None if isinstance(evaluation.costs, tuple) else np.expand_dims(evaluation.costs, 1),
        others={
            name: (np.expand_dims(other.returns, 1), np.expand_dims(other.lengths, 1)) for name, other in others.items()
        },
        train=(return_sum, length_sum, count),
        scalars={name: np.mean(values, axis=1, keepdims=True) for name, values in metrics.scalars.items()},
    )


def _joined(slices: "list[xarray.Dataset]") -> "xarray.Dataset":
    import xarray as xr

    return xr.concat(slices, "env_step", data_vars="minimal", coords="minimal", compat="override", join="exact")


def _check_finite(metrics: Metrics, evaluation: Evaluation, seeds: Sequence[int], first: int, agent: Agent) -> None:
    """Raises NonFiniteError for the first iteration in which any lane has a NaN or an infinity."""
    columns = metrics.scalars | {"episode_return": metrics.episodes.return_sum}
    found = []
    for name, values in columns.items():
        lanes, iterations = np.nonzero(~np.isfinite(values))  # [runs, iterations]
        found += [(int(i), int(lane), name) for lane, i in zip(lanes, iterations, strict=True)]
    last = metrics.episodes.count.shape[1] - 1
    diverged = ~np.isfinite(evaluation.returns).all(axis=-1)
    found += [(last, int(lane), "evaluation") for lane in np.nonzero(diverged)[0]]
    if not found:
        return
    iteration = min(found)[0]
    lane = min(lane for i, lane, _ in found if i == iteration)
    names = ", ".join(sorted({name for i, where, name in found if (i, where) == (iteration, lane)}))
    lanes = sorted({where for _, where, _ in found})
    step = agent.warmup_steps + (first + iteration + 1) * agent.steps_per_iteration
    raise NonFiniteError(
        f"{names} is not finite in iteration {first + iteration} (environment step {step:,}), lane {lane} "
        f"(seed {seeds[lane]}); {len(lanes)} of {len(seeds)} lanes are affected. "
        "The last checkpoint is from before it; a smaller learning rate or gradient norm often helps."
    )
