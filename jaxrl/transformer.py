"""The gated transformer-XL as a network with a memory: GTrXL (Parisotto et al. 2019, arXiv:1910.06764).

Every layer attends to what went into it in the last `memory_length` steps of the episode and in this one, and a gate
decides how much of what it found replaces what came in:

    x ← g(x, relu(attention(norm x; norm of the last inputs))),   x ← g(x, relu(mlp(norm x)))
    g(x, y) = (1 − z) x + z tanh(W_h y + U_h (r x)),   r = σ(W_r y + U_r x),  z = σ(W_z y + U_z x − b),  b = 2 at first

The normalisation stands inside, so that x itself runs unchanged from layer to layer ("identity map reordering"), and
the gates begin nearly closed: at first the network is one of the observation alone.

The memory of an environment is the last inputs of all layers, and how many of them are of the running episode. A
rollout is replayed in one pass, without a loop over time: every step attends to the same steps, in the memory and
before it in the rollout, that it attended to when it was taken. Nothing flows back into the memory.

Deviation: positions enter as one learnt number for each head and distance, added to the logits of the attention (as in
T5, Raffel et al. 2020, arXiv:1910.10683, without its buckets), in place of Transformer-XL's sinusoids.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from envs import spaces
from envs.errors import InputError
from jaxrl.networks import Activation, SequenceNetwork, Torso, dense, encode, input_shape, orthogonal, torso


class Memory(NamedTuple):
    """What an environment's last steps put into the layers."""

    inputs: jax.Array  # f32[..., layers, memory_length, features] the newest last
    length: jax.Array  # i32[...] how many of them, the newest, are of the running episode


class _Gate(nn.Module):
    """Chooses between what came in and what a sublayer made of it, as a gated recurrent unit does."""

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        size = x.shape[-1]
        y_r, y_z, y_h = jnp.split(nn.Dense(3 * size, False, kernel_init=orthogonal(), name="y")(y), 3, -1)
        x_r, x_z = jnp.split(nn.Dense(2 * size, False, kernel_init=orthogonal(), name="x")(x), 2, -1)
        z = nn.sigmoid(y_z + x_z - self.param("bias", nn.initializers.constant(2.0), (size,)))
        reset = nn.Dense(size, False, kernel_init=orthogonal(), name="reset")(nn.sigmoid(y_r + x_r) * x)
        return (1 - z) * x + z * jnp.tanh(y_h + reset)


class _Layer(nn.Module):
    """Attention and two dense layers, each behind a gate."""

    num_heads: int
    memory_length: int

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array, visible: jax.Array, distance: np.ndarray) -> jax.Array:
        """Queries x f32[B, Q, d] at context f32[B, N, d], visible bool[B, Q, N], distance i64[Q, N] -> as x."""
        size, heads = x.shape[-1], self.num_heads
        norm = nn.LayerNorm(name="norm")

        def split(projected: jax.Array) -> jax.Array:
            return projected.reshape(*projected.shape[:-1], heads, -1)

        query = split(dense(size, 1.0, "query")(norm(x)))
        key, value = jnp.split(split(dense(2 * size, 1.0, "key_value")(norm(context))), 2, -1)
        position = self.param("position", nn.initializers.zeros, (heads, self.memory_length + 1))
        logits = jnp.einsum("bqhd,bnhd->bhqn", query, key) * (size / heads) ** -0.5
        logits += position[:, np.clip(distance, 0, self.memory_length)]
        weights = jax.nn.softmax(jnp.where(visible[:, None], logits, -1e9))
        found = jnp.einsum("bhqn,bnhd->bqhd", weights, value).reshape(x.shape)
        x = _Gate(name="gate")(x, nn.relu(dense(size, 1.0, "found")(found)))
        wide = nn.relu(dense(2 * size, name="wide")(nn.LayerNorm(name="norm_mlp")(x)))
        return _Gate(name="gate_mlp")(x, nn.relu(dense(size, 1.0, "narrow")(wide)))


