import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.classic_control.cartpole import CartPole, Params, State


def at(**values):
    return State(*(jnp.float32(0),) * 4)._replace(**{k: jnp.float32(v) for k, v in values.items()})


def test_one_step_by_hand():
    """From rest upright, pushed to the right: angular acceleration −(10/1.1)/(0.5·(4/3 − 0.1/1.1)) = −14.634 rad/s²."""
    out = CartPole().step(None, at(), 1, Params())
    np.testing.assert_allclose(out.obs, [0, 0.19512195, 0, -0.29268293], rtol=1e-5)
    mirrored = CartPole().step(None, at(), 0, Params())
    np.testing.assert_allclose(mirrored.obs, -out.obs, atol=1e-7)
    assert float(out.reward) == 1


@pytest.mark.parametrize(
    ("state", "ends"),
    [
        (at(x=2.39), False),
        (at(x=2.39, x_dot=1.0), True),
        (at(x=-2.39, x_dot=-1.0), True),
        (at(theta=0.2), False),
        (at(theta=0.2, theta_dot=1.0), True),
        (at(theta=-0.2, theta_dot=-1.0), True),
    ],
)
def test_endings(state, ends):
    out = CartPole().step(None, state, 1, Params())
    assert bool(out.terminated) is ends
    assert float(out.reward) == 1


def test_a_simple_controller_reaches_the_time_limit():
    env, params = envs.make("CartPole-v1")
    _, state = env.reset(jax.random.key(0), params)

    def body(state, _):
        lean = state.theta + 0.2 * state.theta_dot + 0.02 * state.x + 0.04 * state.x_dot
        out = env.step(None, state, (lean > 0).astype(jnp.int32), params)
        return out.state, out.terminated

    _, terminated = jax.lax.scan(body, state, length=500)
    assert not terminated.any()
