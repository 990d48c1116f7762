import functools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.spaces import Box
from jaxrl import networks
from jaxrl.xla_cpu import columns, convolutions, products

HEADS = [("policy", 2, 0.01), ("value", 1, 1.0)]
DQN_FRAMES = Box(0, 255, (84, 84, 4), np.uint8)


def assert_close(ours, theirs, rtol=1e-4, atol=1e-5):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def convolve_plainly(x, kernel, stride):
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=axes)


def perceptron_plainly(layers, heads, activation, x):
    for layer in layers:
        x = activation(x @ layer["kernel"] + layer["bias"])
    return tuple(x @ head["kernel"] + head["bias"] for head in heads)


def in_columns(x, kernel):
    out = columns.multiply(kernel, x.reshape(-1, x.shape[-1]).T)
    return out.T.reshape(*x.shape[:-1], -1)


@pytest.mark.parametrize("product", [products.multiply, in_columns])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 2), (3, 7), (6, 4), (6, 7)])
def test_a_product_has_the_derivatives_of_a_product(product, inputs, outputs):
    """Forward and reverse, first and second, also under vmap and with more than one leading axis; narrow and not."""
    x = jax.random.normal(jax.random.key(0), (2, 5, inputs))
    kernel = jax.random.normal(jax.random.key(1), (inputs, outputs))
    direction = (jnp.cos(x), jnp.sin(kernel))

    def derivatives(product):
        def f(x, kernel):
            return jnp.sin(product(x, kernel)).sum()

        gradient = jax.grad(f, (0, 1))
        return (
            f(x, kernel),
            gradient(x, kernel),
            jax.jvp(gradient, (x, kernel), direction),
            jax.grad(lambda *xs: sum(jnp.square(g).sum() for g in gradient(*xs)), (0, 1))(x, kernel),
            jax.vmap(gradient, (0, None))(x, kernel),
        )

    assert_close(*(jax.jit(derivatives, static_argnums=0)(f) for f in (product, jnp.matmul)))


@pytest.mark.parametrize("batch", [(), (9,), (2, 7)])
def test_a_perceptron_in_columns(batch):
    """Against rows: values, gradients by weights and inputs, and forward-mode derivatives of those."""
    sizes = [(3, 8), (8, 6), (6, 2), (6, 5)]
    x, *weights = (
        0.5 * jax.random.normal(key, shape)
        for key, shape in zip(
            jax.random.split(jax.random.key(0), 9),
            [(*batch, 3), *sizes, *((m,) for _, m in sizes)],
            strict=True,
        )
    )
    params = [{"kernel": kernel, "bias": bias} for kernel, bias in zip(weights[:4], weights[4:], strict=True)]

    def derivatives(perceptron):
        def f(params, x):
            return perceptron(params[:2], params[2:], jnp.tanh, x)

        gradient = jax.grad(lambda *xs: sum(jnp.sin(head).sum() for head in f(*xs)), (0, 1))
        return f(params, x), gradient(params, x), jax.jvp(gradient, (params, x), (params, x))[1]

    assert_close(
        *(jax.jit(derivatives, static_argnums=0)(f) for f in (columns.perceptron, perceptron_plainly)), atol=1e-4
    )


def test_large_batches_in_columns_are_the_same_network(monkeypatch):
    """Values and derivatives, forward and reverse, alone and in lanes, from parameters of the same tree."""
    net = networks.with_heads(Box(-1, 1, (3,)), HEADS, "mlp", (8, 6), "tanh")
    obs = jax.random.normal(jax.random.key(0), (4, 5, 3))
    params = jax.vmap(net.init)(jax.random.split(jax.random.key(1), 2))

    def loss(params, obs):
        policy, value = net.apply(params, obs)
        return (jnp.sin(policy).sum(-1) * value[..., 0]).sum()

    def derivatives(params, obs):
        gradient = jax.grad(loss, (0, 1))
        return net.apply(params, obs), gradient(params, obs), jax.jvp(gradient, (params, obs), (params, obs))[1]

    def computed():
        one = jax.tree.map(lambda x: x[0], params)
        text = str(jax.make_jaxpr(lambda *args: net.apply(*args))(one, obs))
        return text, (derivatives(one, obs), jax.vmap(derivatives, (0, None))(params, obs))

    by_columns, ours = computed()
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    by_rows, theirs = computed()
    assert "f32[8,20]" in by_columns
    assert "f32[8,20]" not in by_rows
    assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [((9, 9), 3, 1), ((11, 13), 4, 3), ((12, 8), 4, 2), ((7, 9), 2, 3)]
)
def test_gradients_of_a_convolution(size, kernel, stride):
    """Against those that JAX derives, also where windows leave rows or columns over or between them."""
    x = jax.random.normal(jax.random.key(0), (5, *size, 3))
    weights = jax.random.normal(jax.random.key(1), (kernel, kernel, 3, 4))
    ours, theirs = (
        jax.jit(jax.value_and_grad(lambda x, w, f=f: jnp.sin(f(x, w, stride)).sum(), (0, 1)))(x, weights)
        for f in (convolutions.in_order, convolve_plainly)
    )
    assert_close(ours, theirs, 1e-3, 1e-4)


@pytest.mark.parametrize(("height", "width", "channels", "size"), [(10, 10, 4, 3), (5, 7, 3, 2), (4, 4, 1, 4)])
def test_a_convolution_as_a_product(height, width, channels, size):
    """Values and derivatives, forward and reverse."""
    x = jax.random.normal(jax.random.key(0), (6, height, width, channels))
    kernel = jax.random.normal(jax.random.key(1), (size, size, channels, 5))

    def derivatives(convolve):
        def f(x, kernel):
            return jnp.sin(convolve(x, kernel)).sum()

        return jax.value_and_grad(f, (0, 1))(x, kernel), jax.jvp(f, (x, kernel), (jnp.cos(x), jnp.sin(kernel)))

    ours, theirs = (
        jax.jit(derivatives, static_argnums=0)(f)
        for f in (convolutions.as_product, functools.partial(convolve_plainly, stride=1))
    )
    assert_close(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [4, 16])  # a row of 40 numbers, and one of 160
