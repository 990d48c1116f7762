"""Training as pure functions: `run` (resumable) and `make_train` (a whole run, evaluations included).

Both are functions of one run; `jax.vmap`, or `jaxrl.placement.map_runs`, makes them functions of a thousand.
The host driver with progress bar, checkpoints and results on disk is `jaxrl.driver.fit`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Game
from envs.errors import InputError
from envs.values import LARGEST, Bounds, convert, require
from jaxrl.evaluate import Evaluation, evaluate
from jaxrl.types import Agent, Metrics

Steps = Annotated[int, Bounds(1, 10**15)]  # of a run; an accelerator takes some 10¹³ a day
Evaluations = Annotated[int, Bounds(1, 10**6)]  # of a run
Episodes = Annotated[int, Bounds(1, 10**6)]  # of an evaluation, played side by side
EVAL_SEED = 2**31 - 1  # every run of every seed is evaluated from the same initial states


class Schedule(NamedTuple):
    """How a run divides into stretches of training, an evaluation after each."""

    num_evals: int
    iterations: np.ndarray  # i32[num_evals] iterations of each stretch; they differ by one at most
    env_steps: np.ndarray  # i64[num_evals] environment steps taken when each evaluation happens
    unused: int  # environment steps of the budget that are no whole iteration


class Result(NamedTuple):
    """What a whole run returns."""

    state: Any
    metrics: Metrics  # [num_evals, iterations]; a stretch with one iteration less than others ends with NaN scalars
    evaluation: Evaluation  # [num_evals, episodes] of the greedy policy; with `at_start` all have num_evals + 1
    others: dict[str, Evaluation]  # each [num_evals, episodes]: `agent.evaluations` by name


def schedule(agent: Agent, env_steps: int, num_evals: int, earlier: Sequence[tuple[int, int]] = ()) -> Schedule:
    """Divides the whole iterations of `env_steps` environment steps into `num_evals` stretches, as evenly as they go.

    The warm-up counts. What is no whole iteration is left out, never added.

    Args:
        agent: whose iterations.
        env_steps: the budget.
        num_evals: evaluations in all.
        earlier: (env_steps, num_evals) of the budgets that this one extends, ascending: their evaluations stay where
            they were, and what is added is divided by itself.

    Raises:
        InputError: the budget is too small for one iteration per evaluation, or larger than counters are.
    """
    env_steps = convert("env_steps", env_steps, Steps)
    num_evals = convert("num_evals", num_evals, Evaluations)
    ends, first = [], 0
    for steps, evals in (*earlier, (env_steps, num_evals)):
        # Whole numbers of any size: Python's own.
        more = max(steps - agent.warmup_steps, 0) // agent.steps_per_iteration - first
        stretches = evals - len(ends)
        if more < stretches or stretches < 1:
            needed = agent.warmup_steps + (first + max(stretches, 1)) * agent.steps_per_iteration
            raise InputError(
                f"{steps} environment steps are too few: {evals} evaluations of {agent.name} need {needed} "
                f"({agent.warmup_steps} of warm-up, {agent.steps_per_iteration} per iteration)."
            )
        ends += [first + more * (k + 1) // stretches for k in range(stretches)]
        first += more
    env_steps_taken = [agent.warmup_steps + agent.steps_per_iteration * end for end in ends]
    iterations = np.diff(np.asarray([0, *ends], np.int64))
    if iterations.max() > LARGEST:
        raise InputError(
            f"{env_steps} environment steps are too many: {iterations.max():,} iterations of {agent.name} between two "
            f"evaluations, where {LARGEST:,} can be counted. More evaluations divide them."
        )
    return Schedule(
        num_evals,
        iterations.astype(np.int32),
        np.asarray(env_steps_taken, np.int64),
        env_steps - env_steps_taken[-1],
    )


def require_one_player(agent: Agent) -> None:
    """Results are labelled by seed and step, not by player.

    Raises:
        InputError: the agent's environment is a game of several players.
    """
    if isinstance(agent.env, Game):
        raise InputError(
            f"{type(agent.env).__name__} has {agent.env.num_players} players, whose returns labelled results do not "
            "tell apart yet: train in games by `jaxrl.make_train`, which keeps them along the last axis."
        )


def fields_of(values: Any) -> dict[str, Any]:
    """The fields of hyper-parameters or of an environment's parameters by name; {} where there are none."""
    if dataclasses.is_dataclass(values):
        return {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}
    return values._asdict() if hasattr(values, "_asdict") else {}


def with_fields(values: Any, **changes: Any) -> Any:
    """A copy of hyper-parameters or of an environment's parameters in which some fields are others."""
    change = getattr(values, "_replace", None) or partial(dataclasses.replace, values)
    return change(**changes)


