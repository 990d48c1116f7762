import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.classic_control.acrobot import Acrobot, Params, State, _wrap

STILL = State(*(jnp.float32(0),) * 4)


def energy(state, p):
    """Kinetic plus potential energy of the arm, from the positions of its masses; the shoulder is at height 0."""
    t1, t2, w1, w2 = (float(x) for x in state)
    v1 = p.center_1 * w1
    v2 = np.array([p.length_1 * w1 * np.cos(t1), p.length_1 * w1 * np.sin(t1)])
    v2 = v2 + p.center_2 * (w1 + w2) * np.array([np.cos(t1 + t2), np.sin(t1 + t2)])
    kinetic = 0.5 * (p.mass_1 * v1**2 + p.mass_2 * v2 @ v2 + p.inertia * (w1**2 + (w1 + w2) ** 2))
    height = p.mass_1 * -p.center_1 * np.cos(t1)
    height += p.mass_2 * (-p.length_1 * np.cos(t1) - p.center_2 * np.cos(t1 + t2))
    return kinetic + p.gravity * height


def drift(equations):
    env, params = Acrobot(equations=equations), Params(dt=0.01)
    step = jax.jit(env.step, compiler_options={"xla_backend_optimization_level": 0})
    state = State(*(jnp.float32(x) for x in (1.0, 0.5, 0.5, -0.5)))
    before = energy(state, params)
    for _ in range(200):
        state = step(None, state, 1, params).state
    return abs(energy(state, params) - before)


def test_the_book_s_equations_keep_the_energy_and_the_paper_s_do_not():
    """A free arm has a constant energy: physics as the judge, not another implementation."""
    assert drift("book") < 1e-3
    assert drift("paper") > 0.1


def test_hanging_at_rest_stays():
    out = Acrobot().step(None, STILL, 1, Params())
    np.testing.assert_allclose(np.array(out.state), 0, atol=1e-7)
    np.testing.assert_array_equal(out.obs, [1, 0, 1, 0, 0, 0])
    assert float(out.reward) == -1
    assert not out.terminated


def test_actions_turn_the_elbow_both_ways():
    left, right = (Acrobot().step(None, STILL, action, Params()).state for action in (0, 2))
    assert float(left.theta_2_dot) < 0 < float(right.theta_2_dot)
    np.testing.assert_allclose(np.array(left), -np.array(right), atol=1e-7)


@pytest.mark.parametrize(("goal", "ends", "reward"), [(1.9, True, 0.0), (2.1, False, -1.0)])
def test_reaching_the_line_ends_and_costs_nothing(goal, ends, reward):
    upright = STILL._replace(theta_1=jnp.float32(np.pi - 0.01))
    out = Acrobot().step(None, upright, 1, Params(goal_height=goal))
    assert bool(out.terminated) is ends
    assert float(out.reward) == reward


def test_angles_wrap_and_velocities_are_clipped():
    fast = State(*(jnp.float32(x) for x in (3.1, 3.0, 12.5, 28.0)))
    new = Acrobot().step(None, fast, 2, Params()).state
    assert abs(float(new.theta_1)) <= np.float32(np.pi)
    assert abs(float(new.theta_2)) <= np.float32(np.pi)
    capped = Acrobot().step(None, fast, 2, Params(max_speed_1=1.0, max_speed_2=2.0)).state
    assert abs(float(capped.theta_1_dot)) <= 1
    assert abs(float(capped.theta_2_dot)) <= 2


def test_wrap():
    angles = np.array([0.0, 3.0, -3.0, np.pi + 0.1, -np.pi - 0.1, 7 * np.pi + 0.5], np.float32)
    expected = [0, 3, -3, -np.pi + 0.1, np.pi - 0.1, -np.pi + 0.5]
    np.testing.assert_allclose(_wrap(angles), expected, atol=3e-6)


def test_static_option_through_the_registry():
    assert envs.make("Acrobot-v1", equations="paper")[0] == Acrobot(equations="paper")
