"""How the weights of a network are drawn: orthogonal, without any LAPACK call, or from LeCun's normal distribution."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks.network import Network


def orthogonal(scale: float = 1.0) -> Callable[..., jax.Array]:
    """An initialiser of matrices with orthonormal rows or columns, times `scale` (Saxe et al. 2014).

    A Gaussian matrix is orthogonalised by Gram–Schmidt, each vector twice ("twice is enough": Giraud et al. 2005),
    with matrix–vector products alone: the same Haar distribution as a QR decomposition with a positive diagonal.
    Batched QR on XLA's CPU backend can deadlock inside a vmapped program, so no LAPACK call is made.
    """

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        columns = shape[-1]
        rows = 1
        for size in shape[:-1]:
            rows *= size
        few, many = min(rows, columns), max(rows, columns)
        vectors = jax.random.normal(key, (few, many), jnp.float32)

        def orthogonalise(i: jax.Array, q: jax.Array) -> jax.Array:
            v = q[i]
            earlier = jnp.where(jnp.arange(few)[:, None] < i, q, 0.0)
            for _ in range(2):
                v = v - (earlier @ v) @ earlier
            return q.at[i].set(v / jnp.linalg.norm(v))

        q = jax.lax.fori_loop(0, few, orthogonalise, vectors)
        matrix = q if rows == few else q.T
        return (scale * matrix).reshape(shape).astype(dtype)

    return init


def lecun(net: Network) -> Network:
    """The same network with kernels drawn from LeCun's normal distribution, variance 1 / inputs, truncated at 2 σ.

    Flax's default, and so that of most DQNs in JAX. Of an observation of few numbers it makes larger features than
    `orthogonal`: those of 4 numbers to 120 units are 4 times as large, and DQN with a small step size learns earlier.
    """

    def init(key: jax.Array) -> Any:
        leaves, tree = jax.tree.flatten_with_path(net.init(key))
        keys = jax.random.split(key, len(leaves))
        draw = nn.initializers.lecun_normal()

        def again(key: jax.Array, path: Any, leaf: jax.Array) -> jax.Array:
            return draw(key, leaf.shape, leaf.dtype) if path[-1].key == "kernel" else leaf

        drawn = [again(k, path, leaf) for k, (path, leaf) in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(tree, drawn)

    return Network(init, net.apply)
