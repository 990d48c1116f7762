"""Returns of the uniformly random agent: their exact means, and the original package's distribution of them."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs

with warnings.catch_warnings():  # what it imports may warn
    warnings.simplefilter("ignore")
    pytest.importorskip("bsuite")
    from bsuite.environments import cartpole, catch, deep_sea, memory_chain, umbrella_chain
    from bsuite.experiments.cartpole_swingup import cartpole_swingup


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def play(env, params, episodes, most_steps):
    """Whole episodes of random actions: (return, length, ended), each [episodes]."""
    key_reset, key_action, key_step = jax.random.split(jax.random.key(4), 3)
    _, state = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key_reset, episodes), params)
    n = env.action_space.n

    def body(carry, t):
        state, total, length, ended = carry
        action = jax.random.bits(jax.random.fold_in(key_action, t), (episodes,)) % n
        keys = jax.random.split(jax.random.fold_in(key_step, t), episodes)
        out = jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, state, action.astype(jnp.int32), params)
        total = jnp.where(ended, total, total + out.reward)
        return (out.state, total, jnp.where(ended, length, t + 1), ended | out.terminated), None

    zero = jnp.zeros(episodes)
    start = state, zero, zero.astype(jnp.int32), zero.astype(bool)
    return jax.lax.scan(body, start, jnp.arange(most_steps))[0][1:]


def play_original(env, episodes):
    """Whole episodes of random actions: (return, length), each [episodes]."""
    rng = np.random.default_rng(5)
    totals, lengths = np.zeros(episodes), np.zeros(episodes)
    for i in range(episodes):
        timestep = env.reset()
        while not timestep.last():
            timestep = env.step(int(rng.integers(env.action_spec().num_values)))
            totals[i] += timestep.reward
            lengths[i] += 1
    return totals, lengths


def assert_same_distribution(ours, theirs):
    """Kolmogorov-Smirnov; rounded, so that equal sums in float32 and float64 are ties."""
    assert stats.ks_2samp(ours.astype(float).round(5), theirs.round(5)).pvalue > 0.01


def catch_mean():
    """2 P(caught) − 1, from the paddle's random walk."""
    paddle = np.eye(5)[2]
    walk = np.array([[(abs(i - j) <= 1) / 3 + (i == j and i in (0, 4)) / 3 for j in range(5)] for i in range(5)])
    return 2 * (np.linalg.matrix_power(walk.T, 9) @ paddle).mean() - 1


@pytest.mark.parametrize(
    ("name", "options", "steps", "mean", "original"),
    [
        ("Catch-bsuite", {}, 9, catch_mean(), lambda: catch.Catch(seed=0)),
        ("DeepSea-bsuite", {"size": 4}, 4, 2**-4 - 0.005, lambda: deep_sea.DeepSea(4, mapping_seed=42)),
        (
            "DeepSeaStochastic-bsuite",
            {"size": 3},
            3,
            2**-3 * (2 / 3) ** 2 - 0.005,
            lambda: deep_sea.DeepSea(3, deterministic=False, mapping_seed=42, seed=0),
        ),
        ("MemoryChain-bsuite", {"num_bits": 3}, 6, 0, lambda: memory_chain.MemoryChain(5, 3, seed=0)),
        ("UmbrellaChain-bsuite", {}, 10, 0, lambda: umbrella_chain.UmbrellaChain(10, seed=0)),
        ("DiscountingChain-bsuite", {}, 100, 1.02, None),
        ("SimpleBandit-bsuite", {}, 1, 0.5, None),
        ("CartPole-bsuite", {}, 400, None, lambda: cartpole.Cartpole(seed=0)),
    ],
)
def test_random_returns(name, options, steps, mean, original):
    env, params = envs.make(name, **options)
    total, length, ended = map(np.asarray, play(env, params, 4096, steps))
    assert ended.all()
    if mean is not None:
        assert (length == steps).all()
        assert abs(total.mean() - mean) < 4 * stats.sem(total), (total.mean(), mean)
    if original is not None:
        theirs, lengths = play_original(original(), 300)
        assert_same_distribution(total, theirs)
        assert_same_distribution(length, lengths)


def test_swing_up_returns():
    env, params = envs.make("CartPoleSwingUp-bsuite")
    total, length, ended = map(np.asarray, play(env, params, 512, 1001))
    theirs, lengths = play_original(cartpole_swingup.CartpoleSwingup(seed=0), 40)
    assert ended.all()
    assert length.max() <= 1001
    assert_same_distribution(total, theirs)
    assert_same_distribution(length, lengths)


def test_best_returns():
    """What the suite calls optimal: 0.99 in the deep sea by going right, 1 for memory, 1.1 for patience."""
    env, params = envs.make("DeepSea-bsuite", size=20)
    right = jnp.asarray(params.right_action)
    assert follow(env, params, lambda s: right[s.row, s.column], 20) == pytest.approx(0.99, abs=1e-6)
    env, params = envs.make("MemoryChain-bsuite", memory_length=8, num_bits=4)
    assert follow(env, params, lambda s: s.context[s.query].astype(jnp.int32), 9) == 1
    env, params = envs.make("DiscountingChain-bsuite", mapping_seed=4)
    assert follow(env, params, lambda s: jnp.int32(4), 100) == np.float32(1.1)


def follow(env, params, policy, steps):
    """The return of one episode."""

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(params, state):
        def body(state, _):
            out = env.step(jax.random.key(0), state, policy(state), params)
            return out.state, (out.reward, out.terminated)

        return jax.lax.scan(body, state, length=steps)[1]

    params = jax.tree.map(jnp.asarray, params)
    reward, terminated = run(params, env.reset(jax.random.key(3), params)[1])
    assert terminated[-1]
    assert not terminated[:-1].any()
    return float(reward.sum())
