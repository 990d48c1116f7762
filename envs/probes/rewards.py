"""Probes of rewards and values, and what all probes share; see `envs.probes`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.errors import InputError
from envs.spaces import Box, Discrete

Treatment = Literal["bootstrapped", "terminal", "reset", "stale", "masked"]


class State(NamedTuple):
    """Where a probe is."""

    index: jax.Array  # i32[] the state
    memory: jax.Array  # f32[] what an earlier step left: an action or a cue; 0 in most probes


class Params(NamedTuple):
    """What can be vmapped."""

    scale: float = 1.0  # multiplies every reward


@dataclass(frozen=True)
class Probe(Env[State, Params]):
    """What the probes share: numbered states, their observations, two actions or one number."""

    tabular: bool = False
    continuous: bool = False

    num_states: ClassVar[int] = 1  # that can be observed
    num_starts: ClassVar[int] = 1  # an episode starts uniformly in one of the first so many states

    @property
    def random_step(self) -> bool:
        """False for all but `RandomReward`."""
        return False

    @property
    def observation_space(self) -> Discrete | Box:
        """The state's index, or its one-hot vector f32[num_states]."""
        return Discrete(self.num_states) if self.tabular else Box(0.0, 1.0, (self.num_states,))

    @property
    def action_space(self) -> Discrete | Box:
        """Two actions, or f32[1] within ±1."""
        return Box(-1.0, 1.0, (1,)) if self.continuous else Discrete(2)

    def default_params(self) -> Params:
        """Rewards as documented."""
        return Params()

    def observe(self, state: State) -> jax.Array:
        """Returns the observation of `state`."""
        return state.index if self.tabular else jax.nn.one_hot(state.index, self.num_states, dtype=jnp.float32)

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws one of the first `num_starts` states."""
        del params
        index = jax.random.randint(key, (), 0, self.num_starts, jnp.int32) if self.num_starts > 1 else jnp.int32(0)
        state = State(index, jnp.float32(0))
        return self.observe(state), state

    def values(self, gamma: float) -> np.ndarray:
        """Returns V* of every state, f64[num_states], at `params.scale` 1."""
        raise NotImplementedError

    def action_values(self, gamma: float) -> np.ndarray:
        """Returns Q* of every state and action, f64[num_states, 2], at `params.scale` 1.

        Where actions do not matter both columns are V*.

        Raises:
            InputError: the actions are continuous.
        """
        if self.continuous:
            raise InputError(f"{type(self).__name__} has a table of action values only for discrete actions.")
        return np.repeat(self.values(gamma)[:, None], 2, axis=1)

    def _outcome(
        self, index: jax.Array, memory: jax.Array, reward: jax.Array, params: Params, *, ends: bool | jax.Array
    ) -> Step:
        state = State(jnp.asarray(index, jnp.int32), jnp.asarray(memory, jnp.float32))
        reward = jnp.asarray(reward * params.scale, jnp.float32)
        return Step(self.observe(state), state, reward, jnp.asarray(ends, jnp.bool_), {})


@dataclass(frozen=True)
class ConstantReward(Probe):
    """One state, one step, reward 1. V = 1."""

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Pays 1 and terminates."""
        del key, action
        return self._outcome(state.index, state.memory, jnp.float32(1), params, ends=True)

    def values(self, gamma: float) -> np.ndarray:
        """[1]."""
        return np.array([1.0])


