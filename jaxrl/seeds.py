"""Which runs there are: a seed is a whole number of 32 bits, and makes the key of its run."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from envs.errors import InputError

LARGEST = 2**32 - 1  # two numbers that agree in 32 bits would be the same run


def numbers(seeds: int | Iterable[Any]) -> tuple[int, ...]:
    """Seeds as Python's integers.

    Args:
        seeds: how many (0, 1, …), or which; NumPy's integers too.

    Raises:
        InputError: none at all, one twice, or one that is no whole number from 0 to 2^32 − 1.
    """
    found = tuple(_whole(seed) for seed in seeds) if isinstance(seeds, Iterable) else tuple(range(_whole(seeds)))
    for seed in found:
        if not 0 <= seed <= LARGEST:
            raise InputError(f"seed {seed} must be from 0 to {LARGEST}: seeds have 32 bits (--first-seed, --seeds).")
    if not found or len(set(found)) != len(found):
        raise InputError(f"seeds={list(found)} must be one or more different numbers.")
    return found


def _whole(number: Any) -> int:
    try:
        if isinstance(number, bool | np.bool_):
            raise TypeError
        return operator.index(number)
    except TypeError:
        raise InputError(f"seeds: {number!r} is no whole number.") from None


def keys(seeds: Sequence[int]) -> jax.Array:
    """The key of the run of each seed, key[len(seeds)]; seeds are of `numbers`."""
    return jax.vmap(jax.random.key)(np.asarray(seeds, np.uint32))
