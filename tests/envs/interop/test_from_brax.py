"""brax's environments behind our interface, against brax's own steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import episode
from envs.errors import InputError
from envs.interop.foreign import load
from envs.interop.from_brax import from_brax

try:
    brax = load("brax.envs", "brax")
except InputError:
    pytest.skip("brax is not installed", allow_module_level=True)

# brax reads fields of MuJoCo's data that have moved, and says that it is no longer maintained.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing `.*` directly from `Data` is deprecated"),
    pytest.mark.filterwarnings("ignore:Brax System, piplines and environments are not actively being maintained"),
]

BATCH = 3
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Marble(brax.Env):
    """Rolls from a random start; ends in a hole, by a clock of its own (step 4), or by losing its way (step 2)."""

    def __init__(self, ending):
        self.ending = ending

    observation_size, action_size, backend = 2, 1, "none"

    def reset(self, rng):
        place = jax.random.uniform(rng)
        obs = jnp.stack([place, 0.0])
        return brax.State(place, obs, 0.0, 0.0, {"speed": 0.0}, {"time_out": 0.0, "steps": 0})

    def step(self, state, action):
        steps = state.info["steps"] + 1
        place = state.pipeline_state + action[0]
        time_out = jnp.where((self.ending == "clock") & (steps == 4), 1.0, 0.0)
        lost = (self.ending == "nan") & (steps == 2)
        place = jnp.where(lost, jnp.nan, place)
        done = jnp.where((place > 3) | lost, 1.0, time_out)
        obs = jnp.stack([place, steps.astype(float)])
        info = {"time_out": time_out, "steps": steps}
        return brax.State(place, obs, 2 * place, done, {"speed": action[0]}, info)


def play(env, params, actions):
    """Steps through actions [T, 1] in all lanes; returns (episode states before, time steps), each [T, BATCH, ...]."""

    @jit
    def run(actions):
        def body(state, xs):
            key, action = xs
            following, ts = episode.step(env, params, key, state, action)
            return following, (state, ts)

        state = episode.reset(env, params, jax.random.key(0), BATCH)
        keys = jax.random.split(jax.random.key(1), len(actions))
        return jax.lax.scan(body, state, (keys, jnp.broadcast_to(actions[:, None], (len(actions), BATCH, 1))))[1]

    return jax.device_get(run(jnp.asarray(actions, jnp.float32)))


@pytest.mark.parametrize(
    ("ending", "length", "terminated", "truncated"),
    [("hole", 3, True, False), ("clock", 4, False, True), ("nan", 2, True, False), ("limit", 6, False, True)],
)
def test_endings(ending, length, terminated, truncated):
    env, params = from_brax(Marble(ending), max_steps=6)
    push = 1.0 if ending == "hole" else 0.25
    before, ts = play(env, params, np.full((8, 1), push))
    ended = ts.terminated | ts.truncated
    first = ended.argmax(0)  # the hole is reached after 3 or 4 steps
    assert set(first + 1) <= ({3, 4} if ending == "hole" else {length})
    for b in range(BATCH):
        t = first[b]
        assert (ts.terminated[t, b], ts.truncated[t, b]) == (terminated, truncated)
        assert before.t[t + 1, b] == 0
        # A fresh start, not the first one again.
        assert before.obs[t + 1, b, 0] != before.obs[0, b, 0]
        place = before.obs[0, b, 0] + push * (t + 1)
        if ending == "nan":
            np.testing.assert_array_equal(ts.next_obs[t, b], [0.0, 2.0])
            assert ts.reward[t, b] == 0
        else:
            np.testing.assert_allclose(ts.next_obs[t, b], [place, t + 1], rtol=1e-6)
            np.testing.assert_allclose(ts.reward[t, b], 2 * place, rtol=1e-6)
        np.testing.assert_allclose(ts.info["speed"][t, b], push)


def test_against_braxs_own_steps():
    env, params = from_brax("fast", max_steps=7)
    assert env.observation_space == envs.spaces.Box(-np.inf, np.inf, (2,))
    assert env.action_space == envs.spaces.Box(-1.0, 1.0, (1,))
    actions = np.random.default_rng(0).uniform(-1, 1, (7, 1))
    _, ts = play(env, params, actions)
    theirs = brax.get_environment("fast")
    state = theirs.reset(jax.random.key(0))
    for t in range(7):
        state = theirs.step(state, jnp.asarray(actions[t], jnp.float32))
        np.testing.assert_allclose(ts.next_obs[t, 0], state.obs, rtol=1e-6)
        np.testing.assert_allclose(ts.reward[t, 0], state.reward, rtol=1e-6)
    np.testing.assert_array_equal(ts.truncated[:, 0], np.arange(7) == 6)
    assert not ts.terminated.any()


def test_a_physics_environment():
    """The pole is pushed over: a termination when it leans more than 0.2 rad, and a fresh start."""
    env, params = from_brax("inverted_pendulum", backend="spring", max_steps=100)
    before, ts = play(env, params, np.full((40, 1), 1.0))
    np.testing.assert_array_equal(ts.terminated, np.abs(ts.next_obs[..., 1]) > 0.2)
    assert ts.terminated.sum() >= BATCH
    assert not ts.truncated.any()
    starts = before.obs[before.t == 0]
    assert len(np.unique(starts[:, 0])) == len(starts) > BATCH
    assert np.abs(starts).max() < 0.05
    assert (ts.reward == 1).all()


def test_nested_observations():
    env, params = from_brax("fast", obs_mode="dict_state", asymmetric_obs=True)
    assert env.observation_space == {
        "state": envs.spaces.Box(-np.inf, np.inf, (2,)),
        "privileged_state": envs.spaces.Box(-np.inf, np.inf, (4,)),
    }
    obs, _ = env.reset(jax.random.key(0), params)
    assert envs.spaces.contains(env.observation_space, obs)


def test_pictures():
    env, params = from_brax(Marble("hole"))
    _, state = env.reset(jax.random.key(0), params)
    env.env.render = lambda states: [np.full((2, 2, 3), len(states), np.uint8)]
    assert env.render(state, params).max() == 1
    env.env.render = lambda states: states.missing
    with pytest.raises(InputError, match="MUJOCO_GL"):
        env.render(state, params)


def test_bad_input():
    with pytest.raises(InputError, match=r"unknown brax environment 'antt'. Did you mean 'ant'"):
        from_brax("antt")
    with pytest.raises(InputError, match="without AutoResetWrapper"):
        from_brax(brax.create("fast"))
    with pytest.raises(InputError, match="without EpisodeWrapper"):
        from_brax(brax.create("fast", auto_reset=False))