@dataclass(frozen=True)
class RandomReward(Probe):
    """One state, one step, reward 0 or 2 with equal probability. V = 1; the return has standard deviation 1."""

    @property
    def random_step(self) -> bool:
        """True: the reward is drawn."""
        return True

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Pays 0 or 2 and terminates."""
        del action
        reward = jnp.where(jax.random.bernoulli(key), 2.0, 0.0)
        return self._outcome(state.index, state.memory, reward, params, ends=True)

    def values(self, gamma: float) -> np.ndarray:
        """[1]."""
        return np.array([1.0])


@dataclass(frozen=True)
class ObservedReward(Probe):
    """Two states, one step, reward −1 in state 0 and 1 in state 1; starts in either. V = −1, 1."""

    num_states: ClassVar[int] = 2
    num_starts: ClassVar[int] = 2

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Pays by the state and terminates."""
        del key, action
        return self._outcome(state.index, state.memory, jnp.where(state.index == 1, 1.0, -1.0), params, ends=True)

    def values(self, gamma: float) -> np.ndarray:
        """[−1, 1]."""
        return np.array([-1.0, 1.0])


@dataclass(frozen=True)
class DelayedReward(Probe):
    """State 0, then state 1, then the end; reward 0, then 1. V = γ, 1.

    With `max_steps=2` both flags are raised at once, and the values are still these: a termination counts although
    the time limit is reached with it. With `max_steps=1` only the time limit ends the episode.
    """

    num_states: ClassVar[int] = 2

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Moves on; pays at the end."""
        del key, action
        last = state.index == 1
        return self._outcome(jnp.int32(1), state.memory, jnp.where(last, 1.0, 0.0), params, ends=last)

    def values(self, gamma: float) -> np.ndarray:
        """[γ, 1]."""
        return np.array([gamma, 1.0])


@dataclass(frozen=True)
class ActionReward(Probe):
    """One state, one step. Two actions: action 1 pays 1 and action 0 nothing, Q = 0, 1, V* = 1.

    Continuous: reward −(a − ½)², V* = 0 at a = ½. The uniform policy's value is ½, or −7/12 with continuous actions.
    The reward does not clip the action.
    """

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Pays by the action and terminates."""
        del key
        reward = -jnp.square(action[0] - 0.5) if self.continuous else jnp.where(action == 1, 1.0, 0.0)
        return self._outcome(state.index, state.memory, reward, params, ends=True)

    def values(self, gamma: float) -> np.ndarray:
        """[1], or [0] with continuous actions."""
        return np.array([0.0 if self.continuous else 1.0])

    def action_values(self, gamma: float) -> np.ndarray:
        """[[0, 1]]."""
        return super().action_values(gamma) * np.array([[0.0, 1.0]])


@dataclass(frozen=True)
class ActionObservation(Probe):
    """Two states, one step; starts in either. The action of the state's number pays 1, the other −1: V* = 1, 1.

    Continuous: reward −(a + ½)² in state 0 and −(a − ½)² in state 1, V* = 0, 0 at a = −½, ½. The best policy that
    ignores the observation gets 0, or −¼ with continuous actions.
    """

    num_states: ClassVar[int] = 2
    num_starts: ClassVar[int] = 2

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Pays by state and action and terminates."""
        del key
        if self.continuous:
            reward = -jnp.square(action[0] - jnp.where(state.index == 1, 0.5, -0.5))
        else:
            reward = jnp.where(action == state.index, 1.0, -1.0)
        return self._outcome(state.index, state.memory, reward, params, ends=True)

    def values(self, gamma: float) -> np.ndarray:
        """[1, 1], or [0, 0] with continuous actions."""
        return np.full(2, 0.0 if self.continuous else 1.0)

    def action_values(self, gamma: float) -> np.ndarray:
        """[[1, −1], [−1, 1]]."""
        return super().action_values(gamma) * np.array([[1.0, -1.0], [-1.0, 1.0]])


@dataclass(frozen=True)
class DelayedActionReward(Probe):
    """Two steps: the action of the first decides the reward of the second, in which actions do not matter.

    State 0; action 0 leads to state 1 and action 1 to state 2; the second step pays 0 from state 1 and 1 from state 2.
    V* = γ, 0, 1; Q*(state 0) = 0, γ.

    Continuous: the second step pays −(a − ½)², a being the first action. The observation is [1, 0, 0] and then
    [0, 1, a] with a clipped to ±1. V* of the start is 0 at a = ½; the value of the second state is −(a − ½)². There is
    no tabular version with continuous actions.
    """

    num_states: ClassVar[int] = 3

    def __post_init__(self) -> None:
        """Raises InputError for the combination that does not exist."""
        if self.tabular and self.continuous:
            raise InputError("DelayedActionReward shows a continuous action: it cannot be tabular as well.")

    @property
    def observation_space(self) -> Discrete | Box:
        """As every probe's; the last coordinate also holds a continuous action."""
        return Box((0.0, 0.0, -1.0), 1.0, (3,)) if self.continuous else super().observation_space

    def observe(self, state: State) -> jax.Array:
        """Returns the observation of `state`."""
        return super().observe(state).at[2].set(state.memory) if self.continuous else super().observe(state)

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Notes the first action; pays for it at the second."""
        del key
        last = state.index > 0
        if self.continuous:
            memory = jnp.where(last, state.memory, jnp.clip(action[0], -1.0, 1.0))
            index, due = jnp.int32(1), -jnp.square(memory - 0.5)
        else:
            index, memory = jnp.where(last, state.index, 1 + action), state.memory
            due = jnp.where(index == 2, 1.0, 0.0)
        return self._outcome(index, memory, jnp.where(last, due, 0.0), params, ends=last)

    def values(self, gamma: float) -> np.ndarray:
        """[γ, 0, 1]; [0] with continuous actions: the start's."""
        return np.array([0.0]) if self.continuous else np.array([gamma, 0.0, 1.0])

    def action_values(self, gamma: float) -> np.ndarray:
        """[[0, γ], [0, 0], [1, 1]]."""
        table = super().action_values(gamma)
        table[0, 0] = 0.0
        return table


