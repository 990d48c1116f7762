"""Exploration: ε-greedy, softmax, Gaussian and Ornstein–Uhlenbeck noise, and schedules.

One key serves the whole batch. Rates, temperatures and step counts may be traced, so they can be swept.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct

from envs.errors import InputError
from envs.values import Fraction
from jaxrl.distributions import Categorical


@struct.dataclass
class EpsilonGreedy:
    """The schedule of ε, as hyper-parameters."""

    epsilon_start: Fraction = 1.0
    """Probability of a random action at the start."""
    epsilon_end: Fraction = 0.05
    """Probability of a random action after the decay."""
    epsilon_fraction: Fraction = 0.5
    """Part of hp.total_steps over which ε falls linearly."""


def epsilon(hp: EpsilonGreedy, progress: jax.Array | float | None) -> jax.Array:
    """The probability of a random action f32[] when the run is as far as `progress` says."""
    return anneal(hp.epsilon_start, hp.epsilon_end, progress, hp.epsilon_fraction)


def uniform(key: jax.Array, shape: tuple[int, ...], num: int, allowed: jax.Array | None = None) -> jax.Array:
    """Draws i32[*shape] actions of `num`, each as likely as the others; `allowed`: see `epsilon_greedy`."""
    if allowed is None:
        return jax.random.randint(key, shape, 0, num)
    return _spread(jax.random.uniform(key, shape, jnp.float32), allowed)


def _spread(draw: jax.Array, allowed: jax.Array) -> jax.Array:
    """Turns uniform numbers f32[...] into one of the actions that bool[..., A] allows, i32[...]."""
    rank = jnp.cumsum(allowed, axis=-1, dtype=jnp.int32)
    return jnp.argmax(rank > jnp.floor(draw * rank[..., -1])[..., None], axis=-1).astype(jnp.int32)


def epsilon_greedy(
    key: jax.Array,
    q: jax.Array,
    epsilon: jax.Array | float,
    random_ties: bool = False,
    allowed: jax.Array | None = None,
) -> jax.Array:
    """Takes a uniformly random action with probability ε, the greedy one otherwise.

    Args:
        q: f32[..., A] action values.
        epsilon: f32, broadcasts to [...].
        random_ties: break ties among equal greatest values at random. Tables that start at one value need it;
            the outputs of a network do not tie, and without it the first of equals is taken. Static.
        allowed: bool[..., A] which actions may be taken, of each at least one (`masks.allowed`); None: all.

    Returns:
        i32[...] actions.
    """
    if allowed is not None:
        q = jnp.where(allowed, q, -jnp.inf)
    # One call draws every word: whether to explore, where to, and which of the tied actions.
    draws = jax.random.uniform(key, (2 + random_ties, *q.shape[:-1]), jnp.float32)
    greedy = _spread(draws[2], q == jnp.max(q, axis=-1, keepdims=True)) if random_ties else jnp.argmax(q, axis=-1)
    anywhere = jnp.floor(draws[1] * q.shape[-1]) if allowed is None else _spread(draws[1], allowed)
    return jnp.where(draws[0] < epsilon, anywhere, greedy).astype(jnp.int32)


def softmax(key: jax.Array, q: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """Draws i32[...] actions with probabilities ∝ exp(q/temperature); q f32[..., A], temperature scalar, above 0."""
    return Categorical(q / temperature).sample(key)


def epsilon_greedy_probabilities(q: jax.Array, epsilon: jax.Array | float) -> jax.Array:
    """The distribution of ε-greedy actions, f32[..., A]: ties among the greatest of q f32[..., A] share evenly."""
    greedy = q == jnp.max(q, axis=-1, keepdims=True)
    return epsilon / q.shape[-1] + (1.0 - epsilon) * greedy / jnp.sum(greedy, axis=-1, keepdims=True)


def draw(key: jax.Array, probability: jax.Array) -> jax.Array:
    """Draws i32[...] indices with probabilities f32[..., A], one uniform number for each."""
    below = jnp.cumsum(probability, axis=-1)[..., :-1]
    # Rounding may leave the sum a little off 1: the last index that has any probability takes what is over.
    last = probability.shape[-1] - 1 - jnp.argmax(probability[..., ::-1] > 0, axis=-1)
    uniform = jax.random.uniform(key, probability.shape[:-1])
    return jnp.minimum(jnp.sum(uniform[..., None] >= below, axis=-1), last).astype(jnp.int32)


def gaussian_noise(
    key: jax.Array, action: jax.Array, std: jax.Array | float, low: jax.Array | float, high: jax.Array | float
) -> jax.Array:
    """Adds independent N(0, std²) to actions f32[..., D] and clips to [low, high]; std in units of the action."""
    return jnp.clip(action + std * jax.random.normal(key, action.shape, action.dtype), low, high)


def ou_init(shape: Sequence[int]) -> jax.Array:
    """The Ornstein–Uhlenbeck noise at the start of an episode: zeros f32[shape]."""
    return jnp.zeros(tuple(shape), jnp.float32)


def ou_step(
    key: jax.Array, state: jax.Array, theta: jax.Array | float, sigma: jax.Array | float, dt: jax.Array | float
) -> jax.Array:
    """Advances noise that reverts to 0 and is correlated in time; the new state is also the noise to add.

    x ← x − θ x dt + σ √dt N(0, 1), the Euler–Maruyama step of dx = −θ x dt + σ dW (Uhlenbeck & Ornstein 1930;
    DDPG, arXiv:1509.02971, uses θ = 0.15, σ = 0.2).
    """
    return state - theta * state * dt + sigma * jnp.sqrt(dt) * jax.random.normal(key, state.shape, state.dtype)


def anneal(
    start: jax.Array | float,
    end: jax.Array | float,
    progress: jax.Array | float | None,
    fraction: jax.Array | float = 1.0,
) -> jax.Array:
    """Moves from `start` along a line to `end`, which it reaches after a fraction of the run and keeps, f32.

    Args:
        start: at the beginning of the run.
        end: after `fraction` of it.
        progress: f32[] how far the run is, from 0 to 1 (`Context.progress`).
        fraction: of the run; 0: `end` from the beginning.

    Raises:
        InputError: progress is None.
    """
    if progress is None:
        raise InputError("hp.total_steps is None: give the number of environment steps that the schedules run over.")
    progress, fraction = jnp.asarray(progress, jnp.float32), jnp.asarray(fraction, jnp.float32)
    part = jnp.where(progress >= fraction, 1.0, progress / jnp.where(fraction > 0, fraction, 1.0))
    return start + (jnp.asarray(end, jnp.float32) - start) * part


def exponential(
    start: jax.Array | float, end: jax.Array | float, rate: jax.Array | float, step: jax.Array | float
) -> jax.Array:
    """Multiplies `start` by `rate` every step until it reaches `end`: start · rate^step, held at `end`, f32."""
    value = start * jnp.power(jnp.asarray(rate, jnp.float32), jnp.asarray(step, jnp.float32))
    return jnp.clip(value, jnp.minimum(start, end), jnp.maximum(start, end))
