"""Finite MDPs: what a tabular environment can say about itself in arrays, and an environment made of such arrays.

`Tables` lists, for every state and action, the K things that can happen next. That is exact for every finite MDP (a
termination or a reward may depend on the outcome), it is small (Taxi: 500 × 6 × 1 instead of 500 × 6 × 500), and one
uniform number draws from it. The usual dense arrays are computed from it: with r = `expected_reward` and
P = `continuation`, the Bellman equation of any of them is

    Q(s, a) = r(s, a) + γ Σ_s' P(s, a, s') V(s')

without a special case for terminal states, since P leaves out what ends the episode.

| class | what a subclass writes |
|---|---|
| `Tabular` | `tables` and `index`, beside an `Env` of any kind |
| `Finite` | `outcome` and `probability`: `step`, `reset` and `tables` follow from them |
| `MDP` | nothing: its parameters are the `Tables`, so a thousand MDPs of one size are a vmap |
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, ParamsT, StateT, Step
from envs.drawing import Canvas
from envs.errors import InputError
from envs.spaces import Discrete, Space

_FEW = 32  # entries up to which comparing with all of them beats a binary search


class Tables(NamedTuple):
    """A finite MDP: S states, A actions, and K outcomes of each. Outcomes may coincide or have probability 0."""

    probability: Any  # f32[S, A, K] of the outcome; sums to 1 over K
    next_state: Any  # i32[S, A, K]
    reward: Any  # f32[S, A, K] expected reward of the outcome; some environments add noise to it
    terminated: Any  # bool[S, A, K] the episode ends with this outcome
    start: Any  # f32[S] probability that an episode starts here

    @property
    def transition(self) -> jax.Array:
        """P(s' | s, a), endings included: f32[S, A, S], each row sums to 1."""
        return self._scatter(jnp.asarray(self.probability))

    @property
    def continuation(self) -> jax.Array:
        """P(s', not terminated | s, a): f32[S, A, S]; what a row lacks to 1 is the probability of an ending."""
        return self._scatter(jnp.where(jnp.asarray(self.terminated), 0.0, jnp.asarray(self.probability)))

    @property
    def expected_reward(self) -> jax.Array:
        """E[r | s, a]: f32[S, A]."""
        return jnp.sum(jnp.asarray(self.probability) * jnp.asarray(self.reward), -1)

    def _scatter(self, weight: jax.Array) -> jax.Array:
        num_states, num_actions, _ = weight.shape
        s, a = jnp.arange(num_states)[:, None, None], jnp.arange(num_actions)[None, :, None]
        dense = jnp.zeros((num_states, num_actions, num_states), jnp.float32)
        return dense.at[s, a, jnp.asarray(self.next_state)].add(weight)


class Outcome(NamedTuple):
    """One of the things that can happen next."""

    next_state: Any  # i32[]
    reward: Any  # f32[] expected
    terminated: Any  # bool[]


class State(NamedTuple):
    """Where a finite MDP is."""

    index: jax.Array  # i32[] row of the tables


@dataclass(frozen=True)
class Tabular(Env[StateT, ParamsT]):
    """An environment of finitely many states and actions that knows its tables."""

    def tables(self, params: ParamsT) -> Tables:
        """Lists all outcomes of all states and actions. Pure, so it can be vmapped over `params`."""
        raise NotImplementedError

    def index(self, state: StateT) -> jax.Array:
        """Returns the row of the tables at which `state` stands, i32[]. An observation need not tell it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Finite(Tabular[State, ParamsT]):
    """A tabular environment given by its outcomes. Wherever states are asked for, they are rows of the tables."""

    @property
    def num_states(self) -> int:
        """S, terminal states included."""
        raise NotImplementedError

    @property
    def num_outcomes(self) -> int:
        """K, how many things can happen after one action; 1: the environment is deterministic."""
        return 1

    @property
    def starts(self) -> tuple[int, ...]:
        """The states in which an episode starts, with equal probabilities."""
        raise NotImplementedError

    def probability(self, index: jax.Array, action: jax.Array, params: ParamsT) -> jax.Array:
        """Returns f32[K], the probabilities of the outcomes of `action` in state `index`."""
        del index, action, params
        return jnp.ones(1, jnp.float32)

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: ParamsT) -> Outcome:
        """Returns the k-th outcome of `action` in state `index`."""
        raise NotImplementedError

    def observe(self, index: jax.Array) -> Any:
        """Returns the observation of a state: the state itself unless a subclass says otherwise."""
        return index

    def info(self, index: jax.Array) -> dict[str, jax.Array]:
        """Returns what `Step.info` says when the state `index` is reached."""
        del index
        return {}

    @property
    def random_step(self) -> bool:
        """Whether one action has several outcomes."""
        return self.num_outcomes > 1

    @property
    def observation_space(self) -> Space:
        """The states, unless `observe` says otherwise."""
        return Discrete(self.num_states)

    @property
    def action_space(self) -> Discrete:
        """The actions."""
        raise NotImplementedError

    def start(self, params: ParamsT) -> jax.Array:
        """Returns the probability of each state to start from, f32[S]."""
        del params
        start = np.zeros(self.num_states, np.float32)
        start[list(self.starts)] = 1 / len(self.starts)
        return jnp.asarray(start)

    def reset(self, key: jax.Array, params: ParamsT) -> tuple[Any, State]:
        """Draws one of `starts`."""
        del params
        starts = self.starts
        if len(starts) == 1:
            index = jnp.int32(starts[0])
        else:
            place = (jax.random.uniform(key) * len(starts)).astype(jnp.int32)
            index = jnp.asarray(starts, jnp.int32)[place]
        return self.observe(index), State(index)

    def step(self, key: jax.Array, state: State, action: jax.Array, params: ParamsT) -> Step:
        """Draws one of the outcomes."""
        k = jnp.int32(0)
        if self.num_outcomes > 1:
            k = draw(key, self.probability(state.index, action, params))
        index, reward, terminated = _typed(self.outcome(state.index, action, k, params))
        return Step(self.observe(index), State(index), reward, terminated, self.info(index))

    def tables(self, params: ParamsT) -> Tables:
        """Lists all outcomes."""
        states, actions = jnp.arange(self.num_states), jnp.arange(self.action_space.n)
        listed = jax.vmap(lambda s, a, k: _typed(self.outcome(s, a, k, params)), (None, None, 0))
        listed = jax.vmap(jax.vmap(listed, (None, 0, None)), (0, None, None))
        outcome = listed(states, actions, jnp.arange(self.num_outcomes))
        weigh = jax.vmap(jax.vmap(self.probability, (None, 0, None)), (0, None, None))
        return Tables(weigh(states, actions, params).astype(jnp.float32), *outcome, self.start(params))

    def index(self, state: State) -> jax.Array:
        """The state itself."""
        return state.index


@dataclass(frozen=True)
class MDP(Finite[Tables]):
    """An environment made of arrays. Its parameters are the tables themselves; only their sizes are static.

    Use `mdp` to make one from tables. One instance serves all tables of its size.
    """

    states: int
    actions: int
    outcomes: int

    @property
    def num_states(self) -> int:
        """S."""
        return self.states

    @property
    def num_outcomes(self) -> int:
        """K."""
        return self.outcomes

    @property
    def action_space(self) -> Discrete:
        """The actions."""
        return Discrete(self.actions)

    def default_params(self) -> Tables:
        """There are none.

        Raises:
            InputError: always.
        """
        raise InputError("an MDP has no default parameters: its parameters are the Tables that it was made of.")

    def probability(self, index: jax.Array, action: jax.Array, params: Tables) -> jax.Array:
        """Reads the table."""
        return jnp.asarray(params.probability)[index, action]

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: Tables) -> Outcome:
        """Reads the tables."""
        place = index, action, k
        next_state, reward, terminated = map(jnp.asarray, (params.next_state, params.reward, params.terminated))
        return Outcome(next_state[place], reward[place], terminated[place])

    def start(self, params: Tables) -> jax.Array:
        """Reads the table."""
        return jnp.asarray(params.start, jnp.float32)

    def reset(self, key: jax.Array, params: Tables) -> tuple[jax.Array, State]:
        """Draws from `params.start`."""
        index = draw(key, self.start(params))
        return self.observe(index), State(index)

    def tables(self, params: Tables) -> Tables:
        """The parameters."""
        return jax.tree.map(jnp.asarray, params)

    def render(self, state: State, params: Tables) -> np.ndarray:
        """One disc for each state in rows from the top left; states that end every episode are grey."""
        size, cols = 40, int(np.ceil(np.sqrt(self.states)))
        canvas = Canvas(height=-(-self.states // cols) * size, width=cols * size)
        into = np.asarray(params.next_state)[np.asarray(params.terminated) & (np.asarray(params.probability) > 0)]
        for i in range(self.states):
            row, col = divmod(i, cols)
            center = ((col + 0.5) * size, (row + 0.5) * size)
            canvas.circle(center, 0.4 * size, "grey" if i in into else "light")
            if i == int(state.index):
                canvas.circle(center, 0.25 * size, "blue")
        return canvas.pixels


def mdp(tables: Tables, max_steps: int | None = None) -> tuple[MDP, Tables]:
    """Makes an environment of tables; returns (env, params) as `envs.make` does.

    Args:
        tables: concrete arrays of one MDP. To run many MDPs of one size at once, check one of them here and vmap
            over the parameters.
        max_steps: the time limit.

    Raises:
        InputError: shapes that do not fit together, probabilities that do not sum to 1, or states that do not exist.
    """
    shape = np.shape(tables.probability)
    if len(shape) != 3 or 0 in shape:
        raise InputError(f"probability has shape {shape}; it must be [S, A, K].")
    for name in ("next_state", "reward", "terminated"):
        if np.shape(getattr(tables, name)) != shape:
            raise InputError(f"{name} has shape {np.shape(getattr(tables, name))}, but probability has {shape}.")
    if np.shape(tables.start) != shape[:1]:
        raise InputError(f"start has shape {np.shape(tables.start)}; there are {shape[0]} states.")
    arrays = Tables(
        probability=np.asarray(tables.probability, np.float32),
        next_state=np.asarray(tables.next_state, np.int32),
        reward=np.asarray(tables.reward, np.float32),
        terminated=np.asarray(tables.terminated, np.bool_),
        start=np.asarray(tables.start, np.float32),
    )
    for name, value in (("probability", arrays.probability), ("start", arrays.start)):
        total = value.sum(-1, dtype=np.float64)
        if not (value >= 0).all() or not np.allclose(total, 1, atol=1e-4):
            where = np.unravel_index(np.argmax(np.abs(total - 1)), total.shape)
            at = f" at {tuple(map(int, where))}" if where else ""
            raise InputError(f"{name} must not be negative and must sum to 1; it sums to {total[where]:.6g}{at}.")
    if arrays.next_state.min() < 0 or arrays.next_state.max() >= shape[0]:
        wrong = arrays.next_state[(arrays.next_state < 0) | (arrays.next_state >= shape[0])][0]
        raise InputError(f"next_state has the entry {wrong}; states are 0 … {shape[0] - 1}.")
    return MDP(*shape, max_steps=max_steps), arrays


def from_dense(transition: Any, reward: Any, terminal: Any = None, start: Any = None) -> Tables:
    """Lists an MDP that is given by dense arrays; K becomes S. Pure, so it can be vmapped.

    Args:
        transition: f32[S, A, S] P(s' | s, a).
        reward: f32[S, A] or, where it depends on the successor, f32[S, A, S].
        terminal: bool[S]; a step into one of these states ends the episode. None: no episode ends.
        start: f32[S] probabilities. None: uniform over the states that are not terminal.

    Raises:
        InputError: shapes that do not fit together.
    """
    transition, reward = jnp.asarray(transition, jnp.float32), jnp.asarray(reward, jnp.float32)
    if transition.ndim != 3 or transition.shape[0] != transition.shape[2]:
        raise InputError(f"transition has shape {transition.shape}; it must be [S, A, S].")
    if reward.shape not in (transition.shape, transition.shape[:2]):
        raise InputError(f"reward has shape {reward.shape}; with this transition it is [S, A] or [S, A, S].")
    num_states = transition.shape[0]
    terminal = jnp.zeros(num_states, jnp.bool_) if terminal is None else jnp.asarray(terminal, jnp.bool_)
    start = ~terminal / jnp.sum(~terminal) if start is None else jnp.asarray(start, jnp.float32)
    if terminal.shape != (num_states,) or start.shape != (num_states,):
        raise InputError(f"terminal {terminal.shape} and start {start.shape} must have one entry for each state.")
    return Tables(
        probability=transition,
        next_state=jnp.broadcast_to(jnp.arange(num_states), transition.shape),
        reward=jnp.broadcast_to(reward.reshape(*reward.shape, *[1] * (3 - reward.ndim)), transition.shape),
        terminated=jnp.broadcast_to(terminal, transition.shape),
        start=start.astype(jnp.float32),
    )


def reachable(tables: Tables) -> np.ndarray:
    """Returns bool[S]: the states in which some episode has to act. Runs on the host.

    Elsewhere (terminal states, codes that stand for nothing) a learner never visits, so values are compared here.
    """
    goes_on = (np.asarray(tables.probability) > 0) & ~np.asarray(tables.terminated)
    source = np.broadcast_to(np.arange(goes_on.shape[0])[:, None, None], goes_on.shape)[goes_on]
    target = np.asarray(tables.next_state)[goes_on]
    found = np.asarray(tables.start) > 0
    while True:
        more = found.copy()
        more[target[found[source]]] = True
        if (more == found).all():
            return found
        found = more


def draw(key: jax.Array, probability: jax.Array) -> jax.Array:
    """Draws an index of `probability`, f32[K], from one random number of 24 bits; returns i32[].

    Probabilities are rounded to multiples of 2^-24, whose sums are exact: an entry of probability 0 is never drawn.
    """
    ends = jnp.cumsum(jnp.round(probability * 2.0**24).astype(jnp.int32))
    word = (jax.random.bits(key, (), jnp.uint32) >> 8).astype(jnp.int32)
    # The rounded probabilities may add up to a little less than 2^24.
    word = jnp.minimum(word, ends[-1] - 1)
    method = "compare_all" if probability.shape[0] <= _FEW else "scan_unrolled"
    return jnp.searchsorted(ends, word, side="right", method=method).astype(jnp.int32)


def _typed(outcome: Outcome) -> Outcome:
    return Outcome(*map(jnp.asarray, outcome, (jnp.int32, jnp.float32, jnp.bool_)))
