"""Networks of continuous actions: policies in the unit box, and functions of observation and action."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from envs import spaces
from jaxrl.distributions import SquashedNormal
from jaxrl.networks.heads import with_heads
from jaxrl.networks.layers import MLP, Activation, dense
from jaxrl.networks.network import Network
from jaxrl.networks.torsos import encode, input_shape


def deterministic_policy(
    space: spaces.Space, action_size: int, hidden: tuple[int, ...], activation: Activation
) -> Network:
    """One action of the unit box for every observation, f32[..., action_size] through tanh."""
    network = with_heads(space, [("action", action_size, 0.01)], "mlp", hidden, activation)
    return Network(network.init, lambda params, obs: jnp.tanh(network.apply(params, obs)[0]))


def squashed_policy(space: spaces.Space, action_size: int, hidden: tuple[int, ...], activation: Activation) -> Network:
    """A distribution over the unit box for every observation: `SquashedNormal` over [..., action_size].

    The logarithm of the standard deviation is clipped to −20 … 2, as by the authors of SAC (arXiv:1801.01290).
    """
    network = with_heads(space, [("policy", 2 * action_size, 0.01)], "mlp", hidden, activation)

    def apply(params: Any, obs: Any) -> SquashedNormal:
        mean, log_std = jnp.split(network.apply(params, obs)[0], 2, axis=-1)
        return SquashedNormal(mean, jnp.exp(jnp.clip(log_std, -20.0, 2.0)), -1.0, 1.0)

    return Network(network.init, apply)


class _ActionValue(nn.Module):
    """A dense network on observation and action."""

    hidden: tuple[int, ...]
    activation: Activation
    layer_norm: bool
    dropout: float
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return dense(self.outputs, 1.0)(MLP(self.hidden, self.activation, self.layer_norm, self.dropout)(x))


def critics(
    observation_space: spaces.Space,
    action_size: int,
    num: int,
    hidden: tuple[int, ...],
    activation: Activation,
    outputs: int = 1,
    layer_norm: bool = False,
    dropout: float = 0.0,
) -> Network:
    """`num` independent functions of observation and action as one network, every layer one batched product.

    Returns:
        init(key) -> params, every leaf [num, ...]; apply(params, obs [..., *obs], action f32[..., action_size], key) ->
        f32[num, ..., outputs]. Fewer functions are applied by giving fewer parameters, e.g. a random subset of them.
        The key is for the dropout; without it nothing is dropped.
    """
    module = _ActionValue(tuple(hidden), activation, layer_norm, dropout, outputs)
    (seen,) = input_shape(observation_space, "mlp")
    size = seen + action_size

    def init(key: jax.Array) -> Any:
        return jax.vmap(lambda key: module.init(key, jnp.zeros(size))["params"])(jax.random.split(key, num))

    def apply(params: Any, obs: Any, action: jax.Array, key: jax.Array | None = None) -> Any:
        x = jnp.concatenate([encode(observation_space, "mlp", obs), action], -1)
        if key is None or not dropout:
            return jax.vmap(lambda params: module.apply({"params": params}, x))(params)
        keys = jax.random.split(key, jax.tree.leaves(params)[0].shape[0])
        return jax.vmap(lambda params, key: module.apply({"params": params}, x, rngs={"dropout": key}))(params, keys)

    return Network(init, apply)
