"""Action distributions as pytrees: Categorical, several of them, diagonal Normal, and Normal squashed into a Box.

Any leading axes are independent draws or densities. `sample` takes ONE key for all of them, and its words are
drawn in one call: random numbers are the main cost of acting in small environments.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_HALF_LOG_2PI = 0.9189385332046727
_LOG_2 = 0.6931471805599453
_MAX_INVERTED = 32  # categories up to which inverting the distribution function is drawn out in full


def at_index(values: jax.Array, index: jax.Array) -> jax.Array:
    """The entry of each row at its index: values [..., A], index int[...] -> [...]; leading axes broadcast."""
    index = jnp.asarray(index)
    batch = jnp.broadcast_shapes(values.shape[:-1], index.shape)
    values = jnp.broadcast_to(values, (*batch, values.shape[-1]))
    return jnp.take_along_axis(values, jnp.broadcast_to(index, batch)[..., None], axis=-1)[..., 0]


class Categorical(NamedTuple):
    """A choice among A actions with probabilities softmax(logits). A logit of −inf masks its action."""

    logits: jax.Array  # f32[..., A]

    def log_probs(self) -> jax.Array:
        """Every action's log-probability, f32[..., A]."""
        return jax.nn.log_softmax(self.logits, axis=-1)

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws i32[...]."""
        num = self.logits.shape[-1]
        if num > _MAX_INVERTED:
            return jax.random.categorical(key, self.logits, axis=-1).astype(jnp.int32)
        # Inverting the distribution function needs one random word per draw where the Gumbel trick needs A (2 to 7
        # times faster on a CPU). Summing in order keeps it monotone, so no masked action can be hit by rounding.
        weights = jnp.exp(self.logits - jnp.max(self.logits, axis=-1, keepdims=True))
        bounds = [weights[..., 0]]
        for i in range(1, num):
            bounds.append(bounds[-1] + weights[..., i])
        mark = jax.random.uniform(key, self.logits.shape[:-1], weights.dtype) * bounds[-1]
        action = jnp.zeros(mark.shape, jnp.int32)
        for bound in bounds[:-1]:
            action += mark >= bound
        return action

    def log_prob(self, x: jax.Array) -> jax.Array:
        """The log-probability of actions x int[...], f32[...]."""
        return at_index(self.log_probs(), x)

    def sample_and_log_prob(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draws (i32[...], f32[...]); the log-probability has a gradient, the draw none."""
        x = self.sample(key)
        return x, self.log_prob(x)

    def entropy(self) -> jax.Array:
        """In nats, f32[...]."""
        log_probs = self.log_probs()
        return -_mean_under(log_probs, log_probs)

    def kl(self, other: "Categorical") -> jax.Array:
        """KL(self ‖ other) in nats, f32[...]; infinite where `other` masks an action that `self` may take."""
        log_probs, others = self.log_probs(), other.log_probs()
        # However improbable: a probability that has rounded to 0 times an infinite logarithm would be NaN.
        impossible = jnp.any((log_probs > -jnp.inf) & (others == -jnp.inf), axis=-1)
        finite = jnp.where(others > -jnp.inf, others, 0.0)
        return jnp.where(impossible, jnp.inf, _mean_under(log_probs, log_probs - finite))

    def mode(self) -> jax.Array:
        """The most probable action, the first among equals, i32[...]."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)


def _mean_under(log_probs: jax.Array, x: jax.Array) -> jax.Array:
    # A masked action adds 0, not 0·inf; the inner where keeps the gradient free of NaN as well.
    possible = log_probs > -jnp.inf
    return jnp.sum(jnp.where(possible, jnp.exp(log_probs) * jnp.where(possible, x, 0.0), 0.0), axis=-1)


class MultiCategorical(NamedTuple):
    """N independent choices, the i-th among as many actions as its row has logits that are not −inf."""

    logits: jax.Array  # f32[..., N, M], rows padded with −inf

    @classmethod
    def of(cls, logits: jax.Array, nvec: tuple[int, ...], mask: jax.Array | None = None) -> "MultiCategorical":
        """Deals logits f32[..., Σ nvec], one choice after another, into rows.

        Args:
            logits: of all choices.
            nvec: how many actions each has.
            mask: bool[..., Σ nvec] which are allowed; a choice that it leaves none keeps all.
        """
        column = np.arange(max(nvec))
        there = column < np.asarray(nvec)[:, None]
        place = np.where(there, np.cumsum([0, *nvec[:-1]])[:, None] + column, 0)
        if mask is not None:
            free = mask[..., place] & there
            there = free | (there & ~free.any(-1, keepdims=True))
        return cls(jnp.where(there, logits[..., place], -jnp.inf))

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws i32[..., N]."""
        return self._each.sample(key)

    def log_prob(self, x: jax.Array) -> jax.Array:
        """The log-probability of x int[..., N], summed over N: f32[...]."""
        return self._each.log_prob(x).sum(-1)

    def sample_and_log_prob(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draws (i32[..., N], f32[...]); the log-probability has a gradient, the draw none."""
        x = self.sample(key)
        return x, self.log_prob(x)

    def entropy(self) -> jax.Array:
        """In nats, summed over N: f32[...]."""
        return self._each.entropy().sum(-1)

    def kl(self, other: "MultiCategorical") -> jax.Array:
        """KL(self ‖ other) in nats, summed over N: f32[...]."""
        return self._each.kl(other._each).sum(-1)

    def mode(self) -> jax.Array:
        """The most probable of each choice, i32[..., N]."""
        return self._each.mode()

    @property
    def _each(self) -> Categorical:
        return Categorical(self.logits)


class Normal(NamedTuple):
    """A Gaussian with independent coordinates; the last axis is one event."""

    mean: jax.Array  # f32[..., D]
    std: jax.Array  # f32, broadcasts to `mean`; above 0

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws f32[..., D], with a gradient to `mean` and `std` (reparametrised)."""
        return self.mean + self.std * jax.random.normal(key, self._shape, self.mean.dtype)

    def log_prob(self, x: jax.Array) -> jax.Array:
        """The log-density of x f32[..., D], summed over D: f32[...]."""
        return _log_density((x - self.mean) / self.std, self.std)

    def sample_and_log_prob(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draws (f32[..., D], f32[...]); both carry the gradient of the reparametrised draw."""
        noise = jax.random.normal(key, self._shape, self.mean.dtype)
        return self.mean + self.std * noise, _log_density(noise, self.std)

    def entropy(self) -> jax.Array:
        """Differential entropy in nats, summed over D: f32[...]."""
        return jnp.sum(jnp.broadcast_to(0.5 + _HALF_LOG_2PI + jnp.log(self.std), self._shape), axis=-1)

    def kl(self, other: "Normal") -> jax.Array:
        """KL(self ‖ other) in nats, summed over D: f32[...]."""
        ratio = self.std / other.std
        shift = (self.mean - other.mean) / other.std
        return jnp.sum(0.5 * (jnp.square(ratio) + jnp.square(shift) - 1.0) - jnp.log(ratio), axis=-1)

    def mode(self) -> jax.Array:
        """The mean, f32[..., D]."""
        return jnp.broadcast_to(self.mean, self._shape)

    @property
    def _shape(self) -> tuple[int, ...]:
        return jnp.broadcast_shapes(self.mean.shape, jnp.shape(self.std))


def _log_density(noise: jax.Array, std: jax.Array) -> jax.Array:
    return -jnp.sum(0.5 * jnp.square(noise) + jnp.log(std) + _HALF_LOG_2PI, axis=-1)


class SquashedNormal(NamedTuple):
    """x = low + (high − low)(tanh(u) + 1)/2 with u ~ Normal(mean, std): SAC's policy on a bounded Box.

    Haarnoja et al. 2018 (arXiv:1801.01290), appendix C. Its entropy has no closed form, so there is no
    `entropy`: −log_prob of a draw is the unbiased estimate of it that SAC uses.
    """

    mean: jax.Array  # f32[..., D] before squashing
    std: jax.Array  # f32, broadcasts to `mean`; before squashing
    low: jax.Array | float  # finite, broadcasts to `mean`
    high: jax.Array | float  # finite, broadcasts to `mean`

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws f32[..., D] between low and high, with a gradient to `mean` and `std` (reparametrised)."""
        return self._squash(self._base.sample(key))

    def log_prob(self, x: jax.Array) -> jax.Array:
        """The log-density of x f32[..., D], summed over D: f32[...].

        x is taken back through tanh, which single precision cannot do near the bounds: there it is moved inside
        by 1e-6 of half the width. Where the draw is one's own, `sample_and_log_prob` is exact.
        """
        unit = (x - self.low) / (jnp.asarray(self.high) - self.low) * 2.0 - 1.0
        u = jnp.arctanh(jnp.clip(unit, -1.0 + 1e-6, 1.0 - 1e-6))
        return self._base.log_prob(u) - self._log_slope(u)

    def sample_and_log_prob(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draws (f32[..., D], f32[...]); both carry the gradient of the reparametrised draw."""
        u, log_prob = self._base.sample_and_log_prob(key)
        return self._squash(u), log_prob - self._log_slope(u)

    def kl(self, other: "SquashedNormal") -> jax.Array:
        """KL(self ‖ other) in nats for two distributions on the SAME Box, f32[...].

        A map that both share leaves the divergence unchanged, so it is the one between the Gaussians.
        """
        return self._base.kl(other._base)

    def mode(self) -> jax.Array:
        """The image of the Gaussian's mean, f32[..., D]: the median, which is what SAC evaluates with."""
        return self._squash(self._base.mode())

    @property
    def _base(self) -> Normal:
        return Normal(self.mean, self.std)

    def _squash(self, u: jax.Array) -> jax.Array:
        # The clip only undoes rounding: low + 1·(high − low) can end one unit beyond high.
        return jnp.clip(self.low + (jnp.asarray(self.high) - self.low) * 0.5 * (jnp.tanh(u) + 1.0), self.low, self.high)

    def _log_slope(self, u: jax.Array) -> jax.Array:
        # log dx/du = log((high − low)/2) + log(1 − tanh²u), and 1 − tanh²u = 4/(e^u + e^−u)² = 4e^−2u/(1 + e^−2u)²,
        # which stays finite where tanh has rounded to ±1.
        log_sech2 = 2.0 * (_LOG_2 - u - jax.nn.softplus(-2.0 * u))
        return jnp.sum(log_sech2 + jnp.log((jnp.asarray(self.high) - self.low) * 0.5), axis=-1)