@dataclass(frozen=True)
class Recall(Probe):
    """A cue, 0 or 1, is seen at the first step and hidden at the second, where the action must repeat it.

    Observed states: the cue (0, 1), then blank (2). The second step pays 1 for the cue's action and −1 for the other;
    the first pays 0. Continuous: −(a − c)² with c = −½, ½. With memory V* = γ, γ, 1 (continuous: 0, 0, 0); the best
    policy without memory gets 0 at the blank (continuous: −¼).
    """

    num_states: ClassVar[int] = 3
    num_starts: ClassVar[int] = 2

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws and shows the cue."""
        obs, state = super().reset(key, params)
        return obs, state._replace(memory=state.index.astype(jnp.float32))

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Hides the cue; pays at the second step."""
        del key
        last = state.index == 2
        if self.continuous:
            due = -jnp.square(action[0] - (state.memory - 0.5))
        else:
            due = jnp.where(action == state.memory, 1.0, -1.0)
        return self._outcome(jnp.int32(2), state.memory, jnp.where(last, due, 0.0), params, ends=last)

    def values(self, gamma: float) -> np.ndarray:
        """[γ, γ, 1] with memory, zeros with continuous actions."""
        return np.zeros(3) if self.continuous else np.array([gamma, gamma, 1.0])

    def action_values(self, gamma: float) -> np.ndarray:
        """Not a function of what is observed.

        Raises:
            InputError: always.
        """
        raise InputError("Recall has no table of action values: they depend on what is no longer observed.")


