import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxrl.distributions import Categorical, MultiCategorical, Normal, SquashedNormal, at_index

DRAWS = 100_000


def normals(seed=0, shape=(4, 3)):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape).astype(np.float32), np.exp(0.5 * rng.normal(size=shape)).astype(np.float32)


@jax.jit
def log_prob_of(dist, x):
    return dist.log_prob(x)


def squashed(mean, std, low=-2.0, high=3.0):
    return SquashedNormal(jnp.asarray(mean), jnp.asarray(std), low, high)


@jax.jit
def draw(dist, key):
    """DRAWS draws from every member of a batch, by a leading axis on the parameters."""
    repeated = {
        name: jnp.broadcast_to(getattr(dist, name), (DRAWS, *getattr(dist, name).shape)) for name in dist._fields[:2]
    }
    return dist._replace(**repeated).sample(key)


def test_at_index_broadcasts_leading_axes():
    values = jnp.arange(12.0).reshape(2, 2, 3)
    np.testing.assert_array_equal(at_index(values, jnp.array([[0, 1], [2, 0]])), [[0.0, 4.0], [8.0, 9.0]])
    np.testing.assert_array_equal(at_index(values[0, 0], jnp.array([2, 0])), [2.0, 0.0])
    np.testing.assert_array_equal(at_index(values, 1), [[1.0, 4.0], [7.0, 10.0]])


