"""The one recursion behind TD(0), TD(λ), n-step returns, Monte Carlo and GAE.

Truncation is in the arguments and nowhere else: `discount_t = γ(1 − terminated)`, `lambda_t = λ(1 − (terminated |
truncated))`, `v_t = V(next_obs)` of the true successor. Where an episode is cut by its time limit, λ is 0, so the
return ends with the bootstrapped value of the state that was really reached; where it terminates, the discount is 0.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def successor_values(
    value: Callable[[Any], jax.Array], v_tm1: jax.Array, next_obs: Any, truncated: jax.Array
) -> jax.Array:
    """V(next_obs) of a rollout, wherever it counts, for little more than the V(obs) that is known already.

    A successor is what the next step sees, but after the last step and where an episode ended. Terminal ones do not
    count (their discount is 0: they get the value of the new episode's start), so `value` is asked for the last and the
    truncated ones alone: one of each environment at a time, until none is left. That is seldom more than twice.

    Args:
        value: obs [B, ...] -> f32[B].
        v_tm1: f32[T, B] what `value` gives for the observations acted on; gradients do not pass.
        next_obs: [T, B, ...] the true successors.
        truncated: bool[T, B].

    Returns:
        f32[T, B].
    """
    length, num_envs = v_tm1.shape

    def ask(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        open_, v_t = carry
        t = jnp.argmax(open_, axis=0)  # the first of each environment
        asked = open_ & (jnp.arange(length)[:, None] == t)
        answers = value(jax.tree.map(lambda x: jnp.asarray(x)[t, jnp.arange(num_envs)], next_obs))
        return open_ & ~asked, jnp.where(asked, answers, v_t)

    open_ = jnp.asarray(truncated).at[-1].set(True)
    following = jnp.roll(jax.lax.stop_gradient(v_tm1), -1, axis=0)
    return jax.lax.while_loop(lambda carry: carry[0].any(), ask, (open_, following))[1]


def lambda_returns(r_t: jax.Array, discount_t: jax.Array, v_t: jax.Array, lambda_t: jax.Array) -> jax.Array:
    """λ-returns, G_{t-1} = r_t + discount_t · ((1 − lambda_t) · v_t + lambda_t · G_t), with G_T = v_T at the end.

    λ = 0 gives one-step TD targets, λ = 1 Monte Carlo returns bootstrapped at the end of the sequence
    (Sutton & Barto 2018, equation 12.18).

    Args:
        r_t: f32[T, ...] rewards, time-major.
        discount_t: f32[T, ...] discounts.
        v_t: f32[T, ...] values of the true successors.
        lambda_t: f32[T, ...] mixing, 0 where the recursion must not reach beyond step t.

    Returns:
        f32[T, ...] returns, from the state before each reward.
    """

    def backwards(g_t: jax.Array, xs: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        r, discount, v, lam = xs
        g_tm1 = r + discount * ((1 - lam) * v + lam * g_t)
        return g_tm1, g_tm1

    _, g_tm1 = jax.lax.scan(backwards, v_t[-1], (r_t, discount_t, v_t, lambda_t), reverse=True)
    return g_tm1


def cuts(
    terminated: jax.Array, truncated: jax.Array, gamma: jax.Array | float, lam: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """The truncation rule: returns (discount_t, lambda_t), both f32 of the flags' shape."""
    return gamma * (1.0 - terminated), lam * (1.0 - (terminated | truncated))


def gae(
    r_t: jax.Array, discount_t: jax.Array, v_tm1: jax.Array, v_t: jax.Array, lambda_t: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Generalised advantage estimation (Schulman et al. 2016): λ-returns less the value of the state left.

    Returns:
        (advantages, value targets), each f32[T, ...]; gradients are the caller's to stop.
    """
    targets = lambda_returns(r_t, discount_t, v_t, lambda_t)
    return targets - v_tm1, targets


def vtrace(
    r_t: jax.Array,
    discount_t: jax.Array,
    v_tm1: jax.Array,
    v_t: jax.Array,
    rho_tm1: jax.Array,
    lambda_t: jax.Array,
    clip_rho: jax.Array | float = 1.0,
    clip_pg_rho: jax.Array | float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """V-trace: off-policy corrected targets and policy-gradient advantages (Espeholt et al. 2018, arXiv:1802.01561).

        G_{t-1} = v_{t-1} + ρ̄_{t-1} δ_t + discount_t λ_t c_{t-1} (G_t − v_t),   δ_t = r_t + discount_t v_t − v_{t-1}

    with ρ̄ = min(clip_rho, ρ), c = min(1, ρ) (equation 1, written backwards). Where ρ = 1 and the clips are no smaller,
    the targets are `lambda_returns`. The advantage (section 4.2) is
    min(clip_pg_rho, ρ_{t-1}) (r_t + discount_t (v_t + λ_t (G_t − v_t)) − v_{t-1}).

    Args:
        r_t: f32[T, ...] rewards, time-major.
        discount_t: f32[T, ...] discounts.
        v_tm1: f32[T, ...] values of the states acted in.
        v_t: f32[T, ...] values of the true successors.
        rho_tm1: f32[T, ...] π(a|s)/μ(a|s), the policy that learns over the one that acted.
        lambda_t: f32[T, ...] as in `lambda_returns`: 0 where the recursion must not reach beyond step t.
        clip_rho: decides which policy's value is learnt; the learner's where it is infinite.
        clip_pg_rho: bounds the weight of a step in the policy gradient.

    Returns:
        (advantages, value targets), each f32[T, ...]; gradients are the caller's to stop.
    """
    delta = jnp.minimum(rho_tm1, clip_rho) * (r_t + discount_t * v_t - v_tm1)
    trace = lambda_t * jnp.minimum(rho_tm1, 1.0)

    def backwards(error: jax.Array, xs: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        delta, discount, trace = xs
        return delta + discount * trace * error, (delta + discount * trace * error, error)

    _, (error_tm1, error_t) = jax.lax.scan(backwards, jnp.zeros_like(v_t[-1]), (delta, discount_t, trace), reverse=True)
    q_tm1 = r_t + discount_t * (v_t + lambda_t * error_t)
    return jnp.minimum(rho_tm1, clip_pg_rho) * (q_tm1 - v_tm1), v_tm1 + error_tm1
