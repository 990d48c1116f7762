import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import normalize


@pytest.mark.parametrize(("offset", "spread"), [(0.0, 1.0), (1e4, 1.0), (-3.0, 1e-2)])
def test_moments_agree_with_numpy_over_batches_of_different_shapes(offset, spread):
    rng = np.random.default_rng(0)
    batches = [
        (offset + spread * rng.normal(size=(*lead, 3))).astype(np.float32) for lead in [(1,), (7,), (5, 4), (300,)]
    ]
    moments = normalize.init(np.zeros(3))
    for batch in batches:
        moments = jax.jit(normalize.update)(moments, batch)
    samples = np.concatenate([batch.reshape(-1, 3) for batch in batches]).astype(np.float64)
    assert float(moments.count) == len(samples)
    np.testing.assert_allclose(moments.mean, samples.mean(0), rtol=1e-6, atol=1e-3 * spread)
    np.testing.assert_allclose(moments.m2 / moments.count, samples.var(0), rtol=2e-3)
    expected = np.clip((samples - samples.mean(0)) / samples.std(0), -2.0, 2.0)
    np.testing.assert_allclose(normalize.normalize(moments, jnp.asarray(samples), clip=2.0), expected, atol=2e-3)


def test_many_small_updates_stay_accurate():
    rng = np.random.default_rng(1)
    samples = (50 + rng.normal(size=(20_000, 1, 2))).astype(np.float32)
    moments, _ = jax.lax.scan(lambda m, x: (normalize.update(m, x), None), normalize.init(np.zeros(2)), samples)
    np.testing.assert_allclose(moments.mean, samples.mean((0, 1), np.float64), rtol=1e-5)
    np.testing.assert_allclose(moments.m2 / moments.count, samples.var((0, 1), np.float64), rtol=1e-3)


def test_pytrees_integers_and_scalars():
    example = {"position": jax.ShapeDtypeStruct((2,), jnp.float32), "pixels": np.zeros((3, 3), np.uint8), "t": 0.0}
    rng = np.random.default_rng(2)
    batch = {
        "position": rng.normal(size=(6, 4, 2)).astype(np.float32),
        "pixels": rng.integers(256, size=(6, 4, 3, 3)).astype(np.uint8),
        "t": rng.normal(size=(6, 4)).astype(np.float32),
    }
    moments = jax.jit(normalize.update)(normalize.init(example), batch)
    out = jax.jit(normalize.normalize)(moments, batch)
    for name, x in batch.items():
        x = x.astype(np.float64)
        np.testing.assert_allclose(out[name], (x - x.mean((0, 1))) / x.std((0, 1)), atol=1e-4)
        assert out[name].dtype == jnp.float32
    assert float(moments.count) == 24


def test_before_data_and_for_constant_coordinates_nothing_is_scaled():
    moments = normalize.init(np.zeros(2))
    np.testing.assert_allclose(normalize.normalize(moments, jnp.array([0.5, -3.0])), [0.5, -3.0])
    moments = normalize.update(moments, np.array([[0.1, 1.0], [0.1, 3.0]], np.float32))
    np.testing.assert_allclose(normalize.normalize(moments, jnp.array([0.6, 4.0])), [0.5, 2.0], rtol=1e-5)


def test_values_far_out_are_clipped():
    moments = normalize.update(normalize.init(0.0), np.array([-1.0, 1.0], np.float32))
    np.testing.assert_allclose(normalize.normalize(moments, jnp.array([1e6, -1e6, 3.0])), [10.0, -10.0, 3.0])


def test_reward_scale_agrees_with_a_plain_loop_over_several_calls():
    rng = np.random.default_rng(3)
    gamma, num_envs = 0.9, 3
    scale = normalize.init_return_scale(num_envs)
    running, seen = np.zeros(num_envs), []
    for length in (5, 1, 8):
        rewards = (2.0 + rng.normal(size=(length, num_envs))).astype(np.float32)
        ended = rng.random((length, num_envs)) < 0.3
        scale, scaled = jax.jit(normalize.scale_rewards)(scale, rewards, ended, gamma)
        for t in range(length):
            for b in range(num_envs):
                running[b] = gamma * running[b] + rewards[t, b]
                seen.append(running[b])
                if ended[t, b]:
                    running[b] = 0.0
        np.testing.assert_allclose(scale.accumulator, running, rtol=1e-5)
        np.testing.assert_allclose(scaled, rewards / np.std(seen), rtol=1e-4)


def test_an_episode_end_forgets_the_return_so_far():
    rewards = jnp.ones((3, 2))
    ended = jnp.array([[False, False], [True, False], [False, False]])
    scale, _ = normalize.scale_rewards(normalize.init_return_scale(2), rewards, ended, 0.5)
    np.testing.assert_allclose(scale.accumulator, [1.0, 1.75])


def test_rewards_keep_their_sign_and_zero_and_do_not_blow_up_at_the_start():
    scale_rewards, running = jax.jit(normalize.scale_rewards), np.zeros((1, 1), bool)
    scale, scaled = scale_rewards(normalize.init_return_scale(1), np.ones((1, 1), np.float32), running, 0.99)
    np.testing.assert_allclose(scaled, [[1.0]])
    scale, scaled = scale_rewards(scale, np.full((1, 1), -5.0, np.float32), running, 0.99)
    assert float(scaled[0, 0]) < 0
    _, zero = scale_rewards(scale, np.zeros((1, 1), np.float32), running, 0.99)
    np.testing.assert_array_equal(zero, [[0.0]])


def test_runs_are_independent_under_vmap():
    rng = np.random.default_rng(4)
    rewards = (rng.normal(size=(2, 6, 3)) * np.array([1.0, 10.0])[:, None, None]).astype(np.float32)
    ended = rng.random((2, 6, 3)) < 0.2

    def scaled(rewards, ended):
        return normalize.scale_rewards(normalize.init_return_scale(3), rewards, ended, 0.9)[1]

    both = jax.jit(jax.vmap(scaled))(rewards, ended)
    for i in range(2):
        alone = jax.jit(scaled)(rewards[i], ended[i])
        np.testing.assert_allclose(both[i], alone, rtol=1e-5)


def test_the_first_reward_after_many_of_0_is_clipped():
    scale, running = normalize.init_return_scale(1), np.zeros((1000, 1), bool)
    for _ in range(20):
        scale, _ = normalize.scale_rewards(scale, np.zeros((1000, 1), np.float32), running, 0.99)
    rewards = np.array([[1.0], [0.0], [-1.0]], np.float32)
    np.testing.assert_allclose(normalize.scale_rewards(scale, rewards, running[:3], 0.99)[1], [[10.0], [0.0], [-10.0]])
    assert float(normalize.scale_rewards(scale, rewards, running[:3], 0.99, clip=np.inf)[1][0, 0]) > 50
    np.testing.assert_allclose(normalize.scale_rewards(scale, rewards, running[:3], 0.99, 2.0)[1][0], [2.0])
