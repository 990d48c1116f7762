"""Networks behind one seam: `Network(init, apply)`, built from the spaces of an environment.

Torsos (MLP, the DQN CNN, the MinAtar CNN) are chosen by name; heads are for values, dueling values, distributions of
values and policies. Weights are orthogonal, drawn without any LAPACK call: see `orthogonal`. `noisy` turns a network
into one that explores by the noise of its weights.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from envs import spaces
from envs.errors import InputError
from jaxrl.distributions import SquashedNormal

Torso = Literal["mlp", "nature_cnn", "minatar_cnn"]
Activation = Literal["tanh", "relu", "elu", "swish"]
Cell = Literal["gru", "lstm"]

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


# So many inputs or outputs of a layer make a product that XLA's CPU backend spends more time on calling than on
# calculating (0.6 µs; jaxlib 0.10.2): it is written as a sum, which becomes part of the operation beside it.
NARROW = 4


@jax.custom_jvp
def multiply(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """f32[..., n] times f32[n, m], with gradients that are fast on CPU.

    The gradient by the kernel is xᵀg. XLA's CPU backend runs a product whose left side is transposed by its slower
    kernel (34 against 13 µs for [64, 128] · [128, 64], jaxlib 0.10.2), so x is transposed beforehand; the barrier keeps
    XLA from folding the transposition back into the product.
    """
    if kernel.shape[0] <= NARROW:
        return functools.reduce(jnp.add, (x[..., i, None] * row for i, row in enumerate(kernel)))
    return x @ kernel


@multiply.defjvp
def _multiply_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    transposed = jax.lax.optimization_barrier(x.reshape(-1, x.shape[-1]).T)
    if kernel.shape[1] <= NARROW:
        by_input = jnp.stack([(dx * weights).sum(-1) for weights in kernel.T], -1)
    else:
        by_input = dx @ kernel
    return multiply(x, kernel), by_input + (transposed.T @ dkernel).reshape(*x.shape[:-1], -1)


def dense(features: int, scale: float = 2.0**0.5, name: str | None = None) -> nn.Dense:
    """A dense layer with orthogonal weights and zero biases."""
    return nn.Dense(
        features,
        kernel_init=orthogonal(scale),
        bias_init=nn.initializers.zeros,
        name=name,
        dot_general=lambda x, kernel, *_, **__: multiply(x, kernel),
    )


@jax.custom_jvp
def multiply_columns(kernel: jax.Array, x: jax.Array) -> jax.Array:
    """The transpose of f32[n, m] times f32[n, B]: what `multiply` does, for a batch that lies in columns.

    On CPU the gradient by the kernel then needs no transposed copy of the batch; the product needs one of the kernel,
    behind a barrier for the reason given there.
    """
    return jax.lax.optimization_barrier(kernel.T) @ x


@multiply_columns.defjvp
def _multiply_columns_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (kernel, x), (dkernel, dx) = primals, tangents
    if kernel.shape[1] <= NARROW:
        by_input = jnp.stack([(dx * weights[:, None]).sum(0) for weights in kernel.T])
    else:
        by_input = kernel.T @ dx
    return multiply_columns(kernel, x), by_input + dkernel.T @ x


class DenseColumns(nn.Module):
    """`dense` for a batch that lies in columns, with the same parameters."""

    features: int
    scale: float = 2.0**0.5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """f32[n, B] -> f32[features, B]."""
        kernel = self.param("kernel", orthogonal(self.scale), (x.shape[0], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        # As a product with ones, for the gradient's sake: XLA's CPU backend sums rows of numbers more slowly.
        return multiply_columns(kernel, x) + bias[:, None] @ jnp.ones((1, x.shape[1]))


class MLP(nn.Module):
    """Dense layers, each followed by the activation."""

    hidden: tuple[int, ...]
    activation: Activation
    layer_norm: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, columns: bool = False) -> jax.Array:
        """f32[..., n] -> f32[..., hidden[-1]]; units are dropped where an rng "dropout" is given.

        With `columns` f32[n, B] -> f32[hidden[-1], B], without normalisation.
        """
        for i, size in enumerate(self.hidden):
            x = DenseColumns(size, name=f"Dense_{i}")(x) if columns else dense(size)(x)
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = ACTIVATIONS[self.activation](x)
        return x


def convolve_as_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution of small pictures as one product: f32[N, H, W, C], f32[k, k, C, F] -> f32[N, H', W', F].

    k neighbouring rows of the picture, as they lie in memory, times a matrix [k W C, W' F] that holds the kernel at
    each of its places along a row. That multiplies W / k times as much as needed, but in one large product with nothing
    to gather, where XLA's CPU backend has no fast convolution for the few channels and many lanes of MinAtar: 1.3 to
    1.7 times as fast with gradients, for 10 × 10 pictures and sixteen filters.
    """
    batch, height, width, channels = x.shape
    size, _, _, features = kernel.shape
    rows, columns = height - size + 1, width - size + 1
    place = np.eye(width, dtype=np.float32)[np.arange(size)[:, None] + np.arange(columns)]  # [dx, column, x]
    matrix = jnp.einsum("dow,ydcf->ywcof", place, kernel).reshape(size * width * channels, columns * features)
    x = x.reshape(batch, height, width * channels)
    strips = jnp.concatenate([x[:, dy : dy + rows] for dy in range(size)], -1)  # [N, H', k W C]
    return (strips.reshape(batch * rows, -1) @ matrix).reshape(batch, rows, columns, features)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolution without padding: f32[N, H, W, C], f32[k, k, C, F] -> f32[N, H', W', F].

    Its gradients are convolutions in the same order of axes. Those that JAX derives have their axes permuted, which
    XLA's CPU backend undoes only outside of loops: inside `lax.scan` it runs them as plain loops, 20 times slower
    (jaxlib 0.10.2, gradient of the DQN network). Like every `custom_vjp`, it has no forward-mode derivative.
    """
    return _convolution(x, kernel, window_strides=(stride, stride), padding="VALID")


_convolution = functools.partial(jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _convolve_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x, kernel, stride), (x, kernel)


def _convolve_backward(
    stride: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    # Rows and columns at the end that no window covers.
    rest = [x.shape[i] - (gradient.shape[i] - 1) * stride - kernel.shape[i - 1] for i in (1, 2)]
    reach = [kernel.shape[i] - 1 for i in (0, 1)]
    by_x = _convolution(
        gradient,
        kernel[::-1, ::-1].transpose(0, 1, 3, 2),
        window_strides=(1, 1),
        padding=[(r, r + more) for r, more in zip(reach, rest, strict=True)],
        lhs_dilation=(stride, stride),
    )
    by_kernel = _convolution(
        x.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        window_strides=(1, 1),
        padding=[(0, -more) for more in rest],
        rhs_dilation=(stride, stride),
    )
    return by_x, by_kernel.transpose(1, 2, 0, 3)


convolve.defvjp(_convolve_forward, _convolve_backward)


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
            small = stride == 1 and x.shape[-2] * x.shape[-1] <= SMALL_ROW
            by = convolve_as_product if small else functools.partial(convolve, stride=stride)
            layer = nn.Conv(
                features,
                (kernel, kernel),
                (stride, stride),
                padding="VALID",
                kernel_init=orthogonal(2.0**0.5),
                conv_general_dilated=lambda x, weights, *_, by=by, **__: by(x, weights),
            )
            x = layer(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = nn.relu(x)
        x = x.reshape(*batch, -1)
        return MLP(self.hidden, self.activation, self.layer_norm)(x)


NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # Mnih et al. 2015
MINATAR = ((16, 3, 1),)  # Young & Tian 2019
SMALL_ROW = 128  # numbers in a row of a picture up to which `convolve_as_product` is the faster; MinAtar has 40 to 100


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


class _Heads(nn.Module):
    """A torso and dense heads on it."""

    kind: Torso
    hidden: tuple[int, ...]
    activation: Activation
    layer_norm: bool
    heads: tuple[tuple[str, int, float], ...]  # (name, features, orthogonal scale)

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, ...]:
        *batch, inputs = x.shape
        # Where the batch is larger than the layers, their transposed copies are smaller than its own.
        plain = self.kind == "mlp" and not self.layer_norm and len(self.hidden) > 0
        if plain and math.prod(batch) > max(self.hidden) and jax.default_backend() == "cpu":
            x = MLP(self.hidden, self.activation)(jax.lax.optimization_barrier(x.reshape(-1, inputs).T), columns=True)
            heads = [DenseColumns(features, scale, name=name)(x) for name, features, scale in self.heads]
            return tuple(head.T.reshape(*batch, -1) for head in heads)
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


def ensemble(network: Network, num: int) -> Network:
    """`num` independent copies of a network on the same inputs; params and outputs are [num, ...]."""

    def init(key: jax.Array) -> Any:
        return jax.vmap(network.init)(jax.random.split(key, num))

    def apply(params: Any, *inputs: Any) -> Any:
        return jax.vmap(lambda params: network.apply(params, *inputs))(params)

    return Network(init, apply)


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
    example = jax.eval_shape(lambda: spaces.sample(observation_space, jax.random.key(0)))

    def init(key: jax.Array) -> Any:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example)
        return module.init(key, encode(observation_space, kind, zeros), jnp.zeros(1))["params"]

    def apply(params: Any, obs: Any, tau: jax.Array) -> Any:
        return module.apply({"params": params}, encode(observation_space, kind, obs), tau)

    return Network(init, apply)


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
    example = jax.eval_shape(lambda: spaces.sample(space, jax.random.key(0)))
    memory = jnp.zeros(size if cell == "gru" else 2 * size)

    def init(key: jax.Array) -> Any:
        key_front, key_cell, *keys = jax.random.split(key, 2 + len(tops))
        x = encode(space, kind, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example))
        features, variables = front.init_with_output(key_front, x)
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


def lecun(net: Network) -> Network:
    """The same network with kernels drawn from LeCun's normal distribution, variance 1 / inputs, truncated at 2 σ.

    Flax's default, and so that of most DQNs in JAX. Of an observation of few numbers it makes larger features than
    `orthogonal`: those of 4 numbers to 120 units are 4 times as large, and DQN with a small step size learns earlier.
    """

    def init(key: jax.Array) -> Any:
        leaves, tree = jax.tree.flatten_with_path(net.init(key))
        keys = jax.random.split(key, len(leaves))
        draw = nn.initializers.lecun_normal()

        def again(key: jax.Array, path: Any, leaf: jax.Array) -> jax.Array:
            return draw(key, leaf.shape, leaf.dtype) if path[-1].key == "kernel" else leaf

        drawn = [again(k, path, leaf) for k, (path, leaf) in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(tree, drawn)

    return Network(init, net.apply)


def noisy(net: Network, sigma: float = 0.5) -> Network:
    """Gives every dense layer factorised Gaussian noise of learnt size (NoisyNet, Fortunato et al., arXiv:1706.10295).

        W = μ_W + σ_W ⊙ f(ε_in) f(ε_out)ᵀ,   b = μ_b + σ_b ⊙ f(ε_out),   f(x) = sign(x) √|x|

    ε is one standard normal per input and output of a layer, drawn in one call for all layers. Convolutions have no
    noise. σ begins at `sigma` / √inputs as in the paper; μ as `net` draws it (the paper: uniform in ± 1 / √inputs).

    Args:
        net: any network; params {"mean": its own, "sigma": those of its dense layers} take the place of its own.
        sigma: the paper's σ_0.

    Returns:
        A network whose apply(params, obs, key) draws one noise for the whole batch; without key it uses the means.
    """

    def init(key: jax.Array) -> Any:
        mean = net.init(key)

        def spread(layer: Any) -> Any:
            scale = sigma * layer["kernel"].shape[0] ** -0.5
            return jax.tree.map(lambda x: jnp.full_like(x, scale), layer)

        return {"mean": mean, "sigma": {path: spread(layer) for path, layer in _dense_layers(mean).items()}}

    def apply(params: Any, obs: Any, key: jax.Array | None = None) -> Any:
        if key is None:
            return net.apply(params["mean"], obs)
        layers = _dense_layers(params["mean"])
        sizes = [size for layer in layers.values() for size in layer["kernel"].shape]
        noise = jax.random.normal(key, (sum(sizes),))
        noise = jnp.sign(noise) * jnp.sqrt(jnp.abs(noise))
        parts = iter(jnp.split(noise, np.cumsum(sizes)[:-1]))
        drawn = {}
        for path, layer in layers.items():
            into, out = next(parts), next(parts)
            shape = {"kernel": into[:, None] * out, "bias": out}
            drawn[path] = {name: x + params["sigma"][path][name] * shape[name] for name, x in layer.items()}
        return net.apply(_with_layers(params["mean"], drawn), obs)

    return Network(init, apply)


def _dense_layers(params: Any, path: str = "") -> dict[str, Any]:
    """The dense layers {"kernel" [in, out], "bias" [out]} in a tree of parameters, by their paths."""
    if not isinstance(params, Mapping):
        return {}
    if "kernel" in params:
        return {path: params} if params["kernel"].ndim == 2 else {}
    # Sorted, as JAX sorts the entries of a dict: the order decides which layer gets which part of the noise.
    names = sorted(params)
    return {found: layer for name in names for found, layer in _dense_layers(params[name], f"{path}/{name}").items()}


def _with_layers(params: Any, layers: Mapping[str, Any], path: str = "") -> Any:
    """The tree with some layers, named as by `_dense_layers`, replaced."""
    if path in layers or not isinstance(params, Mapping):
        return layers.get(path, params)
    return {name: _with_layers(part, layers, f"{path}/{name}") for name, part in params.items()}


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
    size = spaces.flat_size(observation_space) + action_size

    def init(key: jax.Array) -> Any:
        return jax.vmap(lambda key: module.init(key, jnp.zeros(size))["params"])(jax.random.split(key, num))

    def apply(params: Any, obs: Any, action: jax.Array, key: jax.Array | None = None) -> Any:
        x = jnp.concatenate([encode(observation_space, "mlp", obs), action], -1)
        if key is None or not dropout:
            return jax.vmap(lambda params: module.apply({"params": params}, x))(params)
        keys = jax.random.split(key, jax.tree.leaves(params)[0].shape[0])
        return jax.vmap(lambda params, key: module.apply({"params": params}, x, rngs={"dropout": key}))(params, keys)

    return Network(init, apply)


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
