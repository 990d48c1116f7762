"""TD errors and surrogate losses: arrays in, one value per element out; reducing them is the caller's choice.

Every function takes any leading axes ([], [B], [T, B] …), which broadcast against each other. Names follow rlax:
`x_tm1` belongs to the step acted on, `x_t` to its successor, and `discount_t` is γ(1 − terminated): truncation
does not appear in it. Targets carry no gradient, so differentiating a loss of the error moves `q_tm1` alone.
"""

import math

import jax
import jax.numpy as jnp

from jaxrl.distributions import Categorical, at_index


def q_learning(
    q_tm1: jax.Array, a_tm1: jax.Array, r_t: jax.Array | float, discount_t: jax.Array | float, q_t: jax.Array
) -> jax.Array:
    """Q-learning's error, r + γ max_a q_t(a) − q_tm1(a_tm1) (Watkins & Dayan 1992).

    Args:
        q_tm1: f32[..., A] values of the state acted in.
        a_tm1: int[...] the action taken there.
        r_t: f32[...] the reward that followed.
        discount_t: f32[...] γ(1 − terminated).
        q_t: f32[..., A] values of the successor, usually from a target network.

    Returns:
        f32[...] target minus estimate.
    """
    return _error(q_tm1, a_tm1, r_t, discount_t, jnp.max(q_t, axis=-1))


def double_q_learning(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    r_t: jax.Array | float,
    discount_t: jax.Array | float,
    q_t_value: jax.Array,
    q_t_selector: jax.Array,
) -> jax.Array:
    """Double Q-learning's error: `q_t_selector` picks the greedy action, `q_t_value` values it.

    van Hasselt, Guez & Silver 2016 (arXiv:1509.06461), where the selector is the online network and the value
    comes from the target network. Shapes as in `q_learning`, both successors' values f32[..., A].
    """
    return _error(q_tm1, a_tm1, r_t, discount_t, at_index(q_t_value, jnp.argmax(q_t_selector, axis=-1)))


def sarsa(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    r_t: jax.Array | float,
    discount_t: jax.Array | float,
    q_t: jax.Array,
    a_t: jax.Array,
) -> jax.Array:
    """SARSA's error: the successor is valued at the action `a_t` int[...] that will be taken in it.

    Sutton & Barto 2018, eq. 6.7. Other shapes as in `q_learning`.
    """
    return _error(q_tm1, a_tm1, r_t, discount_t, at_index(q_t, a_t))


def expected_sarsa(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    r_t: jax.Array | float,
    discount_t: jax.Array | float,
    q_t: jax.Array,
    probs_a_t: jax.Array,
) -> jax.Array:
    """Expected SARSA's error: the successor's value is the mean of `q_t` under `probs_a_t` f32[..., A].

    Sutton & Barto 2018, eq. 6.9. Other shapes as in `q_learning`.
    """
    return _error(q_tm1, a_tm1, r_t, discount_t, jnp.sum(probs_a_t * q_t, axis=-1))


def munchausen_q_learning(
    q_tm1: jax.Array,
    a_tm1: jax.Array,
    r_t: jax.Array | float,
    discount_t: jax.Array | float,
    q_t: jax.Array,
    target_q_tm1: jax.Array,
    alpha: jax.Array | float,
    tau: jax.Array | float,
    clip: jax.Array | float,
) -> jax.Array:
    """Munchausen DQN's error: a softmax policy, and a bonus for it (Vieillard et al. 2020, arXiv:2007.14430).

        r + α max(τ log π(a_tm1|s_tm1), l_0) + γ Σ_a π(a|s_t) (q_t(a) − τ log π(a|s_t)),   π = softmax(q / τ)

    Args:
        q_tm1: f32[..., A] values of the state acted in.
        a_tm1: int[...] the action taken there.
        r_t: f32[...] the reward of this one step.
        discount_t: f32[...] γ(1 − terminated).
        q_t: f32[..., A] values of the successor from the target network.
        target_q_tm1: f32[..., A] values of the state acted in from the target network.
        alpha: how much of the scaled log-policy is added to the reward (0.9 in the paper; 0 is soft Q-learning).
        tau: temperature τ > 0, in units of value (0.03 in the paper).
        clip: l_0 < 0, the least that the scaled log-policy may be (−1 in the paper).
    """
    log_policy = tau * at_index(jax.nn.log_softmax(target_q_tm1 / tau, axis=-1), a_tm1)
    soft_v_t = tau * jax.nn.logsumexp(q_t / tau, axis=-1)  # which Σ π (q − τ log π) comes to
    return _error(q_tm1, a_tm1, r_t + alpha * jnp.maximum(log_policy, clip), discount_t, soft_v_t)


