"""RandomWalk: a chain that is left at either end, to predict values on (Sutton & Barto 2018, examples 6.2 and 7.1).

Observation: i32[] the place, 0 … n + 1; episodes end at 0 and n + 1.
Action: 0, the only one. The walk itself goes right with probability `right_prob` (1/2), else left.
Reward: `rewards` = (left end, right end) for the step that enters it, else 0.
Start: the middle, place (n + 1) ÷ 2. Time limit: none.

| name | n | rewards | true values without discount |
|---|---|---|---|
| RandomWalk-5 | 5 | 0, 1 | i / 6 at place i |
| RandomWalk-19 | 19 | −1, 1 | i / 10 − 1 |
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.drawing import Canvas
from envs.errors import InputError
from envs.spaces import Discrete
from envs.tabular import Finite, Outcome, State


class Params(NamedTuple):
    """Odds and rewards."""

    left_reward: float
    right_reward: float
    right_prob: float = 0.5


@dataclass(frozen=True)
class RandomWalk(Finite[Params]):
    """A chain of n places between two ends."""

    n: int = 5
    rewards: tuple[float, float] = (0.0, 1.0)  # what default_params says: (left end, right end)

    def __post_init__(self) -> None:
        """Raises InputError for a chain without a place to start."""
        if self.n < 1:
            raise InputError(f"n={self.n} must be at least 1.")

    @property
    def num_states(self) -> int:
        """The places and both ends."""
        return self.n + 2

    @property
    def num_outcomes(self) -> int:
        """Left and right."""
        return 2

    @property
    def starts(self) -> tuple[int, ...]:
        """The middle."""
        return ((self.n + 1) // 2,)

    @property
    def action_space(self) -> Discrete:
        """0: go on."""
        return Discrete(1)

    def default_params(self) -> Params:
        """The rewards that the instance was built with."""
        return Params(*self.rewards)

    def probability(self, index: jax.Array, action: jax.Array, params: Params) -> jax.Array:
        """Left, right."""
        right = jnp.asarray(params.right_prob, jnp.float32)
        return jnp.stack([1 - right, right])

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: Params) -> Outcome:
        """One place to the left or to the right."""
        place = jnp.clip(index + 2 * k - 1, 0, self.n + 1)
        left, right = place == 0, place == self.n + 1
        reward = jnp.where(left, params.left_reward, jnp.where(right, params.right_reward, 0.0))
        return Outcome(place, reward, left | right)

    def render(self, state: State, params: Params) -> np.ndarray:
        """The chain: grey ends, the walker blue."""
        del params
        size = 30
        canvas = Canvas(height=size, width=self.num_states * size)
        canvas.line((size / 2, size / 2), ((self.n + 1.5) * size, size / 2), 2, "grey")
        for place in range(self.num_states):
            end = place in (0, self.n + 1)
            color = "blue" if place == int(state.index) else "grey" if end else "light"
            canvas.circle(((place + 0.5) * size, size / 2), 0.4 * size, color)
        return canvas.pixels