class _GatedTransformer(nn.Module):
    """The whole network over a batch of sequences."""

    kind: Torso
    hidden: tuple[int, ...]
    activation: Activation
    heads: tuple[tuple[str, int, float], ...]
    features: int
    num_layers: int
    num_heads: int
    memory_length: int

    @nn.compact
    def __call__(self, seen: jax.Array, memory: Memory, ended: jax.Array, following: jax.Array | None) -> Any:
        """What was seen [B, T, *obs], the memory [B, ...], where episodes ended bool[B, T], true successors or None.

        Returns:
            (outputs [B, T, features] of each head, the same of the successors or None, inputs [B, T, d] of each layer).
        """
        front, embed = torso(self.kind, self.hidden, self.activation), dense(self.features, 1.0, "embed")
        tops = [dense(features, scale, name) for name, features, scale in self.heads]
        num_steps, length = ended.shape[1], self.memory_length
        # Step t stands at place length + t of a line that begins with the memory.
        place = np.arange(length + num_steps)
        distance = place[length:, None] - place  # [T, length + T]
        episode = jnp.cumsum(ended, 1) - ended  # ends before each step, [B, T]
        remembered = jnp.where(place[:length] >= length - memory.length[:, None], 0, -1)
        whole = jnp.concatenate([remembered, episode], 1)
        own = whole[:, None] == episode[..., None]  # of the same episode, [B, T, length + T]
        visible = own & (distance >= 0) & (distance <= length)
        # A successor stands one place further on and sees the line up to its step, and itself.
        itself = np.eye(num_steps, dtype=bool)
        further = np.concatenate([distance + 1, np.zeros_like(itself, int)], 1)
        seen_by_next = own & (distance >= 0) & (distance < length)
        seen_by_next = jnp.concatenate([seen_by_next, jnp.broadcast_to(itself, (len(ended), *itself.shape))], -1)

        x = embed(front(seen))
        x_next = None if following is None else embed(front(following))
        inputs = []
        for i in range(self.num_layers):
            layer = _Layer(self.num_heads, length, name=f"layer_{i}")
            inputs.append(x)
            line = jnp.concatenate([memory.inputs[:, i], x], 1)
            if x_next is not None:
                x_next = layer(x_next, jnp.concatenate([line, x_next], 1), seen_by_next, further)
            x = layer(x, line, visible, distance)
        outputs_next = None if x_next is None else tuple(top(x_next) for top in tops)
        return tuple(top(x) for top in tops), outputs_next, inputs


def gated_transformer(
    space: spaces.Space,
    heads: Sequence[tuple[str, int, float]],
    kind: Torso,
    hidden: tuple[int, ...],
    activation: Activation,
    features: int,
    num_layers: int,
    num_heads: int,
    memory_length: int,
) -> SequenceNetwork:
    """A torso, a linear map to `features`, gated layers, dense heads on what the last one puts out.

    Args:
        space: the observation space.
        heads: (name, features, scale of the orthogonal weights) of each head.
        kind: the torso.
        hidden: sizes of the dense layers of the torso; may be empty.
        activation: after every one of them.
        features: width d of the layers.
        num_layers: gated layers.
        num_heads: heads of each attention; must divide `features`.
        memory_length: steps that a layer looks back; several layers look back as many times as far.

    Raises:
        InputError: sizes that do not work together.
    """
    if num_heads < 1 or features % num_heads:
        raise InputError(f"num_heads={num_heads} does not divide features={features}.")
    if memory_length < 1 or num_layers < 1:
        raise InputError(f"memory_length={memory_length} and num_layers={num_layers} must be at least 1.")
    sizes = (features, num_layers, num_heads, memory_length)
    module = _GatedTransformer(kind, tuple(hidden), activation, tuple(heads), *sizes)
    shape = input_shape(space, kind)
    memory = Memory(jnp.zeros((num_layers, memory_length, features), jnp.float32), jnp.int32(0))

    def through(params: Any, obs: Any, memory: Memory, ended: jax.Array, next_obs: Any) -> Any:
        """Time first outside, the batch first inside."""
        seen, following = (None if x is None else jnp.swapaxes(encode(space, kind, x), 0, 1) for x in (obs, next_obs))
        out: Any = module.apply({"params": params}, seen, memory, ended.T, following)
        return *jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), out[:2]), out[2]

    def init(key: jax.Array) -> Any:
        blank, start = jnp.zeros((1, 1, *shape), jnp.float32), jax.tree.map(lambda x: x[None], memory)
        return module.init(key, blank, start, jnp.zeros((1, 1), bool), None)["params"]

    def step(params: Any, obs: Any, memory: Memory) -> Any:
        now = jax.tree.map(lambda x: x[None], obs)
        outputs, _, inputs = through(params, now, memory, jnp.zeros((1, len(memory.length)), bool), None)
        newest = jnp.stack(inputs, 1)  # [B, layers, 1, d]
        line = jnp.concatenate([memory.inputs[:, :, 1:], newest], 2)
        after = Memory(line, jnp.minimum(memory.length + 1, memory_length))
        return jax.tree.map(lambda x: x[0], outputs), after

    def unroll(params: Any, obs: Any, memory: Memory, ended: jax.Array, next_obs: Any = None) -> Any:
        return through(params, obs, memory, ended, next_obs)[:2]

    return SequenceNetwork(init, memory, step, unroll)