def categorical_projection(
    probs: jax.Array, support: jax.Array, v_min: jax.Array | float, v_max: jax.Array | float, num_atoms: int
) -> jax.Array:
    """Moves a distribution onto `num_atoms` values evenly spaced from v_min to v_max, keeping its mean.

    The mass of a point between two values is shared by them in proportion to its nearness; what lies outside goes to
    the nearer end (Bellemare, Dabney & Munos 2017, arXiv:1707.06887, eq. 7).

    Args:
        probs: f32[..., M] probabilities of the points.
        support: f32[..., M] where they lie, in any order.
        v_min: the first value.
        v_max: the last.
        num_atoms: N, at least 2, static.

    Returns:
        f32[..., N] probabilities.
    """
    probs, support = jnp.broadcast_arrays(probs, support)
    place = (jnp.clip(support, v_min, v_max) - v_min) * ((num_atoms - 1) / (v_max - v_min))
    place = jnp.minimum(place, num_atoms - 1.0)  # v_max itself may round to beyond: then a share would be negative
    lower = jnp.minimum(jnp.floor(place), num_atoms - 2)
    above = place - lower
    # Two additions per point; a table of N² shares takes twelve times as long on a CPU (101 values, a batch of 128).
    batch, points = place.shape[:-1], place.shape[-1]
    row = jnp.arange(math.prod(batch))[:, None]
    column = lower.astype(jnp.int32).reshape(-1, points)
    below, above = (probs * (1.0 - above)).reshape(-1, points), (probs * above).reshape(-1, points)
    projected = jnp.zeros((math.prod(batch), num_atoms)).at[row, column].add(below).at[row, column + 1].add(above)
    return projected.reshape(*batch, num_atoms)


def categorical_target(
    r_t: jax.Array | float,
    discount_t: jax.Array | float,
    logits_t: jax.Array,
    a_t: jax.Array,
    v_min: jax.Array | float,
    v_max: jax.Array | float,
) -> jax.Array:
    """The distribution of r + γ Z(s_t, a_t), projected onto the values that Z has; without gradient.

    Args:
        r_t: f32[...] the reward.
        discount_t: f32[...] γ(1 − terminated).
        logits_t: f32[..., A, N] of the returns from the successor, on N values evenly spaced from v_min to v_max.
        a_t: int[...] the successor's action: greedy under those, or under another network (double Q-learning).
        v_min: the least return.
        v_max: the greatest.

    Returns:
        f32[..., N] probabilities.
    """
    num_atoms = logits_t.shape[-1]
    support = jnp.asarray(discount_t)[..., None] * jnp.linspace(v_min, v_max, num_atoms)
    support = jnp.asarray(r_t)[..., None] + support
    probs_t = jax.nn.softmax(_at_action(logits_t, a_t), axis=-1)
    return jax.lax.stop_gradient(categorical_projection(probs_t, support, v_min, v_max, num_atoms))


