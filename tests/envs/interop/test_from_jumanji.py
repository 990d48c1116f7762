"""Jumanji's environments behind our interface: their own steps, spaces, and time limits that are no terminations."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import episode, spaces
from envs.errors import InputError
from envs.interop import from_jumanji as module
from envs.interop.from_jumanji import from_jumanji

BATCH, LIMIT = 4, 6
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    def missing(name, extra):
        raise InputError(f'{name} is needed here: pip install "jaxrl[{extra}]"')

    monkeypatch.setattr(module, "load", missing)
    with pytest.raises(InputError, match=r"jaxrl\[jumanji\]"):
        from_jumanji("Snake-v1")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
class TestWithJumanji:
    """Left out where Jumanji is not installed."""

    @pytest.fixture(autouse=True)
    def jumanji(self):
        self.theirs = pytest.importorskip("jumanji")

    @pytest.mark.parametrize("name", ["Snake-v1", "Maze-v0", "Game2048-v1"])
    def test_steps_are_jumanjis(self, name):
        env, params = from_jumanji(name)
        theirs = self.theirs.make(name)
        actions = jax.random.randint(jax.random.key(1), (30, BATCH), 0, 4)

        @jit
        def ours(key):
            obs, state = jax.vmap(env.reset, (0, None))(jax.random.split(key, BATCH), params)

            def body(state, action):
                out = jax.vmap(env.step, (None, 0, 0, None))(key, state, action, params)
                return out.state, out

            return obs, jax.lax.scan(body, state, actions)[1]

        @jit
        def original(key):
            state, first = jax.vmap(theirs.reset)(jax.random.split(key, BATCH))

            def body(state, action):
                state, timestep = jax.vmap(theirs.step)(state, action)
                return state, timestep

            return first, jax.lax.scan(body, state, actions)[1]

        obs, out = jax.device_get(ours(jax.random.key(0)))
        first, timestep = jax.device_get(original(jax.random.key(0)))
        jax.tree.map(np.testing.assert_array_equal, obs, module._plain(first.observation))
        jax.tree.map(np.testing.assert_array_equal, out.obs, module._plain(timestep.observation))
        np.testing.assert_array_equal(out.reward, timestep.reward)
        np.testing.assert_array_equal(out.terminated | out.truncated, timestep.step_type == 2)
        for b in range(BATCH):
            one = jax.tree.map(lambda leaf: leaf[0, b], out.obs)  # noqa: B023
            assert spaces.contains(env.observation_space, one)

    def test_the_time_limit_is_no_termination(self):
        env, params = from_jumanji("Maze-v0", time_limit=LIMIT)
        assert env.max_steps == LIMIT

        @jit
        def run(key):
            state = episode.reset(env, params, key, BATCH)

            def body(state, key):
                return episode.step(env, params, key, state, jnp.zeros(BATCH, jnp.int32))

            return jax.lax.scan(body, state, jax.random.split(key, 2 * LIMIT))[1]

        ts = jax.device_get(run(jax.random.key(0)))
        assert ts.truncated[LIMIT - 1].all()
        assert ts.truncated[2 * LIMIT - 1].all()
        assert ts.truncated.sum() == 2 * BATCH
        assert not ts.terminated.any()

    def test_bad_input(self):
        with pytest.raises(InputError, match="Snake-v1"):
            from_jumanji("Snak-v1")
        with pytest.raises(InputError, match="AutoResetWrapper"):
            from_jumanji(importlib.import_module("jumanji.wrappers").AutoResetWrapper(self.theirs.make("Snake-v1")))
        env, params = from_jumanji("Snake-v1")
        with pytest.raises(InputError, match="viewers"):
            env.render(None, params)
        assert isinstance(env, envs.Env)
