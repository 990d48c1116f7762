"""Hindsight (Andrychowicz et al. 2017, arXiv:1707.01495): steps stored again under goals that were met.

A step s, a → s' towards a goal g says nothing while g is out of reach. Towards a goal that a later step of the same
episode did achieve, it says something: reward and end are judged anew (`envs.base.GoalEnv.judge`), all else stays. This
is the paper's strategy "future". What is later than the rollout is not known yet, so an episode's future is the part of
it that lies in the same rollout: let a rollout be about as long as an episode, or longer.
"""

from typing import Any

import jax
import jax.numpy as jnp

from envs.base import ACHIEVED, DESIRED, Env, GoalEnv
from envs.errors import InputError
from jaxrl.types import Transition


def require_goals(agent: str, env: Env, n_step: int) -> GoalEnv:
    """Returns `env`.

    Raises:
        InputError: targets of several steps, or steps that no other goal can judge.
    """
    if n_step > 1:
        raise InputError(f"hindsight judges single steps: n_step={n_step} must be 1.")
    if not isinstance(env, GoalEnv):
        raise InputError(f"{agent}: hindsight needs an environment with goals (envs.base.GoalEnv), not {env}.")
    return env


def relabel(env: GoalEnv, params: Any, transitions: Transition, key: jax.Array, num: int) -> Transition:
    """Gives every step `num` goals that were achieved at it or later in its episode.

    Args:
        env: judges.
        params: its parameters.
        transitions: [T, B, ...] of one step each, in order.
        key: consumed.
        num: goals for each step.

    Returns:
        Transitions [num, T, B, ...].
    """
    length, batch = transitions.reward.shape
    ended = (transitions.terminated | transitions.truncated).at[-1].set(True)
    # The first end at or after each step: a running minimum from behind.
    steps = jnp.arange(length)[:, None]
    last = jax.lax.cummin(jnp.where(ended, steps, length), axis=0, reverse=True)  # [T, B]
    drawn = jax.random.uniform(key, (num, length, batch))
    later = steps + jnp.floor(drawn * (last - steps + 1)).astype(jnp.int32)
    later = jnp.minimum(later, last)  # a draw just below 1 may round up
    achieved = transitions.next_obs[ACHIEVED]
    goal = jax.tree.map(lambda x: x[later, jnp.arange(batch)], achieved)

    def under(obs: dict[str, Any]) -> dict[str, Any]:
        same = {name: value for name, value in obs.items() if name != DESIRED}
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (num, *x.shape)), same) | {DESIRED: goal}

    judge = env.judge
    for axes in ((0, 0, None), (0, 0, None), (None, 0, None)):  # over B, T and the goals of a step
        judge = jax.vmap(judge, axes)
    reward, terminated = judge(achieved, goal, params)
    repeated = jax.tree.map(lambda x: jnp.broadcast_to(x, (num, *x.shape)), transitions)
    return repeated._replace(
        obs=under(transitions.obs), next_obs=under(transitions.next_obs), reward=reward, terminated=terminated
    )
