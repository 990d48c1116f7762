"""Spaces of observations and actions: Discrete, Box, MultiDiscrete, and dicts or tuples of them.

A nested space is a plain dict or tuple of spaces; its elements are dicts or tuples of arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Discrete:
    """The integers 0 … n-1, as an int32 scalar."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an element: ()."""
        return ()

    @property
    def dtype(self) -> np.dtype:
        """The dtype of an element: int32."""
        return np.dtype(np.int32)


@dataclass(frozen=True)
class MultiDiscrete:
    """Vectors of integers, the i-th in 0 … nvec[i]-1, as int32[len(nvec)]."""

    nvec: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an element: (len(nvec),)."""
        return (len(self.nvec),)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of an element: int32."""
        return np.dtype(np.int32)


@dataclass(frozen=True)
class Box:
    """Arrays of `shape` and `dtype` between `low` and `high` (inclusive).

    A bound is a number for all entries or a nested tuple that broadcasts to `shape`; it may be infinite.
    """

    low: float | tuple
    high: float | tuple
    shape: tuple[int, ...]
    dtype: Any = np.float32

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))

    @property
    def lower(self) -> np.ndarray:
        """`low` as an array of `shape` and `dtype`."""
        return np.broadcast_to(np.asarray(self.low, self.dtype), self.shape)

    @property
    def upper(self) -> np.ndarray:
        """`high` as an array of `shape` and `dtype`."""
        return np.broadcast_to(np.asarray(self.high, self.dtype), self.shape)

    @property
    def has_lower(self) -> np.ndarray:
        """Where there is a lower bound, bool[*shape]: neither −infinity nor the least number, a customary "none"."""
        return self.lower > -self._none

    @property
    def has_upper(self) -> np.ndarray:
        """Where there is an upper bound, bool[*shape]."""
        return self.upper < self._none

    @property
    def _none(self) -> float:
        """From here on a bound is none, and the width of a Box would be infinite in single precision."""
        return float(np.finfo(np.float32).max) / 2 if np.issubdtype(self.dtype, np.floating) else np.inf


Space: TypeAlias = "Discrete | MultiDiscrete | Box | Mapping[str, Space] | tuple[Space, ...]"


def sample(space: Space, key: jax.Array) -> Any:
    """Draws one element uniformly.

    Where a bound of a Box is infinite: half-bounded entries are the finite bound plus or minus an
    exponential variable, unbounded ones are standard normal (Gymnasium's rule).
    """
    if isinstance(space, Discrete):
        return jax.random.randint(key, (), 0, space.n, jnp.int32)
    if isinstance(space, MultiDiscrete):
        return jax.random.randint(key, space.shape, 0, jnp.asarray(space.nvec), jnp.int32)
    if isinstance(space, Box):
        return _sample_box(space, key)
    if isinstance(space, Mapping):
        keys = jax.random.split(key, len(space))
        return {name: sample(space[name], k) for name, k in zip(sorted(space), keys, strict=True)}
    keys = jax.random.split(key, len(space))
    return tuple(sample(part, k) for part, k in zip(space, keys, strict=True))


def _sample_box(space: Box, key: jax.Array) -> jax.Array:
    low, high = space.lower, space.upper
    dtype = jax.dtypes.canonicalize_dtype(space.dtype)
    if np.issubdtype(space.dtype, np.integer):
        return _sample_integers(key, low, high, dtype)
    if np.issubdtype(space.dtype, np.bool_):
        return jax.random.bernoulli(key, shape=space.shape)
    key_uniform, key_normal, key_tail = jax.random.split(key, 3)
    has_low, has_high = space.has_lower, space.has_upper
    low, high = low.astype(dtype), high.astype(dtype)
    inner = jax.random.uniform(
        key_uniform, space.shape, dtype, np.where(has_low & has_high, low, 0), np.where(has_low & has_high, high, 1)
    )
    if np.all(has_low & has_high):
        return inner  # the common case, and random numbers are costly to compile and to draw
    tail = jax.random.exponential(key_tail, space.shape, dtype)
    normal = jax.random.normal(key_normal, space.shape, dtype)
    return jnp.where(
        has_low & has_high,
        inner,
        jnp.where(
            has_low, np.where(has_low, low, 0) + tail, jnp.where(has_high, np.where(has_high, high, 0) - tail, normal)
        ),
    )