def test_only_small_pictures_are_convolved_by_products(channels, stride):
    x = jax.random.normal(jax.random.key(0), (2, 10, 10, channels))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, 5))

    def convolve(x, kernel):
        return convolutions.convolve(x, kernel, stride)

    assert_close(convolve(x, kernel), convolve_plainly(x, kernel, stride), atol=1e-4)
    by_product = "conv_general_dilated" not in str(jax.make_jaxpr(convolve)(x, kernel))
    assert by_product == (channels == 4 and stride == 1)


def test_minatar_is_convolved_by_products():
    net = networks.q_network(Box(0, 1, (10, 10, 10)), 3, "minatar_cnn", (16,), "relu")
    params = jax.eval_shape(net.init, jax.random.key(0))
    obs = jax.ShapeDtypeStruct((2, 10, 10, 10), jnp.float32)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(net.apply)(params, obs))


@pytest.mark.parametrize("lanes", [None, 3])
def test_convolutions_in_a_loop_keep_the_order_of_axes_that_is_fast_on_cpu(lanes):
    net = networks.q_network(DQN_FRAMES, 3, "nature_cnn", (16,), "relu")

    def train(params, obs):
        def step(params, _):
            return jax.tree.map(jnp.subtract, params, jax.grad(lambda p: net.apply(p, obs).sum())(params)), ()

        return jax.lax.scan(step, params, length=2)[0]

    example = (jax.eval_shape(net.init, jax.random.key(0)), jax.ShapeDtypeStruct((2, 84, 84, 4), np.uint8))
    if lanes:
        train = jax.vmap(train)
        example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((lanes, *leaf.shape), leaf.dtype), example)
    program = jax.jit(train).lower(*example).compile().as_text()
    orders = re.findall(r" convolution\(.*dim_labels=(\w+->\w+)", program)
    assert len(orders) == 8  # three layers: forwards, by the weights, and by the input of all but the first
    assert set(orders) == {"b01f_01io->b01f"}


def linear_operations(f, *args):
    """How often the operations that tell the forms apart occur in the program of f for an NVIDIA GPU."""
    text = jax.jit(f).trace(*args).lower(lowering_platforms=("cuda",)).as_text()
    telling = ("dot_general", "convolution", "optimization_barrier", "concatenate", "slice", "multiply")
    return {name: n for name, n in Counter(re.findall(r"stablehlo\.(\w+)", text)).items() if name in telling}


def loss_of(apply):
    return jax.value_and_grad(lambda params, obs: sum(jnp.square(head).sum() for head in apply(params, obs)))


def in_words_of_jax(convolutions, params, obs):
    """The networks of the next test from plain operations alone: (stride) of each convolution, MLP, heads."""
    x = obs.astype(jnp.float32)
    if obs.dtype == np.uint8:
        x = x / 255.0
    cnn = params.get("CNN_0", params)
    for i, stride in enumerate(convolutions):
        layer = cnn[f"Conv_{i}"]
        x = jax.nn.relu(convolve_plainly(x, layer["kernel"], stride) + layer["bias"])
    x = x.reshape(*x.shape[: x.ndim - 3], -1) if convolutions else x
    mlp = cnn["MLP_0"]
    layers = [mlp[f"Dense_{i}"] for i in range(len(mlp))]
    return perceptron_plainly(layers, [params[name] for name, _, _ in HEADS], jax.nn.relu, x)


@pytest.mark.parametrize(
    ("space", "kind", "strides", "batch"),
    [
        (Box(-1, 1, (3,)), "mlp", (), (8, 64)),  # narrow, and larger than the layers: columns on a CPU
        (Box(-1, 1, (17,)), "mlp", (), (4,)),
        (Box(0, 1, (10, 10, 4)), "minatar_cnn", (1,), (8,)),
        (DQN_FRAMES, "nature_cnn", (4, 2, 1), (8,)),
    ],
)
def test_a_program_for_a_gpu_holds_plain_operations_alone(monkeypatch, space, kind, strides, batch):
    """As many products and convolutions as the same network written in plain words, and no trace of another form."""
    net = networks.with_heads(space, HEADS, kind, (64, 32), "relu")
    params = jax.eval_shape(net.init, jax.random.key(0))
    obs = jax.ShapeDtypeStruct((*batch, *space.shape), space.dtype)
    on_cpu = linear_operations(loss_of(lambda *args: net.apply(*args)), params, obs)
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    ours = linear_operations(loss_of(lambda *args: net.apply(*args)), params, obs)
    plain = linear_operations(loss_of(lambda *args: in_words_of_jax(strides, *args)), params, obs)
    assert ours == plain
    assert ours["dot_general"] == 3 * 4 - (0 if strides else 1)  # forwards, by weights, by all inputs but the network's
    assert ours.get("convolution", 0) == max(3 * len(strides) - 1, 0)
    assert set(ours) <= {"dot_general", "convolution", "multiply"}
    assert "optimization_barrier" in on_cpu  # so that the test would see the other forms


def test_convolutions_of_a_gpu_have_both_modes(monkeypatch):
    x = jax.random.normal(jax.random.key(0), (2, 9, 9, 32))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 32, 4))
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    forward = jax.jvp(lambda kernel: networks.convolve(x, kernel, 2), (kernel,), (kernel,))
    np.testing.assert_allclose(*forward, rtol=1e-4, atol=1e-4)  # linear in the kernel
