"""Between the unit box that continuous policies think in and the Box of an environment."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import InputError
from envs.spaces import Box, Discrete, Space
from jaxrl.types import Policy


class UnitBox(NamedTuple):
    """The affine map between [-1, 1] and a Box; the identity in coordinates that are unbounded."""

    center: np.ndarray  # f32[*action]
    half_range: np.ndarray  # f32[*action]
    limit: np.ndarray  # f32[*action]: 1, or infinity where the Box is unbounded

    def to_env(self, unit_action: jax.Array) -> jax.Array:
        """Clips to the unit box and scales: f32[..., *action] -> f32[..., *action] inside the Box."""
        return jnp.clip(unit_action, -self.limit, self.limit) * self.half_range + self.center

    def to_unit(self, action: jax.Array) -> jax.Array:
        """The inverse of `to_env` for actions inside the Box."""
        return (action - self.center) / self.half_range


def unit_box(space: Box) -> UnitBox:
    """Builds the map for a Box; a coordinate with an infinite bound is left as it is."""
    bounded = np.isfinite(space.lower) & np.isfinite(space.upper)
    low, high = np.where(bounded, space.lower, -1), np.where(bounded, space.upper, 1)
    f32 = np.float32
    return UnitBox(
        ((low + high) / 2).astype(f32), ((high - low) / 2).astype(f32), np.where(bounded, 1, np.inf).astype(f32)
    )


def in_env(space: Box | Discrete, policy: Policy) -> Policy:
    """A policy of the unit box in terms of the environment; its extras become (unit action, its own extras)."""

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        action, memory, extras = policy.act(key, obs, memory)
        taken = unit_box(space).to_env(action) if isinstance(space, Box) else action
        return taken, memory, (action, extras)

    return Policy(act, policy.memory)


def require_discrete(agent: str, space: Space) -> Discrete:
    """Returns `space` if it is Discrete.

    Raises:
        InputError: it is not.
    """
    if not isinstance(space, Discrete):
        raise InputError(f"{agent} needs a Discrete action space; the environment has {space}.")
    return space


def require_bounded_box(agent: str, space: Space) -> Box:
    """Returns `space` if it is a Box of shape (n,) with finite bounds.

    Raises:
        InputError: it is not.
    """
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise InputError(f"{agent} needs a Box action space of shape (n,); the environment has {space}.")
    if not (np.isfinite(space.lower).all() and np.isfinite(space.upper).all()):
        raise InputError(f"{agent} needs finite bounds of the actions; the environment has {space}.")
    return space
