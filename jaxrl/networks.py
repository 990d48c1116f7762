"""Networks behind one seam: `Network(init, apply)`, built from the spaces of an environment.

Torsos (MLP, the DQN CNN, the MinAtar CNN) are chosen by name; heads are for values, dueling values and policies.
Weights are orthogonal, drawn without any LAPACK call: see `orthogonal`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from envs import spaces
from envs.errors import InputError

Torso = Literal["mlp", "nature_cnn", "minatar_cnn"]
Activation = Literal["tanh", "relu", "elu", "swish"]

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": nn.tanh,
    "relu": nn.relu,
    "elu": nn.elu,
    "swish": nn.swish,
}


class Network(NamedTuple):
    """A function with parameters."""

    init: Callable[[jax.Array], Any]  # key -> params
    apply: Callable[..., Any]  # (params, obs [..., *obs]) -> outputs with the same leading axes


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


def dense(features: int, scale: float = 2.0**0.5, name: str | None = None) -> nn.Dense:
    """A dense layer with orthogonal weights and zero biases."""
    return nn.Dense(features, kernel_init=orthogonal(scale), bias_init=nn.initializers.zeros, name=name)


class MLP(nn.Module):
    """Dense layers, each followed by the activation."""

    hidden: tuple[int, ...]
    activation: Activation
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """f32[..., n] -> f32[..., hidden[-1]]."""
        for size in self.hidden:
            x = dense(size)(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = ACTIVATIONS[self.activation](x)
        return x


class CNN(nn.Module):
    """Convolutions (features, kernel, stride) with ReLU, flattened, then dense layers."""

    convolutions: tuple[tuple[int, int, int], ...]
    hidden: tuple[int, ...]
    activation: Activation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """f32[..., H, W, C] -> f32[..., hidden[-1]]."""
        batch = x.shape[:-3]
        x = x.reshape(-1, *x.shape[-3:])
        for features, kernel, stride in self.convolutions:
            x = nn.Conv(
                features, (kernel, kernel), (stride, stride), padding="VALID", kernel_init=orthogonal(2.0**0.5)
            )(x)
            x = nn.relu(x)
        x = x.reshape(*batch, -1)
        return MLP(self.hidden, self.activation)(x)


NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # Mnih et al. 2015
MINATAR = ((16, 3, 1),)  # Young & Tian 2019


def torso(kind: Torso, hidden: tuple[int, ...], activation: Activation, layer_norm: bool = False) -> nn.Module:
    """Builds the part of a network between observation and heads."""
    if kind == "mlp":
        return MLP(hidden, activation, layer_norm)
    return CNN({"nature_cnn": NATURE, "minatar_cnn": MINATAR}[kind], hidden, activation)


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
        layer_norm: normalise before every activation (MLP only).
    """
    module = _Heads(kind, tuple(hidden), activation, layer_norm, tuple(heads))
    example = jax.eval_shape(lambda: spaces.sample(space, jax.random.key(0)))

    def init(key: jax.Array) -> Any:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example)
        return module.init(key, encode(space, kind, zeros))["params"]

    def apply(params: Any, obs: Any) -> Any:
        return module.apply({"params": params}, encode(space, kind, obs))

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