def with_total_steps(hp: Any, env_steps: int) -> Any:
    """Checks hyper-parameters, and fills in the horizon of the schedules, `hp.total_steps`, where it is not given.

    Raises:
        InputError: a hyper-parameter that its field does not allow.
    """
    require(hp)
    if getattr(hp, "total_steps", 0.0) is None:
        return with_fields(hp, total_steps=float(env_steps))
    return hp


def with_horizon(state: Any, hp: Any) -> Any:
    """A state, of one run or of many, whose schedules end where those of `hp` do."""
    if getattr(hp, "total_steps", None) is None:
        return state
    ends = jax.tree.map(lambda old: jnp.full_like(old, hp.total_steps), state.hp.total_steps)
    return state._replace(hp=with_fields(state.hp, total_steps=ends))


def run(agent: Agent, state: Any, iterations: int, shared: Any = ()) -> tuple[Any, Metrics]:
    """Takes `iterations` steps of the agent. Two runs in a row are bitwise one run of twice the length.

    Returns:
        (state, metrics with a leading axis of `iterations`).
    """
    return jax.lax.scan(lambda state, _: agent.step(state, shared), state, None, length=iterations)


def run_up_to(agent: Agent, state: Any, iterations: jax.Array, most: int, shared: Any = ()) -> tuple[Any, Metrics]:
    """As `run`, for a traced number of iterations that is at most `most`: one program serves them all.

    It has no reverse mode, as no loop of a traced length has.

    Returns:
        (state, metrics with a leading axis of `most`; beyond `iterations` scalars are NaN and no episode ended).
    """
    shapes = jax.eval_shape(agent.step, state, shared)[1]

    def rows(shapes: Any, empty: float) -> Any:
        return jax.tree.map(lambda x: jnp.full((most, *x.shape), empty, x.dtype), shapes)

    nothing = Metrics(rows(shapes.episodes, 0), rows(shapes.scalars, jnp.nan))

    def one(i: jax.Array, carry: tuple[Any, Metrics]) -> tuple[Any, Metrics]:
        state, metrics = agent.step(carry[0], shared)
        return state, jax.tree.map(lambda rows, row: rows.at[i].set(row), carry[1], metrics)

    return jax.lax.fori_loop(0, iterations, one, (state, nothing))


def evaluate_agent(
    agent: Agent, state: Any, episodes: int, shared: Any = ()
) -> tuple[Evaluation, dict[str, Evaluation]]:
    """Evaluates the greedy policy of a state in the agent's own environment, and what else `agent.evaluations` names.

    Returns:
        (evaluation of the greedy policy, the others by name); all from the same key.

    Raises:
        InputError: two evaluations of one name, or one that is called "greedy".
    """
    names = ["greedy", *(other.name for other in agent.evaluations)]
    if len(set(names)) != len(names):
        raise InputError(f"evaluations {', '.join(names)}: each needs a name of its own; greedy is there always.")
    key = jax.random.key(EVAL_SEED)
    others = {
        other.name: evaluate(other.env, other.params(state, shared), other.policy(state, shared), key, episodes)
        for other in agent.evaluations
    }
    return evaluate(agent.env, state.env_params, agent.policy(state, shared), key, episodes), others


def make_train(
    agent: Agent, env_steps: int, num_evals: int = 10, eval_episodes: int = 32, at_start: bool = False
) -> Callable[..., Result]:
    """Builds the pure function of a whole run.

    Args:
        agent: from an agent's `make`.
        env_steps: environment steps of the run, the warm-up included; what is no whole iteration is left out.
        num_evals: evaluations, spread as evenly as whole iterations go; the last one is at the end.
        eval_episodes: whole episodes per evaluation, the same initial states every time.
        at_start: evaluate the untrained policy, too: a stretch of no iterations before all others. Nothing else
            differs but that the loop has no reverse mode.

    Returns:
        train(key, hyperparams, env_params, shared=()) -> Result. Jit it, vmap it over keys, hyper-parameters,
        parameters; what is shared has no axis of runs.

    Raises:
        InputError: the budget is too small.
    """
    eval_episodes = convert("eval_episodes", eval_episodes, Episodes)
    plan = schedule(agent, env_steps, num_evals)
    stretches = np.asarray([0, *plan.iterations] if at_start else plan.iterations)
    most, even = int(stretches.max()), bool((stretches == stretches[0]).all())

    def train(key: jax.Array, hp: Any, env_params: Any, shared: Any = ()) -> Result:
        def stretch(state: Any, iterations: jax.Array) -> tuple[Any, Any]:
            # A loop of one length alone has a reverse mode.
            if even:
                state, metrics = run(agent, state, most, shared)
            else:
                state, metrics = run_up_to(agent, state, iterations, most, shared)
            return state, (metrics, *evaluate_agent(agent, state, eval_episodes, shared))

        state = agent.init(key, with_total_steps(hp, env_steps), env_params, shared)
        state, outcome = jax.lax.scan(stretch, state, jnp.asarray(stretches))
        return Result(state, *outcome)

    return train
