"""Splitting a batch into minibatches at random."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from envs.errors import InputError

_RANDOM_BITS = 12  # fewest that leave a sort by them a fair split
_FEWEST_MIXED = 256  # rows from which `_mixed` is a fair split, too
_ROUNDS = 8  # of mixing: after four the sum of a minibatch has up to 4 % too little variance, after six none to be seen


def split(key: jax.Array, num_samples: int, num_minibatches: int) -> jax.Array:
    """Deals the rows 0 … num_samples − 1 out to minibatches, each row once.

    A power of two of rows, from 256 on, is dealt by arithmetic (`_mixed`); any other number is sorted by random words
    whose low bits are the rows' own numbers: one sort of plain integers, which XLA's CPU backend does five times as
    fast as the sort of pairs behind `jax.random.permutation`. Rows whose random bits are equal, about n³ / 2³³ pairs of
    n rows, keep their order, which decides nothing but on which side of a border between minibatches they fall.

    Args:
        key: consumed.
        num_samples: a multiple of `num_minibatches`.
        num_minibatches: rows of the result.

    Returns:
        i32[num_minibatches, num_samples / num_minibatches].
    """
    low = max(num_samples - 1, 1).bit_length()
    if num_samples >= _FEWEST_MIXED and num_samples == 2**low:
        order = _mixed(key, low)
    elif low > 32 - _RANDOM_BITS:
        order = jax.random.permutation(key, num_samples)
    else:
        words = jax.random.bits(key, (num_samples,)) << low
        order = jnp.sort(words | jnp.arange(num_samples, dtype=jnp.uint32), stable=False)
        order &= jnp.uint32(2**low - 1)
    return order.astype(jnp.int32).reshape(num_minibatches, -1)


def require_split(name: str, parts: int, num_envs: int, length: int, length_name: str = "rollout_length") -> None:
    """Raises InputError unless a rollout splits into as many equal parts as the field `name` asks for."""
    num_samples = num_envs * length
    if parts < 1 or num_samples % parts:
        raise InputError(
            f"{name}={parts} does not divide num_envs · {length_name} = {num_envs} · {length} = {num_samples}."
        )


def take(samples: Any, rows: jax.Array) -> Any:
    """The given rows i32[m] of every leaf [n, ...].

    A row lies in one line while it is copied: 80 instead of 226 µs for 1,024 pictures of MinAtar on one core.
    """

    def of_leaf(leaf: jax.Array) -> jax.Array:
        flat = leaf.reshape(leaf.shape[0], math.prod(leaf.shape[1:]))
        return flat[rows].reshape(len(rows), *leaf.shape[1:])

    return jax.tree.map(of_leaf, samples)


def _mixed(key: jax.Array, num_bits: int) -> jax.Array:
    """A permutation of the numbers of `num_bits` bits, u32[2^num_bits], each made from its place alone.

    Rounds of x ← a x + c modulo 2^num_bits, a odd, and x ← x ⊕ (x >> half the bits), each a bijection, with a and c
    drawn for every round; shuffles of this kind are those of Mitchell et al. 2021 (arXiv:2106.06161). On a CPU 512 rows
    take 1.8 µs, by a sort 24, and 8,192 rows 7 µs instead of 390. Not every permutation can come out, but how often
    one, two or three rows share a minibatch, and the variance of a minibatch's sum of any Fourier or Walsh function of
    the row, are a random one's.
    """
    mask, half = jnp.uint32(2**num_bits - 1), (num_bits + 1) // 2
    words = jax.random.bits(key, (_ROUNDS, 2))
    x = jnp.arange(2**num_bits, dtype=jnp.uint32)
    for a, c in words:
        x = (x * (a | 1) + c) & mask
        x ^= x >> half
    return x
