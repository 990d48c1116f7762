"""Dynamic programming on finite MDPs that are given as arrays (Sutton & Barto 2018, chapter 4; Puterman 1994).

Every function takes

    transition  f[S, A, S]  P(s' and the episode goes on | s, a); what a row lacks to 1 is the probability of an ending
    reward      f[S, A]     E[r | s, a]
    gamma       f[]         discount

as `envs.tabular.Tables` has them (`tables.continuation`, `tables.expected_reward`): since what ends an episode is left
out of `transition`, no state is a special case. All of them are pure and can be jitted and vmapped, over MDPs and over
γ; a vmapped iteration goes on until the slowest MDP is through, and the others keep what they had. The precision is
that of the arrays: for more than six digits give float64 under `jax.enable_x64`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs.errors import InputError


class Solution(NamedTuple):
    """An optimal policy, or the best found within the given number of iterations."""

    values: jax.Array  # f[S]
    action_values: jax.Array  # f[S, A] one backup of `values`
    policy: jax.Array  # i32[S] greedy in `action_values`, the first of equals
    residual: jax.Array  # f[] Bellman residual max_s |max_a Q(s, a) − V(s)|; V is off by at most residual / (1 − γ)
    iterations: jax.Array  # i32[] of the method's outer loop


class Evaluation(NamedTuple):
    """The values of a policy."""

    values: jax.Array  # f[S]
    residual: jax.Array  # f[] max_s |(T_π V − V)(s)|
    iterations: jax.Array  # i32[] sweeps over all states


class Plan(NamedTuple):
    """An optimal policy of a problem that ends after H steps: it depends on the time."""

    values: jax.Array  # f[H + 1, S] the last row is the value of what is left at the end
    policy: jax.Array  # i32[H, S]


def backup(transition: jax.Array, reward: jax.Array, gamma: Any, values: jax.Array) -> jax.Array:
    """Returns Q(s, a) = r(s, a) + γ Σ_s' P(s'|s, a) V(s'), f[S, A]."""
    return reward + gamma * jnp.einsum("sat,t->sa", transition, values, precision="highest")


def evaluate_policy(
    transition: jax.Array,
    reward: jax.Array,
    gamma: Any,
    policy: jax.Array,
    tolerance: Any = 1e-6,
    max_iterations: int = 10_000,
) -> Evaluation:
    """Iterative policy evaluation: sweeps V ← T_π V from 0 until no value moves by more than `tolerance`.

    Args:
        transition: f[S, A, S].
        reward: f[S, A].
        gamma: discount.
        policy: f[S, A] probabilities, or i32[S] actions.
        tolerance: where to stop. Below the rounding of the values it is never reached.
        max_iterations: stop after so many sweeps in any case; `residual` tells.

    Raises:
        InputError: shapes that do not fit together.
    """
    probability = _probabilities(transition, reward, policy)

    def sweep(values: jax.Array) -> jax.Array:
        return jnp.sum(probability * backup(transition, reward, gamma, values), -1)

    values, iterations = _iterate(sweep, jnp.zeros_like(reward[:, 0]), tolerance, max_iterations)
    return Evaluation(values, jnp.max(jnp.abs(sweep(values) - values)), iterations)


def solve_policy(transition: jax.Array, reward: jax.Array, gamma: Any, policy: jax.Array) -> jax.Array:
    """Returns the values of a policy, f[S], from the linear system (I − γ P_π) V = r_π.

    The system must not be singular: γ < 1, or every episode of the policy ends.

    Args:
        transition: f[S, A, S].
        reward: f[S, A].
        gamma: discount.
        policy: f[S, A] probabilities, or i32[S] actions.

    Raises:
        InputError: shapes that do not fit together.
    """
    probability = _probabilities(transition, reward, policy)
    system = jnp.eye(len(reward)) - gamma * jnp.einsum("sa,sat->st", probability, transition, precision="highest")
    return _solve(system, jnp.sum(probability * reward, -1))


def value_iteration(
    transition: jax.Array, reward: jax.Array, gamma: Any, tolerance: Any = 1e-6, max_iterations: int = 10_000
) -> Solution:
    """Sweeps V ← max_a Q from 0 until no value moves by more than `tolerance`.

    Raises:
        InputError: shapes that do not fit together.
    """
    _check(transition, reward)

    def sweep(values: jax.Array) -> jax.Array:
        return backup(transition, reward, gamma, values).max(-1)

    values, iterations = _iterate(sweep, jnp.zeros_like(reward[:, 0]), tolerance, max_iterations)
    return _solution(transition, reward, gamma, values, iterations)


def policy_iteration(transition: jax.Array, reward: jax.Array, gamma: Any, max_iterations: int = 1_000) -> Solution:
    """Howard's policy iteration: the values of a policy by `solve_policy`, then a greedy policy, until it stays.

    It starts from the policy that is greedy in the rewards, so that policy must have finite values: with γ = 1 use
    value iteration. An action is given up only for one that is better by more than rounding.

    Raises:
        InputError: shapes that do not fit together.
    """
    _check(transition, reward)
    states = jnp.arange(len(reward))

    def improve(carry: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> Any:
        policy, _, _, count = carry
        values = solve_policy(transition, reward, gamma, policy)
        q = backup(transition, reward, gamma, values)
        kept = q[states, policy]
        margin = 8 * jnp.finfo(q.dtype).eps * (1 + jnp.abs(kept)) / jnp.maximum(1 - gamma, 1e-3)
        better = q.max(-1) > kept + margin
        return jnp.where(better, q.argmax(-1), policy).astype(jnp.int32), values, better.any(), count + 1

    def going(carry: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, _, changed, count = carry
        return changed & (count < max_iterations)

    start = reward.argmax(-1).astype(jnp.int32), jnp.zeros_like(reward[:, 0]), jnp.bool_(True), jnp.int32(0)
    _, values, _, iterations = jax.lax.while_loop(going, improve, start)
    return _solution(transition, reward, gamma, values, iterations)


def modified_policy_iteration(
    transition: jax.Array,
    reward: jax.Array,
    gamma: Any,
    sweeps: int = 10,
    tolerance: Any = 1e-6,
    max_iterations: int = 10_000,
) -> Solution:
    """Between value iteration (`sweeps` = 0) and policy iteration (∞): after every greedy backup V ← max_a Q the greedy
    policy is evaluated by `sweeps` further sweeps (Puterman & Shin 1978). Stops when a greedy backup moves no value by
    more than `tolerance`.

    Raises:
        InputError: shapes that do not fit together, or negative `sweeps`.
    """  # noqa: D205 (the first sentence is two lines long)
    _check(transition, reward)
    if sweeps < 0:
        raise InputError(f"sweeps={sweeps} must not be negative.")
    states = jnp.arange(len(reward))

    def one(carry: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
        values, _, count = carry
        q = backup(transition, reward, gamma, values)
        policy, greedy = q.argmax(-1), q.max(-1)
        chosen, gain = transition[states, policy], reward[states, policy]

        def sweep(_: jax.Array, v: jax.Array) -> jax.Array:
            return gain + gamma * jnp.einsum("st,t->s", chosen, v, precision="highest")

        change = jnp.max(jnp.abs(greedy - values))
        return jax.lax.fori_loop(0, sweeps, sweep, greedy), change, count + 1

    def going(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, change, count = carry
        return (change > tolerance) & (count < max_iterations)

    start = jnp.zeros_like(reward[:, 0]), jnp.asarray(jnp.inf, reward.dtype), jnp.int32(0)
    values, _, iterations = jax.lax.while_loop(going, one, start)
    return _solution(transition, reward, gamma, values, iterations)


def backward_induction(
    transition: jax.Array, reward: jax.Array, horizon: int, gamma: Any = 1.0, final_values: Any = 0.0
) -> Plan:
    """Solves the problem of `horizon` steps from its end.

    Args:
        transition: f[S, A, S].
        reward: f[S, A].
        horizon: H, number of steps that are left at the start.
        gamma: discount.
        final_values: f[S], or one number: what a state is worth when no step is left.

    Raises:
        InputError: shapes that do not fit together, or `horizon` < 1.
    """
    _check(transition, reward)
    if horizon < 1:
        raise InputError(f"horizon={horizon} must be at least 1.")

    def earlier(values: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        q = backup(transition, reward, gamma, values)
        return q.max(-1), (q.max(-1), q.argmax(-1).astype(jnp.int32))

    last = jnp.broadcast_to(jnp.asarray(final_values, reward.dtype), reward.shape[:1])
    _, (values, policy) = jax.lax.scan(earlier, last, None, length=horizon, reverse=True)
    return Plan(jnp.concatenate([values, last[None]]), policy)


def _solution(transition: jax.Array, reward: jax.Array, gamma: Any, values: jax.Array, iterations: Any) -> Solution:
    q = backup(transition, reward, gamma, values)
    residual = jnp.max(jnp.abs(q.max(-1) - values))
    return Solution(values, q, q.argmax(-1).astype(jnp.int32), residual, iterations)


def _iterate(sweep: Any, values: jax.Array, tolerance: Any, max_iterations: int) -> tuple[jax.Array, jax.Array]:
    """Applies `sweep` until it moves nothing by more than `tolerance`; returns (values, number of sweeps)."""

    def one(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        values, _, count = carry
        following = sweep(values)
        return following, jnp.max(jnp.abs(following - values)), count + 1

    def going(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, change, count = carry
        return (change > tolerance) & (count < max_iterations)

    start = values, jnp.asarray(jnp.inf, values.dtype), jnp.int32(0)
    values, _, count = jax.lax.while_loop(going, one, start)
    return values, count


def _solve(system: jax.Array, right: jax.Array) -> jax.Array:
    """Gauss–Jordan elimination. I − γP is diagonally dominant, so it needs no pivots, and unlike a batched LAPACK call
    it cannot stall XLA's thread pool when it is vmapped.
    """  # noqa: D205

    def eliminate(i: jax.Array, both: jax.Array) -> jax.Array:
        row = both[i] / both[i, i]
        return (both - both[:, i, None] * row).at[i].set(row)

    return jax.lax.fori_loop(0, len(right), eliminate, jnp.concatenate([system, right[:, None]], 1))[:, -1]


def _probabilities(transition: jax.Array, reward: jax.Array, policy: jax.Array) -> jax.Array:
    _check(transition, reward)
    if jnp.shape(policy) == reward.shape[:1]:
        return jax.nn.one_hot(policy, reward.shape[1], dtype=reward.dtype)
    if jnp.shape(policy) == reward.shape:
        return jnp.asarray(policy, reward.dtype)
    raise InputError(
        f"policy has shape {jnp.shape(policy)}; it must be {reward.shape[:1]} actions or {reward.shape} probabilities."
    )


def _check(transition: jax.Array, reward: jax.Array) -> None:
    num_states, num_actions = (*jnp.shape(reward), 0, 0)[:2]
    if jnp.ndim(reward) != 2 or jnp.shape(transition) != (num_states, num_actions, num_states):
        raise InputError(
            f"transition {jnp.shape(transition)} and reward {jnp.shape(reward)} do not fit together: "
            "they must be [S, A, S] and [S, A]."
        )
