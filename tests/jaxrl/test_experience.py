import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import probes
from envs.errors import InputError
from envs.spaces import Box
from jaxrl import experience
from jaxrl.types import Policy

SIZES = {"num_envs": 3, "rollout_length": 2, "warmup_steps": 10, "capacity": 100, "batch_size": 4, "draws": 5}


def stored(source, gathered):
    """Every distinct row of the replay, as a Transition of NumPy arrays, in no particular order."""
    rows = jax.vmap(lambda key: source.sample(gathered, key))(jax.random.split(jax.random.key(0), 400))
    flat = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[3:]), rows)
    table = np.concatenate([x.reshape(len(x), -1).astype(np.float64) for x in jax.tree.leaves(flat)], axis=1)
    _, first = np.unique(table, axis=0, return_index=True)
    return jax.tree.map(lambda x: x[first], flat)


def test_actions_are_scaled_for_the_environment_and_kept_in_the_unit_box():
    """Pendulum's torque is ±2: a policy that says ¾ moves it with 1.5, and the replay remembers ¾."""
    env, params = envs.make("Pendulum-v1")
    source = experience.make(env, **SIZES)
    assert source.warmup_steps == 12
    start = jax.jit(source.init)(jax.random.key(0), params, 0.99)
    before = stored(source, start)
    assert len(before.reward) == 12 == int(start.replay.filled) == int(start.env_steps)
    assert np.all(np.abs(before.action) <= 1)
    assert before.action.std() > 0.3

    policy = Policy(lambda key, obs, memory: (jnp.full((len(obs), 1), 0.75), memory, ()))
    after, _ = jax.jit(lambda e: source.collect(e, params, 0.99, policy, jax.random.key(1)))(start)
    assert int(after.env_steps) == 18
    new = stored(source, after)
    told = new.action[:, 0] == 0.75
    assert told.sum() == 6
    # The reward's share of the torque tells what reached the environment.
    angle = np.arctan2(new.obs[:, 1], new.obs[:, 0])
    torque = np.where(told, 1.5, 2 * new.action[:, 0])
    np.testing.assert_allclose(
        new.reward, -(angle**2 + 0.1 * new.obs[:, 2] ** 2 + 0.001 * torque**2), rtol=1e-4, atol=1e-5
    )
    action, _, unit = source.in_env(after, policy).act(jax.random.key(0), jnp.zeros((2, 3)), ())
    np.testing.assert_array_equal(action, [[1.5], [1.5]])
    np.testing.assert_array_equal(unit, [[0.75], [0.75]])


def test_observations_are_stored_raw_and_normalised_when_drawn():
    env, params = envs.make("Pendulum-v1")
    sizes = SIZES | {"num_envs": 20, "warmup_steps": 400, "capacity": 1_000}
    source, raw = (experience.make(env, **sizes, normalize_obs=on) for on in (True, False))
    gathered = jax.jit(source.init)(jax.random.key(0), params, 0.99)
    rows = stored(raw, gathered._replace(obs_moments=()))
    drawn = stored(source, gathered)
    assert np.abs(rows.obs[:, 2]).max() > 3  # speeds up to 8
    moments = gathered.obs_moments
    np.testing.assert_allclose(moments.count, 400)
    np.testing.assert_allclose(drawn.obs.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(drawn.obs.std(0), 1, atol=1e-3)
    # Successors go through the same map, and so does what the policy sees.
    scale = np.sqrt(np.asarray(moments.m2) / 400)
    np.testing.assert_allclose(
        np.sort(drawn.next_obs[:, 2] * scale[2] + moments.mean[2]), np.sort(rows.next_obs[:, 2]), atol=1e-3
    )
    seen = source.in_env(gathered, Policy(lambda key, obs, memory: (obs[:, :1], memory, ()))).act
    _, _, unit = seen(jax.random.key(0), jnp.asarray(rows.obs[:2]), ())
    np.testing.assert_allclose(unit[:, 0], (rows.obs[:2, 0] - moments.mean[0]) / scale[0], rtol=1e-3, atol=1e-4)


def test_memory_of_the_exploring_policy_is_carried_and_reset_with_episodes():
    """A policy that counts its steps in its memory: the probe's episodes end after three."""
    env = probes.TimeLimit(continuous=True)
    source = experience.make(env, **SIZES | {"warmup_steps": 3, "rollout_length": 1})
    counting = Policy(lambda key, obs, memory: (jnp.zeros((3, 1)), memory + 1, ()), jnp.zeros(()))
    gathered = source.init(jax.random.key(0), env.default_params(), 0.99, counting.memory)
    collect = jax.jit(lambda e: source.collect(e, env.default_params(), 0.99, counting, jax.random.key(1))[0])
    seen = []
    for _ in range(5):
        gathered = collect(gathered)
        seen.append(gathered.memory.tolist())
    assert seen == [[1.0] * 3, [0.0] * 3, [1.0] * 3, [2.0] * 3, [0.0] * 3]  # warm-up took the first step


def test_n_step_transitions():
    """The probe pays at the third step and is cut there: from its first state two steps bring γ·0, three γ²."""
    env = probes.TimeLimit(continuous=True)
    source = experience.make(env, **SIZES | {"num_envs": 1, "warmup_steps": 12}, n_step=3)
    assert source.warmup_steps == 14
    gathered = jax.jit(source.init)(jax.random.key(0), env.default_params(), 0.5)
    assert int(gathered.replay.filled) == 12
    rows = stored(source, gathered)
    start = rows.obs.argmax(-1)
    np.testing.assert_allclose(rows.reward, np.array([0.25, 0.5, 1.0])[start])
    np.testing.assert_allclose(rows.extras.discount, np.array([0.125, 0.25, 0.5])[start])
    np.testing.assert_array_equal(rows.next_obs.argmax(-1), 1)  # the true successor of the cut
    assert np.all(rows.truncated)
    assert np.all(np.abs(rows.action) <= 1)


def test_discrete_actions_are_left_as_they_are():
    env, params = envs.make("CartPole-v1")
    source = experience.make(env, **SIZES)
    rows = stored(source, jax.jit(source.init)(jax.random.key(0), params, 0.99))
    assert rows.action.dtype == np.int32
    assert set(rows.action.tolist()) == {0, 1}


def test_bad_input():
    env, _ = envs.make("Pendulum-v1")
    with pytest.raises(InputError, match=r"warmup_steps=200 .* replay_capacity=100"):
        experience.make(env, **SIZES | {"warmup_steps": 200})
    tabular, _ = envs.make("GridWorld-4x4")
    assert not isinstance(tabular.observation_space, Box)
    with pytest.raises(InputError, match="normalize_obs needs Box observations"):
        experience.make(tabular, **SIZES, normalize_obs=True)
