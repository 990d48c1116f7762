"""Craftax behind our interface: its own steps, and a time limit that is no termination."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import episode, spaces
from envs.errors import InputError
from envs.interop import from_craftax as module
from envs.interop.from_craftax import from_craftax

NAME, BATCH, LIMIT = "Craftax-Classic-Symbolic-v1", 2, 4
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    def missing(name, extra):
        raise InputError(f'{name} is needed here: pip install "jaxrl[{extra}]"')

    monkeypatch.setattr(module, "load", missing)
    with pytest.raises(InputError, match=r"jaxrl\[craftax\]"):
        from_craftax(NAME)
    with pytest.raises(InputError, match="Craftax-Classic-Symbolic-v1"):
        from_craftax("Craftax-Classic-Symbolic-v2")


@pytest.mark.filterwarnings("ignore")
def test_steps_are_craftaxs_and_the_limit_truncates():
    craftax = pytest.importorskip("craftax.craftax_env")
    env, params = from_craftax(NAME, max_steps=LIMIT)
    theirs = craftax.make_craftax_env_from_name(NAME, auto_reset=False)
    action = jnp.array([1, 3], jnp.int32)

    @jit
    def run(key):
        state = episode.reset(env, params, key, BATCH)
        return jax.lax.scan(lambda s, k: episode.step(env, params, k, s, action), state, jax.random.split(key, LIMIT))[
            1
        ]

    ts = jax.device_get(run(jax.random.key(0)))
    assert ts.truncated.sum(0).tolist() == [1, 1]
    assert ts.truncated[-1].all()
    assert not ts.terminated.any()
    assert spaces.contains(env.observation_space, ts.next_obs[0, 0])

    @jit
    def both(key):
        obs, state = env.reset(key, params)
        first, their_state = theirs.reset_env(key, theirs.default_params)
        out = env.step(key, state, action[0], params)
        other = theirs.step_env(key, their_state, action[0], theirs.default_params)
        return (obs, out.obs, out.reward), (first, other[0], other[2])

    ours, original = jax.device_get(both(jax.random.key(1)))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), ours, original)
    _, state = jit(env.reset)(jax.random.key(2), params)
    picture = env.render(state, params)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
