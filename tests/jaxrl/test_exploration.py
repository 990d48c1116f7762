import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from envs.errors import InputError
from jaxrl import exploration

DRAWS = 60_000


greedy = jax.jit(exploration.epsilon_greedy, static_argnames="random_ties")


def frequencies(actions, num):
    return np.bincount(np.asarray(actions), minlength=num)


@pytest.mark.parametrize("random_ties", [False, True])
def test_epsilon_greedy_frequencies(random_ties):
    q = jnp.broadcast_to(jnp.array([0.0, 2.0, 1.0, -1.0]), (DRAWS, 4))
    actions = greedy(jax.random.key(0), q, 0.2, random_ties)
    assert actions.dtype == jnp.int32
    counts = frequencies(actions, 4)
    assert scipy.stats.chisquare(counts, DRAWS * np.array([0.05, 0.85, 0.05, 0.05])).pvalue > 1e-3


def test_epsilon_zero_is_greedy_and_one_is_uniform():
    q = jnp.broadcast_to(jnp.array([0.0, 2.0, 1.0]), (DRAWS, 3))
    assert np.all(np.asarray(greedy(jax.random.key(0), q, 0.0)) == 1)
    counts = frequencies(greedy(jax.random.key(0), q, 1.0), 3)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_exploration_is_independent_between_rows_and_of_where_it_leads():
    q = jnp.broadcast_to(jnp.array([1.0, 0.0]), (DRAWS, 2, 2))
    actions = np.asarray(greedy(jax.random.key(1), q, 0.5))  # 1 with probability 1/4
    assert abs(np.corrcoef(actions.T)[0, 1]) < 5 / np.sqrt(DRAWS)


def test_ties_go_to_the_first_or_are_broken_evenly():
    q = jnp.broadcast_to(jnp.array([1.0, 3.0, 3.0, 0.0, 3.0]), (DRAWS, 5))
    assert np.all(np.asarray(greedy(jax.random.key(0), q, 0.0)) == 1)
    counts = frequencies(greedy(jax.random.key(0), q, 0.0, random_ties=True), 5)
    assert counts[0] == counts[3] == 0
    assert scipy.stats.chisquare(counts[[1, 2, 4]]).pvalue > 1e-3


