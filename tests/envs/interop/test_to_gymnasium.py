"""Our environments seen from Gymnasium: its own checker, a replay by hand, seeds, restarts, spaces, pictures."""

import dataclasses
import os
import warnings

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import envs
from envs import spaces
from envs.base import Env, Step
from envs.interop.to_gymnasium import register_all, to_gymnasium, to_gymnasium_vector


@dataclasses.dataclass(frozen=True)
class Everything(Env):
    """Every kind of space, a random step, diagnostics, and a truncation of its own at the fifth step."""

    @property
    def observation_space(self):
        return {
            "box": spaces.Box(0.0, 1.0, (2,)),
            "picture": spaces.Box(0, 255, (2, 2), np.uint8),
            "pair": (spaces.Discrete(9), spaces.MultiDiscrete((9, 4))),
        }

    @property
    def action_space(self):
        return {"push": spaces.Box(-1.0, 1.0, (2,)), "buttons": (spaces.Discrete(3), spaces.MultiDiscrete((2, 3)))}

    def default_params(self):
        return ()

    def observe(self, key, t):
        noise = jax.random.uniform(key, (2,))
        return {
            "box": noise,
            "picture": jnp.full((2, 2), t, jnp.uint8),
            "pair": (t, jnp.stack([t, jnp.int32(3)])),
        }

    def reset(self, key, params):
        return self.observe(key, jnp.int32(0)), jnp.int32(0)

    def step(self, key, state, action, params):
        discrete, multi = action["buttons"]
        reward = action["push"].sum() + discrete + 10 * multi[1]
        info = {"t": state + 1, "pushed": action["push"]}
        return Step(
            self.observe(key, state + 1), state + 1, jnp.float32(reward), jnp.bool_(False), info, state + 1 >= 5
        )

    def render(self, state, params):
        return np.full((4, 4, 3), int(state), np.uint8)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "MountainCar-v0", "GridWorld-4x4", "Breakout-MinAtar"])
def test_gymnasiums_own_checker(name):
    env = gymnasium.make(f"jaxrl/{name}", render_mode="rgb_array")
    # These two are about Gymnasium's own choice of spaces for CartPole and Pendulum, which ours are.
    warnings.filterwarnings("ignore", ".*A Box observation space (min|max)imum value is.*infinity.*")
    warnings.filterwarnings("ignore", ".*we recommend using a symmetric and normalized space.*")
    check_env(env.unwrapped)


def test_gymnasiums_own_checker_on_nested_spaces():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*without a spec|.*not having a spec.*")
        check_env(to_gymnasium(Everything(), (), render_mode="rgb_array"))


