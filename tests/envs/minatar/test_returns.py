"""Whole episodes of a fixed random policy: returns and lengths of ours and of the original are equally distributed."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs

with warnings.catch_warnings():  # its plotting libraries may warn on import
    warnings.simplefilter("ignore")
    Environment = pytest.importorskip("minatar").Environment

UNIFORM = (1 / 6,) * 6
UPWARD = (0.1, 0.0, 0.8, 0.0, 0.1, 0.0)  # a random chicken hardly ever arrives


@functools.partial(jax.jit, static_argnums=(0, 1, 4))
def play(name, episodes, key, policy, most_steps):
    """Plays each of our lanes until its first episode ends; returns (return, length, ended), each [episodes]."""
    env, params = envs.make(name)
    key, key_reset = jax.random.split(key)
    _, state = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key_reset, episodes), params)
    below = jnp.cumsum(policy)

    def going(carry):
        t, _, _, _, ended = carry
        return (t < most_steps) & ~ended.all()

    def body(carry):
        t, state, total, length, ended = carry
        key_action, key_step = jax.random.split(jax.random.fold_in(key, t))
        action = jnp.searchsorted(below[:-1], jax.random.uniform(key_action, (episodes,))).astype(jnp.int32)
        keys = jax.random.split(key_step, episodes)
        out = jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, state, action, params)
        total = jnp.where(ended, total, total + out.reward)
        return t + 1, out.state, total, jnp.where(ended, length, length + 1), ended | out.terminated

    zero = jnp.zeros(episodes)
    start = jnp.int32(0), state, zero, zero, jnp.zeros(episodes, bool)
    return jax.lax.while_loop(going, body, start)[2:]


def play_original(game, episodes, policy):
    """Plays whole episodes of the original; returns (return, length), each [episodes]."""
    env = Environment(game)
    env.seed(5)
    rng = np.random.default_rng(6)
    totals, lengths = np.zeros(episodes), np.zeros(episodes)
    for i in range(episodes):
        env.reset()
        terminal = False
        while not terminal:
            actions = rng.choice(6, 64, p=policy).tolist()
            for action in actions:
                reward, terminal = env.act(action)
                totals[i] += reward
                lengths[i] += 1
                if terminal:
                    break
    return totals, lengths


@pytest.mark.parametrize(
    ("name", "game", "policy", "theirs", "published"),
    [
        ("Asterix-MinAtar", "asterix", UNIFORM, 600, 0.50),
        ("Breakout-MinAtar", "breakout", UNIFORM, 2000, 0.50),
        ("Freeway-MinAtar", "freeway", UNIFORM, 30, 0.17),
        ("Freeway-MinAtar", "freeway", UPWARD, 30, None),
        ("Seaquest-MinAtar", "seaquest", UNIFORM, 1000, 0.10),
        ("SpaceInvaders-MinAtar", "space_invaders", UNIFORM, 300, 2.9),
    ],
    ids=["Asterix", "Breakout", "Freeway", "Freeway-upward", "Seaquest", "SpaceInvaders"],
)
def test_returns_and_lengths(name, game, policy, theirs, published):
    """Kolmogorov-Smirnov on both, and the means within three standard errors of each other and of the published."""
    episodes = {"freeway": 256, "seaquest": 2048}.get(game, 4096)
    total, length, ended = jax.device_get(play(name, episodes, jax.random.key(3), jnp.array(policy), 5000))
    assert ended.all()
    total_original, length_original = play_original(game, theirs, policy)
    assert stats.ks_2samp(total, total_original).pvalue > 0.01
    assert stats.ks_2samp(length, length_original).pvalue > 0.01
    error = np.hypot(stats.sem(total), stats.sem(total_original))
    assert abs(total.mean() - total_original.mean()) < 3 * error, (total.mean(), total_original.mean(), error)
    if published is not None:  # rounded to two digits, from a few thousand episodes
        assert abs(total.mean() - published) < 3 * stats.sem(total) + 0.1 * published, total.mean()
