"""Dealing rows out to minibatches."""

import jax
import numpy as np
import pytest

from jaxrl import minibatches


@pytest.mark.parametrize(("rows", "parts"), [(1, 1), (2, 2), (512, 4), (1000, 8), (2**20 + 1, 1), (2**21, 2)])
def test_every_row_is_dealt_once(rows: int, parts: int) -> None:
    dealt = np.asarray(minibatches.split(jax.random.key(0), rows, parts))
    assert dealt.shape == (parts, rows // parts)
    np.testing.assert_array_equal(np.sort(dealt.ravel()), np.arange(rows))


def test_every_row_is_as_likely_anywhere() -> None:
    keys = jax.random.split(jax.random.key(1), 20_000)
    dealt = np.asarray(jax.jit(jax.vmap(lambda key: minibatches.split(key, 6, 2)))(keys)).reshape(-1, 6)
    counts = np.stack([np.bincount(column, minlength=6) for column in dealt.T])  # [place, row]
    expected = len(dealt) / 6
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    # All 720 orders occur, none much more often than another.
    _, orders = np.unique(dealt, axis=0, return_counts=True)
    assert len(orders) == 720
    assert np.square(orders - len(dealt) / 720).sum() / (len(dealt) / 720) < 719 + 5 * np.sqrt(2 * 719)