def _sample_integers(key: jax.Array, low: np.ndarray, high: np.ndarray, dtype: Any) -> jax.Array:
    """Draws integers from `low` to `high`, both included, of a Box with elements of `dtype`."""
    limits = np.iinfo(dtype)  # 64-bit integers have 32 bits in JAX's default mode
    first = np.clip(low.astype(object), limits.min, limits.max)
    last = np.clip(high.astype(object), limits.min, limits.max)
    if np.all((first >= -(2**31)) & (last < 2**31 - 1)):
        return jax.random.randint(key, low.shape, first.astype(np.int32), last.astype(np.int32) + 1, jnp.int32).astype(
            dtype
        )
    # How many there are needs one bit more than the integers have, so it is counted from `first` without a sign, where
    # sums wrap. 2**bits of them are as many as there are words.
    words = np.dtype(np.uint64 if limits.bits == 64 else np.uint32)
    count = last - first + 1
    every = count == 2 ** (8 * words.itemsize)
    key_word, key_part = jax.random.split(key)
    part = jax.random.randint(key_part, low.shape, 0, np.where(every, 1, count).astype(words), words)
    offset = jnp.where(every, jax.random.bits(key_word, low.shape, words), part)
    wrapped = np.asarray(first % 2 ** (8 * words.itemsize)).astype(words)
    return (offset + wrapped).astype(dtype)


def contains(space: Space, x: Any) -> bool:
    """Whether concrete `x` (unbatched) is an element: structure, shape, dtype and bounds. Runs on the host."""
    if isinstance(space, Mapping):
        return isinstance(x, Mapping) and set(x) == set(space) and all(contains(space[name], x[name]) for name in space)
    if isinstance(space, tuple):
        return isinstance(x, tuple) and len(x) == len(space) and all(map(contains, space, x))
    value = np.asarray(x)
    if value.shape != space.shape:
        return False
    if isinstance(space, Box):
        return value.dtype == space.dtype and bool(np.all((value >= space.lower) & (value <= space.upper)))
    limit = space.n if isinstance(space, Discrete) else np.asarray(space.nvec)
    return bool(np.issubdtype(value.dtype, np.integer) and np.all((value >= 0) & (value < limit)))


def flat_size(space: Space) -> int:
    """The length of the vector that an element becomes when Discrete parts are one-hot and the rest is flattened."""
    if isinstance(space, Discrete):
        return space.n
    if isinstance(space, MultiDiscrete):
        return sum(space.nvec)
    if isinstance(space, Box):
        return int(np.prod(space.shape))
    parts = space.values() if isinstance(space, Mapping) else space
    return sum(flat_size(part) for part in parts)


def flatten(space: Space, x: Any) -> jax.Array:
    """Turns elements with any leading batch axes into f32[..., flat_size(space)]."""
    if isinstance(space, Discrete):
        return jax.nn.one_hot(x, space.n, dtype=jnp.float32)
    if isinstance(space, MultiDiscrete):
        return jnp.concatenate([jax.nn.one_hot(x[..., i], n, dtype=jnp.float32) for i, n in enumerate(space.nvec)], -1)
    if isinstance(space, Box):
        batch = x.shape[: x.ndim - len(space.shape)]
        return x.reshape(*batch, -1).astype(jnp.float32)
    if isinstance(space, Mapping):
        return jnp.concatenate([flatten(space[name], x[name]) for name in sorted(space)], -1)
    return jnp.concatenate([flatten(part, element) for part, element in zip(space, x, strict=True)], -1)
