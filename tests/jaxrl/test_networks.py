import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.errors import InputError
from envs.spaces import Box, Discrete
from jaxrl import networks


@pytest.mark.parametrize("shape", [(64, 64), (4, 64), (64, 2), (1, 5), (3, 3, 4, 16), (256, 32)])
def test_orthogonal(shape):
    weights = jax.jit(lambda key: networks.orthogonal(3.0)(key, shape))(jax.random.key(0))
    assert weights.shape == shape
    matrix = np.asarray(weights, np.float64).reshape(-1, shape[-1]) / 3.0
    gram = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


def test_orthogonal_is_uniform():
    """Haar: each entry of a random orthogonal n × n matrix has mean 0 and variance 1/n, the diagonal too."""
    draw = jax.jit(jax.vmap(lambda key: networks.orthogonal()(key, (4, 4))))
    matrices = np.asarray(draw(jax.random.split(jax.random.key(1), 4000)))
    np.testing.assert_allclose(matrices.mean(0), 0, atol=0.04)
    np.testing.assert_allclose(matrices.var(0), 0.25, atol=0.02)


@pytest.mark.timeout(120)
def test_64_vmapped_initialisations_do_not_hang():
    net = networks.q_network(Box(-1, 1, (4,)), 2, "mlp", (64, 64), "tanh")
    params = jax.jit(jax.vmap(net.init))(jax.random.split(jax.random.key(0), 64))
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 3]
    assert len(kernels) == 3
    for kernel in kernels:  # every lane draws its own
        assert len(np.unique(np.asarray(kernel)[:, 0, 0])) == 64


@pytest.mark.parametrize(
    ("space", "kind"),
    [(Box(-1, 1, (4,)), "mlp"), (Discrete(7), "mlp"), (Box(0, 255, (84, 84, 4), np.uint8), "nature_cnn")],
)
def test_leading_axes(space, kind):
    net = networks.q_network(space, 3, kind, (16,), "relu")
    params = jax.eval_shape(net.init, jax.random.key(0))
    for batch in ((), (3,), (2, 3)):
        obs = jax.ShapeDtypeStruct((*batch, *space.shape), space.dtype)
        assert jax.eval_shape(net.apply, params, obs).shape == (*batch, 3)


def test_encode():
    np.testing.assert_array_equal(networks.encode(Discrete(3), "mlp", jnp.array([2, 0])), [[0, 0, 1], [1, 0, 0]])
    pixels = networks.encode(Box(0, 255, (2, 2, 1), np.uint8), "nature_cnn", jnp.full((2, 2, 1), 51, jnp.uint8))
    np.testing.assert_allclose(pixels, 0.2)
    nested = {"b": Box(-1, 1, (2,)), "a": (Discrete(2),)}
    obs = {"b": jnp.array([0.5, -0.5]), "a": (jnp.int32(1),)}
    np.testing.assert_allclose(networks.encode(nested, "mlp", obs), [0, 1, 0.5, -0.5])
    with pytest.raises(InputError, match=r"\(H, W, C\)"):
        networks.encode(Box(-1, 1, (4,)), "nature_cnn", jnp.zeros(4))


def test_bytes_are_scaled_wherever_they_are():
    picture, obs = Box(0, 255, (2, 2, 1), np.uint8), jnp.full((3, 2, 2, 1), 51, jnp.uint8)
    space = {"a": Box(-1.0, 1.0, (1,)), "b": (picture, Discrete(2)), "c": Box(0, 3, (1,), np.uint8)}
    seen = {"a": jnp.full((3, 1), 0.5), "b": (obs, jnp.ones(3, jnp.int32)), "c": jnp.full((3, 1), 3, jnp.uint8)}
    np.testing.assert_allclose(networks.encode(picture, "mlp", obs), np.full((3, 4), 0.2))
    np.testing.assert_allclose(networks.encode(space, "mlp", seen)[1], [0.5, 0.2, 0.2, 0.2, 0.2, 0, 1, 3])
    # What a signal has made of them is no longer bytes.
    np.testing.assert_allclose(networks.encode(picture, "minatar_cnn", -2.0 * jnp.ones((2, 2, 1))), -2.0)


