"""Our environments for Stable-Baselines3: a batch of them, stepped by one compiled call, as its `VecEnv`.

    import envs
    from envs.interop.to_stable_baselines3 import to_stable_baselines3
    from stable_baselines3 import PPO

    PPO("MlpPolicy", to_stable_baselines3(*envs.make("CartPole-v1"), num_envs=8)).learn(100_000)

A single environment needs nothing special: Stable-Baselines3 takes what `to_gymnasium` returns.
Kept: as in `envs.interop.to_gymnasium`; each info has Stable-Baselines3's own entries "terminal_observation",
"TimeLimit.truncated" and "episode", so its logs show returns without a Monitor.
"""

import time
from typing import Any

import numpy as np

from envs.base import Env
from envs.interop.foreign import load
from envs.interop.to_gymnasium import VectorEnv, to_gymnasium_vector

_vec_env: Any = load("stable_baselines3.common.vec_env", "sb3")


class StableBaselines3Env(_vec_env.VecEnv):
    """A batch of environments with Stable-Baselines3's interface; see `to_stable_baselines3`."""

    def __init__(self, vector: VectorEnv) -> None:
        self.vector = vector
        self._actions: Any = None
        self._started = time.perf_counter()
        super().__init__(vector.num_envs, vector.single_observation_space, vector.single_action_space)

    def reset(self) -> Any:
        """Starts an episode in every environment, from the seeds that `seed` was given, if any."""
        seeds = self._seeds if any(seed is not None for seed in self._seeds) else None
        obs, _ = self.vector.reset(seed=seeds)
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Keeps the actions, [num_envs, ...], for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Takes one step in every environment; returns (obs, reward, done, infos)."""
        obs, reward, terminated, truncated, infos = self.vector.step(self._actions)
        final = infos.get("final_info", {})
        now = round(time.perf_counter() - self._started, 6)
        rows: list[dict[str, Any]] = []
        for i in range(self.num_envs):
            ended = bool(terminated[i] | truncated[i])
            source = final if ended else infos
            row = {name: source[name][i] for name in infos if f"_{name}" in infos and not name.startswith("final_")}
            row["TimeLimit.truncated"] = bool(truncated[i] & ~terminated[i])
            if ended:
                stats = final["episode"]
                row["terminal_observation"] = infos["final_obs"][i]
                row["episode"] = {"r": float(stats["r"][i]), "l": int(stats["l"][i]), "t": now}
            rows.append(row)
        return obs, reward, terminated | truncated, rows

    def close(self) -> None:
        """Closes the batch."""
        self.vector.close()

    def get_images(self) -> list[np.ndarray | None]:
        """One picture of each environment."""
        return list(self.vector.render() or [None] * self.num_envs)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the batch, once for each of `indices`."""
        return [getattr(self.vector, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Sets an attribute of the whole batch."""
        setattr(self.vector, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Not possible: the environments are not objects of their own."""
        raise AttributeError(f"a compiled batch has no single environments to call {method_name!r} of.")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """False for each: the environments are not objects of their own."""
        return [False for _ in self._get_indices(indices)]


def to_stable_baselines3(env: Env, params: Any, num_envs: int, *, render_mode: str | None = None) -> Any:
    """Gives a batch of environments Stable-Baselines3's interface.

    Args:
        env: any environment whose spaces Stable-Baselines3 knows (no Tuple).
        params: its parameters, shared by the batch.
        num_envs: how many.
        render_mode: "rgb_array" for pictures, or None.

    Raises:
        InputError: no environments, another render mode, or Stable-Baselines3 is not installed.
    """
    return StableBaselines3Env(to_gymnasium_vector(env, params, num_envs, render_mode=render_mode))
