"""Deep Sea of the Behaviour Suite: one of 2^(N−1) paths through the sea leads to a treasure.

Observation: f32[N, N], 1 at (row, column) of the diver; all 0 after the last step.
Action: 0 or 1. In each cell one of them, fixed by `params.right_action`, leads right and the other left.
Each step goes down a row, and one column to the right or the left; at a wall the column stays.
Reward: −move_cost / N for every step to the right; 1 for going right in the last column, which only the diver that has
    always gone right reaches, with the last step. So the best return is 1 − move_cost = 0.99.
Ends: after N steps.
Start: top left, always.

`deterministic=False` is the stochastic sea: going right fails with probability 1/N (the column stays; the cost is due
all the same), and the last step from the first or the last column earns standard normal noise as well.

info: `bad_episode`, bool[], whether the diver has gone left on the diagonal in this episode. The suite's score counts
these: a size is solved once fewer than 90 % of the episodes so far were bad.

Source, time limit and common deviations: see `envs.bsuite`. Experiments "deep_sea" and "deep_sea_stochastic": sizes
10, 12, … 50, with the mapping of seed 42 as here. `mapping_seed=None` maps nothing: action 1 is right everywhere, which
lets an agent that does not see the state succeed.
Results of gymnax 0.0.9 are of another problem: its deterministic sea maps no actions (1 is right everywhere), its
stochastic one has no noise on rewards and charges nothing for a failed move.
"""

import statistics
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.drawing import Canvas
from envs.errors import InputError
from envs.spaces import Box, Discrete
from envs.values import Count


class State(NamedTuple):
    """The diver."""

    row: jax.Array  # i32[] from the top; N after the last step
    column: jax.Array  # i32[]
    bad_episode: jax.Array  # bool[] the diver has gone left on the diagonal


class Params(NamedTuple):
    """What the diver is not told."""

    right_action: Any  # i32[N, N] the action that leads right, by row and column
    move_cost: float = 0.01  # of going right in all N steps


class Draws(NamedTuple):
    """The random decisions of one step of the stochastic sea."""

    noise: jax.Array  # f32[] standard normal: added to the last reward
    fails: jax.Array  # bool[] going right fails


@dataclass(frozen=True)
class DeepSea(Env[State, Params]):
    """An N × N sea with a treasure in the corner."""

    size: int = 10  # N
    deterministic: bool = True
    mapping_seed: Count | None = 42  # of the standard `right_action`; None: 1 everywhere

    def __post_init__(self) -> None:
        """Raises InputError if there is no way to go."""
        if self.size < 2:
            raise InputError(f"DeepSea: size={self.size} must be at least 2.")

    @property
    def random_step(self) -> bool:
        """Whether the sea is stochastic."""
        return not self.deterministic

    @property
    def observation_space(self) -> Box:
        """f32[N, N] with at most one 1."""
        return Box(0.0, 1.0, (self.size, self.size))

    @property
    def action_space(self) -> Discrete:
        """Which of the two leads right depends on the cell."""
        return Discrete(2)

    def default_params(self) -> Params:
        """The original's mapping of actions for `mapping_seed`, and its cost."""
        shape = (self.size, self.size)
        if self.mapping_seed is None:
            return Params(np.ones(shape, np.int32))
        # The original's generator, so that the mapping is the original's as well.
        rng = np.random.RandomState(self.mapping_seed)
        return Params(rng.binomial(1, 0.5, shape).astype(np.int32))

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Starts at the top left."""
        del key, params
        state = State(jnp.int32(0), jnp.int32(0), jnp.bool_(False))
        return self._observe(state), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Draws, then dives one row."""
        return self.transition(state, action, None if self.deterministic else self.draw(key), params)

    def draw(self, key: jax.Array) -> Draws:
        """Draws two normal numbers; the second is a failure in the lowest 1/N of its distribution."""
        noise, wind = jax.random.normal(key, (2,))
        return Draws(noise, wind < statistics.NormalDist().inv_cdf(1 / self.size))

    def transition(self, state: State, action: jax.Array, draws: Draws | None, params: Params) -> Step:
        """Dives one row, given the random decisions; None in the deterministic sea."""
        last = self.size - 1
        right = action == jnp.asarray(params.right_action)[state.row, state.column]
        reward = jnp.where(right, (state.column == last) - params.move_cost / self.size, 0.0)
        moves = right
        if draws is not None:
            noisy = (state.row == last) & ((state.column == 0) | (state.column == last))
            reward += jnp.where(noisy, draws.noise, 0.0)
            moves = right & ~draws.fails
        column = jnp.where(right, state.column + moves, state.column - 1)
        bad = state.bad_episode | (~right & (state.row == state.column))
        new = State(state.row + 1, jnp.clip(column, 0, last).astype(jnp.int32), bad)
        terminated = new.row == self.size
        return Step(self._observe(new), new, reward.astype(jnp.float32), terminated, {"bad_episode": bad})

    def _observe(self, state: State) -> jax.Array:
        cells = np.arange(self.size**2)  # after the last step none of them
        return (cells == state.row * self.size + state.column).astype(jnp.float32).reshape(self.size, self.size)

    def as_observation(self, state: State, params: Params) -> jax.Array:
        """Where the diver is."""
        del params
        return self._observe(state)

    def render(self, state: State, params: Params) -> np.ndarray:
        """The sea from the side, 24 pixels per cell, with the diver; blue cells can be reached, the corner shines."""
        del params
        size = 24
        canvas = Canvas(height=self.size * size, width=self.size * size, background="slate")
        for row in range(self.size):
            canvas.rectangle((0, row * size), ((row + 1) * size, (row + 1) * size), "blue")
        corner = (self.size - 0.5) * size
        canvas.circle((corner, corner), size * 0.4, "yellow")
        center = (int(state.column) + 0.5) * size, (min(int(state.row), self.size - 1) + 0.5) * size
        canvas.circle(center, size * 0.3, "white")
        return canvas.pixels
