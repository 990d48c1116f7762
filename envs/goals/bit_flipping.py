"""Bit flipping: n bits, each action flips one; make them equal to the goal.

Source: Andrychowicz et al., "Hindsight Experience Replay", NIPS 2017 (arXiv:1707.01495), section 3.1.

Observation: a dict of f32[n] of zeros and ones: "achieved_goal" the bits, "desired_goal" the goal.
Action: which bit to flip.
Reward: 0 when the bits equal the goal after the flip, else −1.
Ends: the bits equal the goal. Time limit: n = 15 steps.
Start: bits and goal are drawn at random, each bit by itself.
The best policy flips what differs: n / 2 steps on average, a return of 1 − n / 2 (−6.5 for 15 bits, a little less
because an episode that begins at its goal has to leave it). A random one meets its goal about once in 2^n / n episodes.

Deviations: the paper's episodes go on at the goal, where every further action would leave it. `bits` and `max_steps`
are given separately.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import ACHIEVED, DESIRED, GoalEnv, Step
from envs.drawing import Canvas
from envs.errors import InputError
from envs.spaces import Box, Discrete


class State(NamedTuple):
    """Bits and goal."""

    bits: jax.Array  # bool[n]
    goal: jax.Array  # bool[n]


@dataclass(frozen=True)
class BitFlipping(GoalEnv[State, tuple[()]]):
    """n switches and a picture of how they should be."""

    max_steps: int | None = 15
    bits: int = 15  # n

    def __post_init__(self) -> None:
        """Raises InputError if there is nothing to flip."""
        if self.bits < 1:
            raise InputError(f"BitFlipping: bits={self.bits} must be at least 1.")

    @property
    def random_step(self) -> bool:
        """False: only the start is random."""
        return False

    @property
    def observation_space(self) -> dict[str, Box]:
        """Bits and goal, f32[n] each."""
        return {name: Box(0.0, 1.0, (self.bits,)) for name in (ACHIEVED, DESIRED)}

    @property
    def action_space(self) -> Discrete:
        """Which bit to flip."""
        return Discrete(self.bits)

    def default_params(self) -> tuple[()]:
        """None."""
        return ()

    def reset(self, key: jax.Array, params: tuple[()]) -> tuple[dict[str, jax.Array], State]:
        """Draws bits and goal."""
        words = jax.random.bits(key, (2, self.bits)) >> 31 == 1
        state = State(words[0], words[1])
        return self._observe(state), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: tuple[()]) -> Step:
        """Flips a bit."""
        del key
        new = State(state.bits ^ (jnp.arange(self.bits) == action), state.goal)
        reward, terminated = self.judge(new.bits, new.goal, params)
        return Step(self._observe(new), new, reward, terminated, {})

    def judge(
        self, achieved_goal: jax.Array, desired_goal: jax.Array, params: tuple[()]
    ) -> tuple[jax.Array, jax.Array]:
        """0 and the end where all bits agree, else −1."""
        del params
        reached = jnp.all(achieved_goal == desired_goal, axis=-1)
        return jnp.where(reached, 0.0, -1.0), reached

    def _observe(self, state: State) -> dict[str, jax.Array]:
        return {ACHIEVED: state.bits.astype(jnp.float32), DESIRED: state.goal.astype(jnp.float32)}

    def render(self, state: State, params: tuple[()]) -> np.ndarray:
        """The bits above, the goal below; what differs has a red frame."""
        del params
        size = max(400 // self.bits, 12)
        canvas = Canvas(height=2 * size + 30, width=self.bits * size + 20, background="grey")
        bits, goal = np.asarray(state.bits), np.asarray(state.goal)
        for column in range(self.bits):
            left = 10 + column * size
            for row, value in enumerate((bits[column], goal[column])):
                top = 10 + row * (size + 10)
                frame = "red" if bits[column] != goal[column] else "green"
                canvas.rectangle((left + 1, top + 1), (left + size - 1, top + size - 1), frame)
                canvas.rectangle((left + 4, top + 4), (left + size - 4, top + size - 4), "white" if value else "black")
        return canvas.pixels
