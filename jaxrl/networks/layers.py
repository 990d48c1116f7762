"""Dense layers, one and several."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax

from jaxrl.networks.linear import multiply
from jaxrl.networks.weights import orthogonal

Activation = Literal["tanh", "relu", "elu", "swish"]

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": nn.tanh,
    "relu": nn.relu,
    "elu": nn.elu,
    "swish": nn.swish,
}


def dense(features: int, scale: float = 2.0**0.5, name: str | None = None) -> nn.Dense:
    """A dense layer with orthogonal weights and zero biases."""
    return nn.Dense(
        features,
        kernel_init=orthogonal(scale),
        bias_init=nn.initializers.zeros,
        name=name,
        dot_general=lambda x, kernel, *_, **__: multiply(x, kernel),
    )


class MLP(nn.Module):
    """Dense layers, each followed by the activation."""

    hidden: tuple[int, ...]
    activation: Activation
    layer_norm: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """f32[..., n] -> f32[..., hidden[-1]]; units are dropped where an rng "dropout" is given."""
        for size in self.hidden:
            x = dense(size)(x)
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = ACTIVATIONS[self.activation](x)
        return x