def test_masks_are_not_seen():
    space = {"board": Box(0, 255, (4, 4, 1), np.uint8), "action_mask": Box(0, 1, (2,), np.bool_)}
    obs = {"board": jnp.full((4, 4, 1), 255, jnp.uint8), "action_mask": jnp.array([True, False])}
    np.testing.assert_array_equal(networks.encode(space, "minatar_cnn", obs), np.ones((4, 4, 1)))
    assert networks.input_shape(space, "minatar_cnn") == (4, 4, 1)
    assert networks.input_shape(space | {"hand": Discrete(3)}, "mlp") == (19,)


def test_an_observation_without_entries_is_a_constant():
    net = networks.q_network(Box(-1, 1, (0,)), 3, "mlp", (8,), "relu")
    params = net.init(jax.random.key(0))
    np.testing.assert_array_equal(net.apply(params, jnp.zeros((5, 0))), np.zeros((5, 3)))


@pytest.mark.parametrize(
    ("shape", "torso", "fits"),
    [
        ((35, 84, 4), "nature_cnn", "'mlp', 'minatar_cnn'"),
        ((2, 9, 1), "minatar_cnn", "'mlp'"),
        ((84, 84, 0), "nature_cnn", "'mlp'"),
    ],
)
def test_pictures_that_a_torso_does_not_fit_on(shape, torso, fits):
    space = Box(0, 255, shape, np.uint8)
    makers = [
        lambda: networks.q_network(space, 2, torso, (8,), "relu"),
        lambda: networks.recurrent(space, [("q", 2, 1.0)], torso, (8,), "relu", 4),
        lambda: networks.implicit_quantiles(space, 2, 4, torso, (8,), "relu"),
    ]
    for make in makers:
        with pytest.raises(InputError, match=f"torso '{torso}' needs pictures of at least .* What fits: {fits}\\."):
            make()


def test_the_smallest_picture_that_fits():
    net = networks.q_network(Box(0, 255, (36, 36, 1), np.uint8), 2, "nature_cnn", (8,), "relu")
    assert jax.eval_shape(net.init, jax.random.key(0))["CNN_0"]["Conv_2"]["kernel"].shape == (3, 3, 64, 64)


def test_dueling_is_value_plus_centred_advantage():
    space = Box(-1, 1, (4,))
    net = networks.q_network(space, 3, "mlp", (16,), "relu", dueling=True)
    params = jax.jit(net.init)(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (10, 4))
    heads = networks.with_heads(space, [("advantage", 3, 1.0), ("value", 1, 1.0)], "mlp", (16,), "relu")
    advantage, value = heads.apply(params, obs)
    q = net.apply(params, obs)
    np.testing.assert_allclose(q.mean(-1), value[:, 0], atol=1e-5)
    np.testing.assert_allclose(q - q.mean(-1, keepdims=True), advantage - advantage.mean(-1, keepdims=True), atol=1e-5)


def test_q_distribution_by_atoms():
    space = Box(-1, 1, (4,))
    shape = ("mlp", (16,), "relu")
    obs = jax.random.normal(jax.random.key(1), (2, 5, 4))
    plain = networks.q_distribution(space, 3, 7, *shape)
    assert jax.eval_shape(plain.apply, jax.eval_shape(plain.init, jax.random.key(0)), obs).shape == (2, 5, 3, 7)
    net = networks.q_distribution(space, 3, 7, *shape, dueling=True)
    params = jax.jit(net.init)(jax.random.key(0))
    heads = networks.with_heads(space, [("advantage", 21, 1.0), ("value", 7, 1.0)], *shape)
    advantage, value = heads.apply(params, obs)
    atoms = net.apply(params, obs)
    np.testing.assert_allclose(atoms.mean(-2), value, atol=1e-5)
    # atom j of action a lies at a · 7 + j of the advantage head
    want = advantage[..., 1 * 7 + 2] - advantage[..., [2, 9, 16]].mean(-1) + value[..., 2]
    np.testing.assert_allclose(atoms[..., 1, 2], want, atol=1e-5)


