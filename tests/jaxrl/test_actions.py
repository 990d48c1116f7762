"""The map between the unit box and Boxes of every kind, and who acts in which space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import spaces
from envs.errors import InputError
from envs.spaces import Box, Discrete, MultiDiscrete
from jaxrl import actions
from jaxrl.actions import unit_box

MOST = float(np.finfo(np.float32).max)
WIDE = np.linspace(-1.5, 1.5, 1001, dtype=np.float32)


def given(space, unit):
    """What the environment gets, for unit actions [n] of one coordinate."""
    return np.asarray(unit_box(space).to_env(jnp.asarray(unit, jnp.float32)[:, None]))[:, 0]


def test_bounded_coordinates_are_scaled_and_clipped():
    np.testing.assert_allclose(given(Box(-2.0, 6.0, (1,)), [-3, -1, 0, 0.5, 1, 9]), [-2, -2, 2, 4, 6, 6])
    box = unit_box(Box(-2.0, 6.0, (1,)))
    np.testing.assert_allclose(box.to_unit(jnp.array([[-2.0], [4.0]])), [[-1.0], [0.5]])


@pytest.mark.parametrize("bound", [np.inf, MOST])
def test_without_bounds_actions_stay_as_they_are(bound):
    unit = [-1e6, -1.0, 0.5, 40.0]
    np.testing.assert_array_equal(given(Box(-bound, bound, (1,)), unit), np.float32(unit))
    np.testing.assert_array_equal(given(Box(0.0, bound, (1,)), unit), [0.0, 0.0, 0.5, 40.0])
    np.testing.assert_array_equal(given(Box(-bound, 3.0, (1,)), unit), [-1e6, -1.0, 0.5, 3.0])
    with pytest.raises(InputError, match="sac needs finite bounds of the actions"):
        actions.require_bounded_box("sac", Box(-bound, bound, (1,)))


@pytest.mark.parametrize(
    "space",
    [
        Box(0, 20, (1,), np.int32),
        Box(-128, 127, (1,), np.int8),
        Box(0, 255, (1,), np.uint8),
        Box(-(2**31), 2**31 - 1, (1,), np.int32),
        Box(2**24 - 1, 2**24 + 5, (1,), np.int32),
        Box(False, True, (1,), np.bool_),
        Box(0.1, 0.7, (1,)),  # whose ends are not what centre and half the width add up to
    ],
    ids=str,
)
def test_actions_lie_in_the_space_and_have_its_type(space):
    got = np.asarray(unit_box(space).to_env(jnp.asarray(WIDE)[:, None]))
    assert got.dtype == space.dtype
    assert all(spaces.contains(space, row) for row in got)
    # Both ends are reached, but for what single precision cannot tell from the last integer.
    span = float(space.upper[0]) - float(space.lower[0])
    np.testing.assert_allclose([float(got.min()), float(got.max())], [space.low, space.high], atol=1e-6 * span + 1e-9)


def test_integers_are_the_nearest():
    np.testing.assert_array_equal(given(Box(0, 4, (1,), np.int32), [-1, -0.76, -0.74, 0, 0.2, 0.3]), [0, 0, 1, 2, 2, 3])


def test_refusals_name_who_can():
    several = MultiDiscrete((2, 3))
    for refuse in (actions.require_discrete, actions.require_bounded_box, actions.require_simple):
        with pytest.raises(InputError, match=r"^dqn needs .*MultiDiscrete.* ppo, a2c, trpo, reinforce"):
            refuse("dqn", several)
    assert actions.require_simple("dqn", Discrete(2)) == Discrete(2)


def test_gradients_pass_through_a_bounded_box():
    slope = jax.grad(lambda u: unit_box(Box(-3.0, 3.0, (1,))).to_env(u)[0])(jnp.array([0.5]))
    np.testing.assert_allclose(slope, [3.0])
