"""Returns with known values: the exact means of the random agent, and the best that the suite's scores count on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.partial(jit, static_argnums=(0, 2, 3))
def play(env, params, episodes, steps):
    """Whole episodes of random actions: (return, steps until the end), each [episodes]."""
    keys = jax.random.split(jax.random.key(4), (steps + 1, episodes))
    _, state = jax.vmap(env.reset, in_axes=(0, None))(keys[0], params)
    action = jax.random.bits(jax.random.key(5), (steps, episodes)) % env.action_space.n

    def body(state, x):
        keys, action = x
        out = jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, state, action, params)
        return out.state, (out.reward, out.terminated)

    reward, terminated = jax.lax.scan(body, state, (keys[1:], action.astype(jnp.int32)))[1]
    return reward.sum(0), jnp.argmax(terminated, 0) + 1


def catch_mean():
    """2 P(caught) − 1, from the paddle's random walk."""
    paddle = np.eye(5)[2]
    walk = np.array([[(abs(i - j) <= 1) / 3 + (i == j and i in (0, 4)) / 3 for j in range(5)] for i in range(5)])
    return 2 * (np.linalg.matrix_power(walk.T, 9) @ paddle).mean() - 1


@pytest.mark.parametrize(
    ("name", "options", "steps", "mean"),
    [
        ("Catch-bsuite", {}, 9, catch_mean()),
        ("DeepSea-bsuite", {"size": 4}, 4, 2**-4 - 0.005),
        ("DeepSeaStochastic-bsuite", {"size": 3}, 3, 2**-3 * (2 / 3) ** 2 - 0.005),
        ("MemoryChain-bsuite", {"num_bits": 3}, 6, 0),
        ("UmbrellaChain-bsuite", {}, 10, 0),
        ("DiscountingChain-bsuite", {}, 100, 1.02),
        ("SimpleBandit-bsuite", {}, 1, 0.5),
    ],
)
def test_random_returns(name, options, steps, mean):
    env, params = envs.make(name, **options)
    total, length = map(np.asarray, play(env, params, 4096, steps))
    assert (length == steps).all()
    assert abs(total.mean() - mean) < 4 * stats.sem(total), (total.mean(), mean)


def test_catch_mean_is_the_suites():
    """Its analysis takes 1.6 below the best return of 1."""
    assert catch_mean() == pytest.approx(-0.6)


def test_best_returns():
    """0.99 in the deep sea by going right, 1 for memory, 1.1 for patience."""
    env, params = envs.make("DeepSea-bsuite", size=20)
    right = jnp.asarray(params.right_action)
    assert follow(env, params, lambda s: right[s.row, s.column], 20) == pytest.approx(0.99, abs=1e-6)
    env, params = envs.make("MemoryChain-bsuite", memory_length=8, num_bits=4)
    assert follow(env, params, lambda s: s.context[s.query].astype(jnp.int32), 9) == 1
    env, params = envs.make("DiscountingChain-bsuite", mapping_seed=4)
    assert follow(env, params, lambda s: jnp.int32(4), 100) == np.float32(1.1)


def follow(env, params, policy, steps):
    """The return of one episode."""

    @jit
    def run(params, state):
        def body(state, _):
            out = env.step(jax.random.key(0), state, policy(state), params)
            return out.state, (out.reward, out.terminated)

        return jax.lax.scan(body, state, length=steps)[1]

    reward, terminated = run(params, env.reset(jax.random.key(3), params)[1])
    assert terminated[-1]
    assert not terminated[:-1].any()
    return float(reward.sum())
