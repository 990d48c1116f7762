"""Networks with a memory: a recurrent cell between torso and heads, and the wider seam of policies with a memory."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from envs import spaces
from jaxrl.networks.layers import Activation, dense
from jaxrl.networks.torsos import Torso, encode, input_shape, torso
from jaxrl.networks.weights import orthogonal

Cell = Literal["gru", "lstm"]


class Recurrent(NamedTuple):
    """A network with a memory that it carries from step to step."""

    init: Callable[[jax.Array], Any]  # key -> params
    memory: jax.Array  # f32[size] of one environment at the start of an episode
    step: Callable[..., Any]
    """(params, obs [..., *obs], memory [..., size]) -> (outputs [..., features] of each head, memory [..., size])."""
    unroll: Callable[..., Any]
    """(params, obs [T, B, *obs], memory [B, size] before the first, ended bool[T, B]) -> (outputs [T, B, features] of
    each head, memories [T, B, size] after each step). Where an episode ended, the next step begins with `memory`."""


def recurrent(
    space: spaces.Space,
    heads: Sequence[tuple[str, int, float]],
    kind: Torso,
    hidden: tuple[int, ...],
    activation: Activation,
    size: int,
    cell: Cell = "gru",
    time_scale: int | None = None,
) -> Recurrent:
    """A torso, a recurrent cell of `size` units, dense heads on what it puts out.

    Args:
        space: the observation space.
        heads: (name, features, scale of the orthogonal weights) of each head.
        kind: the torso.
        hidden: sizes of the dense layers of the torso; may be empty.
        activation: after every one of them.
        size: units of the cell.
        cell: a gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), whose memory is its output, or an LSTM
            (Hochreiter & Schmidhuber 1997; Gers et al. 2000), whose memory is its cells and its output, 2 · `size`.
        time_scale: the units begin with times of forgetting from 1 to about so many steps, by biases of the gates
            (chrono initialisation, Tallec & Ollivier 2018, arXiv:1804.11188; there the times are uniform, here their
            logarithms, so that there are fast units too); None: biases of 0, a step or two.
    """
    front = torso(kind, tuple(hidden), activation)
    # flax's own initialiser of the recurrent weights would call LAPACK: see `orthogonal`.
    kind_of_unit = nn.GRUCell if cell == "gru" else nn.OptimizedLSTMCell
    unit = kind_of_unit(size, kernel_init=orthogonal(), recurrent_kernel_init=orthogonal())
    gates = "rzn" if cell == "gru" else "ifgo"
    tops = [dense(features, scale) for _, features, scale in heads]
    shape = input_shape(space, kind)
    memory = jnp.zeros(size if cell == "gru" else 2 * size, jnp.float32)

    def init(key: jax.Array) -> Any:
        key_front, key_cell, *keys = jax.random.split(key, 2 + len(tops))
        features, variables = front.init_with_output(key_front, jnp.zeros(shape, jnp.float32))
        nothing: Any = memory if cell == "gru" else (memory[:size], memory[size:])
        begun = dict(unit.init(key_cell, nothing, features)["params"])
        if time_scale is not None:
            bias = jax.random.uniform(jax.random.fold_in(key_cell, 1), (size,), maxval=np.log(time_scale))
            # flax keeps the bias of the GRU's update gate with its inputs, those of the LSTM with its recurrence.
            for gate, value in {"iz": bias}.items() if cell == "gru" else {"hf": bias, "hi": -bias}.items():
                begun[gate] = {**begun[gate], "bias": value}
        params = {"torso": variables.get("params", {}), "memory": begun}
        for key, top, (name, _, _) in zip(keys, tops, heads, strict=True):
            params[name] = top.init(key, memory[:size])["params"]
        return params

    def sums(params: Any, side: str, x: jax.Array) -> jax.Array:
        """One product for all gates, f32[..., gates · size]; side "i" from the features, "h" from the output."""
        layers = [params["memory"][side + gate] for gate in gates]
        zeros = jnp.zeros(size)
        bias = jnp.concatenate([layer.get("bias", zeros) for layer in layers])
        return x @ jnp.concatenate([layer["kernel"] for layer in layers], -1) + bias

    def through(params: Any, before: jax.Array, from_features: jax.Array) -> jax.Array:
        """The memory after a step; the part of the gates that the features decide is computed before."""
        from_output = sums(params, "h", before[..., -size:])
        if cell == "gru":
            (r, z, n), (r_h, z_h, n_h) = (jnp.split(x, 3, -1) for x in (from_features, from_output))
            keep = jax.nn.sigmoid(z + z_h)
            return (1 - keep) * jnp.tanh(n + jax.nn.sigmoid(r + r_h) * n_h) + keep * before
        i, f, g, o = jnp.split(from_features + from_output, 4, -1)
        cells = jax.nn.sigmoid(f) * before[..., :size] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jnp.concatenate([cells, jax.nn.sigmoid(o) * jnp.tanh(cells)], -1)

    def outputs(params: Any, memory: jax.Array) -> tuple[Any, ...]:
        seen = memory[..., -size:]
        return tuple(top.apply({"params": params[head[0]]}, seen) for top, head in zip(tops, heads, strict=True))

    def from_obs(params: Any, obs: Any) -> jax.Array:
        features: Any = front.apply({"params": params["torso"]}, encode(space, kind, obs))
        return sums(params, "i", features)

    def step(params: Any, obs: Any, before: jax.Array) -> Any:
        after = through(params, before, from_obs(params, obs))
        return outputs(params, after), after

    def unroll(params: Any, obs: Any, before: jax.Array, ended: jax.Array) -> Any:
        def one_step(carry: jax.Array, xs: Any) -> tuple[jax.Array, jax.Array]:
            from_features, ended = xs
            after = through(params, carry, from_features)
            return jnp.where(ended[:, None], memory, after), after

        _, memories = jax.lax.scan(one_step, before, (from_obs(params, obs), ended))
        return outputs(params, memories), memories

    return Recurrent(init, memory, step, unroll)


class SequenceNetwork(NamedTuple):
    """A network whose outputs depend on what it has seen of the episode: the seam of policies with a memory."""

    init: Callable[[jax.Array], Any]  # key -> params
    memory: Any  # of one environment at the start of an episode; a tree of arrays
    step: Callable[..., Any]
    """(params, obs [B, *obs], memory [B, ...]) -> (outputs [B, features] of each head, memory [B, ...])."""
    unroll: Callable[..., Any]
    """(params, obs [T, B, *obs], memory [B, ...] before the first, ended bool[T, B], next_obs [T, B, *obs] or None) ->
    (outputs [T, B, features] of each head, the same for `next_obs` or None). Where an episode ended, the next step
    begins with the memory of a start; `next_obs` is seen with the memory after its own step, of the same episode."""


def as_sequence_network(net: Recurrent) -> SequenceNetwork:
    """A recurrent network behind the wider seam."""

    def unroll(params: Any, obs: Any, memory: jax.Array, ended: jax.Array, next_obs: Any = None) -> tuple[Any, Any]:
        outputs, memories = net.unroll(params, obs, memory, ended)
        return outputs, None if next_obs is None else net.step(params, next_obs, memories)[0]

    return SequenceNetwork(net.init, net.memory, net.step, unroll)
