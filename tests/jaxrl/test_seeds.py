import jax
import numpy as np
import pytest

from envs.errors import InputError
from jaxrl import seeds


def test_how_many_or_which():
    assert seeds.numbers(3) == seeds.numbers(np.int64(3)) == seeds.numbers(range(3)) == (0, 1, 2)
    assert seeds.numbers([np.int64(7), np.uint8(2), 0]) == (7, 2, 0)
    assert seeds.numbers([seeds.LARGEST]) == (2**32 - 1,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([-1, 2], "seed -1 must be from 0 to 4294967295"),
        ([np.int64(0), np.int64(2**32)], "seed 4294967296 must be"),
        ([2**70], "must be from 0"),
        ([1, np.uint32(1)], r"seeds=\[1, 1\] must be one or more different"),
        ([], "one or more"),
        (0, "one or more"),
        ([1.5], "1.5 is no whole number"),
        (2.0, "2.0 is no whole number"),
        ([True], "True is no whole number"),
        (["1"], "'1' is no whole number"),
    ],
)
def test_others_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        seeds.numbers(given)


def test_keys_are_those_of_the_seeds():
    made = jax.random.key_data(seeds.keys((5, 0, seeds.LARGEST)))
    np.testing.assert_array_equal(made[0], jax.random.key_data(jax.random.key(5)))
    assert len({tuple(row) for row in np.asarray(made).tolist()}) == 3
