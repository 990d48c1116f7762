"""Gymnasium's spaces and ours: the same space in the other library, and the same element of it.

| Gymnasium | ours |
|---|---|
| Discrete(n, start) | Discrete(n): counted from 0 |
| MultiDiscrete(nvec, start), any shape | MultiDiscrete: one axis, counted from 0 |
| MultiBinary(n), any shape | MultiDiscrete of twos |
| Box | Box; f16 and f64 become f32, integers other than uint8 become int32 |
| Dict, Tuple | dict, tuple |

Elements may have leading batch axes. JAX computes in 32 bits, so float64 observations are rounded.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.errors import InputError
from envs.interop.foreign import bound, load
from envs.spaces import Box, Discrete, MultiDiscrete, Space

gymnasium = load("gymnasium", "interop")


def to_gymnasium_space(space: Space) -> Any:
    """Returns Gymnasium's space with the elements of ours; integers have Gymnasium's 64 bits."""
    if isinstance(space, Discrete):
        return gymnasium.spaces.Discrete(space.n)
    if isinstance(space, MultiDiscrete):
        return gymnasium.spaces.MultiDiscrete(space.nvec)
    if isinstance(space, Box):
        return gymnasium.spaces.Box(space.lower, space.upper, space.shape, space.dtype)
    if isinstance(space, Mapping):
        return gymnasium.spaces.Dict({name: to_gymnasium_space(part) for name, part in space.items()})
    return gymnasium.spaces.Tuple([to_gymnasium_space(part) for part in space])


def from_gymnasium_space(space: Any) -> Space:
    """Returns our space with the elements of Gymnasium's.

    Raises:
        InputError: a kind of space without a fixed shape (Text, Graph, Sequence, OneOf), or integers beyond 32 bits.
    """
    kinds = gymnasium.spaces
    if isinstance(space, kinds.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, kinds.MultiDiscrete):
        return MultiDiscrete(tuple(np.ravel(space.nvec).tolist()))
    if isinstance(space, kinds.MultiBinary):
        return MultiDiscrete((2,) * int(np.prod(space.shape)))
    if isinstance(space, kinds.Box):
        dtype = _narrow(space.dtype)
        for values in (space.low, space.high):
            if dtype == np.int32 and not np.array_equal(values, values.astype(np.int32)):
                raise InputError(f"{space} has integers beyond 32 bits, which JAX does not compute with.")
        with np.errstate(over="ignore"):  # the largest float64, a customary bound, becomes infinity
            low, high = space.low.astype(dtype), space.high.astype(dtype)
        return Box(bound(low), bound(high), space.shape, dtype)
    if isinstance(space, kinds.Dict):
        return {name: from_gymnasium_space(part) for name, part in space.spaces.items()}
    if isinstance(space, kinds.Tuple):
        return tuple(from_gymnasium_space(part) for part in space.spaces)
    raise InputError(
        f"{space} has no counterpart: only Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple have."
    )


def from_gymnasium_element(space: Any, element: Any) -> Any:
    """Turns an element (or a batch) of Gymnasium's `space` into one of ours, made of NumPy arrays."""
    kinds = gymnasium.spaces
    if isinstance(space, kinds.Dict):
        return {name: from_gymnasium_element(part, element[name]) for name, part in space.spaces.items()}
    if isinstance(space, kinds.Tuple):
        return tuple(from_gymnasium_element(part, x) for part, x in zip(space.spaces, element, strict=True))
    value = np.asarray(element)
    if isinstance(space, kinds.Box):
        return value.astype(_narrow(space.dtype))
    if isinstance(space, kinds.Discrete):
        return (value - space.start).astype(np.int32)
    start = 0 if isinstance(space, kinds.MultiBinary) else space.start
    batch = value.shape[: value.ndim - len(space.shape)]
    return (value - start).reshape(*batch, -1).astype(np.int32)


def to_gymnasium_element(space: Any, element: Any) -> Any:
    """Turns an element (or a batch) of ours into one of Gymnasium's `space`: fresh, writable arrays."""
    kinds = gymnasium.spaces
    if isinstance(space, kinds.Dict):
        return {name: to_gymnasium_element(part, element[name]) for name, part in space.spaces.items()}
    if isinstance(space, kinds.Tuple):
        return tuple(to_gymnasium_element(part, x) for part, x in zip(space.spaces, element, strict=True))
    value = np.asarray(element)
    if isinstance(space, kinds.Box):
        return np.array(value, space.dtype)
    if isinstance(space, kinds.Discrete):
        moved = value.astype(space.dtype) + space.start
        return moved if moved.ndim else space.dtype.type(moved)
    start = 0 if isinstance(space, kinds.MultiBinary) else space.start
    return (value.reshape(*value.shape[:-1], *space.shape) + start).astype(space.dtype)


def _narrow(dtype: Any) -> np.dtype:
    """The dtype of ours that stands for a dtype of Gymnasium's Box."""
    if dtype in (np.uint8, np.bool_, np.int32):
        return np.dtype(dtype)
    return np.dtype(np.int32 if np.issubdtype(dtype, np.integer) else np.float32)
