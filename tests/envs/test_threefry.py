"""The written-out cipher against `jax.random`'s first form."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from envs import threefry

DRAWS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "bits of 8": lambda key: jax.random.bits(key, (9,), "uint8"),
    "bits of 16": lambda key: jax.random.bits(key, (9,), "uint16"),
    "bits of 32": lambda key: jax.random.bits(key, (3, 5)),
    "uniform": lambda key: jax.random.uniform(key, (1000,)),
    "normal": lambda key: jax.random.normal(key, (7,)),
    "integers": lambda key: jax.random.randint(key, (50,), 0, 7),
    "permutation": lambda key: jax.random.permutation(key, 101),
    "categorical": lambda key: jax.random.categorical(key, jnp.zeros((4, 3))),
    "one number": lambda key: jax.random.uniform(key),
    "split": lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
    "fold_in": lambda key: jax.random.key_data(jax.random.fold_in(key, 12)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_every_draw_is_that_of_jax(draw: Callable[[jax.Array], jax.Array]) -> None:
    key = jax.random.key(7)
    keys = jax.random.split(key, 4)
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(draw(threefry.bulk(key)), draw(key))
        np.testing.assert_array_equal(jax.jit(jax.vmap(draw))(threefry.bulk(keys)), jax.vmap(draw)(keys))


KINDS: dict[str, Callable[[jax.Array, int], jax.Array]] = {
    "split": jax.random.split,
    "consecutive": threefry.consecutive,
    "consecutive, of the default generator": lambda key, num: threefry.consecutive(threefry.default(key), num),
    "splits of consecutive": lambda key, num: jax.vmap(lambda k: jax.random.split(k)[1])(
        threefry.consecutive(key, num)
    ),
}


@pytest.mark.parametrize("keys_of", KINDS.values(), ids=KINDS.keys())
def test_draws_of_many_keys_are_uniform_and_uncorrelated(keys_of: Callable[[jax.Array, int], jax.Array]) -> None:
    # As a rollout draws its starts: a key for each, four numbers from every key.
    num = 65_536
    keys = keys_of(threefry.bulk(jax.random.key(0)), num)
    draws = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (4,)))(keys))
    for column in draws.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    # Neighbours, and keys whose second words differ in one bit alone, in all pairs of the four numbers.
    for lag in (0, 1, 2, 3, 4, 64, 256, 4096, 32_768):
        both = np.corrcoef(draws[: num - lag].T, draws[lag:].T)[:4, 4:]
        assert np.abs(both - (lag == 0) * np.eye(4)).max() < 5 / np.sqrt(num - lag)
        cells = (8 * draws[: num - lag, 0]).astype(int) * 8 + (8 * draws[lag:, 1]).astype(int)
        assert stats.chisquare(np.bincount(cells, minlength=64)).pvalue > 1e-4


def test_consecutive_keys_of_two_keys_do_not_meet() -> None:
    keys = jax.random.split(jax.random.key(5), 64)
    many = jax.vmap(lambda key: threefry.consecutive(key, 1024))(keys)
    assert len(np.unique(np.asarray(jax.random.key_data(many)).reshape(-1, 2), axis=0)) == 64 * 1024
    assert many.dtype == keys.dtype


def test_keys_of_another_generator_are_split() -> None:
    key = jax.random.key(1, impl="rbg")
    np.testing.assert_array_equal(
        jax.random.key_data(threefry.consecutive(key, 3)), jax.random.key_data(jax.random.split(key, 3))
    )


def test_keys_go_there_and_back() -> None:
    keys = jax.random.split(jax.random.key(3), 5)
    fast = threefry.bulk(keys)
    assert fast.dtype != keys.dtype
    back = threefry.default({"key": fast, "number": jnp.ones(5)})["key"]
    assert back.dtype == keys.dtype
    np.testing.assert_array_equal(jax.random.key_data(back), jax.random.key_data(keys))


def test_other_generators_are_left_alone() -> None:
    key = jax.random.key(0, impl="rbg")
    assert threefry.bulk(key) is key
    assert threefry.default(key) is key
