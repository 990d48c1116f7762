"""The same weights in the real environment: portable policies, run by NumPy, play in Gymnasium."""

from pathlib import Path

import numpy as np

from envs.errors import InputError
from jaxrl import portable
from jaxrl.runs import Spec, policy_file


def returns(spec: Spec, directory: Path | str, episodes: int) -> np.ndarray:
    """Plays whole episodes of every seed's policy file in Gymnasium's environment of the same name.

    Returns:
        f64[seeds, episodes] undiscounted returns.

    Raises:
        InputError: Gymnasium is not installed or has no such environment, or the run changed the environment.
    """
    try:
        import gymnasium
    except ModuleNotFoundError:
        raise InputError('Gymnasium is not installed: pip install "jaxrl[interop]".') from None
    if spec.env_options:
        raise InputError(f"the run changed {', '.join(spec.env_options)} of {spec.env}; Gymnasium's differs.")
    try:
        env = gymnasium.make(spec.env)
    except gymnasium.error.Error as error:
        raise InputError(f"Gymnasium cannot make {spec.env}: {error}") from None
    found = np.zeros((len(spec.seeds), episodes))
    for lane, seed in enumerate(spec.seeds):
        policy = portable.load(policy_file(directory, seed))
        for number in range(episodes):
            found[lane, number] = _episode(env, policy, seed=lane * episodes + number)
    env.close()
    return found


def _episode(env, policy: portable.PortablePolicy, seed: int) -> float:  # noqa: ANN001  (Gymnasium is optional)
    obs, _ = env.reset(seed=seed)
    total, memory, ended = 0.0, None, False
    while not ended:
        action, memory = policy.act(obs, memory)
        obs, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        ended = terminated or truncated
    return total