def test_every_name_is_registered():
    register_all()  # names registered since the import
    assert {f"jaxrl/{name}" for name in envs.names()} <= set(gymnasium.registry)
    env = gymnasium.make("envs.interop.to_gymnasium:jaxrl/CartPole-v1", length=0.7, max_steps=3)
    assert env.unwrapped.params.length == np.float32(0.7)
    env.reset(seed=0)
    flags = [env.step(0)[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]


def test_single_environment_against_ours():
    env, params = envs.make("CartPole-v1", max_steps=12)
    theirs = to_gymnasium(env, params, render_mode="rgb_array")
    obs, info = theirs.reset(seed=4)
    assert info == {}
    again, _ = to_gymnasium(env, params).reset(seed=4)
    np.testing.assert_array_equal(obs, again)
    from envs.classic_control.cartpole import State

    state, ends = State(*obs), []
    for t in range(12):
        out = env.step(jax.random.key(0), state, jnp.int32(t % 2), params)
        obs, reward, terminated, truncated, _ = theirs.step(np.int64(t % 2))
        np.testing.assert_allclose(obs, out.obs, rtol=1e-5, atol=1e-6)
        assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
        assert reward == out.reward
        assert terminated == out.terminated
        ends.append(truncated)
        state = out.state
    assert ends == [False] * 11 + [True]
    np.testing.assert_array_equal(theirs.render(), env.render(state, params))
    assert to_gymnasium(env, params).render() is None


def test_elements_of_nested_spaces():
    env = to_gymnasium(Everything(), ())
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space
    action = {"push": np.array([0.25, 0.5], np.float32), "buttons": (np.int64(2), np.array([1, 2]))}
    assert action in env.action_space
    for t in range(1, 6):
        obs, reward, terminated, truncated, info = env.step(action)
        assert obs in env.observation_space
        assert obs["pair"][0] == t
        assert obs["pair"][1].tolist() == [t, 3]
        assert reward == 22.75
        assert info["t"] == t
        assert (terminated, truncated) == (False, t == 5)
    assert obs["box"].flags.writeable


def test_steps_without_reset_are_refused():
    for env in (to_gymnasium(Everything(), ()), to_gymnasium_vector(Everything(), (), 2)):
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(env.action_space.sample())


def test_batch_restarts_in_the_same_step_and_keeps_the_last_observation():
    env, params = envs.make("CartPole-v1", max_steps=20)
    num_envs = 6
    batch = gymnasium.make_vec("jaxrl/CartPole-v1", num_envs=num_envs, max_steps=20).unwrapped
    assert batch.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    singles = [to_gymnasium(env, params) for _ in range(num_envs)]
    recorder = RecordEpisodeStatistics(batch)
    obs, _ = recorder.reset(seed=10)
    for i, single in enumerate(singles):  # environment i starts as a single one with seed 10 + i
        np.testing.assert_array_equal(obs[i], single.reset(seed=10 + i)[0])
    rng, first, episodes = np.random.default_rng(0), [True] * num_envs, 0
    for _ in range(60):
        action = rng.integers(2, size=num_envs)
        before = obs
        obs, _reward, terminated, truncated, infos = recorder.step(action)
        assert obs in batch.observation_space
        ended = terminated | truncated
        for i in range(num_envs):
            if first[i]:  # until the first restart, whose draw differs
                single_obs, _, single_end, single_cut, _ = singles[i].step(action[i])
                actual = infos["final_obs"][i] if ended[i] else obs[i]
                np.testing.assert_array_equal(actual, single_obs)
                assert (single_end, single_cut) == (terminated[i], truncated[i])
                first[i] = not ended[i]
        if ended.any():
            episodes += ended.sum()
            np.testing.assert_array_equal(infos["_final_obs"], ended)
            np.testing.assert_array_equal(infos["_final_info"], ended)
            # Gymnasium's own wrapper counts the same episodes.
            stats = infos["final_info"]["episode"]
            np.testing.assert_array_equal(stats["r"], infos["episode"]["r"])
            np.testing.assert_array_equal(stats["l"], infos["episode"]["l"])
            for i in np.nonzero(ended)[0]:
                assert np.abs(obs[i]).max() <= 0.05  # a start
                assert np.abs(infos["final_obs"][i] - before[i]).max() < 1  # one step from where it was
                assert (np.abs(infos["final_obs"][i]) > 0.05).any()
            assert all(infos["final_obs"][i] is None for i in np.nonzero(~ended)[0])
        else:
            assert "final_obs" not in infos
    assert episodes > num_envs
    assert not any(first)


def test_batch_of_nested_spaces_and_diagnostics():
    batch = to_gymnasium_vector(Everything(), (), 3, render_mode="rgb_array")
    obs, _ = batch.reset(seed=0)
    assert obs in batch.observation_space
    for t in range(1, 6):
        action = batch.action_space.sample()
        obs, reward, _, truncated, infos = batch.step(action)
        assert obs in batch.observation_space
        expected = action["push"].sum(-1) + action["buttons"][0] + 10 * action["buttons"][1][:, 1]
        np.testing.assert_allclose(reward, expected, rtol=1e-5)
        assert truncated.all() == (t == 5)
        if t < 5:
            np.testing.assert_array_equal(infos["t"], [t] * 3)
            assert infos["_t"].all()
            assert batch.render()[2][0, 0, 0] == t
    # The diagnostics of the last step belong to the old episode.
    assert not infos["_t"].any()
    np.testing.assert_array_equal(infos["final_info"]["t"], [5] * 3)
    assert infos["final_obs"][1] in batch.single_observation_space
    assert infos["final_obs"][1]["pair"][0] == 5
    np.testing.assert_array_equal(obs["pair"][0], [0] * 3)


def test_seeds_of_a_batch():
    def make():
        return to_gymnasium_vector(*envs.make("CartPole-v1"), 3)

    a, b = make(), make()
    first = a.reset(seed=5)[0]
    np.testing.assert_array_equal(first, b.reset(seed=[5, 6, 7])[0])
    for _ in range(40):  # restarts included
        x, y = a.step(np.zeros(3, int)), b.step(np.zeros(3, int))
        np.testing.assert_array_equal(x[0], y[0])
    np.testing.assert_array_equal(a.reset()[0], b.reset()[0])
    assert not np.array_equal(a.reset()[0], first)
    partly = make().reset(seed=[None, 6, None])[0]
    np.testing.assert_array_equal(partly[1], first[1])
    assert len(np.unique(partly[:, 0])) == 3
    make().reset(seed=2**80)
    with pytest.raises(envs.InputError, match="2 seeds were given for 3"):
        a.reset(seed=[1, 2])
    with pytest.raises(envs.InputError, match="reset_mask"):
        a.reset(options={"reset_mask": np.array([True, False, True])})


def test_bad_input():
    env, params = envs.make("CartPole-v1")
    with pytest.raises(envs.InputError, match="render_mode='human'"):
        to_gymnasium(env, params, render_mode="human")
    with pytest.raises(envs.InputError, match="num_envs=0"):
        to_gymnasium_vector(env, params, 0)


def test_forked_processes_are_refused_instead_of_hanging():
    env = to_gymnasium(*envs.make("CartPole-v1"))
    env.reset(seed=0)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX and Python warn of the fork, too
        child = os.fork()
    if child == 0:
        said = []
        for call in (lambda: env.step(0), lambda: env.reset(seed=0), lambda: gymnasium.make("jaxrl/CartPole-v1")):
            try:
                call()
            except Exception as error:
                said.append(f"{type(error).__name__}: {error}")
        os.write(writing, "\n".join(said).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines = pipe.read().splitlines()
    os.waitpid(child, 0)
    assert len(lines) == 3
    assert all(line.startswith("InputError: JAX hangs in a process that was forked") for line in lines)
    assert all("make_vec" in line and "spawn" in line for line in lines)