def categorical_q_learning(logits_tm1: jax.Array, a_tm1: jax.Array, target: jax.Array) -> jax.Array:
    """C51's loss, KL(target ‖ Z(s_tm1, a_tm1)) (Bellemare, Dabney & Munos 2017, arXiv:1707.06887, algorithm 1).

    The paper writes the cross-entropy, which is larger by the target's entropy and has the same gradient. The
    divergence is 0 where nothing is left to learn, so it can be a priority (Hessel et al. 2018).

    Args:
        logits_tm1: f32[..., A, N] of the returns from the state acted in.
        a_tm1: int[...] the action taken there.
        target: f32[..., N] from `categorical_target`.

    Returns:
        f32[...] to be minimised, in nats.
    """
    log_probs = jax.nn.log_softmax(_at_action(logits_tm1, a_tm1), axis=-1)
    return jnp.sum(jax.scipy.special.xlogy(target, target) - target * log_probs, axis=-1)


def categorical_mean(logits: jax.Array, v_min: jax.Array | float, v_max: jax.Array | float) -> jax.Array:
    """The means f32[...] of categorical distributions f32[..., N] on values evenly spaced from v_min to v_max."""
    return jnp.sum(jax.nn.softmax(logits, axis=-1) * jnp.linspace(v_min, v_max, logits.shape[-1]), axis=-1)


def _at_action(values: jax.Array, action: jax.Array) -> jax.Array:
    """The row [..., N] of each action int[...] in values [..., A, N]."""
    return jnp.take_along_axis(values, action[..., None, None], axis=-2)[..., 0, :]


def _error(
    q_tm1: jax.Array, a_tm1: jax.Array, r_t: jax.Array | float, discount_t: jax.Array | float, v_t: jax.Array
) -> jax.Array:
    return jax.lax.stop_gradient(r_t + discount_t * v_t) - at_index(q_tm1, a_tm1)


def policy_gradient(log_prob: jax.Array, advantage: jax.Array) -> jax.Array:
    """−log π(a|s) A, whose gradient is the policy gradient's sample (Williams 1992; Sutton et al. 2000).

    Args:
        log_prob: f32[...] log π(a|s); the only argument that gets a gradient.
        advantage: f32[...] A.
    """
    return -log_prob * jax.lax.stop_gradient(advantage)


def importance_weighted(log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array) -> jax.Array:
    """The surrogate without clipping, −ρA with ρ = π/π_old, f32[...]; arguments as in `clipped_surrogate`."""
    old_log_prob, advantage = jax.lax.stop_gradient((old_log_prob, advantage))
    return -jnp.exp(log_prob - old_log_prob) * advantage


def clipped_surrogate(
    log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, epsilon: jax.Array | float
) -> jax.Array:
    """PPO's clipped policy loss, −min(ρA, clip(ρ, 1−ε, 1+ε)A) with ρ = π/π_old (Schulman et al. 2017, eq. 7).

    Args:
        log_prob: f32[...] log π(a|s) of the policy being learnt; the only argument that gets a gradient.
        old_log_prob: f32[...] the same under the policy that acted.
        advantage: f32[...]
        epsilon: the clip range ε.

    Returns:
        f32[...] to be minimised.
    """
    old_log_prob, advantage = jax.lax.stop_gradient((old_log_prob, advantage))
    ratio = jnp.exp(log_prob - old_log_prob)
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - epsilon, 1.0 + epsilon) * advantage)


def clipped_value(value: jax.Array, old_value: jax.Array, target: jax.Array, epsilon: jax.Array | float) -> jax.Array:
    """PPO's clipped value loss, ½ max((v − G)², (v_clip − G)²), v_clip within ε of the value when acting.

    From OpenAI's baselines rather than the paper; Andrychowicz et al. 2021 (arXiv:2006.05990) find no benefit.

    Args:
        value: f32[...] V(s) being learnt.
        old_value: f32[...] V(s) when the data were collected.
        target: f32[...] the return G.
        epsilon: how far the value may move, in units of value.
    """
    old_value, target = jax.lax.stop_gradient((old_value, target))
    near = old_value + jnp.clip(value - old_value, -epsilon, epsilon)
    return jnp.maximum(squared(value - target), squared(near - target))


def mean(x: jax.Array, weight: jax.Array | tuple[()] = ()) -> jax.Array:
    """Σ w x / Σ w over all of x f32[...], for steps that count differently; the plain mean where weight is ()."""
    if isinstance(weight, tuple):
        return x.mean()
    total = weight.sum()
    return jnp.sum(x * weight) / jnp.where(total > 0, total, 1.0)


