"""ThreeState: the chain A → B → C → C → … on which the Bellman equation is worked through by hand.

Observation: i32[] 0: A, 1: B, 2: C.
Action: 0 left, 1 right. Right leads to the next state, from C to C.
Reward: for right 5 in A, 2 in B, 1 in C; for left 0.
Ends: never. Start: A. Time limit: 100 steps, which truncates.
With γ = 0.9 the best policy goes right, and V(C) = 1 / (1 − γ) = 10, V(B) = 2 + γ 10 = 11, V(A) = 5 + γ 11 = 14.9.

Chosen here: the worked example names an action left but gives it no effect; left stays in its state and earns nothing.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.drawing import Canvas
from envs.spaces import Discrete
from envs.tabular import Finite, Outcome, State


class Params(NamedTuple):
    """Rewards."""

    rewards: Any = (5.0, 2.0, 1.0)  # f32[3] for right in A, B, C


@dataclass(frozen=True)
class ThreeState(Finite[Params]):
    """Three states in a row."""

    max_steps: int | None = 100

    @property
    def num_states(self) -> int:
        """A, B, C."""
        return 3

    @property
    def starts(self) -> tuple[int, ...]:
        """A."""
        return (0,)

    @property
    def action_space(self) -> Discrete:
        """0: left, 1: right."""
        return Discrete(2)

    def default_params(self) -> Params:
        """The worked example's."""
        return Params()

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: Params) -> Outcome:
        """The next state, or the same."""
        right = action == 1
        reward = jnp.where(right, jnp.asarray(params.rewards, jnp.float32)[index], 0.0)
        return Outcome(jnp.where(right, jnp.minimum(index + 1, 2), index), reward, False)

    def render(self, state: State, params: Params) -> np.ndarray:
        """A, B and C from left to right; the agent is blue."""
        del params
        canvas = Canvas(height=60, width=180)
        canvas.line((30, 30), (150, 30), 3, "grey")
        for index in range(3):
            canvas.circle((30 + 60 * index, 30), 20, "light")
        canvas.circle((30 + 60 * int(state.index), 30), 12, "blue")
        return canvas.pixels
