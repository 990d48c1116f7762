"""MuJoCo Playground's environments behind our interface. Not in the default test extra: its closure is large."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import episode
from envs.errors import InputError
from envs.interop.foreign import load
from envs.interop.from_playground import from_playground

try:
    load("mujoco_playground", "playground")
except InputError:
    pytest.skip("MuJoCo Playground is not installed", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_names_and_options():
    with pytest.raises(InputError, match=r"unknown Playground environment 'CartpoleBalnce'.*'CartpoleBalance'"):
        from_playground("CartpoleBalnce")
    with pytest.raises(InputError, match=r"unknown option of CartpoleBalance 'imp'.*'impl'"):
        from_playground("CartpoleBalance", imp="jax")


@pytest.mark.slow
def test_against_its_own_steps():
    """A minute of compilation. The episode is cut by our clock alone, and restarts from a fresh draw."""
    env, params = from_playground("CartpoleBalance", impl="jax")
    assert env.max_steps == 1000
    assert env.observation_space == envs.spaces.Box(-np.inf, np.inf, (5,))
    env = env.replace(max_steps=5)
    actions = np.random.default_rng(0).uniform(-1, 1, (8, 1, 1)).astype(np.float32)
    step = jax.jit(lambda state, action, key: episode.step(env, params, key, state, action))
    state = episode.reset(env, params, jax.random.key(3), 1)
    theirs = jax.tree.map(lambda leaf: leaf[0], state.state)
    their_step = jax.jit(env.env.step)
    first = state.obs
    for t in range(8):
        state, ts = step(state, jnp.asarray(actions[t]), jax.random.key(t))
        if t < 5:
            theirs = their_step(theirs, actions[t, 0])
            np.testing.assert_allclose(ts.next_obs[0], theirs.obs, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(ts.reward[0], theirs.reward, rtol=1e-4)
        assert not ts.terminated.any()
        assert ts.truncated.all() == (t == 4)
        if t == 4:
            assert not np.allclose(state.obs, first)
    assert "reward/upright" in ts.info