def weighted(x: jax.Array, weight: jax.Array | tuple[()]) -> jax.Array:
    """The product w x, for the mean over a batch that was drawn by w's inverse; x itself where weight is ()."""
    return x if isinstance(weight, tuple) else weight * x


def standardized(x: jax.Array, weight: jax.Array | tuple[()] = ()) -> jax.Array:
    """(x − mean) / standard deviation over all of x f32[...], as `mean` weighs."""
    centred = x - mean(x, weight)
    return centred / (jnp.sqrt(mean(jnp.square(centred), weight)) + 1e-8)


def squared(error: jax.Array) -> jax.Array:
    """½e², whose gradient is e."""
    return 0.5 * jnp.square(error)


def huber(error: jax.Array, delta: jax.Array | float = 1.0) -> jax.Array:
    """½e² where |e| ≤ δ, δ(|e| − ½δ) beyond: the gradient is e clipped to ±δ (Huber 1964)."""
    size = jnp.abs(error)
    inner = jnp.minimum(size, delta)
    return 0.5 * jnp.square(inner) + delta * (size - inner)


def signed_hyperbolic(x: jax.Array, epsilon: float = 1e-3) -> jax.Array:
    """h(x) = sign(x) (√(|x| + 1) − 1) + εx, which squeezes large values (Pohlen et al. 2018, arXiv:1805.11593)."""
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1.0) - 1.0) + epsilon * x


def signed_parabolic(x: jax.Array, epsilon: float = 1e-3) -> jax.Array:
    """The inverse of `signed_hyperbolic` (arXiv:1805.11593, proposition A.2)."""
    # √(|y| + 1) = z solves ε z² + z = |x| + 1 + ε. Written so that no two nearly equal numbers are subtracted.
    total = jnp.abs(x) + 1.0 + epsilon
    root = 2.0 * total / (1.0 + jnp.sqrt(1.0 + 4.0 * epsilon * total))
    return jnp.sign(x) * (jnp.square(root) - 1.0)


def soft_value(policy: Categorical, q: jax.Array, alpha: jax.Array | float) -> jax.Array:
    """The value of a state whose action is yet to be drawn, Σ_a π(a) (q(a) − α log π(a)), entropy included: f32[...].

    Christodoulou 2019 (arXiv:1910.07207), eq. 10. `q` f32[..., A] gets no gradient; neither does α.
    """
    q, alpha = jax.lax.stop_gradient((q, alpha))
    return jnp.sum(jnp.exp(policy.log_probs()) * q, axis=-1) + alpha * policy.entropy()


def temperature(log_alpha: jax.Array, entropy: jax.Array, target_entropy: jax.Array | float) -> jax.Array:
    """What soft actor-critic descends to hold its policy at an entropy, α (H − H̄) with α = exp(log_alpha).

    Haarnoja et al. 2018 (arXiv:1812.05905), eq. 18: α rises while the entropy is below the target. The gradient goes to
    log α, which keeps α above 0.

    Args:
        log_alpha: f32[] the only argument that gets a gradient.
        entropy: f32[...] of the policy, or −log π(a|s) of actions drawn from it.
        target_entropy: H̄, in nats.
    """
    return jnp.exp(log_alpha) * jax.lax.stop_gradient(entropy - target_entropy)


