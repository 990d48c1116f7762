"""MountainCarContinuous: the valley of MountainCar with a throttle (Moore 1990), as Gymnasium's v0.

Observation: f32[2] position (−1.2 … 0.6) and velocity (±0.07 per step).
Action: f32[1] throttle; the engine clips it to ±1, the reward does not.
Reward: −0.1 × action² per step, and +100 at the step that arrives.
Ends: position ≥ 0.45 with a velocity ≥ 0. Time limit: 999 steps.
Start: position uniform in −0.6 … −0.4, at rest.
Deviations from Gymnasium: float32 arithmetic throughout (Gymnasium computes in float64 and rounds the state to float32
after each step).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.classic_control.mountain_car import Params, State, draw, drive, start
from envs.spaces import Box


@dataclass(frozen=True)
class MountainCarContinuous(Env[State, Params]):
    """A car in a valley with a throttle."""

    max_steps: int | None = 999

    @property
    def random_step(self) -> bool:
        """False: only the start is random."""
        return False

    @property
    def observation_space(self) -> Box:
        """f32[2]."""
        return Box((-1.2, -0.07), (0.6, 0.07), (2,))

    @property
    def action_space(self) -> Box:
        """f32[1] throttle, −1 … 1."""
        return Box(-1.0, 1.0, (1,))

    def default_params(self) -> Params:
        """Gymnasium's constants: a stronger engine and a nearer goal than the discrete version's."""
        return Params(force=0.0015, goal_position=0.45)

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws a resting car near the bottom of the valley."""
        state = start(key, params)
        return jnp.stack(state), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """One step of the car."""
        del key
        throttle = action[0]
        new, arrived = drive(state, jnp.clip(throttle, -1.0, 1.0) * params.force, params)
        reward = jnp.where(arrived, 100.0, 0.0) - 0.1 * jnp.square(throttle)
        return Step(jnp.stack(new), new, reward.astype(jnp.float32), arrived, {})

    def as_observation(self, state: State, params: Params) -> jax.Array:
        """Position and velocity."""
        del params
        return jnp.stack(state)

    def render(self, state: State, params: Params) -> np.ndarray:
        """Side view of the valley: 400 × 600 pixels."""
        return draw(state, params)
