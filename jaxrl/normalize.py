"""Running normalisation of observations and rewards, with one set of statistics per RUN.

The statistics are merged batch by batch with the pairwise formula of Chan, Golub & LeVeque (1979), which never
subtracts two large sums, so single precision suffices also where the mean is far larger than the spread.
Sums are f32: they stop growing after about 2^24 updates with batches of one size.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_MIN_VARIANCE = 1e-8  # below it a coordinate counts as constant: rounding alone reaches it


class Moments(NamedTuple):
    """What is known about samples seen so far; `mean` and `m2` have the structure of one sample."""

    mean: Any  # f32[...] for each leaf
    m2: Any  # f32[...] for each leaf: sum of squared deviations from the mean; the variance is m2/count
    count: jax.Array  # f32[] samples seen


def init(example: Any) -> Moments:
    """No samples yet; `example` is one unbatched sample, a pytree of arrays or of `jax.ShapeDtypeStruct`."""

    def zeros() -> Any:
        return jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), jnp.float32), example)

    return Moments(zeros(), zeros(), jnp.zeros((), jnp.float32))


def update(moments: Moments, batch: Any) -> Moments:
    """Merges a batch: leaves [..., *shape] with the same leading axes ([B] or [T, B] …), all of them samples."""
    means, structure = jax.tree.flatten(moments.mean)
    leaves = zip(means, structure.flatten_up_to(moments.m2), structure.flatten_up_to(batch), strict=True)
    merged = [_merge(moments.count, *leaf) for leaf in leaves]
    mean, m2, counts = zip(*merged, strict=True)
    return Moments(structure.unflatten(mean), structure.unflatten(m2), counts[0])


def _merge(
    count: jax.Array, mean: jax.Array, m2: jax.Array, batch: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    samples = jax.lax.collapse(jnp.asarray(batch, jnp.float32), 0, batch.ndim - mean.ndim)
    batch_mean = jnp.mean(samples, axis=0)
    batch_m2 = jnp.sum(jnp.square(samples - batch_mean), axis=0)
    total = count + samples.shape[0]
    share = samples.shape[0] / total
    delta = batch_mean - mean
    return mean + delta * share, m2 + batch_m2 + jnp.square(delta) * count * share, total


def normalize(moments: Moments, x: Any, clip: jax.Array | float = 10.0) -> Any:
    """(x − mean)/std, clipped to ±clip: f32 leaves [..., *shape] with any leading axes.

    A coordinate that has not varied yet (and every one before the first `update`) is centred but not scaled.
    """

    def leaf(mean: jax.Array, m2: jax.Array, value: jax.Array) -> jax.Array:
        return jnp.clip((jnp.asarray(value, jnp.float32) - mean) / _std(m2, moments.count), -clip, clip)

    return jax.tree.map(leaf, moments.mean, moments.m2, x)


def _std(m2: jax.Array, count: jax.Array) -> jax.Array:
    variance = m2 / jnp.maximum(count, 1.0)
    return jnp.sqrt(jnp.where(variance > _MIN_VARIANCE, variance, 1.0))


class ReturnScale(NamedTuple):
    """The statistics of the running discounted return, by whose spread rewards are divided."""

    moments: Moments  # of scalars: the running return at every step of every environment
    accumulator: jax.Array  # f32[B] the running discounted return of each environment's current episode


def init_return_scale(num_envs: int) -> ReturnScale:
    """No rewards yet, for `num_envs` parallel environments."""
    return ReturnScale(init(jnp.zeros(())), jnp.zeros(num_envs, jnp.float32))


def scale_rewards(
    scale: ReturnScale, rewards: jax.Array, ended: jax.Array, gamma: jax.Array | float, clip: jax.Array | float = 10.0
) -> tuple[ReturnScale, jax.Array]:
    """Divides rewards by the standard deviation of R_t = γR_{t−1} + r_t, R restarting with every episode, and clips.

    Rewards are not centred, since that would change which policy is best where episodes differ in length.
    The statistics take in the given rewards first. Engstrom et al. 2020 (arXiv:2005.12729), section 2.

    Args:
        rewards: f32[T, B] in order of time, following those of the last call.
        ended: bool[T, B] terminated or truncated at that step.
        gamma: the discount.
        clip: the largest size of a scaled reward. The first reward after many steps without would be huge.

    Returns:
        (scale, scaled rewards f32[T, B]).
    """

    def advance(carry: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        reward, end = step
        running = gamma * carry + reward
        return jnp.where(end, 0.0, running), running

    accumulator, running = jax.lax.scan(advance, scale.accumulator, (rewards, ended))
    moments = update(scale.moments, running)
    scaled = jnp.clip(rewards / _std(moments.m2, moments.count), -clip, clip)
    return ReturnScale(moments, accumulator), scaled
