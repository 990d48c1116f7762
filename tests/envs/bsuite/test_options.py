"""Parameters, static fields and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.errors import InputError

NAMES = [name for name in envs.names() if name.endswith("-bsuite")]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_may_be_constants_of_the_program(name):
    """NumPy arrays that a traced state indexes."""
    env, params = envs.make(name)
    obs, state = jax.eval_shape(lambda key: env.reset(key, params), jax.random.key(0))
    out = jax.eval_shape(lambda key, s: env.step(key, s, jnp.int32(0), params), jax.random.key(0), state)
    assert out.obs.shape == obs.shape


def test_memory_lengths_differ_between_lanes():
    """One program for all lengths: each lane is asked, and ends, after its own number of steps."""
    env, _ = envs.make("MemoryChain-bsuite")
    lengths = jnp.array([1, 3, 6])

    @jax.jit
    @jax.vmap
    def run(length):
        params = env.default_params()._replace(memory_length=length)

        def body(state, _):
            out = env.step(jax.random.key(0), state, state.context[0].astype(jnp.int32), params)
            return out.state, (out.reward, out.terminated)

        return jax.lax.scan(body, env.reset(jax.random.key(1), params)[1], length=8)[1]

    reward, terminated = run(lengths)
    np.testing.assert_array_equal(np.argmax(terminated, 1), lengths)
    np.testing.assert_array_equal(reward, np.arange(8) == np.asarray(lengths)[:, None])


def test_maps_of_actions_differ_between_lanes():
    env, params = envs.make("DeepSea-bsuite", size=3, mapping_seed=None)
    assert (params.right_action == 1).all()
    params = params._replace(right_action=jnp.stack([params.right_action, 1 - params.right_action]))
    _, state = env.reset(jax.random.key(0), params)
    out = jax.vmap(env.step, in_axes=(None, None, None, type(params)(0, None)))(jax.random.key(0), state, 1, params)
    np.testing.assert_array_equal(out.state.column, [1, 0])
    np.testing.assert_array_equal(out.info["bad_episode"], [False, True])


def test_noise_and_scale_are_parameters():
    env, params = envs.make("SimpleBanditScale-bsuite", reward_scale=30.0, mapping_seed=5)
    _, state = env.reset(jax.random.key(0), params)
    best = int(np.argmax(params.reward))
    assert env.step(jax.random.key(0), state, best, params).reward == 30
    env, params = envs.make("MountainCarNoise-bsuite", reward_noise=0.0)
    _, state = env.reset(jax.random.key(0), params)
    assert env.step(jax.random.key(0), state, 0, params).reward == -1


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Catch-bsuite", {"rows": 1}, "rows=1"),
        ("DeepSea-bsuite", {"size": 1}, "size=1"),
        ("MemoryChain-bsuite", {"num_bits": 0}, "num_bits=0"),
        ("UmbrellaChain-bsuite", {"n_distractor": -1}, "n_distractor=-1"),
        ("SimpleBandit-bsuite", {"num_actions": 1}, "num_actions=1"),
        ("MountainCar-bsuite", {"max_steps": None}, "time limit"),
    ],
)
def test_impossible_options(name, options, words):
    with pytest.raises(InputError, match=words):
        envs.make(name, **options)
