"""The same weights in the real environment: portable policies, run by NumPy, play in Gymnasium."""

import importlib
import warnings
from pathlib import Path

import numpy as np

from envs.errors import InputError
from jaxrl import portable
from jaxrl.runs import Spec, load_policy


def returns(spec: Spec, directory: Path | str, episodes: int, limit: int) -> np.ndarray:
    """Plays whole episodes of every seed's policy file in Gymnasium's environment of the same name.

    Args:
        spec: of the run.
        directory: where it lies.
        episodes: how many for each seed.
        limit: steps after which an episode is broken off, where the original has no time limit.

    Returns:
        f64[seeds, episodes] undiscounted returns.

    Raises:
        InputError: Gymnasium is not installed or has no such environment, or the run changed the environment.
    """
    try:
        import gymnasium
    except ModuleNotFoundError:
        raise InputError('Gymnasium is not installed: pip install "jaxrl[interop]".') from None
    changed = {name: value for name, value in spec.env_options.items() if name != "max_steps"}
    if changed:
        raise InputError(f"the run changed {', '.join(changed)} of {spec.env}; Gymnasium's differs.")
    minigrid = spec.env.startswith("MiniGrid-")
    if minigrid:
        try:
            importlib.import_module("minigrid")  # registers its environments with Gymnasium
        except ModuleNotFoundError:
            raise InputError("MiniGrid is not installed: pip install minigrid.") from None
    bound = {"max_steps" if minigrid else "max_episode_steps": n for n in spec.env_options.values()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about newer versions of an environment
            env = gymnasium.make(spec.env, **bound)
    except gymnasium.error.Error as error:
        raise InputError(f"Gymnasium cannot make {spec.env}: {error}") from None
    found = np.zeros((len(spec.seeds), episodes))
    for lane, seed in enumerate(spec.seeds):
        policy = load_policy(directory, seed)
        for number in range(episodes):
            found[lane, number] = _episode(env, policy, lane * episodes + number, limit)
    env.close()
    return found


def _episode(env, policy: portable.PortablePolicy, seed: int, limit: int) -> float:  # noqa: ANN001  (Gymnasium is optional)
    obs, _ = env.reset(seed=seed)
    total, memory, ended, steps = 0.0, None, False, 0
    while not ended and steps < limit:
        if isinstance(obs, dict) and "image" in obs:  # MiniGrid's, of which ours is the picture alone
            obs = obs["image"]
        action, memory = policy.act(obs, memory)
        obs, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        ended, steps = terminated or truncated, steps + 1
    return total
