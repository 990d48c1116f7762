"""What stands between an observation and the heads: an MLP, the DQN CNN or the MinAtar CNN, and the input it takes."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from envs import spaces
from envs.errors import InputError
from jaxrl.networks.layers import MLP, Activation
from jaxrl.networks.linear import convolve
from jaxrl.networks.weights import orthogonal

Torso = Literal["mlp", "nature_cnn", "minatar_cnn"]

NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # Mnih et al. 2015
MINATAR = ((16, 3, 1),)  # Young & Tian 2019


class CNN(nn.Module):
    """Convolutions (features, kernel, stride) with ReLU, flattened, then dense layers."""

    convolutions: tuple[tuple[int, int, int], ...]
    hidden: tuple[int, ...]
    activation: Activation
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """f32[..., H, W, C] -> f32[..., hidden[-1]]."""
        batch = x.shape[:-3]
        x = x.reshape(-1, *x.shape[-3:])
        for features, kernel, stride in self.convolutions:
            layer = nn.Conv(
                features,
                (kernel, kernel),
                (stride, stride),
                padding="VALID",
                kernel_init=orthogonal(2.0**0.5),
                conv_general_dilated=lambda x, weights, *_, stride=stride, **__: convolve(x, weights, stride),
            )
            x = layer(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = nn.relu(x)
        x = x.reshape(*batch, -1)
        return MLP(self.hidden, self.activation, self.layer_norm)(x)


def torso(kind: Torso, hidden: tuple[int, ...], activation: Activation, layer_norm: bool = False) -> nn.Module:
    """Builds the part of a network between observation and heads."""
    if kind == "mlp":
        return MLP(hidden, activation, layer_norm)
    return CNN({"nature_cnn": NATURE, "minatar_cnn": MINATAR}[kind], hidden, activation, layer_norm)


def encode(space: spaces.Space, kind: Torso, obs: Any) -> jax.Array:
    """Turns observations of `space` into the torso's input.

    For an MLP a flat f32 vector (Discrete parts one-hot); for a CNN f32[..., H, W, C]. Bytes are divided by 255.

    Raises:
        InputError: a CNN for a space that is no image.
    """
    if kind != "mlp":
        if not isinstance(space, spaces.Box) or len(space.shape) != 3:
            raise InputError(f"torso {kind!r} needs observations of shape (H, W, C); the space is {space}.")
        x = obs.astype(jnp.float32)
    else:
        x = spaces.flatten(space, obs)
    if isinstance(space, spaces.Box) and space.dtype == jnp.uint8 and float(space.upper.max()) == 255.0:
        x = x / 255.0
    return x
