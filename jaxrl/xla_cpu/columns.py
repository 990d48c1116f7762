"""Dense networks on a batch that lies in columns, f32[n, B], where rows f32[B, n] are what is given and wanted.

The gradient by a kernel then needs no transposed copy of the batch, only small ones of the kernels; that pays where the
batch is larger than the layers. Ensembles of networks lose by it.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxrl.xla_cpu.products import NARROW


def pay(batch: Sequence[int], hidden: Sequence[int]) -> bool:
    """Whether columns are the faster for a dense network: its batch [*batch] is larger than its layers."""
    return math.prod(batch) > max(hidden)


@jax.custom_jvp
def multiply(kernel: jax.Array, x: jax.Array) -> jax.Array:
    """The transpose of f32[n, m] times f32[n, B]: what `products.multiply` does; the plain twin is `kernel.T @ x`.

    The gradient by the kernel then needs no transposed copy of the batch; the product needs one of the kernel, behind a
    barrier for the reason given there.
    """
    return jax.lax.optimization_barrier(kernel.T) @ x


@multiply.defjvp
def _multiply_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (kernel, x), (dkernel, dx) = primals, tangents
    if kernel.shape[1] <= NARROW:
        by_input = jnp.stack([(dx * weights[:, None]).sum(0) for weights in kernel.T])
    else:
        by_input = kernel.T @ dx
    return multiply(kernel, x), by_input + dkernel.T @ x


def dense(kernel: jax.Array, bias: jax.Array, x: jax.Array) -> jax.Array:
    """A layer f32[n, m], f32[m] on f32[n, B] -> f32[m, B]; the plain twin is `kernel.T @ x + bias[:, None]`."""
    # As a product with ones, for the gradient's sake: XLA's CPU backend sums rows of numbers more slowly.
    return multiply(kernel, x) + bias[:, None] @ jnp.ones((1, x.shape[1]))


def perceptron(
    layers: Sequence[Mapping[str, jax.Array]],
    heads: Sequence[Mapping[str, jax.Array]],
    activation: Callable[[jax.Array], jax.Array],
    x: jax.Array,
) -> tuple[jax.Array, ...]:
    """Dense layers, each followed by the activation, and dense heads on the last of them, the batch in columns between.

    The plain twin replaces x by `activation(x @ kernel + bias)` for each layer, and returns `x @ kernel + bias` for
    each head.

    Args:
        layers: {"kernel" f32[n, m], "bias" f32[m]} of each.
        heads: the same.
        activation: acts on every number alone.
        x: f32[..., n], the whole batch in rows.

    Returns:
        f32[..., m] of each head.
    """
    *batch, inputs = x.shape
    x = jax.lax.optimization_barrier(x.reshape(-1, inputs).T)
    for layer in layers:
        x = activation(dense(layer["kernel"], layer["bias"], x))
    return tuple(dense(head["kernel"], head["bias"], x).T.reshape(*batch, -1) for head in heads)
