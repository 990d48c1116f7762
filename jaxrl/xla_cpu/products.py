"""Products of a batch that lies in rows with a matrix."""

import functools

import jax
import jax.numpy as jnp

# So many inputs or outputs of a layer make a product that XLA's CPU backend spends more time on calling than on
# calculating (0.6 µs; jaxlib 0.10.2): it is written as a sum, which becomes part of the operation beside it.
NARROW = 4


@jax.custom_jvp
def multiply(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """f32[..., n] times f32[n, m], with gradients that are fast on CPU; the plain twin is `x @ kernel`.

    The gradient by the kernel is xᵀg. XLA's CPU backend runs a product whose left side is transposed by its slower
    kernel (34 against 13 µs for [64, 128] · [128, 64], jaxlib 0.10.2), so x is transposed beforehand; the barrier keeps
    XLA from folding the transposition back into the product.
    """
    if kernel.shape[0] <= NARROW:
        return functools.reduce(jnp.add, (x[..., i, None] * row for i, row in enumerate(kernel)))
    return x @ kernel


@multiply.defjvp
def _multiply_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    transposed = jax.lax.optimization_barrier(x.reshape(-1, x.shape[-1]).T)
    if kernel.shape[1] <= NARROW:
        by_input = jnp.stack([(dx * weights).sum(-1) for weights in kernel.T], -1)
    else:
        by_input = dx @ kernel
    return multiply(x, kernel), by_input + (transposed.T @ dkernel).reshape(*x.shape[:-1], -1)
