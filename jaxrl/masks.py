"""Which actions are allowed: an entry "action_mask" of the observation, one truth value for every action.

The observation is the one place from which a mask reaches the policy when it acts, the target that maximises over the
actions of a successor, the update that replays the step, and evaluation alike (`Step.info` reaches none of them).
Networks see the other entries alone. Where nothing is allowed, as in a state that the episode ended in, everything is.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from envs.errors import InputError
from envs.spaces import Discrete, MultiDiscrete, Space, flat_size

NAME = "action_mask"


def require_fit(agent: str, observation_space: Space, action_space: Space) -> None:
    """Refuses a mask that does not belong to the actions.

    Raises:
        InputError: the observations have a mask, and the actions are not Discrete or not as many.
    """
    if not isinstance(observation_space, Mapping) or NAME not in observation_space:
        return
    mask = observation_space[NAME]
    fits = isinstance(action_space, Discrete | MultiDiscrete) and getattr(mask, "shape", None) == (
        flat_size(action_space),
    )
    if not fits or len(observation_space) < 2:
        raise InputError(
            f"{agent} masks Discrete actions, by one truth value for each beside what else is seen: the observation's "
            f"{NAME!r} is {mask}, its other entries {sorted(set(observation_space) - {NAME})}, the action space "
            f"{action_space}."
        )


def seen(space: Space) -> Space:
    """The space of what networks see: without the mask, and without the dict where one entry is left."""
    if not isinstance(space, Mapping) or NAME not in space:
        return space
    return _rest(space)


def see(obs: Any) -> Any:
    """An observation as networks see it; see `seen`."""
    if not isinstance(obs, Mapping) or NAME not in obs:
        return obs
    return _rest(obs)


def _rest(entries: Mapping[str, Any]) -> Any:
    rest = {name: entry for name, entry in entries.items() if name != NAME}
    return next(iter(rest.values())) if len(rest) == 1 else rest  # so that a picture can go through a CNN


def given(obs: Any) -> jax.Array | None:
    """The mask as it is in an observation, bool[..., A]; None: there is none."""
    return obs[NAME] != 0 if isinstance(obs, Mapping) and NAME in obs else None


def allowed(obs: Any) -> jax.Array | None:
    """Which of Discrete actions may be taken, bool[..., A]; None: all."""
    mask = given(obs)
    return None if mask is None else mask | ~mask.any(-1, keepdims=True)


def choosable(values: jax.Array, obs: Any) -> jax.Array:
    """Values or logits f32[..., A] with −∞ at what is not allowed; leading axes of an ensemble broadcast."""
    mask = allowed(obs)
    return values if mask is None else jnp.where(mask, values, -jnp.inf)