def noisy_by_hand(params, x, noise):
    """The paper's equations on one dense layer without activation; noise: inputs first, then outputs."""
    f = np.sign(noise) * np.sqrt(np.abs(noise))
    into, out = f[: x.shape[-1]], f[x.shape[-1] :]
    weights = params["mean"]["q"]["kernel"] + params["sigma"]["/q"]["kernel"] * np.outer(into, out)
    return x @ weights + params["mean"]["q"]["bias"] + params["sigma"]["/q"]["bias"] * out


def test_lecun_draws_kernels_alone():
    """Variance 1 / inputs, no two alike; biases, scales and the function itself as they were."""
    net = networks.q_network(Box(-1, 1, (4,)), 3, "mlp", (400, 300), "relu", layer_norm=True)
    before, after = net.init(jax.random.key(0)), networks.lecun(net).init(jax.random.key(0))
    layers = after["MLP_0"]
    for kernel in (layers["Dense_0"]["kernel"], layers["Dense_1"]["kernel"], after["q"]["kernel"]):
        values = np.asarray(kernel)
        np.testing.assert_allclose(values.var() * values.shape[0], 1.0, atol=5 * (2 / values.size) ** 0.5)
        assert len(np.unique(values)) > 0.99 * values.size
    for name, layer in before["MLP_0"].items():
        for part in set(layer) - {"kernel"}:
            np.testing.assert_array_equal(layers[name][part], layer[part])
    obs = jnp.ones((2, 4))
    np.testing.assert_array_equal(networks.lecun(net).apply(after, obs), net.apply(after, obs))


def test_noisy_layer_is_the_papers():
    net = networks.noisy(networks.q_network(Box(-1, 1, (4,)), 3, "mlp", (), "relu"), sigma=0.5)
    params = jax.jit(net.init)(jax.random.key(0))
    sigma = params["sigma"]["/q"]
    np.testing.assert_allclose(sigma["kernel"], np.full((4, 3), 0.25))  # 0.5 / √4
    np.testing.assert_allclose(sigma["bias"], np.full(3, 0.25))
    x = jax.random.normal(jax.random.key(1), (10, 4))
    key = jax.random.key(2)
    # sigmas of different sizes, so that each must meet its own weight
    params["sigma"]["/q"] = jax.tree.map(lambda s: s * jnp.arange(1.0, 1 + s.size).reshape(s.shape), sigma)
    want = noisy_by_hand(jax.tree.map(np.asarray, params), np.asarray(x), np.asarray(jax.random.normal(key, (7,))))
    np.testing.assert_allclose(jax.jit(net.apply)(params, x, key), want, rtol=1e-5, atol=1e-5)
    without = x @ params["mean"]["q"]["kernel"] + params["mean"]["q"]["bias"]
    np.testing.assert_allclose(net.apply(params, x), without, rtol=1e-5, atol=1e-6)


def test_noisy_reaches_every_dense_layer_and_no_convolution():
    space = Box(0, 255, (6, 6, 2), np.uint8)
    net = networks.noisy(networks.q_network(space, 3, "minatar_cnn", (8,), "relu", dueling=True))
    params = jax.jit(net.init)(jax.random.key(0))
    assert sorted(params["sigma"]) == ["/CNN_0/MLP_0/Dense_0", "/advantage", "/value"]
    # With zero means and a black image only the noise of the biases, and what it causes further on, is left: both
    # signs alike, and at the dueling heads √(E f(ε)² (σ² + σ²(1 − 1/3))) = 0.5/√8 · √(√(2/π) · 5/3) from them alone.
    params["mean"] = jax.tree.map(jnp.zeros_like, params["mean"])
    draw = jax.jit(jax.vmap(lambda key: net.apply(params, jnp.zeros(space.shape, np.uint8), key)))
    q = np.asarray(draw(jax.random.split(jax.random.key(1), 4000)))
    assert (q.std(0) > 0.5 / 8**0.5 * ((2 / np.pi) ** 0.5 * 5 / 3) ** 0.5).all()
    np.testing.assert_allclose(q.mean(0), 0, atol=5 * q.std() / 4000**0.5)


