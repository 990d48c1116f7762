"""Between the unit box that continuous policies think in and the Box of an environment."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import InputError
from envs.spaces import Box, Discrete, MultiDiscrete, Space
from jaxrl.types import Policy


class UnitBox(NamedTuple):
    """The affine map between [-1, 1] and a Box; the identity in coordinates that lack a bound, cut off at the other.

    Actions of a Box of integers are rounded to the nearest.
    """

    space: Box
    center: np.ndarray  # f32[*action]
    half_range: np.ndarray  # f32[*action]
    lower: np.ndarray  # f32[*action] the least unit action: −1, or without both bounds the lower one or −infinity
    upper: np.ndarray  # f32[*action] the greatest

    def to_env(self, unit_action: jax.Array) -> jax.Array:
        """Clips to the unit box and scales: f32[..., *action] -> [..., *action] inside the Box, of its type."""
        action = jnp.clip(unit_action, self.lower, self.upper) * self.half_range + self.center
        dtype = jax.dtypes.canonicalize_dtype(self.space.dtype)
        if not np.issubdtype(dtype, np.floating):
            action = jnp.clip(jnp.round(action), *self._ends()).astype(dtype)
        elif self._rounding_leaves():
            action = jnp.clip(action, *self._ends())
        return action.astype(dtype)

    def to_unit(self, action: jax.Array) -> jax.Array:
        """The inverse of `to_env` for actions inside the Box, f32[..., *action]."""
        return (action - self.center) / self.half_range

    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the greatest number of single precision inside the Box, f32[*action] each."""
        low, high = self.space.lower, self.space.upper
        least, greatest = low.astype(np.float32), high.astype(np.float32)
        # Compared as Python's own numbers, which are exact.
        least = np.where(least.astype(object) < low.astype(object), np.nextafter(least, np.float32(np.inf)), least)
        beyond = greatest.astype(object) > high.astype(object)
        return least, np.where(beyond, np.nextafter(greatest, np.float32(-np.inf)), greatest)

    def _rounding_leaves(self) -> bool:
        """Whether the image of an end of the unit box lies outside the Box."""
        least, greatest = self._ends()
        first, last = self.center - self.half_range, self.center + self.half_range
        return bool(np.any((self.lower == -1) & (self.upper == 1) & ((first < least) | (last > greatest))))


def unit_box(space: Box) -> UnitBox:
    """Builds the map for a Box."""
    has_low, has_high = space.has_lower, space.has_upper
    bounded = has_low & has_high
    lower, upper = space.lower.astype(np.float64), space.upper.astype(np.float64)
    low, high = np.where(bounded, lower, -1), np.where(bounded, upper, 1)
    limits = (
        np.where(bounded, -1, np.where(has_low, lower, -np.inf)),
        np.where(bounded, 1, np.where(has_high, upper, np.inf)),
    )
    return UnitBox(space, *(x.astype(np.float32) for x in ((low + high) / 2, (high - low) / 2, *limits)))


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
        raise InputError(f"{agent} needs a Discrete action space; the environment has {space}.{_who_else(space)}")
    return space


def require_bounded_box(agent: str, space: Space) -> Box:
    """Returns `space` if it is a Box of shape (n,) with finite bounds.

    Raises:
        InputError: it is not.
    """
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise InputError(
            f"{agent} needs a Box action space of shape (n,); the environment has {space}.{_who_else(space)}"
        )
    if not (space.has_lower & space.has_upper).all():
        raise InputError(
            f"{agent} needs finite bounds of the actions; the environment has {space}. "
            "Agents with a Gaussian policy (ppo, a2c, trpo) do without."
        )
    return space


def require_simple(agent: str, space: Space) -> Box | Discrete:
    """Returns `space` if it is Discrete or a Box, what the loops of a replay and of a dataset handle.

    Raises:
        InputError: it is not.
    """
    if not isinstance(space, Box | Discrete):
        raise InputError(
            f"{agent} needs a Box or Discrete action space; the environment has {space}.{_who_else(space)}"
        )
    return space


def _who_else(space: Space) -> str:
    return " ppo, a2c, trpo, reinforce and their relatives act in it." if isinstance(space, MultiDiscrete) else ""
