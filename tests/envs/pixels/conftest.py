"""One recorder for both games."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import registry


@functools.lru_cache(maxsize=8)
def _program(env, policy, games, steps, prepare):
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
    def run(params, key):
        start_key, loop_key = jax.random.split(key)
        _, first = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(start_key, games), params)
        first = prepare(first)

        def step(state, key):
            act, move = jax.random.split(key)
            action = jax.vmap(policy)(jax.random.split(act, games), state)
            out = jax.vmap(env.step, in_axes=(0, 0, 0, None))(jax.random.split(move, games), state, action, params)
            return out.state, (out.state, out.reward, out.terminated)

        _, (states, reward, terminated) = jax.lax.scan(step, first, jax.random.split(loop_key, steps))
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, states), reward, terminated

    return run


def _same(state):
    return state


def _record(env, policy, games, steps, seed=11, prepare=_same, **params):
    """Plays `games` side by side with `policy(key, state) -> action`, from `prepare(states)`, going on after their end.

    Returns params, the states before each step and after the last, [steps + 1, games, ...], rewards and terminations.
    """
    params = registry.as_arrays(env.default_params()._replace(**params))
    return params, *jax.tree.map(np.asarray, _program(env, policy, games, steps, prepare)(params, jax.random.key(seed)))


@pytest.fixture(scope="session")
def record():
    return _record