def test_noise_has_a_gradient_in_means_and_sigmas():
    net = networks.noisy(networks.q_network(Box(-1, 1, (2,)), 2, "mlp", (4,), "tanh"))
    params = jax.jit(net.init)(jax.random.key(0))
    grads = jax.jit(jax.grad(lambda p: net.apply(p, jnp.ones((3, 2)), jax.random.key(5)).sum()))(params)
    assert all(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(grads))


def test_critics_are_independent_functions_side_by_side():
    """Each row of the batched network is the network of its own parameters; a subset of parameters is a subset."""
    net = networks.critics(Box(-1, 1, (3,)), 2, 4, (8, 8), "relu", outputs=5, layer_norm=True)
    params = jax.jit(net.init)(jax.random.key(0))
    obs, action = jax.random.normal(jax.random.key(1), (6, 3)), jax.random.normal(jax.random.key(2), (6, 2))
    apply = jax.jit(net.apply)
    out = apply(params, obs, action)
    assert out.shape == (4, 6, 5)
    assert len(np.unique(np.asarray(out)[:, 0, 0])) == 4
    some = apply(jax.tree.map(lambda x: np.asarray(x)[[2, 0]], params), obs, action)
    np.testing.assert_allclose(some, np.asarray(out)[[2, 0]], rtol=1e-5, atol=1e-6)
    # By hand, the third of them.
    x = np.concatenate([obs, action], 1).astype(np.float64)
    layers = jax.tree.map(lambda leaf: np.asarray(leaf[2], np.float64), params)
    mlp = layers["MLP_0"]
    for i in range(2):
        x = x @ mlp[f"Dense_{i}"]["kernel"] + mlp[f"Dense_{i}"]["bias"]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        x = np.maximum(x * mlp[f"LayerNorm_{i}"]["scale"] + mlp[f"LayerNorm_{i}"]["bias"], 0)
    np.testing.assert_allclose(out[2], x @ layers["Dense_0"]["kernel"], rtol=1e-4, atol=1e-5)


def test_ensemble_of_a_network():
    one = networks.q_network(Box(-1, 1, (3,)), 2, "mlp", (8,), "relu")
    net = networks.ensemble(one, 3)
    params = jax.jit(net.init)(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (5, 3))
    for i, out in enumerate(net.apply(params, obs)):
        np.testing.assert_allclose(out, one.apply(jax.tree.map(lambda x, i=i: x[i], params), obs), rtol=1e-5, atol=1e-6)
    assert len(np.unique(np.asarray(net.apply(params, obs))[:, 0, 0])) == 3


def test_policies_of_continuous_actions_stay_in_the_unit_box():
    space = Box(-1, 1, (3,))
    obs = 100 * jax.random.normal(jax.random.key(1), (64, 3))
    sure = networks.deterministic_policy(space, 2, (8,), "relu")
    action = jax.jit(lambda key: sure.apply(jax.tree.map(lambda x: 50 * x, sure.init(key)), obs))(jax.random.key(0))
    assert action.shape == (64, 2)
    assert 0.9 < float(jnp.abs(action).max()) <= 1
    random = networks.squashed_policy(space, 2, (8,), "relu")

    @jax.jit
    def drawn(key):
        policy = random.apply(jax.tree.map(lambda x: 50 * x, random.init(key)), obs)
        return policy, *policy.sample_and_log_prob(key)

    policy, x, log_prob = drawn(jax.random.key(0))
    assert policy.mean.shape == policy.std.shape == (64, 2)
    np.testing.assert_allclose(jnp.log(policy.std).max(), 2.0, rtol=1e-6)
    np.testing.assert_allclose(jnp.log(policy.std).min(), -20.0, rtol=1e-6)
    assert float(jnp.abs(x).max()) <= 1
    assert log_prob.shape == (64,)