@dataclass(frozen=True)
class TimeLimit(Probe):
    """Three states that go on for ever, 0 → 1 → 2 → 1 → 2 …, cut after three steps. The step out of state 2 pays 1.

    An episode is 0 → 1 → 2 → 1 and never terminates, so at the cut the observation acted on is state 2, the true
    successor is state 1 and the next episode starts in state 0: three different states. State 2 is met only at the
    cut, so its value shows how the agent treats a time limit. V = (γ² v, γ v, v), where v = V(state 2) is

    | treatment | target of state 2 | v |
    |---|---|---|
    | "bootstrapped": right, from the true successor | 1 + γ V(1) | 1 / (1 − γ²) |
    | "terminal": the cut taken for the end of the MDP | 1 | 1 |
    | "reset": from the observation of the next episode | 1 + γ V(0) | 1 / (1 − γ³) |
    | "stale": from the observation acted on | 1 + γ V(2) | 1 / (1 − γ) |
    | "masked": the last step is left out of the loss | none | what it was at first: 0 in a table |

    At γ = 0.9 these are 5.26, 1, 3.69, 10 and 0. The table supposes `max_steps` = 3.
    """

    max_steps: int | None = 3
    num_states: ClassVar[int] = 3

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Moves on."""
        del key, action
        index = jnp.where(state.index == 1, 2, 1)
        return self._outcome(index, state.memory, jnp.where(state.index == 2, 1.0, 0.0), params, ends=False)

    def values(self, gamma: float, treatment: Treatment = "bootstrapped") -> np.ndarray:
        """Returns the fixed point that an agent with this treatment of the time limit reaches, f64[3]."""
        last = {
            "bootstrapped": 1 / (1 - gamma**2),
            "terminal": 1.0,
            "reset": 1 / (1 - gamma**3),
            "stale": 1 / (1 - gamma),
            "masked": 0.0,
        }[treatment]
        return np.array([gamma**2, gamma, 1.0]) * last


class ChosenParams(NamedTuple):
    """What can be vmapped."""

    scale: float = 1.0  # multiplies every reward
    which: int = 0  # the probe: its number in `Chosen.probes`


@dataclass(frozen=True)
class Chosen(Probe):
    """Any of the probes without a memory, chosen by `params.which`: all of them in one `vmap` of one program.

    Observations are those of three states, of which the chosen probe may have fewer. Only `TimeLimit` ever reaches the
    time limit of three steps.
    """

    max_steps: int | None = 3
    num_states: ClassVar[int] = 3

    @property
    def probes(self) -> tuple[Probe, ...]:
        """All but `Recall`."""
        kinds = (kind for kind in ALL if kind is not Recall)
        return tuple(kind(tabular=self.tabular, continuous=self.continuous) for kind in kinds)

    @property
    def random_step(self) -> bool:
        """True: one of them needs it."""
        return True

    @property
    def observation_space(self) -> Discrete | Box:
        """The state's index, or f32[3]: its one-hot vector, in `DelayedActionReward` with a continuous action last."""
        return Box((0.0, 0.0, -1.0), 1.0, (3,)) if self.continuous else super().observation_space

    def default_params(self) -> Any:
        """The first probe."""
        return ChosenParams()

    def reset(self, key: jax.Array, params: Any) -> tuple[jax.Array, State]:
        """Draws one of the chosen probe's starts."""
        starts = jnp.array([probe.num_starts for probe in self.probes])[params.which]
        state = State(jax.random.randint(key, (), 0, starts, jnp.int32), jnp.float32(0))
        return self.observe(state), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Any) -> Step:
        """Takes the chosen probe's step."""
        every = [probe.step(key, state, action, Params(params.scale))._replace(obs=None) for probe in self.probes]
        out = jax.tree.map(lambda *leaves: jnp.stack(leaves)[params.which], *every)
        obs = self.observe(out.state)
        if self.continuous:
            names = [type(probe) for probe in self.probes]
            shown = params.which == names.index(DelayedActionReward)
            obs = jnp.where(shown, obs.at[2].set(out.state.memory), obs)
        return out._replace(obs=obs)

    def values(self, gamma: float) -> np.ndarray:
        """V* of each probe, f64[probes, 3]; nan where a probe has no such state."""
        table = np.full((len(self.probes), self.num_states), np.nan)
        for row, probe in zip(table, self.probes, strict=True):
            known = probe.values(gamma)
            row[: len(known)] = known
        return table


ALL: Sequence[type[Probe]] = (
    ConstantReward,
    RandomReward,
    ObservedReward,
    DelayedReward,
    ActionReward,
    ActionObservation,
    DelayedActionReward,
    Recall,
    TimeLimit,
)