def test_epsilon_per_row_and_traced_and_unbatched():
    q = jnp.broadcast_to(jnp.array([0.0, 1.0]), (DRAWS, 2))
    epsilon = (np.arange(DRAWS) >= DRAWS // 2).astype(np.float32)
    actions = np.asarray(greedy(jax.random.key(0), q, epsilon))
    assert np.all(actions[: DRAWS // 2] == 1)
    assert abs(float(actions[DRAWS // 2 :].mean()) - 0.5) < 5 * 0.5 / np.sqrt(DRAWS // 2)
    assert greedy(jax.random.key(0), q[0], 0.1).shape == ()


def test_softmax_frequencies_follow_the_temperature():
    q = jnp.array([0.0, 1.0, 2.0])
    for temperature in (0.5, 2.0):
        actions = jax.jit(exploration.softmax)(jax.random.key(0), jnp.broadcast_to(q, (DRAWS, 3)), temperature)
        expected = np.exp(np.asarray(q, np.float64) / temperature)
        assert scipy.stats.chisquare(frequencies(actions, 3), DRAWS * expected / expected.sum()).pvalue > 1e-3


def test_gaussian_noise_spreads_and_clips():
    action = jnp.full((DRAWS, 2), 0.5)
    free = np.asarray(exploration.gaussian_noise(jax.random.key(0), action, jnp.array([0.1, 0.3]), -9.0, 9.0))
    np.testing.assert_allclose(free.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(free.std(0), [0.1, 0.3], rtol=0.02)
    clipped = exploration.gaussian_noise(jax.random.key(0), action, 1.0, jnp.array([-1.0, 0.0]), 1.0)
    assert np.asarray(clipped).min(0).tolist() == [-1.0, 0.0]
    assert np.asarray(clipped).max(0).tolist() == [1.0, 1.0]
    np.testing.assert_array_equal(exploration.gaussian_noise(jax.random.key(0), action, 0.0, -1.0, 1.0), action)


def test_ornstein_uhlenbeck_reverts_and_has_its_stationary_spread_and_memory():
    theta, sigma, dt = 0.5, 0.3, 0.1
    quiet = exploration.ou_step(jax.random.key(0), jnp.array([2.0]), theta, 0.0, dt)
    np.testing.assert_allclose(quiet, [2.0 - 0.5 * 2.0 * 0.1])

    def step(state, key):
        state = exploration.ou_step(key, state, theta, sigma, dt)
        return state, state

    start = exploration.ou_init((4000,))
    np.testing.assert_array_equal(start, np.zeros(4000))
    _, path = jax.lax.scan(step, start, jax.random.split(jax.random.key(1), 200))
    # An AR(1) of coefficient 1 − θ dt: its stationary variance and lag-1 correlation in closed form.
    rho = 1 - theta * dt
    np.testing.assert_allclose(path[-1].std(), sigma * np.sqrt(dt / (1 - rho**2)), rtol=0.06)
    np.testing.assert_allclose(np.corrcoef(path[-2], path[-1])[0, 1], rho, atol=0.02)


def test_linear_schedule():
    """From 1 to 0.2 over the whole run, over a quarter of it, and at once; and upwards."""
    progress = jnp.array([0.0, 0.125, 0.25, 0.5, 1.0])
    np.testing.assert_allclose(exploration.anneal(1.0, 0.2, progress), [1.0, 0.9, 0.8, 0.6, 0.2], rtol=1e-6)
    np.testing.assert_allclose(exploration.anneal(1.0, 0.2, progress, 0.25), [1.0, 0.6, 0.2, 0.2, 0.2], rtol=1e-6)
    np.testing.assert_allclose(exploration.anneal(0.4, 1.0, progress, 0.5), [0.4, 0.55, 0.7, 1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(exploration.anneal(1.0, 0.2, progress, 0.0), [0.2] * 5, rtol=1e-6)
    hp = exploration.EpsilonGreedy(epsilon_start=1.0, epsilon_end=0.2, epsilon_fraction=0.25)
    np.testing.assert_allclose(exploration.epsilon(hp, progress), [1.0, 0.6, 0.2, 0.2, 0.2], rtol=1e-6)


def test_a_schedule_needs_the_length_of_the_run():
    with pytest.raises(InputError, match=r"hp\.total_steps is None"):
        exploration.anneal(1.0, 0.2, None)


def test_exponential_schedule():
    values = exploration.exponential(1.0, 0.01, 0.995, jnp.array([0, 1, 100, 5000]))
    np.testing.assert_allclose(values, [1.0, 0.995, 0.995**100, 0.01], rtol=1e-5)
    np.testing.assert_allclose(exploration.exponential(0.4, 1.0, 2.0, jnp.array([0, 1, 2])), [0.4, 0.8, 1.0], rtol=1e-6)


def test_schedules_can_be_swept_by_vmap():
    ends, fractions = jnp.array([0.1, 0.5]), jnp.array([0.25, 1.0])
    swept = jax.jit(jax.vmap(exploration.anneal, in_axes=(None, 0, None, 0)))(1.0, ends, jnp.float32(0.5), fractions)
    np.testing.assert_allclose(swept, [0.1, 0.75], rtol=1e-6)


def test_only_what_is_allowed_is_taken():
    allowed = jnp.tile(jnp.array([[True, False, True, True], [False, False, True, False]]), (DRAWS // 2, 1))
    q = jnp.broadcast_to(jnp.array([0.0, 9.0, 2.0, 2.0]), (DRAWS, 4))
    masked = jax.jit(exploration.epsilon_greedy, static_argnames="random_ties")
    actions = np.asarray(masked(jax.random.key(0), q, 0.3, allowed=allowed))
    counts = frequencies(actions[::2], 4)
    assert counts[1] == 0
    assert scipy.stats.chisquare(counts[[0, 2, 3]], DRAWS / 2 * np.array([0.1, 0.8, 0.1])).pvalue > 1e-3
    assert np.all(actions[1::2] == 2)
    ties = frequencies(np.asarray(masked(jax.random.key(1), q, 0.0, random_ties=True, allowed=allowed))[::2], 4)
    assert ties[0] == ties[1] == 0
    assert scipy.stats.chisquare(ties[2:]).pvalue > 1e-3
    anywhere = np.asarray(exploration.uniform(jax.random.key(2), (DRAWS,), 4, allowed))
    assert scipy.stats.chisquare(frequencies(anywhere[::2], 4)[[0, 2, 3]]).pvalue > 1e-3
    assert np.all(anywhere[1::2] == 2)
