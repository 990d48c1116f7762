"""Wrappers that change what an action does."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.errors import InputError
from envs.wrappers.base import Wrapper


class Stuck(NamedTuple):
    """A wrapped state and the action executed last."""

    env: Any  # the state of the wrapped environment
    action: Any  # the action executed last; of no meaning before the first step
    started: jax.Array  # bool[] whether a step was taken in this episode


@dataclass(frozen=True)
class StickyActions(Wrapper):
    """With probability `sticky_prob` the action executed last is executed again, instead of the one that is given.

    Machado et al., "Revisiting the Arcade Learning Environment" (2018): 0.25 for every frame of an Atari game. The
    repeated action is the one *executed* last, which may itself have been a repetition. The first action of an episode
    is always executed as given: there, an Atari game would repeat its "no operation", which environments in general do
    not have.
    """

    sticky_prob: float = 0.25  # standard value of the parameter

    def __post_init__(self) -> None:
        """Raises InputError if `sticky_prob` is no probability."""
        super().__post_init__()
        if not 0 <= self.sticky_prob <= 1:
            raise InputError(f"StickyActions: sticky_prob={self.sticky_prob} must be between 0 and 1.")

    def own_params(self) -> dict[str, Any]:
        """`sticky_prob`, a probability."""
        return {"sticky_prob": self.sticky_prob}

    @property
    def random_step(self) -> bool:
        """True."""
        return True

    def reset(self, key: jax.Array, params: Any) -> tuple[Any, Stuck]:
        """Resets `env`."""
        obs, state = super().reset(key, params)
        space = self.env.action_space
        nothing = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), space)
        return obs, Stuck(state, nothing, jnp.bool_(False))

    def step(self, key: jax.Array, state: Stuck, action: Any, params: Any) -> Step:
        """Steps `env` under the given action or the last."""
        key_sticky, key = self.keys(key)
        repeat = state.started & (jax.random.uniform(key_sticky) < params.sticky_prob)
        action = jax.tree.map(lambda last, new: jnp.where(repeat, last, new).astype(last.dtype), state.action, action)
        out = super().step(key, state.env, action, params)
        return out._replace(state=Stuck(out.state, action, jnp.bool_(True)))

    def render(self, state: Stuck, params: Any) -> np.ndarray:
        """The picture that `env` draws."""
        return super().render(state.env, params)


@dataclass(frozen=True)
class ActionRepeat(Wrapper):
    """Takes `repeats` steps of `env` under each action, adds up rewards and costs, stops early where the episode ends.

    Observation, state and info are those of the last step taken. A time limit goes on counting what the agent does:
    `max_steps` is in actions here. The environment's own limit of n steps becomes ⌈n / repeats⌉ actions, so wrapping
    leaves the length of episodes as it is (but for a last action that may overrun the limit by less than `repeats`
    steps), and `replace(max_steps=m)` asks for m actions.
    """

    repeats: int = 4

    def __post_init__(self) -> None:
        """Raises InputError if `repeats` is below 1."""
        super().__post_init__()
        if self.repeats < 1:
            raise InputError(f"ActionRepeat: repeats={self.repeats} must be at least 1.")
        if self.env.max_steps is not None:
            object.__setattr__(self, "max_steps", -(-self.env.max_steps // self.repeats))

    def options(self) -> dict[str, Any]:
        """The static fields of all layers; `max_steps` in actions."""
        return super().options() | {"max_steps": self.max_steps}

    def replace(self, **changes: Any) -> "ActionRepeat":
        """Returns a copy in which some of `options` have other values; `max_steps` in actions."""
        if changes.get("max_steps") is not None:
            changes["max_steps"] *= changes.get("repeats", self.repeats)
        return super().replace(**changes)

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Up to `repeats` steps of `env`."""
        params = self.inner(params)
        keys = jax.random.split(key, self.repeats) if self.env.random_step else jnp.broadcast_to(key, (self.repeats,))

        def again(out: Step, key: jax.Array) -> tuple[Step, None]:
            following = self.env.step(key, out.state, action, params)
            following = following._replace(
                reward=out.reward + following.reward, cost=jax.tree.map(jnp.add, out.cost, following.cost)
            )
            ended = out.terminated | out.truncated
            return jax.tree.map(lambda old, new: jnp.where(ended, old, new), out, following), None

        first = self.env.step(keys[0], state, action, params)
        first = first._replace(truncated=jnp.asarray(first.truncated))
        # `jax.disable_jit` knows no loop of length 0.
        return jax.lax.scan(again, first, keys[1:])[0] if self.repeats > 1 else first
