import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.classic_control.pendulum import Pendulum, PendulumLab, State


def rod(theta, theta_dot=0.0):
    return State(jnp.float32(theta), jnp.float32(theta_dot))


def torque(value):
    return jnp.array([value], jnp.float32)


def test_one_step_by_hand():
    """Horizontal at 1 rad/s with full torque: acceleration 15 + 6, so 1 + 21/20 = 2.05 rad/s."""
    env, params = envs.make("Pendulum-v1")
    out = env.step(None, rod(np.pi / 2, 1.0), torque(2.0), params)
    np.testing.assert_allclose(out.state.theta_dot, 2.05, rtol=1e-5)
    np.testing.assert_allclose(out.state.theta, np.pi / 2 + 0.1025, rtol=1e-5)
    np.testing.assert_allclose(out.obs, [np.cos(np.pi / 2 + 0.1025), np.sin(np.pi / 2 + 0.1025), 2.05], rtol=1e-5)
    np.testing.assert_allclose(out.reward, -((np.pi / 2) ** 2 + 0.1 + 0.004), rtol=1e-5)
    assert not out.terminated


def test_action_and_speed_are_clipped():
    env, params = envs.make("Pendulum-v1")
    a, b = (env.step(None, rod(0.3), torque(u), params) for u in (2.0, 50.0))
    np.testing.assert_array_equal(a.obs, b.obs)
    assert float(a.reward) == float(b.reward)
    assert float(env.step(None, rod(1.5, 8.0), torque(2.0), params).state.theta_dot) == 8.0


@pytest.mark.parametrize("turns", [-2, -1, 1, 3])
def test_the_cost_does_not_count_turns(turns):
    env, params = envs.make("Pendulum-v1")
    here, there = (env.step(None, rod(0.5 + 2 * np.pi * n), torque(0.0), params) for n in (0, turns))
    np.testing.assert_allclose(here.reward, there.reward, rtol=1e-4)
    np.testing.assert_allclose(here.obs, there.obs, atol=1e-5)


def test_lab_variant_is_a_point_mass_with_g_9_81():
    env, params = envs.make("Pendulum-Lab-v0")
    assert type(env) is PendulumLab
    assert env.max_steps == 200
    out = env.step(None, rod(0.5), torque(1.0), params)
    np.testing.assert_allclose(out.state.theta_dot, (9.81 * np.sin(0.5) + 1.0) * 0.05, rtol=1e-5)
    np.testing.assert_allclose(out.reward, -(0.25 + 0.001), rtol=1e-5)


def test_lab_variant_is_unstable_upright_unless_gravity_is_turned_round():
    for gravity, sign in ((9.81, 1), (-9.81, -1)):
        env, params = envs.make("Pendulum-Lab-v0", gravity=gravity)
        assert np.sign(env.step(None, rod(0.1), torque(0.0), params).state.theta_dot) == sign


def test_starts_of_the_lab_variant_fill_their_ranges():
    env, params = envs.make("Pendulum-Lab-v0")
    reset = jax.jit(jax.vmap(env.reset, in_axes=(0, None)), compiler_options={"xla_backend_optimization_level": 0})
    _, state = reset(jax.random.split(jax.random.key(0), 500), params)
    for values, bound in ((state.theta, np.pi / 4), (state.theta_dot, 0.1)):
        assert abs(values).max() <= np.float32(bound)
        assert values.max() > 0.97 * bound
        assert values.min() < -0.97 * bound


def test_picture_turns_to_the_left_for_positive_angles():
    env, params = Pendulum(), Pendulum().default_params()
    for theta, (row, column) in ((0.0, (180, 250)), (np.pi / 2, (250, 180)), (-np.pi / 2, (250, 320))):
        assert env.render(rod(theta), params)[row, column].tolist() == [204, 77, 77]