def mpo_weights(q: jax.Array, temperature: jax.Array, epsilon: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """MPO's E-step: weights of sampled actions by their values, and the dual that the temperature descends.

    Abdolmaleki et al. 2018 (arXiv:1806.06920), eqs. 8 and 9: softmax(q / η) over the samples, and
    η ε + η log mean exp(q / η). At the dual's minimum the weights are ε nats away from equal ones.

    Args:
        q: f32[M, ...] values of M actions drawn in each state; they get no gradient.
        temperature: η, f32[] above 0; the dual alone has a gradient, and in η alone.
        epsilon: ε in nats.

    Returns:
        (weights f32[M, ...] that sum to 1 over M, dual f32[...]).
    """
    q = jax.lax.stop_gradient(q)
    mean_exponential = jax.nn.logsumexp(q / temperature, axis=0) - math.log(q.shape[0])
    weights = jax.nn.softmax(q / jax.lax.stop_gradient(temperature), axis=0)
    return weights, temperature * (epsilon + mean_exponential)


def bounded(size: jax.Array, multiplier: jax.Array, bound: jax.Array | float) -> jax.Array:
    """The Lagrangian of size ≤ bound: descended in both, `size` is pushed down and `multiplier` up while it is above.

    Args:
        size: f32[...] what is to stay small, e.g. a divergence; its gradient is the multiplier.
        multiplier: f32[...] not negative; its gradient is bound − size.
        bound: the most that `size` may be.
    """
    held, given = jax.lax.stop_gradient((multiplier, size))
    return held * size + multiplier * (bound - given)


def quantile_regression(
    quantiles: jax.Array, target: jax.Array, delta: jax.Array | float = 1.0, tau: jax.Array | None = None
) -> jax.Array:
    """The Huber quantile loss of every quantile m against every sample j, |τ_m − 1{u < 0}| huber(u)/δ, u = y_j − θ_m.

    Dabney et al. 2018 (arXiv:1710.10044), eqs. 9 and 10.

    Args:
        quantiles: f32[..., M] estimates θ of the quantiles.
        target: f32[..., J] samples of the distribution; no gradient goes through them.
        delta: where the loss turns linear.
        tau: f32[..., M] which quantiles they are; the midpoints τ_m = (m − ½)/M unless given.

    Returns:
        f32[..., M, J]; QR-DQN sums over M and averages over J, TQC averages over both.
    """
    if tau is None:
        num = quantiles.shape[-1]
        tau = (jnp.arange(num, dtype=quantiles.dtype) + 0.5) / num
    error = jax.lax.stop_gradient(target)[..., None, :] - quantiles[..., None]
    return jnp.abs(tau[..., None] - (error < 0)) * huber(error, delta) / delta


def quantile_q_learning(
    quantiles_tm1: jax.Array,
    a_tm1: jax.Array,
    r_t: jax.Array | float,
    discount_t: jax.Array | float,
    quantiles_t: jax.Array,
    a_t: jax.Array,
    delta: jax.Array | float = 1.0,
    tau_tm1: jax.Array | None = None,
) -> jax.Array:
    """Quantile regression of Z(s_tm1, a_tm1) on samples of r + γ Z(s_t, a_t): the loss of QR-DQN and IQN.

    Dabney et al. 2018 (arXiv:1710.10044), algorithm 1, and arXiv:1806.06923, eq. 3.

    Args:
        quantiles_tm1: f32[..., A, M] quantiles of the returns from the state acted in.
        a_tm1: int[...] the action taken there.
        r_t: f32[...] the reward that followed.
        discount_t: f32[...] γ(1 − terminated).
        quantiles_t: f32[..., A, J] quantiles of the returns from the successor, usually from a target network.
        a_t: int[...] the successor's action, greedy.
        delta: where the loss of an error turns linear.
        tau_tm1: f32[..., M] which quantiles `quantiles_tm1` are; the midpoints unless given.

    Returns:
        f32[...] to be minimised: the sum over M of the mean over J.
    """
    target = jnp.asarray(r_t)[..., None] + jnp.asarray(discount_t)[..., None] * _at_action(quantiles_t, a_t)
    each = quantile_regression(_at_action(quantiles_tm1, a_tm1), target, delta, tau_tm1)
    return each.mean(-1).sum(-1)


def approx_kl(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    """One sample's estimate of KL(π_old ‖ π), unbiased and never negative, for actions drawn from π_old.

    The estimator k3 = (ρ − 1) − log ρ with ρ = π/π_old, from J. Schulman, "Approximating KL Divergence" (2020).
    """
    log_ratio = log_prob - old_log_prob
    return jnp.expm1(log_ratio) - log_ratio