@pytest.mark.parametrize("num", [3, 32, 40])  # 33 and more are drawn by the Gumbel trick
def test_categorical_agrees_with_scipy_and_draws_its_probabilities(num):
    logits = np.random.default_rng(num).normal(size=(2, num)).astype(np.float32)
    logits[1, num // 2 : num - 1] = -np.inf
    dist = Categorical(jnp.asarray(logits))
    probs = scipy.special.softmax(logits.astype(np.float64), axis=-1)
    np.testing.assert_allclose(dist.entropy(), [scipy.stats.entropy(p) for p in probs], rtol=1e-5)
    actions = np.arange(num)[:, None].repeat(2, 1)
    np.testing.assert_allclose(np.exp(dist.log_prob(actions)), probs.T, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(dist.mode(), probs.argmax(-1))

    x = np.asarray(draw(dist, jax.random.key(0)))
    assert x.shape == (DRAWS, 2)
    assert x.dtype == np.int32
    for row in range(2):
        counts = np.bincount(x[:, row], minlength=num)
        seen = probs[row] > 0
        assert counts[~seen].sum() == 0
        assert scipy.stats.chisquare(counts[seen], DRAWS * probs[row][seen]).pvalue > 1e-3


def test_categorical_rows_are_independent():
    x = np.asarray(draw(Categorical(jnp.zeros((2, 2))), jax.random.key(3))) * 2 - 1
    assert abs(np.mean(x[:, 0] * x[:, 1])) < 5 / np.sqrt(DRAWS)


@pytest.mark.parametrize("allowed", [0, 3, 6])
def test_a_mask_that_leaves_one_action_always_gives_it(allowed):
    logits = np.where(np.arange(7) == allowed, 80.0, -np.inf).astype(np.float32)
    assert np.all(np.asarray(draw(Categorical(jnp.asarray(logits)), jax.random.key(0))) == allowed)


def test_masked_actions_leave_entropy_kl_and_gradients_finite():
    logits = jnp.array([0.3, -jnp.inf, 1.2])
    other = jnp.array([1.0, -jnp.inf, -1.0])
    plain, mask = np.array([0.3, 1.2]), np.array([0, 2])
    for fn in (
        lambda a, b: Categorical(a).entropy(),
        lambda a, b: Categorical(a).kl(Categorical(b)),
        lambda a, b: Categorical(a).log_prob(jnp.int32(2)),
    ):
        value, grads = jax.jit(jax.value_and_grad(fn, argnums=(0, 1)))(logits, other)
        assert np.isfinite(value)
        assert np.all(np.isfinite(grads))
    np.testing.assert_allclose(Categorical(logits).entropy(), Categorical(jnp.asarray(plain)).entropy(), rtol=1e-6)
    np.testing.assert_allclose(
        Categorical(logits).kl(Categorical(other)),
        Categorical(logits[mask]).kl(Categorical(other[mask])),
        rtol=1e-6,
    )
    assert bool(jnp.isinf(Categorical(jnp.zeros(3)).kl(Categorical(other))))


def test_normal_agrees_with_scipy():
    mean, std = normals()
    x = mean + 1.3 * std
    dist = Normal(jnp.asarray(mean), jnp.asarray(std))
    np.testing.assert_allclose(dist.log_prob(jnp.asarray(x)), scipy.stats.norm(mean, std).logpdf(x).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(dist.entropy(), scipy.stats.norm(mean, std).entropy().sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(dist.mode(), mean)


def test_a_std_shared_by_the_batch_broadcasts():
    mean, std = normals()
    shared, full = Normal(jnp.asarray(mean), jnp.asarray(std[0])), Normal(jnp.asarray(mean), jnp.asarray(std[[0] * 4]))
    key = jax.random.key(0)
    np.testing.assert_array_equal(shared.sample(key), full.sample(key))
    for method in ("entropy", "mode"):
        np.testing.assert_allclose(getattr(shared, method)(), getattr(full, method)(), rtol=1e-6)
    np.testing.assert_allclose(shared.log_prob(mean + 1), full.log_prob(mean + 1), rtol=1e-6)
    assert shared.kl(full).shape == (4,)


def test_normal_sampling_moments():
    mean, std = normals(shape=(3,))
    x = np.asarray(draw(Normal(jnp.asarray(mean), jnp.asarray(std)), jax.random.key(1)))
    np.testing.assert_array_less(np.abs(x.mean(0) - mean), 5 * std / np.sqrt(DRAWS))
    np.testing.assert_allclose(x.std(0), std, rtol=5 / np.sqrt(2 * DRAWS))
    assert np.abs(np.corrcoef(x.T) - np.eye(3)).max() < 5 / np.sqrt(DRAWS)


@pytest.mark.parametrize("make", [Normal, squashed])
def test_sample_and_log_prob_agrees_with_its_parts_and_with_their_gradient(make):
    mean, std = map(jnp.asarray, normals())
    key = jax.random.key(2)
    x, log_prob = jax.jit(lambda d: d.sample_and_log_prob(key))(make(mean, std))
    np.testing.assert_allclose(x, jax.jit(lambda d: d.sample(key))(make(mean, std)), rtol=1e-6)
    np.testing.assert_allclose(log_prob, make(mean, std).log_prob(x), rtol=1e-3, atol=1e-3)

    def fused(mean, std):
        return make(mean, std).sample_and_log_prob(key)[1].sum()

    def apart(mean, std):
        return make(mean, std).log_prob(make(mean, std).sample(key)).sum()

    for a, b in zip(*(jax.jit(jax.grad(fn, (0, 1)))(mean, std) for fn in (fused, apart)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


def test_categorical_sample_and_log_prob():
    dist = Categorical(jnp.asarray(normals()[0]))
    x, log_prob = dist.sample_and_log_prob(jax.random.key(0))
    np.testing.assert_array_equal(x, dist.sample(jax.random.key(0)))
    np.testing.assert_array_equal(log_prob, dist.log_prob(x))


@pytest.mark.parametrize(("mean", "std"), [(-1.0, 0.3), (0.0, 1.0), (1.0, 2.0), (2.0, 1.0)])
def test_squashed_density_integrates_to_one(mean, std):
    # Spread the grid by the map itself: the density has poles at the bounds for a large std.
    u = np.linspace(mean - 9 * std, mean + 9 * std, 200_001)
    inside = np.abs(u) < 6.0  # beyond, x is not told apart from the bound in single precision
    x = (-2.0 + 2.5 * (np.tanh(u) + 1)).astype(np.float32)[:, None]
    density = np.exp(np.asarray(log_prob_of(squashed([mean], [std]), x), np.float64))
    slope = 2.5 / np.cosh(u) ** 2
    mass = np.trapezoid((density * slope)[inside], u[inside])
    expected = np.diff(scipy.stats.norm(mean, std).cdf([max(-6.0, u[0]), min(6.0, u[-1])])).item()
    np.testing.assert_allclose(mass, expected, atol=2e-3)
    assert expected > 0.97


def test_squashed_log_prob_by_hand():
    # At the middle of a Box of half width 2.5 with mean 0: N(0; 0, σ²)/2.5.
    dist = squashed([0.0, 0.0], [0.5, 2.0])
    expected = scipy.stats.norm(0, [0.5, 2.0]).logpdf(0).sum() - 2 * np.log(2.5)
    np.testing.assert_allclose(dist.log_prob(jnp.array([0.5, 0.5])), expected, rtol=1e-5)


def test_squashed_is_finite_far_into_saturation():
    @jax.jit
    @jax.value_and_grad
    def log_prob(mean):
        return squashed(mean, [1.0]).sample_and_log_prob(jax.random.key(0))[1]

    for mean in (-60.0, 60.0):
        x = float(draw(squashed([mean], [1.0]), jax.random.key(0))[0, 0])
        assert -2.0 <= x <= 3.0
        # The slope's logarithm is 2 log 2 − 2|u| + log 2.5 in the tail: the density is huge there, not infinite.
        value, grad = log_prob(jnp.array([mean]))
        assert 100 < float(value) < 200
        np.testing.assert_allclose(grad, [2.0 * np.sign(mean)], rtol=1e-5)
    edges = np.array([[3.0], [-2.0]], np.float32)
    assert np.all(np.isfinite(log_prob_of(squashed([0.0], [1.0]), edges)))


def test_squashed_draws_stay_inside_a_box_per_coordinate_and_have_the_right_median():
    low, high = jnp.array([-2.0, 0.1, -1.0]), jnp.array([2.0, 0.3, 7.0])
    mean = jnp.array([0.5, -1.0, 3.0])
    dist = SquashedNormal(mean, jnp.full(3, 2.0), low, high)
    x = np.asarray(draw(dist, jax.random.key(0)))
    assert np.all((x >= np.asarray(low)) & (x <= np.asarray(high)))
    below = np.mean(x <= np.asarray(dist.mode()), axis=0)
    np.testing.assert_allclose(below, 0.5, atol=5 * 0.5 / np.sqrt(DRAWS))
    assert not hasattr(dist, "entropy")


@pytest.mark.parametrize("make", [Normal, squashed])
def test_kl_is_nonnegative_zero_on_itself_and_the_mean_log_ratio(make):
    p, q = make(*map(jnp.asarray, normals(0))), make(*map(jnp.asarray, normals(1)))
    kl = np.asarray(p.kl(q))
    assert np.all(kl > 0)
    np.testing.assert_allclose(p.kl(p), np.zeros(4), atol=1e-6)
    x = draw(p, jax.random.key(5))
    ratio = np.asarray(log_prob_of(p, x), np.float64) - np.asarray(log_prob_of(q, x), np.float64)
    error = 5 * ratio.std(0) / np.sqrt(DRAWS)
    assert np.all(np.abs(ratio.mean(0) - kl) < error + 1e-2)


def test_categorical_kl_agrees_with_scipy():
    a, b = normals(0)[0], normals(1)[0]
    kl = Categorical(jnp.asarray(a)).kl(Categorical(jnp.asarray(b)))
    p, q = scipy.special.softmax(a, -1), scipy.special.softmax(b, -1)
    np.testing.assert_allclose(kl, scipy.stats.entropy(p, q, axis=-1), rtol=1e-4)
    np.testing.assert_allclose(
        Categorical(jnp.asarray(a)).kl(Categorical(jnp.asarray(a + 7.0))), np.zeros(4), atol=1e-6
    )


def test_policy_gradient_raises_the_probability_of_a_praised_action():
    logits = jnp.zeros(3)
    grad = jax.grad(lambda z: Categorical(z).log_prob(jnp.int32(1)))(logits)
    np.testing.assert_allclose(grad, [-1 / 3, 2 / 3, -1 / 3], rtol=1e-6)


@pytest.mark.parametrize("logits", [[0.0, -200.0], [0.0, 0.0], [-200.0, 0.0]])
def test_divergence_from_a_mask_is_infinite_however_improbable_the_action(logits):
    masked = Categorical(jnp.array([0.0, -jnp.inf]))
    assert float(Categorical(jnp.array(logits)).kl(masked)) == np.inf
    assert float(masked.kl(masked)) == 0.0
    assert np.isfinite(jax.grad(lambda x: masked.kl(Categorical(x)))(jnp.array(logits))).all()


def joint(dist, nvec):
    """Every combination of several choices, i32[prod(nvec), N], and its log-probability by hand."""
    combinations = np.stack(np.meshgrid(*map(np.arange, nvec), indexing="ij"), -1).reshape(-1, len(nvec))
    rows = [
        scipy.special.log_softmax(np.asarray(row[:n], np.float64)) for row, n in zip(dist.logits, nvec, strict=True)
    ]
    return combinations, sum(row[combinations[:, i]] for i, row in enumerate(rows))


def test_several_choices_against_their_joint_distribution():
    nvec, rng = (2, 3, 4), np.random.default_rng(0)
    flat = [jnp.asarray(rng.normal(size=9), jnp.float32) for _ in range(2)]
    dist, other = (MultiCategorical.of(logits, nvec) for logits in flat)
    assert dist.logits.shape == (3, 4)
    combinations, log_prob = joint(dist, nvec)
    of_other = joint(other, nvec)[1]
    np.testing.assert_allclose(jax.vmap(dist.log_prob)(jnp.asarray(combinations)), log_prob, rtol=1e-5)
    np.testing.assert_allclose(dist.entropy(), -(np.exp(log_prob) * log_prob).sum(), rtol=1e-5)
    np.testing.assert_allclose(dist.kl(other), (np.exp(log_prob) * (log_prob - of_other)).sum(), rtol=1e-4)
    np.testing.assert_array_equal(dist.mode(), combinations[log_prob.argmax()])
    many, drawn_log_prob = jax.jit(jax.vmap(dist.sample_and_log_prob))(jax.random.split(jax.random.key(0), 20_000))
    number = np.ravel_multi_index(np.asarray(many).T, nvec)
    assert scipy.stats.chisquare(np.bincount(number, minlength=24), 20_000 * np.exp(log_prob)).pvalue > 1e-3
    np.testing.assert_allclose(drawn_log_prob, log_prob[number], rtol=1e-4)


def test_masks_of_several_choices():
    mask = jnp.array([False, True, False, False, False, True, False, True, True])  # the second choice has none left
    dist = MultiCategorical.of(jnp.zeros(9), (2, 3, 4), mask)
    np.testing.assert_allclose(jnp.exp(dist.logits), [[0, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1]])
    gradient = jax.grad(lambda x: MultiCategorical.of(x, (2, 3, 4), mask).entropy())(jnp.arange(9.0))
    assert np.isfinite(gradient).all()
