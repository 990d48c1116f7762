"""Sine and cosine for the inner loops of physics."""

import jax
import jax.numpy as jnp
import numpy as np


def sin_cos(angle: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the sine and the cosine of an angle in radians; in f32 to 3e-7 within ±π and 4e-7 within ±20.

    In f32 these are Taylor's polynomials of half the angle and the formulas for the double angle, vector code where
    XLA's CPU backend calls a function for each number. They end in quotients: XLA puts a copy of cheap arithmetic, and
    of its own sine too, into every kernel that reads it, but computes a quotient once. In f64 they are jax's own.
    """
    if angle.dtype != jnp.float32:
        return jnp.sin(angle), jnp.cos(angle)
    turns = jnp.round(angle * (1 / (2 * np.pi)))
    half = 0.5 * ((angle - turns * 6.28125) - turns * (2 * np.pi - 6.28125))  # 6.28125 times a small integer is exact
    z = half * half
    s = half * (1 - z * (1 / 6 - z * (1 / 120 - z * (1 / 5040 - z * (1 / 362880 - z / 39916800)))))
    c = 1 - z * (1 / 2 - z * (1 / 24 - z * (1 / 720 - z * (1 / 40320 - z * (1 / 3628800 - z / 479001600)))))
    one = s * s + c * c
    return 2 * s * c / one, (c * c - s * s) / one
