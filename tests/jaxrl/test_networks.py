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
