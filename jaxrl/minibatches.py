"""Splitting a batch into minibatches at random."""

import jax
import jax.numpy as jnp

_RANDOM_BITS = 12  # fewest that leave a sort by them a fair split


def split(key: jax.Array, num_samples: int, num_minibatches: int) -> jax.Array:
    """Deals the rows 0 … num_samples − 1 out to minibatches, each row once.

    The rows are sorted by random words whose low bits are the rows' own numbers: one sort of plain integers, which
    XLA's CPU backend does five times as fast as the sort of pairs behind `jax.random.permutation` (0.03 against 0.15 ms
    for 512 rows, 0.8 against 6.4 ms for 8,192). Rows whose random bits are equal, about n³ / 2³³ pairs of n rows, keep
    their order, which decides nothing but on which side of a border between minibatches they fall.

    Args:
        key: consumed.
        num_samples: a multiple of `num_minibatches`.
        num_minibatches: rows of the result.

    Returns:
        i32[num_minibatches, num_samples / num_minibatches].
    """
    low = max(num_samples - 1, 1).bit_length()
    if low > 32 - _RANDOM_BITS:
        return jax.random.permutation(key, num_samples).reshape(num_minibatches, -1)
    words = jax.random.bits(key, (num_samples,)) << low
    order = jnp.sort(words | jnp.arange(num_samples, dtype=jnp.uint32), stable=False)
    return (order & jnp.uint32(2**low - 1)).astype(jnp.int32).reshape(num_minibatches, -1)
