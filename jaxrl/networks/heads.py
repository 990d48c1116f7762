"""A torso with dense heads: any heads, action values, distributions of action values."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from envs import spaces
from jaxrl.networks.layers import ACTIVATIONS, Activation, dense
from jaxrl.networks.linear import columns_pay
from jaxrl.networks.network import Network
from jaxrl.networks.torsos import Torso, encode, input_shape, torso
from jaxrl.xla_cpu.columns import perceptron


class _Heads(nn.Module):
    """A torso and dense heads on it."""

    kind: Torso
    hidden: tuple[int, ...]
    activation: Activation
    layer_norm: bool
    heads: tuple[tuple[str, int, float], ...]  # (name, features, orthogonal scale)

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, ...]:
        x = torso(self.kind, self.hidden, self.activation, self.layer_norm)(x)
        return tuple(dense(features, scale, name)(x) for name, features, scale in self.heads)


def with_heads(
    space: spaces.Space,
    heads: Sequence[tuple[str, int, float]],
    kind: Torso,
    hidden: tuple[int, ...],
    activation: Activation,
    layer_norm: bool = False,
) -> Network:
    """A torso on observations of `space` with dense heads; `apply` returns a tuple of f32[..., features].

    Args:
        space: the observation space.
        heads: (name, features, scale of the orthogonal weights) of each head.
        kind: the torso.
        hidden: sizes of the dense layers.
        activation: after every dense layer of the torso.
        layer_norm: normalise before every activation, over the channels of a convolution.

    Raises:
        InputError: a torso that cannot see such observations.
    """
    module = _Heads(kind, tuple(hidden), activation, layer_norm, tuple(heads))
    dense_only = kind == "mlp" and not layer_norm and len(hidden) > 0
    shape = input_shape(space, kind)

    def init(key: jax.Array) -> Any:
        return module.init(key, jnp.zeros(shape, jnp.float32))["params"]

    def apply(params: Any, obs: Any) -> Any:
        x = encode(space, kind, obs)
        if dense_only and columns_pay(x.shape[:-1], hidden):
            # The parameters by the names that flax gives those of `_Heads`.
            layers = [params["MLP_0"][f"Dense_{i}"] for i in range(len(hidden))]
            return perceptron(layers, [params[name] for name, _, _ in heads], ACTIVATIONS[activation], x)
        return module.apply({"params": params}, x)

    return Network(init, apply)


def q_network(
    observation_space: spaces.Space,
    num_actions: int,
    kind: Torso,
    hidden: tuple[int, ...],
    activation: Activation,
    dueling: bool = False,
    layer_norm: bool = False,
) -> Network:
    """Action values f32[..., A]; dueling: Q = V + A − mean(A) (Wang et al. 2016)."""
    heads = [("advantage", num_actions, 1.0), ("value", 1, 1.0)] if dueling else [("q", num_actions, 1.0)]
    network = with_heads(observation_space, heads, kind, hidden, activation, layer_norm)

    def apply(params: Any, obs: Any) -> jax.Array:
        if not dueling:
            return network.apply(params, obs)[0]
        advantage, value = network.apply(params, obs)
        return value + advantage - advantage.mean(-1, keepdims=True)

    return Network(network.init, apply)


def q_distribution(
    observation_space: spaces.Space,
    num_actions: int,
    num_atoms: int,
    kind: Torso,
    hidden: tuple[int, ...],
    activation: Activation,
    dueling: bool = False,
    layer_norm: bool = False,
) -> Network:
    """`num_atoms` numbers for every action, f32[..., A, N]: logits of a categorical distribution, or quantiles.

    Dueling: the streams V [N] and A [A, N] are combined atom by atom as in `q_network` (Hessel et al. 2018).
    """
    heads = [("advantage", num_actions * num_atoms, 1.0)] + ([("value", num_atoms, 1.0)] if dueling else [])
    network = with_heads(observation_space, heads, kind, hidden, activation, layer_norm)

    def apply(params: Any, obs: Any) -> jax.Array:
        streams = network.apply(params, obs)
        atoms = streams[0].reshape(*streams[0].shape[:-1], num_actions, num_atoms)
        if not dueling:
            return atoms
        return streams[1][..., None, :] + atoms - atoms.mean(-2, keepdims=True)

    return Network(network.init, apply)
