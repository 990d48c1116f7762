"""Implicit quantiles: the fraction of the distribution is an input of the network."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from envs import spaces
from jaxrl.networks.layers import MLP, Activation, dense
from jaxrl.networks.network import Network
from jaxrl.networks.torsos import Torso, encode, input_shape, torso


class _ImplicitQuantiles(nn.Module):
    """Features of the observation times features of the fraction, a dense layer, and the heads."""

    kind: Torso
    hidden: tuple[int, ...]
    activation: Activation
    num_actions: int
    num_cosines: int

    @nn.compact
    def __call__(self, x: jax.Array, tau: jax.Array) -> jax.Array:
        features = torso(self.kind, self.hidden[:-1], self.activation)(x)
        cosines = jnp.cos(jnp.pi * jnp.arange(self.num_cosines) * tau[..., None])
        embedding = nn.relu(dense(features.shape[-1], name="embedding")(cosines))
        mixed = MLP(self.hidden[-1:], self.activation, name="mixed")(features[..., None, :] * embedding)
        return jnp.swapaxes(dense(self.num_actions, 1.0, "quantiles")(mixed), -1, -2)


def implicit_quantiles(
    observation_space: spaces.Space,
    num_actions: int,
    num_cosines: int,
    kind: Torso,
    hidden: tuple[int, ...],
    activation: Activation,
) -> Network:
    """Quantiles of every action's return at fractions that are an input (IQN, Dabney et al. 2018, arXiv:1806.06923).

    Returns:
        A network whose apply(params, obs [..., *obs], fractions f32[..., M]) gives f32[..., A, M]. The last of the
        dense layers stands behind the product of the features of observation and fraction, those before in front.
    """
    module = _ImplicitQuantiles(kind, tuple(hidden), activation, num_actions, num_cosines)
    shape = input_shape(observation_space, kind)

    def init(key: jax.Array) -> Any:
        return module.init(key, jnp.zeros(shape, jnp.float32), jnp.zeros(1, jnp.float32))["params"]

    def apply(params: Any, obs: Any, tau: jax.Array) -> Any:
        return module.apply({"params": params}, encode(observation_space, kind, obs), tau)

    return Network(init, apply)
