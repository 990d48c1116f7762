"""Dense networks with batch renormalisation, whose statistics no gradient moves."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks.layers import ACTIVATIONS, Activation, dense


class BatchRenorm(nn.Module):
    """Batch renormalisation (Ioffe 2017, arXiv:1702.03275): by the batch, then corrected towards running statistics.

    In its first `warmup` batches it is plain batch normalisation. When not training, the running statistics normalise.
    The defaults are those of CrossQ (arXiv:1902.05605).
    """

    momentum: float = 0.99
    warmup: int = 100_000
    epsilon: float = 1e-3

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """f32[B, n] -> f32[B, n]."""
        size = x.shape[-1:]
        mean = self.variable("statistics", "mean", lambda: jnp.zeros(size))
        variance = self.variable("statistics", "variance", lambda: jnp.ones(size))
        batches = self.variable("statistics", "batches", lambda: jnp.int32(0))
        scale = self.param("scale", nn.initializers.ones, size)
        bias = self.param("bias", nn.initializers.zeros, size)
        std = jnp.sqrt(variance.value + self.epsilon)
        if not train:
            return (x - mean.value) / std * scale + bias
        batch_mean, batch_variance = x.mean(0), x.var(0)
        batch_std = jnp.sqrt(batch_variance + self.epsilon)
        warm = batches.value >= self.warmup
        # The bounds of the correction are those of the paper's later stage: a factor of 3, a shift by 5.
        r = jnp.where(warm, jnp.clip(batch_std / std, 1 / 3, 3.0), 1.0)
        d = jnp.where(warm, jnp.clip((batch_mean - mean.value) / std, -5.0, 5.0), 0.0)
        r, d = jax.lax.stop_gradient((r, d))
        if not self.is_initializing():
            mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean
            variance.value = self.momentum * variance.value + (1 - self.momentum) * batch_variance
            batches.value = batches.value + 1
        return ((x - batch_mean) / batch_std * r + d) * scale + bias


class _RenormedMLP(nn.Module):
    """Dense layers with a batch renormalisation of the input and after every activation."""

    hidden: tuple[int, ...]
    activation: Activation
    outputs: int
    scale: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = BatchRenorm()(x, train)
        for size in self.hidden:
            x = BatchRenorm()(ACTIVATIONS[self.activation](dense(size)(x)), train)
        return dense(self.outputs, self.scale)(x)


class Renormed(NamedTuple):
    """A network whose batch normalisation has a state of its own, which no gradient moves."""

    init: Callable[[jax.Array], Any]  # key -> (params, statistics)
    train: Callable[..., Any]  # (params, statistics, x f32[B, n]) -> (outputs, statistics), normalised by the batch
    apply: Callable[..., Any]  # (params, statistics, x f32[..., n]) -> outputs, normalised by the statistics


def batch_renormed(
    inputs: int, outputs: int, hidden: tuple[int, ...], activation: Activation, scale: float = 1.0
) -> Renormed:
    """A dense network f32[..., inputs] -> f32[..., outputs] with batch renormalisation throughout.

    Args:
        inputs: size of the input.
        outputs: size of the output.
        hidden: sizes of the dense layers.
        activation: after every one of them; the normalisation follows it.
        scale: of the orthogonal weights of the last layer.
    """
    module = _RenormedMLP(tuple(hidden), activation, outputs, scale)

    def init(key: jax.Array) -> Any:
        variables = module.init(key, jnp.zeros((1, inputs)), False)
        return variables["params"], variables["statistics"]

    def train(params: Any, statistics: Any, x: jax.Array) -> Any:
        variables = {"params": params, "statistics": statistics}
        out, changed = module.apply(variables, x, True, mutable=["statistics"])
        return out, changed["statistics"]

    def apply(params: Any, statistics: Any, x: jax.Array) -> Any:
        return module.apply({"params": params, "statistics": statistics}, x, False)

    return Renormed(init, train, apply)
