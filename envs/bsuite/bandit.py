"""The bandit of the Behaviour Suite: eleven arms that pay 0, 0.1, … 1, without noise.

Observation: f32[1], always 1.
Action: the arm.
Reward: the arm's, always the same; which arm pays what is a permutation given by `mapping_seed`.
Ends: after one step.
Source, time limit and common deviations: see `envs.bsuite`. Experiment "bandit": mapping_seed 0, 1, … 19. The rewards
are a parameter, so different permutations can run in one compiled program.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.drawing import Canvas
from envs.errors import InputError
from envs.spaces import Box, Discrete


class State(NamedTuple):
    """Nothing is to be remembered but what the picture shows."""

    last_action: jax.Array  # i32[] −1 at the start


class Params(NamedTuple):
    """What the arms pay."""

    reward: Any  # f32[num_actions]


@dataclass(frozen=True)
class SimpleBandit(Env[State, Params]):
    """Arms with fixed rewards."""

    num_actions: int = 11
    mapping_seed: int = 0  # of the standard rewards' order

    def __post_init__(self) -> None:
        """Raises InputError if there is no choice."""
        if self.num_actions < 2:
            raise InputError(f"SimpleBandit: num_actions={self.num_actions} must be at least 2.")

    @property
    def random_step(self) -> bool:
        """False: nothing is random."""
        return False

    @property
    def observation_space(self) -> Box:
        """f32[1]."""
        return Box(1.0, 1.0, (1,))

    @property
    def action_space(self) -> Discrete:
        """The arms."""
        return Discrete(self.num_actions)

    def default_params(self) -> Params:
        """The original's permutation of 0 … 1 in equal steps for `mapping_seed`."""
        # The original's generator, so that the order is the original's as well.
        rng = np.random.RandomState(self.mapping_seed)
        order = rng.choice(range(self.num_actions), size=self.num_actions, replace=False)
        return Params(np.linspace(0, 1, self.num_actions)[order].astype(np.float32))

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Nothing to set up."""
        del key, params
        return jnp.ones(1, jnp.float32), State(jnp.int32(-1))

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Pays."""
        del key, state
        new = State(jnp.asarray(action, jnp.int32))
        reward = jnp.asarray(params.reward, jnp.float32)[action]
        return Step(jnp.ones(1, jnp.float32), new, reward, jnp.bool_(True), {})

    def render(self, state: State, params: Params) -> np.ndarray:
        """A bar for each arm's reward, the last arm pulled in green."""
        canvas = Canvas(height=140, width=30 * self.num_actions + 10)
        for arm, reward in enumerate(np.asarray(params.reward)):
            color = "green" if arm == int(state.last_action) else "blue"
            canvas.rectangle((10 + 30 * arm, 120 - 100 * float(reward)), (30 + 30 * arm, 125), color)
        return canvas.pixels
