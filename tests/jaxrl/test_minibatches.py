"""Dealing rows out to minibatches."""

import jax
import numpy as np
import pytest

from jaxrl import minibatches


@pytest.mark.parametrize(
    ("rows", "parts"), [(1, 1), (2, 2), (128, 4), (256, 1), (512, 4), (1000, 8), (2**13, 8), (2**20 + 1, 1), (2**21, 2)]
)
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


@pytest.mark.parametrize("rows", [240, 256, 512])  # by a sort, and by arithmetic
def test_minibatches_are_those_of_a_random_permutation(rows: int) -> None:
    number, parts = 12_000, 4
    size = rows // parts
    keys = jax.random.split(jax.random.key(2), number)
    dealt = np.asarray(jax.jit(jax.vmap(lambda key: minibatches.split(key, rows, parts)))(keys))
    member = np.zeros((number, rows), np.float32)
    np.put_along_axis(member, dealt[:, 1], 1.0, axis=1)

    def scores(share: np.ndarray, expected: float) -> np.ndarray:
        return (share - expected) / np.sqrt(expected * (1 - expected) / number)

    # One row, two and three (sampled) of them in the same minibatch: as often as chance has it, no pair conspicuous.
    one = scores(member.mean(0), size / rows)
    two = scores((member.T @ member / number)[np.triu_indices(rows, 1)], size / rows * (size - 1) / (rows - 1))
    triples = np.random.default_rng(0).permuted(np.tile(np.arange(rows), (300, 1)), axis=1)[:, :3]
    together = np.array([member[:, triple].all(1).mean() for triple in triples])
    three = scores(together, size * (size - 1) * (size - 2) / (rows * (rows - 1) * (rows - 2)))
    for found, limit in ((one, 4.5), (two, 6.0), (three, 4.5)):
        assert np.abs(found).max() < limit
        assert abs(found.std() - 1) < 6 / np.sqrt(2 * min(len(found), rows))

    # The variance of a minibatch's sum of any wave over the rows: Fourier functions, neither stratified nor clumped.
    waves = np.square(np.abs(np.fft.rfft(member - size / rows, axis=1)[:, 1:-1])).mean(0)
    ratio = waves / (size / rows * (1 - size / rows) * rows**2 / (rows - 1))
    assert np.abs(ratio - 1).max() < 6 / np.sqrt(number)

    # Fixed points of the whole permutation have mean and variance 1.
    fixed = (dealt.reshape(number, -1) == np.arange(rows)).sum(1)
    assert abs(fixed.mean() - 1) < 5 / np.sqrt(number)
    assert abs(fixed.var() - 1) < 10 / np.sqrt(number)


def test_epochs_share_no_more_than_chance_has_it() -> None:
    keys = jax.random.split(jax.random.key(3), (4_000, 2))
    first, second = np.asarray(jax.jit(jax.vmap(jax.vmap(lambda key: minibatches.split(key, 512, 4))))(keys))[
        :, :, 0
    ].swapaxes(0, 1)
    shared = np.array([np.intersect1d(a, b).size for a, b in zip(first, second, strict=True)])
    variance = 128 * 0.25 * 0.75 * 384 / 511  # hypergeometric, mean 32
    assert abs(shared.mean() - 32) < 5 * np.sqrt(variance / 4_000)
    assert abs(shared.var() / variance - 1) < 5 * np.sqrt(2 / 4_000)


def test_taken_rows_are_those_of_every_leaf() -> None:
    samples = {"scalar": np.arange(6.0), "picture": np.arange(6 * 12).reshape(6, 2, 3, 2) % 5 == 0}
    rows = np.array([4, 0, 4])
    taken = minibatches.take(jax.tree.map(jax.numpy.asarray, samples), jax.numpy.asarray(rows))
    for name, leaf in samples.items():
        np.testing.assert_array_equal(taken[name], leaf[rows])
