"""Wrappers that change what is observed."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.errors import InputError
from envs.spaces import Box
from envs.wrappers.base import Wrapper


class Frames(NamedTuple):
    """A wrapped state and what was observed before."""

    env: Any  # the state of the wrapped environment
    frames: jax.Array  # [..., n - 1] or [H, W, C · (n - 1)]: the last observations, the oldest first


@dataclass(frozen=True)
class FrameStack(Wrapper):
    """Shows the last `frames` observations at once, on the last axis, the oldest first (Mnih et al. 2015).

    Pictures [H, W, C] become [H, W, C · frames]; anything else gets a new last axis: [*shape, frames], so a vector
    observation f32[d] becomes f32[d, frames] and a grey picture u8[H, W] becomes u8[H, W, frames]. Before an episode
    has that many, its first observation stands in for the missing ones: no episode sees another one's observations.
    """

    frames: int = 4

    def __post_init__(self) -> None:
        """Raises InputError for a number of frames below 1, or observations that are no Box."""
        super().__post_init__()
        if self.frames < 1:
            raise InputError(f"FrameStack: frames={self.frames} must be at least 1.")
        if not isinstance(self.env.observation_space, Box):
            raise InputError(
                f"FrameStack needs observations in a Box; the environment has {self.env.observation_space}."
            )

    @property
    def observation_space(self) -> Box:
        """The Box of `frames` observations on the last axis."""
        space = self.env.observation_space
        assert isinstance(space, Box)
        low, high = (np.concatenate([self._frame(bound)] * self.frames, -1) for bound in (space.lower, space.upper))
        return Box(_bound(low), _bound(high), low.shape, space.dtype)

    def _frame(self, obs: Any) -> Any:
        """One observation with the axis on which they are joined."""
        return obs if len(obs.shape) == 3 else obs[..., None]

    def reset(self, key: jax.Array, params: Any) -> tuple[jax.Array, Frames]:
        """Fills the stack with the first observation."""
        obs, state = self.env.reset(key, params)
        frame = self._frame(obs)
        stack = jnp.concatenate([frame] * self.frames, -1)
        return stack, Frames(state, stack[..., frame.shape[-1] :])

    def step(self, key: jax.Array, state: Frames, action: Any, params: Any) -> Step:
        """Adds the newest observation and drops the oldest."""
        out = self.env.step(key, state.env, action, params)
        frame = self._frame(out.obs)
        obs = jnp.concatenate([state.frames, frame], -1)
        return out._replace(obs=obs, state=Frames(out.state, obs[..., frame.shape[-1] :]))

    def render(self, state: Frames, params: Any) -> np.ndarray:
        """The picture that `env` draws."""
        return self.env.render(state.env, params)


def frame_stack_4(env: Env) -> FrameStack:
    """Four frames: the usual number for pictures (`wrap="envs.wrappers:frame_stack_4"`)."""
    return FrameStack(env, 4)


def _bound(array: np.ndarray) -> float | tuple:
    """The bound of a Box: one number where all entries are equal, else nested tuples."""
    return array.flat[0].item() if np.all(array == array.flat[0]) else _tuples(array.tolist())


def _tuples(nested: Any) -> Any:
    return tuple(map(_tuples, nested)) if isinstance(nested, list) else nested
