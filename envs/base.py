"""The Markov decision process and nothing else: no clock, no reset policy, no batch, no mutation."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Self, TypeVar

import jax
import numpy as np

from envs.spaces import Space

StateT = TypeVar("StateT")
ParamsT = TypeVar("ParamsT")


class Step(NamedTuple):
    """What one transition of the MDP yields, for one environment (unbatched)."""

    obs: Any  # observation of the successor state, in `observation_space`
    state: Any  # successor state
    reward: jax.Array  # f32[]
    terminated: jax.Array  # bool[]; True only where the MDP itself ends, never for a time limit
    info: dict[str, jax.Array]  # diagnostics of fixed shape; {} for most
    # bool[]; an environment of another library cut the episode off by a clock of its own. Ours never do: their time
    # limit is `max_steps`, applied by `envs.episode`.
    truncated: jax.Array | bool = False


@dataclass(frozen=True)
class Env(Generic[StateT, ParamsT]):
    """A Markov decision process as pure functions.

    An instance holds only what is static (sizes, options), so it is hashable and can be closed over by a
    compiled function. Physics constants live in `params`, a pytree that can be vmapped and randomised.
    Shapes never depend on `params`.
    """

    # The time limit in steps that `envs.episode` applies; None: no limit.
    max_steps: int | None = dataclasses.field(default=None, kw_only=True)

    def options(self) -> dict[str, Any]:
        """Returns the static fields by name, those of wrapped environments included."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def replace(self, **changes: Any) -> Self:
        """Returns a copy in which some of `options` have other values."""
        return dataclasses.replace(self, **changes)

    @property
    def random_step(self) -> bool:
        """Whether `step` uses its key. Where it is False, callers need not split keys for it."""
        return True

    @property
    def costly_reset(self) -> bool:
        """Whether `reset` costs more than a step: then starts are drawn only in steps in which some episode ends."""
        return False

    @property
    def observation_space(self) -> Space:
        """The space of observations."""
        raise NotImplementedError

    @property
    def action_space(self) -> Space:
        """The space of actions."""
        raise NotImplementedError

    def default_params(self) -> ParamsT:
        """Returns the standard physics parameters."""
        raise NotImplementedError

    def reset(self, key: jax.Array, params: ParamsT) -> tuple[Any, StateT]:
        """Draws an initial state; returns (obs, state), both unbatched."""
        raise NotImplementedError

    def step(self, key: jax.Array, state: StateT, action: Any, params: ParamsT) -> Step:
        """Advances one step from `state` under `action` (unbatched)."""
        raise NotImplementedError

    def as_observation(self, state: StateT, params: ParamsT) -> Any:
        """Returns the observation of `state` where that is little work; None (the default): it is not, or needs more.

        Where episodes end, `envs.episode` then chooses between states alone, and observes what it has chosen.
        """
        del state, params

    def render(self, state: StateT, params: ParamsT) -> np.ndarray:
        """Returns a picture of `state`, uint8[H, W, 3]. Runs on the host; needs no display."""
        raise NotImplementedError


ACHIEVED, DESIRED = "achieved_goal", "desired_goal"  # as in Gymnasium-Robotics


@dataclass(frozen=True)
class GoalEnv(Env[StateT, ParamsT]):
    """An environment whose observations are a dict with "achieved_goal" and "desired_goal", beside what else is seen.

    Reward and end of a step are what `judge` says of the goals in its observation; so the same step can be judged by
    another goal, which is what hindsight needs (`jaxrl.hindsight`).
    """

    def judge(self, achieved_goal: Any, desired_goal: Any, params: ParamsT) -> tuple[jax.Array, jax.Array]:
        """Returns (reward f32[], terminated bool[]) of a step that achieved the one and desired the other."""
        raise NotImplementedError
