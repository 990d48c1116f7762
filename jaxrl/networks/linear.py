"""The linear maps of all networks, each in the form that the backend is fast at.

This is the one place of the networks that asks for the backend: `xla_cpu` has the forms for a CPU, and a program for
any other holds plain products and convolutions alone.
"""

from collections.abc import Sequence

import jax

from jaxrl import xla_cpu
from jaxrl.xla_cpu import columns, convolutions, products


def multiply(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """f32[..., n] times f32[n, m]."""
    return products.multiply(x, kernel) if xla_cpu.targeted() else x @ kernel


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolution without padding: f32[N, H, W, C], f32[k, k, C, F] -> f32[N, H', W', F].

    On a CPU that of larger pictures has no forward-mode derivative (`xla_cpu.convolutions.in_order`).
    """
    if xla_cpu.targeted():
        return convolutions.convolve(x, kernel, stride)
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=axes)


def columns_pay(batch: Sequence[int], hidden: Sequence[int]) -> bool:
    """Whether a batch [*batch] should go through dense layers of these sizes by `xla_cpu.columns.perceptron`."""
    return xla_cpu.targeted() and columns.pay(batch, hidden)
