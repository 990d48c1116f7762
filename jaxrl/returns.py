"""The one recursion behind TD(0), TD(λ), n-step returns, Monte Carlo and GAE.

Truncation is in the arguments and nowhere else: `discount_t = γ(1 − terminated)`, `lambda_t = λ(1 − (terminated |
truncated))`, `v_t = V(next_obs)` of the true successor. Where an episode is cut by its time limit, λ is 0, so the
return ends with the bootstrapped value of the state that was really reached; where it terminates, the discount is 0.
"""

import jax


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
