"""The Markov decision process and nothing else: no clock, no reset policy, no batch, no mutation."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from envs import spaces, values
from envs.errors import InputError
from envs.spaces import Box, Space

StateT = TypeVar("StateT")
ParamsT = TypeVar("ParamsT")


class Step(NamedTuple):
    """What one transition of the MDP yields, for one environment (unbatched)."""

    obs: Any  # observation of the successor state, in `observation_space`
    state: Any  # successor state
    reward: jax.Array  # f32[]; f32[N] in a `Game`; other numbers become f32
    terminated: jax.Array  # bool[]; True only where the MDP itself ends, never for a time limit
    info: dict[str, jax.Array]  # diagnostics of fixed shape; {} for most
    # bool[]; an environment of another library cut the episode off by a clock of its own. Ours never do: their time
    # limit is `max_steps`, applied by `envs.episode`.
    truncated: jax.Array | bool = False
    cost: Any = ()  # f32[K] of this step, K = `Env.num_costs`; () where there are none


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

    def option_kinds(self) -> dict[str, Any]:
        """Returns the types of `options`, as `envs.values` takes them; of fields that two layers share, the outer's."""
        found: dict[str, Any] = {}
        layer: Any = self
        while isinstance(layer, Env):
            found = values.kinds(layer) | found
            layer = getattr(layer, "env", None)
        return {name: found.get(name, Any) for name in self.options()}

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
    def num_costs(self) -> int:
        """K, how many costs a step has beside its reward; 0: none, and `Step.cost` is ().

        They are what a constrained problem bounds (E. Altman, "Constrained Markov Decision Processes", 1999). Like
        rewards they are added up over an episode, and a time limit cuts them off without making what follows free.
        """
        return 0

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

    def with_own_reward(self) -> "Env[Any, Any]":
        """Returns the environment without the wrappers that change its reward, which judge by the reward itself."""
        return self

    def held_out(self, params: ParamsT) -> ParamsT:
        """Returns parameters under which the levels are those that `params` does not play.

        Raises:
            NotImplementedError: there are no numbered levels.
            InputError: `params` plays all of them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no numbered levels.")

    def render(self, state: StateT, params: ParamsT) -> np.ndarray:
        """Returns a picture of `state`, uint8[H, W, 3]. Runs on the host; needs no display.

        Raises:
            InputError: the environment draws nothing; what to write.
        """
        raise InputError(
            f"{type(self).__name__} draws no picture. Write `def render(self, state, params)` that returns "
            "uint8[H, W, 3], a NumPy array; envs.drawing.Canvas paints rectangles, circles and lines."
        )


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


@dataclass(frozen=True)
class Game(Env[StateT, ParamsT]):
    """A game of N players as pure functions: an `Env` in which observations, actions and rewards have a player axis.

    `reset` and `step` take and return, unbatched:

    | what | shape |
    |---|---|
    | observation | [N, *observation], each player's own |
    | action | [N, *action], one of every player at every step |
    | `Step.reward` | f32[N] |
    | `Step.terminated`, `Step.truncated` | bool[]: the game ends for all at once |
    | `Step.cost` | f32[K], of the game |

    `observation_space` and `action_space` are those of ONE player: all players are alike. Where they are not, sizes are
    padded to the largest, and an entry "action_mask" of the observation (bool[N, actions] with the player axis) says
    what each may do. The mask of a player whose action is ignored allows everything.

    Players may move at once or in turn, under the same protocol: a step always takes an action of every player, and in
    a turn-based game ignores those of the players whose turn it is not (`to_move`).
    """

    @property
    def num_players(self) -> int:
        """N, the length of the player axis."""
        raise NotImplementedError

    @property
    def global_space(self) -> Space:
        """The space of `global_state`; by default of f32[N · D], D being the length of a flattened observation."""
        return Box(-np.inf, np.inf, (self.num_players * spaces.flat_size(self.observation_space),))

    def global_state(self, state: StateT, params: ParamsT) -> Any:
        """Returns what a central critic sees of `state`, in `global_space`; no player axis.

        By default the observations of all players, flattened (`envs.spaces.flatten`) and one after another, f32[N · D].

        Raises:
            NotImplementedError: the game has no `as_observation`, and must say itself what the global state is.
        """
        obs = self.as_observation(state, params)
        if obs is None:
            raise NotImplementedError(f"{type(self).__name__} needs a global_state of its own, or as_observation.")
        return spaces.flatten(self.observation_space, obs).reshape(-1)

    def to_move(self, state: StateT) -> jax.Array:
        """Returns whose turn it is in `state`, i32[] from 0 to N − 1; −1 (the default): all move at once."""
        del state
        return jnp.int32(-1)

    def alive(self, state: StateT) -> jax.Array:
        """Returns which players still take part, bool[N]; by default all. The others are to be left out of losses."""
        del state
        return jnp.ones(self.num_players, jnp.bool_)
