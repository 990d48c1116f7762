"""What stands between an observation and the heads: an MLP, the DQN CNN or the MinAtar CNN, and the input it takes."""

from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from envs import spaces
from envs.errors import InputError
from jaxrl import masks
from jaxrl.networks.layers import MLP, Activation
from jaxrl.networks.linear import convolve
from jaxrl.networks.weights import orthogonal

Torso = Literal["mlp", "nature_cnn", "minatar_cnn"]

NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # Mnih et al. 2015
MINATAR = ((16, 3, 1),)  # Young & Tian 2019
CONVOLUTIONS = {"nature_cnn": NATURE, "minatar_cnn": MINATAR}


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
    return CNN(CONVOLUTIONS[kind], hidden, activation, layer_norm)


def input_shape(space: spaces.Space, kind: Torso) -> tuple[int, ...]:
    """The shape of what `encode` makes of one observation: (n,) for an MLP, (H, W, C) for a CNN.

    Raises:
        InputError: a CNN for a space that is no image, or for one that its convolutions do not fit on.
    """
    space = masks.seen(space)
    if kind == "mlp":
        return (max(spaces.flat_size(space), 1),)
    shape = _image(space, kind).shape
    smallest = {name: _smallest(layers) for name, layers in CONVOLUTIONS.items()}
    if min(shape[:2]) < smallest[kind] or shape[2] < 1:
        fitting = [name for name in smallest if min(shape[:2]) >= smallest[name] and shape[2] > 0]
        raise InputError(
            f"torso {kind!r} needs pictures of at least {smallest[kind]} × {smallest[kind]}; the observations are "
            f"{' × '.join(map(str, shape))}. What fits: {', '.join(map(repr, ['mlp', *fitting]))}."
        )
    return shape


def _image(space: spaces.Space, kind: Torso) -> spaces.Box:
    if not isinstance(space, spaces.Box) or len(space.shape) != 3:
        raise InputError(f"torso {kind!r} needs observations of shape (H, W, C); the space is {space}.")
    return space


def _smallest(layers: tuple[tuple[int, int, int], ...]) -> int:
    """The side of the smallest picture of which convolutions leave something."""
    side = 1
    for _, kernel, stride in reversed(layers):
        side = (side - 1) * stride + kernel
    return side


def encode(space: spaces.Space, kind: Torso, obs: Any) -> jax.Array:
    """Turns observations of `space` into the torso's input, the one way in which networks see.

    For an MLP a flat f32 vector (Discrete parts one-hot), a single 0 where an observation has no entries; for a CNN
    f32[..., H, W, C]. Bytes up to 255 are divided by 255, alone and as a part of a dict or tuple; bytes that a signal
    has made floats of (`normalize_obs`) are not. A mask of actions is left out (`jaxrl.masks`).

    Raises:
        InputError: a CNN for a space that is no image.
    """
    space, obs = masks.seen(space), masks.see(obs)
    if kind != "mlp":
        return _scaled(_image(space, kind), obs).astype(jnp.float32)
    x = spaces.flatten(space, _scaled(space, obs))
    return x if x.shape[-1] else jnp.zeros((*x.shape[:-1], 1), jnp.float32)


def _scaled(space: spaces.Space, obs: Any) -> Any:
    if isinstance(space, Mapping):
        return {name: _scaled(part, obs[name]) for name, part in space.items()}
    if isinstance(space, tuple):
        return tuple(_scaled(part, element) for part, element in zip(space, obs, strict=True))
    if isinstance(space, spaces.Box) and obs.dtype == jnp.uint8 and (space.upper == 255).any():
        return obs.astype(jnp.float32) / 255.0
    return obs
