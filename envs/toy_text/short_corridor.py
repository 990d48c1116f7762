"""ShortCorridor: three places that look alike, one of which turns actions around (Sutton & Barto 2018, example 13.1).

Observation: i32[] 0, always. The state, 0 … 3 from left to right, is hidden.
Action: 0 left, 1 right. In place 0 left leads nowhere; in place 1 the two are exchanged.
Reward: −1. Ends: in place 3. Start: place 0. Time limit: none, and a policy that always takes the same action never
    arrives.
With probability p of going right the expected return is 2 (2 − p) / (p (p − 1)). Its maximum is −6 − 4√2 ≈ −11.657 at
p = 2 − √2 ≈ 0.586; no deterministic policy can do that.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.drawing import Canvas
from envs.spaces import Discrete
from envs.tabular import Finite, Outcome, State

GOAL = 3


class Params(NamedTuple):
    """The price of a step."""

    step_reward: float = -1.0


@dataclass(frozen=True)
class ShortCorridor(Finite[Params]):
    """A corridor in the dark."""

    @property
    def num_states(self) -> int:
        """The places and the goal."""
        return 4

    @property
    def starts(self) -> tuple[int, ...]:
        """The left end."""
        return (0,)

    @property
    def observation_space(self) -> Discrete:
        """0."""
        return Discrete(1)

    @property
    def action_space(self) -> Discrete:
        """0: left, 1: right."""
        return Discrete(2)

    def default_params(self) -> Params:
        """The book's."""
        return Params()

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: Params) -> Outcome:
        """One place to the left or to the right."""
        right = (action == 1) ^ (index == 1)
        place = jnp.clip(index + jnp.where(right, 1, -1), 0, GOAL)
        return Outcome(place, params.step_reward, place == GOAL)

    def observe(self, index: jax.Array) -> jax.Array:
        """0."""
        return jnp.zeros_like(index)

    def render(self, state: State, params: Params) -> np.ndarray:
        """The corridor: the place that turns actions around is purple, the goal green, the agent blue."""
        del params
        canvas = Canvas(height=60, width=240)
        for place, color in enumerate(["light", "purple", "light", "green"]):
            canvas.rectangle((60 * place + 2, 2), (60 * place + 58, 58), color)
        canvas.circle((60 * int(state.index) + 30, 30), 16, "blue")
        return canvas.pixels
