import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import spaces
from envs.spaces import Box, Discrete, MultiDiscrete

MIXED = Box((-1.0, 0.0, -np.inf, -np.inf), (1.0, np.inf, 2.0, np.inf), (4,))
NESTED = {"b": (Discrete(3), MultiDiscrete((2, 4))), "a": Box(0.0, 1.0, (2, 2))}
ALL = [
    Discrete(5),
    MultiDiscrete((2, 3, 4)),
    Box(-2.0, 3.0, (2, 3)),
    Box(0, 255, (4, 4, 1), np.uint8),
    Box(-3, 3, (2,), np.int32),
    Box(False, True, (3,), np.bool_),
    MIXED,
    NESTED,
    (Discrete(2), {"x": Discrete(2)}),
]


# Compiling random numbers is the cost of this file, so every space is drawn from once, by a program left unoptimised.
SAMPLES = 2000
_drawn = {}


def draws(space):
    """SAMPLES elements, as NumPy arrays."""
    if str(space) not in _drawn:
        draw = jax.jit(
            jax.vmap(lambda key: spaces.sample(space, key)), compiler_options={"xla_backend_optimization_level": 0}
        )
        _drawn[str(space)] = jax.device_get(draw(jax.random.split(jax.random.key(0), SAMPLES)))
    return _drawn[str(space)]


