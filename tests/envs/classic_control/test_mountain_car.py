import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.classic_control.mountain_car import MountainCar, Params, State
from envs.classic_control.mountain_car_continuous import MountainCarContinuous


def car(position, velocity=0.0):
    return State(jnp.float32(position), jnp.float32(velocity))


def test_one_step_by_hand():
    """From −0.5 at rest, full right: v = 0.001 − 0.0025 cos(−1.5) = 0.00082316."""
    out = MountainCar().step(None, car(-0.5), 2, Params())
    np.testing.assert_allclose(out.obs, [-0.49917684, 0.00082316], rtol=1e-4)
    assert float(out.reward) == -1
    assert not out.terminated


def test_the_wall_stops_the_car():
    out = MountainCar().step(None, car(-1.19, -0.05), 0, Params())
    np.testing.assert_array_equal(out.obs, np.array([-1.2, 0.0], np.float32))


def test_speed_is_clipped():
    out = MountainCar().step(None, car(0.0, 0.07), 2, Params(gravity=0.0))
    np.testing.assert_allclose(out.state.velocity, 0.07, rtol=1e-6)


@pytest.mark.parametrize(("goal_velocity", "ends"), [(0.0, True), (0.069, False)])
def test_arrival_needs_position_and_velocity(goal_velocity, ends):
    out = MountainCar().step(None, car(0.48, 0.05), 1, Params(goal_velocity=goal_velocity))
    assert bool(out.terminated) is ends
    assert float(out.reward) == -1


def test_rocking_reaches_the_goal_and_pushing_does_not():
    """The textbook solution: push the way the car is moving."""
    env, params = envs.make("MountainCar-v0")
    step = jax.jit(env.step)
    _, rocking = env.reset(jax.random.key(0), params)
    pushing, arrived = rocking, {"rocking": None, "pushing": None}
    for t in range(200):
        out = step(None, rocking, jnp.where(rocking.velocity >= 0, 2, 0), params)
        rocking = out.state
        arrived["rocking"] = arrived["rocking"] or (t if out.terminated else None)
        out = step(None, pushing, jnp.int32(2), params)
        pushing = out.state
        arrived["pushing"] = arrived["pushing"] or (t if out.terminated else None)
    assert arrived["pushing"] is None
    assert 80 < arrived["rocking"] < 160


def test_continuous_throttle_is_clipped_but_paid_in_full():
    env, params = envs.make("MountainCarContinuous-v0")
    one, three = (env.step(None, car(-0.5), jnp.array([a], jnp.float32), params) for a in (1.0, 3.0))
    np.testing.assert_array_equal(one.obs, three.obs)
    np.testing.assert_allclose([one.reward, three.reward], [-0.1, -0.9], rtol=1e-6)
    np.testing.assert_allclose(one.state.velocity, 0.0015 - 0.0025 * np.cos(1.5), rtol=1e-4)


def test_continuous_arrival_pays_100():
    env, params = envs.make("MountainCarContinuous-v0")
    assert params.goal_position == np.float32(0.45)
    out = env.step(None, car(0.44, 0.05), jnp.array([-0.5], jnp.float32), params)
    assert out.terminated
    np.testing.assert_allclose(out.reward, 100 - 0.025, rtol=1e-6)


@pytest.mark.parametrize("env", [MountainCar(), MountainCarContinuous()])
@pytest.mark.parametrize("position", [-1.2, -0.5, 0.55])
def test_the_picture_shows_the_car_where_it_is(env, position):
    params = env.default_params()
    difference = (env.render(car(position), params) != env.render(car(-0.9), params)).any(-1)
    columns = np.nonzero(difference.any(0))[0]
    expected = (position + 1.2) / 1.8 * 600
    assert np.abs(columns - expected).min() < 30
