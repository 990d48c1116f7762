"""Wrappers that change what is observed."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import spaces
from envs.base import Env, Step
from envs.errors import InputError
from envs.spaces import Box, Discrete, Space
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
        obs, state = super().reset(key, params)
        frame = self._frame(obs)
        stack = jnp.concatenate([frame] * self.frames, -1)
        return stack, Frames(state, stack[..., frame.shape[-1] :])

    def step(self, key: jax.Array, state: Frames, action: Any, params: Any) -> Step:
        """Adds the newest observation and drops the oldest."""
        out = super().step(key, state.env, action, params)
        frame = self._frame(out.obs)
        obs = jnp.concatenate([state.frames, frame], -1)
        return out._replace(obs=obs, state=Frames(out.state, obs[..., frame.shape[-1] :]))

    def render(self, state: Frames, params: Any) -> np.ndarray:
        """The picture that `env` draws."""
        return super().render(state.env, params)


def frame_stack_4(env: Env) -> FrameStack:
    """Four frames: the usual number for pictures (`wrap="envs.wrappers:frame_stack_4"`)."""
    return FrameStack(env, 4)


@dataclass(frozen=True)
class HiddenCoordinates(Wrapper):
    """Shows only the coordinates `kept` of a vector observation, so that the agent must remember or infer the rest."""

    kept: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raises InputError if the observations are no vector, or `kept` are not different coordinates of it."""
        super().__post_init__()
        size = _vector(self).shape[0]
        if not self.kept or len(set(self.kept)) < len(self.kept) or not all(0 <= i < size for i in self.kept):
            raise InputError(f"HiddenCoordinates: kept={self.kept} must be different numbers from 0 to {size - 1}.")

    @property
    def observation_space(self) -> Box:
        """The Box of the coordinates that are kept."""
        space, kept = _vector(self), list(self.kept)
        return Box(_bound(space.lower[kept]), _bound(space.upper[kept]), (len(kept),), space.dtype)

    def reset(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        """Resets `env`."""
        obs, state = super().reset(key, params)
        return obs[np.array(self.kept)], state

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Steps `env`."""
        out = super().step(key, state, action, params)
        return out._replace(obs=out.obs[np.array(self.kept)])


def keep_0_1(env: Env) -> HiddenCoordinates:
    """The first two coordinates: of Pendulum, the direction without the velocity."""
    return HiddenCoordinates(env, (0, 1))


def keep_0_2(env: Env) -> HiddenCoordinates:
    """The first and the third coordinate: of CartPole, position and angle without their velocities."""
    return HiddenCoordinates(env, (0, 2))


@dataclass(frozen=True)
class TransformObservation(Wrapper):
    """Puts the observation through `function`, a JAX function of one observation; `space` is where the results are.

    Two instances are equal only if they hold the same function object: define it once, at module level.
    """

    function: Callable[[Any], Any]
    space: Space = dataclasses.field(hash=False)  # a dict has no hash

    @property
    def observation_space(self) -> Space:
        """`space`."""
        return self.space

    def reset(self, key: jax.Array, params: Any) -> tuple[Any, Any]:
        """Resets `env`."""
        obs, state = super().reset(key, params)
        return self.function(obs), state

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Steps `env`."""
        out = super().step(key, state, action, params)
        return out._replace(obs=self.function(out.obs))


@dataclass(frozen=True)
class FlattenObservation(Wrapper):
    """Turns any observation into one vector f32[n]: Discrete parts one-hot, everything else flattened and joined.

    The order is that of `envs.spaces.flatten`: dicts by their sorted keys. Numbers are not rescaled.
    """

    @property
    def observation_space(self) -> Box:
        """f32[n]."""
        low, high = _flat_bounds(self.env.observation_space)
        return Box(_bound(low), _bound(high), low.shape)

    def reset(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        """Resets `env`."""
        obs, state = super().reset(key, params)
        return spaces.flatten(self.env.observation_space, obs), state

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Steps `env`."""
        out = super().step(key, state, action, params)
        return out._replace(obs=spaces.flatten(self.env.observation_space, out.obs))


@dataclass(frozen=True)
class EnumerateObservation(Wrapper):
    """Numbers the observations of an environment that shows several Discrete ones: what a table of values needs.

    The last part counts fastest, in the order of the leaves (dicts by their sorted keys).

    Raises:
        InputError: a part of the observation space is not Discrete.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in _parts(self.env.observation_space):
            if not isinstance(part, Discrete):
                raise InputError(f"EnumerateObservation needs Discrete observations; one part is {part}.")

    @property
    def observation_space(self) -> Discrete:
        """As many values as there are combinations."""
        return Discrete(math.prod(part.n for part in _parts(self.env.observation_space)))

    def number(self, obs: Any) -> jax.Array:
        """The number i32[] of an observation of `env`."""
        parts = _parts(self.env.observation_space)
        total = jnp.int32(0)
        for part, value in zip(parts, jax.tree.leaves(obs), strict=True):
            total = total * part.n + value
        return total

    def reset(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        """Resets `env`."""
        obs, state = super().reset(key, params)
        return self.number(obs), state

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Steps `env`."""
        out = super().step(key, state, action, params)
        return out._replace(obs=self.number(out.obs))


def _parts(space: Space) -> list[Any]:
    return jax.tree.leaves(space, is_leaf=lambda part: isinstance(part, (Box, Discrete)))


class Timed(NamedTuple):
    """A wrapped state and its clock."""

    env: Any  # the state of the wrapped environment
    t: jax.Array  # i32[] steps taken in this episode


@dataclass(frozen=True)
class TimeObservation(Wrapper):
    """Adds the share of the time limit that has passed, 0 at the start and 1 at the end: {"obs": ..., "time": f32[]}.

    Pardo et al., "Time limits in reinforcement learning" (2018; they show the time that is left). If the task is what
    can be gained *within* the limit, the limit is a property of the problem: `terminates=True` makes the step that
    reaches it terminate, so that nothing is bootstrapped there (their time-aware agent). If the limit only cuts an
    unlimited task into pieces, leave it a truncation.
    """

    terminates: bool = False  # whether the time limit terminates, instead of truncating

    def __post_init__(self) -> None:
        """Raises InputError if there is no time limit."""
        super().__post_init__()
        if self.max_steps is None:
            raise InputError("TimeObservation needs an environment with a time limit: set max_steps.")

    @property
    def observation_space(self) -> dict[str, Space]:
        """The observation and the time."""
        return {"obs": self.env.observation_space, "time": Box(0.0, 1.0, ())}

    def reset(self, key: jax.Array, params: Any) -> tuple[dict[str, Any], Timed]:
        """Starts the clock."""
        obs, state = super().reset(key, params)
        return {"obs": obs, "time": jnp.float32(0.0)}, Timed(state, jnp.int32(0))

    def step(self, key: jax.Array, state: Timed, action: Any, params: Any) -> Step:
        """Steps `env` and the clock."""
        out = super().step(key, state.env, action, params)
        t = state.t + 1
        assert self.max_steps is not None
        time = jnp.minimum(t.astype(jnp.float32) / self.max_steps, 1)
        terminated = out.terminated | (t >= self.max_steps) if self.terminates else out.terminated
        return out._replace(obs={"obs": out.obs, "time": time}, state=Timed(out.state, t), terminated=terminated)

    def render(self, state: Timed, params: Any) -> np.ndarray:
        """The picture that `env` draws."""
        return super().render(state.env, params)


@dataclass(frozen=True)
class LastActionReward(Wrapper):
    """Adds the action and the reward that led to the observation: {"obs": ..., "action": f32[n], "reward": f32[]}.

    What agents with memory need where the observation does not show what they did or earned, as in meta-learning (Duan
    et al., "RL²", 2016). The action is flattened, one-hot if Discrete; at the start of an episode, action and reward
    are all zero.
    """

    @property
    def observation_space(self) -> dict[str, Space]:
        """The observation, the action and the reward."""
        low, high = (np.float32(bound) for bound in _flat_bounds(self.env.action_space))
        action = Box(_bound(np.minimum(low, 0)), _bound(np.maximum(high, 0)), low.shape)
        return {"obs": self.env.observation_space, "action": action, "reward": Box(-np.inf, np.inf, ())}

    def reset(self, key: jax.Array, params: Any) -> tuple[dict[str, Any], Any]:
        """Starts with zeros."""
        obs, state = super().reset(key, params)
        action = jnp.zeros(spaces.flat_size(self.env.action_space), jnp.float32)
        return {"obs": obs, "action": action, "reward": jnp.float32(0.0)}, state

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Steps `env`."""
        out = super().step(key, state, action, params)
        flat_action = spaces.flatten(self.env.action_space, action)
        return out._replace(obs={"obs": out.obs, "action": flat_action, "reward": out.reward})


def _vector(wrapper: Wrapper) -> Box:
    """The observation space of what is wrapped; raises InputError unless it is a Box of vectors."""
    space = wrapper.env.observation_space
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise InputError(f"{type(wrapper).__name__} needs vector observations; the environment has {space}.")
    return space


def _flat_bounds(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of what `spaces.flatten` makes of a space, each f32[n]."""
    if isinstance(space, Box):
        return space.lower.reshape(-1).astype(np.float32), space.upper.reshape(-1).astype(np.float32)
    if isinstance(space, Mapping | tuple):
        parts = [space[name] for name in sorted(space)] if isinstance(space, Mapping) else space
        low, high = zip(*map(_flat_bounds, parts), strict=True)
        return np.concatenate(low), np.concatenate(high)
    size = spaces.flat_size(space)
    return np.zeros(size, np.float32), np.ones(size, np.float32)


def _bound(array: np.ndarray) -> float | tuple:
    """The bound of a Box: one number where all entries are equal, else nested tuples."""
    return array.flat[0].item() if np.all(array == array.flat[0]) else _tuples(array.tolist())


def _tuples(nested: Any) -> Any:
    return tuple(map(_tuples, nested)) if isinstance(nested, list) else nested
