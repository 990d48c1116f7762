"""n-step transitions for replay memories: each stored row reaches from a state to the one up to n steps later.

    reward = Σ_{i<k} γ^i r_i,   discount = γ^k (1 − terminated),   k = n or fewer where the episode ends before

(Watkins 1989; with replay and without a correction for the policy as in Rainbow, Hessel et al. 2018,
arXiv:1710.02298). An episode cut by its time limit is bootstrapped at the state really reached, with γ^k. Of each cost
there is the same sum as of the rewards.
"""

from typing import Any

import jax
import jax.numpy as jnp

from envs.errors import InputError
from jaxrl.types import Transition


def extend(window: Any, steps: Transition, gamma: jax.Array | float, n: int) -> tuple[Any, Transition]:
    """Appends new steps to the window and emits every start whose n steps are complete, each exactly once.

    An agent keeps the window in its state; starts leave it n − 1 steps after they were taken. So a rollout of T
    steps, T ≥ 1, emits T transitions per environment, the first one (from an empty window) T − n + 1.

    Args:
        window: the last n − 1 steps, [n − 1, B, ...], from the call before; () at the beginning.
        steps: [T, B, ...] out of a rollout. Of their extras those of the first step remain.
        gamma: discount of one step.
        n: steps per transition, static; 1 returns `steps` as they are.

    Returns:
        (window for the next call, transitions [T, B, ...] with their own `discount`).

    Raises:
        InputError: n is below 1, or an empty window is given fewer than n steps.
    """
    _require_positive(n)
    if n == 1:
        return (), steps
    if window != ():
        steps = jax.tree.map(lambda old, new: jnp.concatenate([old, new]), window, steps)
    length, num_envs = steps.reward.shape
    starts = length - n + 1
    if starts < 1:
        raise InputError(f"{length} steps are too few to begin with n_step={n}.")

    ended = steps.terminated | steps.truncated
    reward, going = jnp.zeros((starts, num_envs)), jnp.ones((starts, num_envs), jnp.bool_)
    cost = jax.tree.map(lambda x: jnp.zeros((starts, *x.shape[1:])), steps.cost)
    factor, last = jnp.ones((starts, num_envs)), jnp.full((starts, num_envs), -1)
    for i in range(n):
        reward = reward + jnp.where(going, factor * steps.reward[i : i + starts], 0.0)
        counts = jnp.where(going, factor, 0.0)[..., None]
        cost = jax.tree.map(lambda total, x, i=i, c=counts: total + c * x[i : i + starts], cost, steps.cost)
        factor = jnp.where(going, factor * gamma, factor)
        last = last + going
        going &= ~ended[i : i + starts]
    # Only the last step of each start is read of what may be large.
    at = (jnp.arange(starts)[:, None] + last, jnp.arange(num_envs))
    terminated, truncated = steps.terminated[at], steps.truncated[at]
    next_obs = jax.tree.map(lambda x: x[at], steps.next_obs)
    first = jax.tree.map(lambda x: x[:starts], steps)
    emitted = first._replace(
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        next_obs=next_obs,
        discount=factor * (1.0 - terminated),
        cost=cost,
    )
    return jax.tree.map(lambda x: x[starts:], steps), emitted


def stored(example: Transition, n: int) -> Transition:
    """The shapes of one transition that `extend` emits, given those of one step.

    Raises:
        InputError: n is below 1.
    """
    _require_positive(n)
    return example if n == 1 else example._replace(discount=jax.ShapeDtypeStruct((), jnp.float32))


def discount(batch: Transition, gamma: jax.Array | float) -> jax.Array:
    """The factor f32[...] of the value of next_obs in a target: γ(1 − terminated), or what `extend` stored."""
    return gamma * (1.0 - batch.terminated) if isinstance(batch.discount, tuple) else batch.discount


def _require_positive(n: int) -> None:
    if n < 1:
        raise InputError(f"n_step={n} must be at least 1.")
