"""The host driver of training: compiled stretches, and between them progress, checkpoints and results on disk.

A run directory holds
    config.json    everything needed to repeat the run
    results.nc     the labelled results so far (xarray)
    checkpoints/   the newest complete states of the whole batch of runs, each with the results up to it
    cost.json      compile and run seconds, steps per second, peak memory
    curve.png      the learning curve (`jaxrl.runs` adds it and the policies at the end)
    policies/      the greedy policy of each seed, for NumPy alone
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import InputError
from envs.values import convert
from jaxrl import memory, warm_start
from jaxrl import seeds as seeding
from jaxrl.evaluate import Evaluation
from jaxrl.placement import compiler_options, full, layout, map_runs, replicate, spread
from jaxrl.progress import Progress
from jaxrl.train import (
    Episodes,
    evaluate_agent,
    require_one_player,
    run_up_to,
    schedule,
    with_horizon,
    with_total_steps,
)
from jaxrl.types import Agent, Metrics

if TYPE_CHECKING:
    import xarray

PIECE_SECONDS = 0.5  # how long a call of the compiled program should take: an interrupt waits for its end
MOST_ROWS = 8_192  # iterations in a call at most: each reports a row of metrics


class NonFiniteError(ArithmeticError):
    """Training produced a NaN or an infinity; the message says where."""


class Fit(NamedTuple):
    """What `fit` returns."""

    state: Any  # the batch of final states, leading axis [seeds]
    results: "xarray.Dataset"  # dimensions seed, env_step; its first evaluation is of the untrained policy, at step 0
    cost: dict[str, Any]  # see `results.write_cost`
    directory: Path | None = None  # where it was written


def fit(
    agent: Agent,
    env_params: Any,
    hp: Any,
    *,
    seeds: int | Sequence[int],
    env_steps: int,
    num_evals: int = 20,
    eval_episodes: int = 32,
    keep_episodes: bool = False,
    directory: Path | str | None = None,
    identity: dict[str, Any] | None = None,
    resume: bool = False,
    step: int | None = None,
    earlier: Sequence[tuple[int, int]] = (),
    progress: bool | None = None,
    shared: Any = (),
    init: Any = None,
    callback: "Callable[[xarray.Dataset], bool | None] | None" = None,
    begin: Callable[[], Path | None] = lambda: None,
) -> Fit:
    """Trains one run per seed, all in one compiled program, from the host.

    Args:
        agent: from an agent's `make`.
        env_params: parameters of `agent.env`, the same for every run.
        hp: hyper-parameters, the same for every run.
        seeds: how many (0, 1, …), or which; the run of a seed is the same whatever the other seeds are.
        env_steps: environment steps of each run at most.
        num_evals: evaluations (and checkpoints) per run, beside that of the untrained policy.
        eval_episodes: whole episodes per evaluation.
        keep_episodes: keep each of them in the results, beside their means.
        directory: a run directory made by `results.create_run_directory`; None: nothing is written.
        identity: what a checkpoint must agree on; kept in it.
        resume: go on from the newest checkpoint in `directory`, bitwise as if never interrupted. One that is damaged
            is set aside, which is said, and the one before it is used.
        step: the checkpoint to go on from instead, by the number of evaluations done.
        earlier: (env_steps, num_evals) of the budgets that this one extends; see `train.schedule`.
        progress: show a live bar on a terminal and a line for each evaluation elsewhere; by default only the bar.
        shared: what all runs have in common, such as a dataset: one copy on each device. A checkpoint knows its hash.
        init: a batched state, of as many runs or of one, whose learners the runs begin with; see `warm_start`.
        callback: called after every evaluation with the results so far; where it returns True the runs end there.
        begin: called when everything is compiled and known to fit into memory, before anything is computed; returns
            the run directory if it makes that only then.

    Raises:
        InputError: sizes that do not go together or do not fit into memory, or a checkpoint that is damaged or belongs
            to another run.
        NonFiniteError: a NaN in training; the last checkpoint is from before it.
    """
    from jaxrl import checkpoint, files, results

    require_one_player(agent)
    plan = schedule(agent, env_steps, num_evals, earlier)
    eval_episodes = convert("eval_episodes", eval_episodes, Episodes)
    hp = with_total_steps(hp, env_steps)
    horizon = getattr(hp, "total_steps", None)
    if horizon is not None and np.all(np.less(horizon, plan.env_steps[-1])):
        _say(
            f"hp.total_steps={float(np.max(horizon)):,.0f}: the schedules of {agent.name} end there, of "
            f"{env_steps:,} steps; what follows is trained at their last values, such as a learning rate of 0."
        )
    seeds = seeding.numbers(seeds)
    num_runs = len(seeds)
    path = None if directory is None else Path(directory)
    if path is not None and identity is None:
        raise InputError("a run directory needs an identity: what its checkpoints must agree on.")
    identity = dict(identity or {})
    if jax.tree.leaves(shared):
        identity["shared"] = checkpoint.fingerprint(shared)
    started = time.perf_counter()
    runs = _Runs(agent, env_params, hp, seeds, eval_episodes, min(int(plan.iterations.max()), MOST_ROWS), shared)
    done, slices = 0, []
    if resume and path is not None:
        wanted = identity | results.belonging(path)
        restored, done = checkpoint.restore(path / results.CHECKPOINTS, runs.first(runs.shapes), wanted, step, _say)
        state = runs.filled(with_horizon(restored, hp))
        slices = [results.recover(path, done)]
    if init is not None and not slices:  # what cannot be begun with is said before anything is compiled or written
        jax.eval_shape(lambda fresh: warm_start.take(fresh, init, num_runs), runs.first(runs.shapes))
    if done < plan.num_evals:
        runs.compile()
    path = begin() or path
    if path is not None:
        identity |= results.belonging(path)
    if not slices:
        state = runs.init()
        if init is not None:
            state = runs.filled(warm_start.take(runs.first(state), init, num_runs))
    compiled = time.perf_counter()

    stop = False
    with Progress(plan, num_runs, done, show=progress) as bar:

        def report(env_step: int, sums: _Sums) -> bool:
            """Evaluates; returns whether that was enough."""
            evaluation, others = runs.evaluate(state)
            diverged = np.nonzero(~np.isfinite(np.asarray(evaluation.returns)).all(axis=-1))[0]
            _refuse([(sums.iterations - 1, int(lane), "evaluation") for lane in diverged], seeds, sums.before, agent)
            slices.append(_labelled(env_step, seeds, sums, evaluation, others, keep_episodes))
            bar.evaluated(np.asarray(evaluation.returns), sums.mean_return())
            return callback is not None and callback(_joined(slices)) is True

        if not slices:
            stop = report(0, _Sums(num_runs, runs.scalars, 0))
        pace, last = _Pace(runs.rows), done
        for index in range(done, 0 if stop else plan.num_evals):
            sums = _Sums(num_runs, runs.scalars, int(plan.iterations[:index].sum()))
            for iterations in pace.pieces(int(plan.iterations[index])):
                state, metrics = runs.advance(state, iterations)
                _check_finite(metrics, seeds, sums.before + sums.iterations, agent)
                sums.add(metrics)
                bar.moved(iterations)
            last, stop = index + 1, report(int(plan.env_steps[index]), sums)
            if path is not None:
                # The checkpoint first, with the results so far in it: those beside it are a copy that it can renew.
                content = results.encode(_joined(slices).assign_attrs(results.belonging(path)))
                beside = {results.RESULTS_FILE: content}
                checkpoint.save(path / results.CHECKPOINTS, runs.first(state), last, identity, beside=beside)
                files.write(path / results.RESULTS_FILE, content)
            if stop:
                break
    ended = time.perf_counter()

    taken = [0, *plan.env_steps]
    steps = int(taken[last] - taken[done]) * num_runs
    cost = {
        "compile_s": round(compiled - started, 3),
        "run_s": round(ended - compiled, 3),
        "env_steps": steps,
        "env_steps_per_s": round(steps / max(ended - compiled, 1e-9)),
        "peak_memory_bytes": results.peak_memory(),
        "backend": jax.default_backend(),
        "devices": jax.local_device_count(),
    }
    if path is not None and last > done:
        results.write_cost(path, cost)
    return Fit(runs.first(state), _joined(slices), cost, path)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


class _Runs:
    """A batch of runs as compiled programs, filled up with copies of the last run to what the devices take."""

    def __init__(
        self, agent: Agent, env_params: Any, hp: Any, seeds: Sequence[int], eval_episodes: int, rows: int, shared: Any
    ) -> None:
        self.num_runs, self.rows, self.agent = len(seeds), rows, agent
        self.lanes = full(self.num_runs)
        self.shared = replicate(shared, self.lanes)
        keys = seeding.keys([*seeds, *[seeds[-1]] * (self.lanes - len(seeds))])
        # Copies of hyper-parameters and environment parameters for every run: a run's state holds its own.
        copies = jax.tree.map(lambda x: jnp.repeat(np.asarray(x)[None], self.lanes, axis=0), (hp, env_params))
        self.arguments = spread((keys, *copies))

        def advance(state: Any, given: tuple[jax.Array, Any]) -> tuple[Any, Metrics]:
            iterations, shared = given
            return run_up_to(agent, state, iterations, rows, shared)

        def judge(state: Any, shared: Any) -> Any:
            return evaluate_agent(agent, state, eval_episodes, shared)

        init_all, advance_all, judge_all = map(map_runs, (agent.init, advance, judge))
        self._init: Any = jax.jit(lambda arguments, shared: init_all(*arguments, shared=shared))
        self._advance: Any = jax.jit(lambda state, given: advance_all(state, shared=given), donate_argnums=0)
        self._judge: Any = jax.jit(lambda state, shared: judge_all(state, shared=shared))
        self.shapes = spread(jax.eval_shape(self._init, self.arguments, self.shared))
        self.limit = memory.free_memory()
        memory.require(agent.name, self.num_runs, self.shapes, self.limit)
        shapes = jax.eval_shape(self._advance, self.shapes, (np.int32(0), self.shared))
        self.scalars = list(shapes[1].scalars)

    def compile(self) -> None:
        """Compiles all programs.

        Raises:
            InputError: what they take does not fit into memory.
        """
        options = compiler_options(self.lanes)
        self._init = self._init.lower(self.arguments, self.shared).compile(options)
        self._advance = self._advance.lower(self.shapes, (np.int32(0), self.shared)).compile(options)
        self._judge = self._judge.lower(self.shapes, self.shared).compile(options)
        programs = (self._init, self._advance, self._judge)
        needed = memory.needed(programs, layout(self.lanes).shards, self.shared)
        memory.require(self.agent.name, self.num_runs, self.shapes, self.limit, needed)

    def init(self) -> Any:
        """The states before training, of all lanes."""
        return self._init(self.arguments, self.shared)

    def advance(self, state: Any, iterations: int) -> tuple[Any, Metrics]:
        """Trains; returns (states of all lanes, metrics [runs, iterations] on the host). `state` is consumed."""
        state, metrics = self._advance(state, (np.int32(iterations), self.shared))
        return state, jax.tree.map(lambda x: np.asarray(x)[: self.num_runs, :iterations], metrics)

    def evaluate(self, state: Any) -> tuple[Evaluation, dict[str, Evaluation]]:
        """Evaluations of the runs, [runs, episodes] each, on the host."""
        return self.first(jax.tree.map(np.asarray, self._judge(state, self.shared)))

    def first(self, tree: Any) -> Any:
        """The runs of a tree of all lanes, or its shapes."""
        if self.lanes == self.num_runs:
            return tree
        shapes = isinstance(jax.tree.leaves(tree)[0], jax.ShapeDtypeStruct)
        return jax.eval_shape(self._cut, tree) if shapes else self._cut(tree)

    def _cut(self, tree: Any) -> Any:
        return jax.tree.map(lambda x: x[: self.num_runs], tree)

    def filled(self, tree: Any) -> Any:
        """All lanes of a tree of the runs, where the programs want them."""
        spare = self.lanes - self.num_runs
        return spread(jax.tree.map(lambda x: jnp.concatenate([x, *[x[-1:]] * spare]), tree) if spare else tree)


class _Pace:
    """Cuts stretches into pieces of about `PIECE_SECONDS`, whatever an iteration takes."""

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 1

    def pieces(self, iterations: int) -> Iterator[int]:
        """Yields numbers of iterations, to be taken before the next is asked for, that add up to `iterations`."""
        while iterations > 0:
            piece = min(self.size, iterations)
            started = time.perf_counter()
            yield piece
            iterations -= piece
            if piece == self.size or time.perf_counter() - started > PIECE_SECONDS:
                aim = piece * PIECE_SECONDS / max(time.perf_counter() - started, 1e-9)
                self.size = int(min(max(aim, 1), 8 * piece, self.most))


class _Sums:
    """What the iterations of a stretch add up to, for each run."""

    def __init__(self, num_runs: int, scalars: Sequence[str], before: int) -> None:
        self.before, self.iterations = before, 0  # of the run, of the stretch
        self.episodes = {name: np.zeros(num_runs) for name in ("return_sum", "length_sum", "count")}
        self.scalars = {name: np.zeros(num_runs) for name in scalars}

    def add(self, metrics: Metrics) -> None:
        """Adds [runs, iterations], one after the other: the sums do not depend on where a stretch is cut."""
        for totals, rows in ((self.episodes, metrics.episodes._asdict()), (self.scalars, metrics.scalars)):
            for name, total in totals.items():
                totals[name] = np.add.accumulate(np.column_stack([total, rows[name]]), axis=1)[:, -1]
        self.iterations += metrics.episodes.count.shape[1]

    def mean_return(self) -> float:
        """Of the training episodes that ended, in all runs; NaN where none did."""
        count = self.episodes["count"].sum()
        return float(self.episodes["return_sum"].sum() / count) if count else float("nan")


def _labelled(
    env_step: int,
    seeds: Sequence[int],
    sums: _Sums,
    evaluation: Evaluation,
    others: dict[str, Evaluation],
    keep_episodes: bool,
) -> "xarray.Dataset":
    """The results of one stretch: episodes summed and scalars averaged over its iterations; NaN where it has none."""
    from jaxrl import results

    count = sums.iterations or float("nan")
    return results.curves(
        env_steps=np.asarray([env_step]),
        seeds=seeds,
        returns=np.expand_dims(evaluation.returns, 1),
        lengths=np.expand_dims(evaluation.lengths, 1),
        costs=None if isinstance(evaluation.costs, tuple) else np.expand_dims(evaluation.costs, 1),
        infos={name: np.expand_dims(values, 1) for name, values in dict(evaluation.info).items()},
        keep_episodes=keep_episodes,
        others={
            name: (np.expand_dims(other.returns, 1), np.expand_dims(other.lengths, 1)) for name, other in others.items()
        },
        train=(
            sums.episodes["return_sum"][:, None],
            sums.episodes["length_sum"][:, None],
            sums.episodes["count"][:, None].astype(np.int64),
        ),
        scalars={name: (total / count)[:, None].astype(np.float32) for name, total in sums.scalars.items()},
    )


def _joined(slices: "list[xarray.Dataset]") -> "xarray.Dataset":
    import xarray as xr

    return xr.concat(slices, "env_step", data_vars="minimal", coords="minimal", compat="override", join="exact")


def _check_finite(metrics: Metrics, seeds: Sequence[int], first: int, agent: Agent) -> None:
    """Raises NonFiniteError for the first iteration in which any lane has a NaN or an infinity."""
    columns = metrics.scalars | {"episode_return": metrics.episodes.return_sum}
    found = []
    for name, values in columns.items():
        lanes, iterations = np.nonzero(~np.isfinite(values))  # [runs, iterations]
        found += [(int(i), int(lane), name) for lane, i in zip(lanes, iterations, strict=True)]
    _refuse(found, seeds, first, agent)


def _refuse(found: list[tuple[int, int, str]], seeds: Sequence[int], first: int, agent: Agent) -> None:
    """Raises NonFiniteError for the first of (iteration, lane, what is not finite), counted from iteration `first`."""
    if not found:
        return
    iteration = min(found)[0]
    lane = min(lane for i, lane, _ in found if i == iteration)
    names = ", ".join(sorted({name for i, where, name in found if (i, where) == (iteration, lane)}))
    lanes = sorted({where for _, where, _ in found})
    step = agent.warmup_steps + (first + iteration + 1) * agent.steps_per_iteration
    when = f"in iteration {first + iteration} (environment step {step:,})"
    if first + iteration < 0:
        when = "before the first iteration"
    raise NonFiniteError(
        f"{names} is not finite {when}, lane {lane} "
        f"(seed {seeds[lane]}); {len(lanes)} of {len(seeds)} lanes are affected. "
        "The last checkpoint is from before it; a smaller learning rate or gradient norm often helps."
    )
