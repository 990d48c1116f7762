"""Convolutions without padding, and their gradients: as one product for small pictures, else in one order of axes.

The plain twin of all is `lax.conv_general_dilated` with NHWC pictures and HWIO kernels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

SMALL_ROW = 128  # numbers in a row of a picture up to which `as_product` is the faster; MinAtar has 40 to 100


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """f32[N, H, W, C], f32[k, k, C, F] -> f32[N, H', W', F] by the faster of the two; see there for the modes."""
    if stride == 1 and x.shape[-2] * x.shape[-1] <= SMALL_ROW:
        return as_product(x, kernel)
    return in_order(x, kernel, stride)


def as_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution of small pictures as one product: f32[N, H, W, C], f32[k, k, C, F] -> f32[N, H', W', F].

    k neighbouring rows of the picture, as they lie in memory, times a matrix [k W C, W' F] that holds the kernel at
    each of its places along a row. That multiplies W / k times as much as needed, but in one large product with nothing
    to gather, where XLA's CPU backend has no fast convolution for the few channels and many lanes of MinAtar: 1.3 to
    1.7 times as fast with gradients, for 10 × 10 pictures and sixteen filters.
    """
    batch, height, width, channels = x.shape
    size, _, _, features = kernel.shape
    rows, columns = height - size + 1, width - size + 1
    place = np.eye(width, dtype=np.float32)[np.arange(size)[:, None] + np.arange(columns)]  # [dx, column, x]
    matrix = jnp.einsum("dow,ydcf->ywcof", place, kernel).reshape(size * width * channels, columns * features)
    x = x.reshape(batch, height, width * channels)
    strips = jnp.concatenate([x[:, dy : dy + rows] for dy in range(size)], -1)  # [N, H', k W C]
    return (strips.reshape(batch * rows, -1) @ matrix).reshape(batch, rows, columns, features)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def in_order(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolution without padding: f32[N, H, W, C], f32[k, k, C, F] -> f32[N, H', W', F].

    Its gradients are convolutions in the same order of axes. Those that JAX derives have their axes permuted, which
    XLA's CPU backend undoes only outside of loops: inside `lax.scan` it runs them as plain loops, 20 times slower
    (jaxlib 0.10.2, gradient of the DQN network). Like every `custom_vjp`, it has no forward-mode derivative.
    """
    return _convolution(x, kernel, window_strides=(stride, stride), padding="VALID")


_convolution = functools.partial(jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return in_order(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    # Rows and columns at the end that no window covers.
    rest = [x.shape[i] - (gradient.shape[i] - 1) * stride - kernel.shape[i - 1] for i in (1, 2)]
    reach = [kernel.shape[i] - 1 for i in (0, 1)]
    by_x = _convolution(
        gradient,
        kernel[::-1, ::-1].transpose(0, 1, 3, 2),
        window_strides=(1, 1),
        padding=[(r, r + more) for r, more in zip(reach, rest, strict=True)],
        lhs_dilation=(stride, stride),
    )
    by_kernel = _convolution(
        x.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        window_strides=(1, 1),
        padding=[(0, -more) for more in rest],
        rhs_dilation=(stride, stride),
    )
    return by_x, by_kernel.transpose(1, 2, 0, 3)


in_order.defvjp(_forward, _backward)