def rows(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


@pytest.mark.parametrize("space", ALL, ids=str)
def test_samples_are_elements(space):
    many = draws(space)
    for i in range(30):
        assert spaces.contains(space, rows(many, i))


def test_samples_cover_the_space():
    np.testing.assert_array_equal(np.bincount(draws(Discrete(5))) > 300, [True] * 5)
    vectors = np.asarray(draws(MultiDiscrete((2, 3, 4))))
    for i, n in enumerate((2, 3, 4)):
        np.testing.assert_array_equal(np.unique(vectors[:, i]), np.arange(n))
    pixels = np.asarray(draws(Box(0, 255, (4, 4, 1), np.uint8)))
    assert pixels.min() == 0
    assert pixels.max() == 255


def test_samples_of_unbounded_coordinates():
    """Uniform, exponential from the bound up, exponential from the bound down, standard normal."""
    values = np.asarray(draws(MIXED))
    assert abs(values[:, 0].mean()) < 0.06
    assert values[:, 0].max() > 0.9
    assert values[:, 1].min() >= 0
    assert abs(values[:, 1].mean() - 1) < 0.1
    assert values[:, 2].max() <= 2
    assert abs(values[:, 2].mean() - 1) < 0.1
    assert abs(values[:, 3].mean()) < 0.1
    assert abs(values[:, 3].std() - 1) < 0.1


def test_samples_of_the_parts_are_independent():
    first, nested = draws((Discrete(2), {"x": Discrete(2)}))
    assert abs(np.corrcoef(first, nested["x"])[0, 1]) < 0.1
    square = draws(NESTED)["a"].reshape(SAMPLES, 4)
    assert np.abs(np.corrcoef(square.T) - np.eye(4)).max() < 0.1


@pytest.mark.parametrize(
    ("space", "outside"),
    [
        (Discrete(3), [3, -1, 1.0, np.array([1]), np.float32(0)]),
        (MultiDiscrete((2, 3)), [np.array([2, 0]), np.array([0, -1]), np.array([0]), np.array([0.0, 1.0])]),
        (
            Box(-1.0, 1.0, (2,)),
            [
                np.array([0.0, 1.5], np.float32),
                np.array([0.0, np.nan], np.float32),
                np.zeros(2),
                np.zeros(3, np.float32),
                np.zeros((1, 2), np.float32),
            ],
        ),
        (NESTED, [{}, {"a": np.zeros((2, 2), np.float32)}, (0, 1)]),
        ((Discrete(2), Discrete(2)), [(0,), (0, 2), [0, 1], (0, 1, 1)]),
    ],
    ids=str,
)
def test_what_is_not_an_element(space, outside):
    for x in outside:
        assert not spaces.contains(space, x), x


def test_bounds_are_inclusive():
    box = Box((-1.2, -0.07), (0.6, 0.07), (2,))
    assert spaces.contains(box, np.array([-1.2, 0.07], np.float32))
    assert not spaces.contains(box, np.array([np.nextafter(np.float32(-1.2), np.float32(-2)), 0], np.float32))


def test_bounds_broadcast():
    box = Box(((0.0,), (1.0,)), 5.0, (2, 3))
    np.testing.assert_array_equal(box.lower, [[0, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(box.upper, np.full((2, 3), 5))
    assert box.lower.dtype == np.float32


def test_spaces_are_hashable_and_equal_by_value():
    assert hash(Box(0.0, 1.0, (2,))) == hash(Box(0.0, 1.0, (2,), "float32"))
    assert Discrete(3) == Discrete(3) != Discrete(4)


@pytest.mark.parametrize("space", ALL, ids=str)
def test_flatten_has_the_promised_size(space):
    many = jax.tree.map(lambda leaf: jnp.asarray(leaf[:3]), draws(space))
    flat = spaces.flatten(space, many)
    assert flat.shape == (3, spaces.flat_size(space))
    assert flat.dtype == jnp.float32
    alone = spaces.flatten(space, rows(many, 1))
    np.testing.assert_array_equal(flat[1], alone)


def test_flatten_by_hand():
    x = {"b": (jnp.int32(2), jnp.array([1, 0])), "a": jnp.array([[0.1, 0.2], [0.3, 0.4]])}
    expected = [0.1, 0.2, 0.3, 0.4, 0, 0, 1, 0, 1, 1, 0, 0, 0]
    np.testing.assert_allclose(spaces.flatten(NESTED, x), expected)


def test_flatten_keeps_any_batch_axes():
    assert spaces.flatten(Discrete(3), jnp.zeros((4, 5), jnp.int32)).shape == (4, 5, 3)
    assert spaces.flatten(Box(0.0, 1.0, (2, 2)), jnp.zeros((4, 5, 2, 2))).shape == (4, 5, 4)
    assert spaces.flatten(MultiDiscrete((2, 3)), jnp.zeros((4, 5, 2), jnp.int32)).shape == (4, 5, 5)


MOST = float(np.finfo(np.float32).max)
LIMITS = [
    Box(0, 2**31 - 1, (3,), np.int32),
    Box(-(2**31), 2**31 - 1, (3,), np.int32),
    Box(-128, 127, (3,), np.int8),
    Box(5, 2**32 - 1, (3,), np.uint32),
    Box(-MOST, MOST, (3,)),
    Box(-MOST, 2.0, (3,)),
]


@pytest.mark.parametrize("space", LIMITS, ids=str)
def test_samples_at_the_limits_of_a_type(space):
    many = draws(space)
    assert all(spaces.contains(space, row) for row in many[:200])
    assert len(np.unique(many)) > (200 if space.dtype == np.int8 else 5000)


@pytest.mark.parametrize("space", LIMITS[:4], ids=str)
def test_integers_at_the_limits_are_uniform(space):
    low, high = int(space.lower[0]), int(space.upper[0])
    share = (draws(space).astype(np.float64) - low) / (high - low)
    np.testing.assert_allclose(np.quantile(share, (0.1, 0.5, 0.9)), (0.1, 0.5, 0.9), atol=0.03)


@pytest.mark.parametrize("space", [MIXED, {"a": MIXED, "b": MIXED}, LIMITS[1]], ids=str)
def test_no_key_is_used_twice(space):
    with jax.debug_key_reuse(True):
        jax.jit(lambda key: spaces.sample(space, key))(jax.random.key(0))


def test_where_a_box_has_bounds():
    np.testing.assert_array_equal(MIXED.has_lower, [True, True, False, False])
    np.testing.assert_array_equal(MIXED.has_upper, [True, False, True, False])
    assert not Box(-MOST, MOST, (1,)).has_lower.any()
    assert Box(-(2**31), 2**31 - 1, (1,), np.int32).has_lower.all()
