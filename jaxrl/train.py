"""Training as pure functions: `run` (resumable) and `make_train` (a whole run, evaluations included).

Both are functions of one run; `jax.vmap`, or `jaxrl.placement.map_runs`, makes them functions of a thousand.
The host driver with progress bar, checkpoints and results on disk is `jaxrl.driver.fit`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from envs.errors import InputError
from jaxrl.evaluate import Evaluation, evaluate
from jaxrl.types import Agent, Metrics

EVAL_SEED = 2**31 - 1  # every run of every seed is evaluated from the same initial states


class Schedule(NamedTuple):
    """How a run divides into stretches of training, an evaluation after each."""

    num_evals: int
    iterations_per_eval: int
    env_steps: np.ndarray  # i64[num_evals] environment steps taken when each evaluation happens


class Result(NamedTuple):
    """What a whole run returns."""

    state: Any
    metrics: Metrics  # [num_evals, iterations_per_eval]
    evaluation: Evaluation  # [num_evals, episodes]


def schedule(agent: Agent, env_steps: int, num_evals: int) -> Schedule:
    """Divides at most `env_steps` environment steps into `num_evals` equal stretches.

    The warm-up counts. What does not fill whole iterations is left out, never added.

    Raises:
        InputError: the budget is too small for one iteration per evaluation.
    """
    if num_evals < 1:
        raise InputError(f"num_evals={num_evals} must be at least 1.")
    iterations = max(env_steps - agent.warmup_steps, 0) // agent.steps_per_iteration
    if iterations < num_evals:
        needed = agent.warmup_steps + num_evals * agent.steps_per_iteration
        raise InputError(
            f"{env_steps} environment steps are too few: {num_evals} evaluations of {agent.name} need {needed} "
            f"({agent.warmup_steps} of warm-up, {agent.steps_per_iteration} per iteration)."
        )
    per_eval = iterations // num_evals
    steps = agent.warmup_steps + agent.steps_per_iteration * per_eval * np.arange(1, num_evals + 1)
    return Schedule(num_evals, per_eval, steps)


def with_total_steps(hp: Any, env_steps: int) -> Any:
    """Fills in the horizon of an agent's schedules, `hp.total_steps`, where it is not given."""
    if getattr(hp, "total_steps", 0.0) is None:
        return hp._replace(total_steps=float(env_steps))
    return hp


def run(agent: Agent, state: Any, iterations: int) -> tuple[Any, Metrics]:
    """Takes `iterations` steps of the agent. Two runs in a row are bitwise one run of twice the length.

    Returns:
        (state, metrics with a leading axis of `iterations`).
    """
    return jax.lax.scan(lambda state, _: agent.step(state), state, None, length=iterations)


def evaluate_agent(agent: Agent, state: Any, episodes: int) -> Evaluation:
    """Evaluates the greedy policy of a state in the agent's own environment and parameters."""
    return evaluate(agent.env, state.env_params, agent.policy(state), jax.random.key(EVAL_SEED), episodes)


def make_train(
    agent: Agent, env_steps: int, num_evals: int = 10, eval_episodes: int = 32
) -> Callable[[jax.Array, Any, Any], Result]:
    """Builds the pure function of a whole run.

    Args:
        agent: from an agent's `make`.
        env_steps: environment steps of the run at most, the warm-up included.
        num_evals: evaluations, spread evenly; the last one is at the end.
        eval_episodes: whole episodes per evaluation, the same initial states every time.

    Returns:
        train(key, hyperparams, env_params) -> Result. Jit it, vmap it over keys, hyper-parameters, parameters.

    Raises:
        InputError: the budget is too small.
    """
    plan = schedule(agent, env_steps, num_evals)

    def train(key: jax.Array, hp: Any, env_params: Any) -> Result:
        def stretch(state: Any, _: None) -> tuple[Any, tuple[Metrics, Evaluation]]:
            state, metrics = run(agent, state, plan.iterations_per_eval)
            return state, (metrics, evaluate_agent(agent, state, eval_episodes))

        state = agent.init(key, with_total_steps(hp, env_steps), env_params)
        state, (metrics, evaluation) = jax.lax.scan(stretch, state, None, length=plan.num_evals)
        return Result(state, metrics, evaluation)

    return train
