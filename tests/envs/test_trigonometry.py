"""Sine and cosine against NumPy's in double precision."""

import jax
import jax.numpy as jnp
import numpy as np

from envs.trigonometry import sin_cos


def test_single_precision() -> None:
    for reach, tolerance in ((np.pi, 3e-7), (20.0, 4e-7), (200.0, 2e-6)):
        angle = jnp.linspace(-reach, reach, 100_001)
        exact = np.asarray(angle, np.float64)
        sin, cos = jax.jit(sin_cos)(angle)
        np.testing.assert_allclose(sin, np.sin(exact), atol=tolerance)
        np.testing.assert_allclose(cos, np.cos(exact), atol=tolerance)


def test_double_precision() -> None:
    with jax.enable_x64(True):
        angle = jnp.linspace(-20.0, 20.0, 1001)
        sin, cos = sin_cos(angle)
        np.testing.assert_allclose(sin, np.sin(np.asarray(angle)), atol=1e-15)
        np.testing.assert_allclose(cos, np.cos(np.asarray(angle)), atol=1e-15)


def test_derivative() -> None:
    angle = jnp.linspace(-7.0, 7.0, 201)
    slope = jax.vmap(jax.grad(lambda x: sin_cos(x)[0]))(angle)
    np.testing.assert_allclose(slope, np.cos(np.asarray(angle)), atol=1e-5)
