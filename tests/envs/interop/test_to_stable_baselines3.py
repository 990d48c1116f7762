"""Our environments in Stable-Baselines3, which is not in the default test extra: torch is large."""

import numpy as np
import pytest

import envs
from envs.interop.to_gymnasium import to_gymnasium

sb3 = pytest.importorskip("stable_baselines3")

from envs.interop.to_stable_baselines3 import to_stable_baselines3  # noqa: E402

SETTINGS = {"seed": 0, "device": "cpu", "learning_rate": 1e-3, "gamma": 0.98}


def evaluate(model):
    """Mean return of 20 episodes in Gymnasium's own CartPole, a second source for what was learned."""
    import gymnasium
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    return evaluate_policy(model, Monitor(gymnasium.make("CartPole-v1")), 20)[0]


def test_its_own_checker():
    from stable_baselines3.common.env_checker import check_env

    for name in ("CartPole-v1", "Breakout-MinAtar", "GridWorld-4x4"):
        check_env(to_gymnasium(*envs.make(name)), warn=False)


def test_entries_of_the_batch():
    batch = to_stable_baselines3(*envs.make("CartPole-v1", max_steps=7), num_envs=3, render_mode="rgb_array")
    batch.seed(5)
    obs = batch.reset()
    assert obs.shape == (3, 4)
    np.testing.assert_array_equal(obs[1], to_gymnasium(*envs.make("CartPole-v1")).reset(seed=6)[0])
    for t in range(1, 8):
        before = obs
        obs, reward, done, infos = batch.step(np.full(3, t % 2))
        assert reward.tolist() == [1.0] * 3
        assert done.all() == (t == 7)
        assert [info["TimeLimit.truncated"] for info in infos] == [t == 7] * 3
    for i, info in enumerate(infos):
        assert (info["episode"]["r"], info["episode"]["l"]) == (7.0, 7)
        assert np.abs(info["terminal_observation"] - before[i]).max() < 0.5
        assert not np.array_equal(info["terminal_observation"], obs[i])
        assert np.abs(obs[i]).max() <= 0.05
    assert len(batch.get_images()) == 3
    assert batch.env_is_wrapped(object) == [False] * 3
    with pytest.raises(AttributeError, match="no single environments"):
        batch.env_method("anything")


@pytest.mark.slow
def test_ppo_learns_through_the_batch():
    batch = to_stable_baselines3(*envs.make("CartPole-v1"), num_envs=8)
    model = sb3.PPO("MlpPolicy", batch, n_steps=32, batch_size=256, n_epochs=20, gae_lambda=0.8, **SETTINGS)
    assert evaluate(model.learn(50_000)) >= 195


@pytest.mark.slow
def test_ppo_learns_through_a_single_environment():
    env = to_gymnasium(*envs.make("CartPole-v1"))
    model = sb3.PPO("MlpPolicy", env, n_steps=512, batch_size=128, n_epochs=6, **SETTINGS)
    assert evaluate(model.learn(25_000)) >= 195
