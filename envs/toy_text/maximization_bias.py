"""MaximizationBias: a step that looks good only because the best of many noisy estimates does (S&B 2018, example 6.7).

Observation: i32[] 0: A, 1: B, 2: the end.
Action: in A 0 goes left, to B, and 1 goes right, to the end; in B each of `actions` (10) goes to the end. The further
    actions do the same as 1 in A: they exist there only because a space has one size. A learner that is to be compared
    with the book must leave them out by `action_mask`, which `Step.info` has too.
Reward: 0 from A; normal with mean −0.1 and standard deviation 1 from B. `tables` has the mean.
Ends: at the end, after one step or two. Start: A. Time limit: none.
Going left is worth −0.1, so an ε-greedy learner with ε = 0.1 should do it in 5 % of the episodes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.drawing import Canvas
from envs.errors import InputError
from envs.spaces import Discrete
from envs.tabular import Finite, Outcome, State

A, B, END = range(3)


class Params(NamedTuple):
    """The reward from B."""

    mean: float = -0.1
    std: float = 1.0


@dataclass(frozen=True)
class MaximizationBias(Finite[Params]):
    """Two states, the second with many actions."""

    actions: int = 10

    def __post_init__(self) -> None:
        """Raises InputError for less than the two actions of A."""
        if self.actions < 2:
            raise InputError(f"actions={self.actions} must be at least 2.")

    @property
    def random_step(self) -> bool:
        """True: the reward is noisy."""
        return True

    @property
    def num_states(self) -> int:
        """A, B and the end."""
        return 3

    @property
    def starts(self) -> tuple[int, ...]:
        """A."""
        return (A,)

    @property
    def action_space(self) -> Discrete:
        """Those of B."""
        return Discrete(self.actions)

    def default_params(self) -> Params:
        """The book's."""
        return Params()

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: Params) -> Outcome:
        """To B or to the end."""
        left = (index == A) & (action == 0)
        return Outcome(jnp.where(left, B, END), jnp.where(index == B, params.mean, 0.0), ~left)

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Adds noise to the reward from B."""
        out = super().step(key, state, action, params)
        noise = params.std * jax.random.normal(key)
        return out._replace(reward=out.reward + jnp.where(state.index == B, noise, 0.0))

    def info(self, index: jax.Array) -> dict[str, jax.Array]:
        """The mask."""
        return {"action_mask": self.action_mask(index)}

    def action_mask(self, index: jax.Array) -> jax.Array:
        """Returns bool[actions]: the actions that the book's state `index` has."""
        return (index != A) | (jnp.arange(self.actions) < 2)

    def render(self, state: State, params: Params) -> np.ndarray:
        """The end, B, A and the end again, from left to right; the agent is blue."""
        del params
        canvas = Canvas(height=60, width=240)
        canvas.line((30, 30), (210, 30), 3, "grey")
        for i, place in enumerate((END, B, A, END)):
            center = (30 + 60 * i, 30)
            canvas.circle(center, 18, "grey" if place == END else "light")
            if place == int(state.index):
                canvas.circle(center, 11, "blue")
        return canvas.pixels
