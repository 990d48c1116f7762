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


def test_draws_of_split_keys_are_uniform_and_uncorrelated() -> None:
    # As a rollout draws its starts: a key for each, four numbers from every key.
    keys = jax.random.split(threefry.bulk(jax.random.key(0)), 50_000)
    draws = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (4,)))(keys))
    for column in draws.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    correlation = np.corrcoef(draws.T) - np.eye(4)
    neighbours = [np.corrcoef(column[:-1], column[1:])[0, 1] for column in draws.T]
    assert np.abs([*correlation.ravel(), *neighbours]).max() < 5 / np.sqrt(len(draws))


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
