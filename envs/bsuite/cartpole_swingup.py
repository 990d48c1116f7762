"""CartPole swing-up of the Behaviour Suite: lift a hanging pole and hold it, while every push costs.

Observation: f32[8] x / 3, velocity / 3, sin θ, cos θ, angular velocity (rad/s), share of the time that has passed, 1 if
    |x| is below `x_reward_threshold` else −1, 1 if the angular velocity is below `theta_dot_threshold` else −1.
Action: 0 pushes the cart to the left, 1 does nothing, 2 pushes to the right.
Reward: 1 while cos θ > `height_threshold`, |angular velocity| < `theta_dot_threshold` and |x| < `x_reward_threshold`;
    −`move_cost` for every push, in addition.
Ends: |x| > 3, or after more than 10 seconds: step 1001 at 0.01 s per step is the last.
Start: the pole hangs, θ = π; x, θ and both velocities off by uniform ±0.05.
Doing nothing earns 0, random pushes earn less: without deep exploration an agent learns to keep still.

Source, time limit and common deviations: see `envs.bsuite`. Experiment "cartpole_swingup": height_threshold n / 20 and
x_reward_threshold 1 − n / 20 for n = 0 … 19.
Deviations: those of `envs.bsuite.cartpole`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.bsuite import cartpole
from envs.bsuite.cartpole import State
from envs.spaces import Box, Discrete
from envs.trigonometry import sin_cos


class Params(NamedTuple):
    """Physics and rules."""

    gravity: float = 9.8  # m/s²
    mass_cart: float = 1.0  # kg
    mass_pole: float = 0.1  # kg
    length: float = 0.5  # half of the pole's length, m
    force: float = 10.0  # push per action, N
    dt: float = 0.01  # seconds per step
    max_time: float = 10.0  # seconds
    height_threshold: float = 0.5  # cos θ must be above it for a reward
    theta_dot_threshold: float = 1.0  # rad/s; the angular velocity must be below it for a reward
    x_reward_threshold: float = 1.0  # m; |x| must be below it for a reward
    move_cost: float = 0.1  # of every push
    x_threshold: float = 3.0  # m; beyond it the episode terminates
    start_range: float = 0.05  # every coordinate starts uniform in ± this about the hanging rest


@dataclass(frozen=True)
class CartPoleSwingUp(Env[State, Params]):
    """A cart with a hanging pole, three actions and a visible clock."""

    @property
    def random_step(self) -> bool:
        """False: only the start is random."""
        return False

    @property
    def observation_space(self) -> Box:
        """f32[8]."""
        inf = np.inf
        low = (-inf, -inf, -1.0, -1.0, -inf, 0.0, -1.0, -1.0)
        return Box(low, (inf, inf, 1.0, 1.0, inf, inf, 1.0, 1.0), (8,))

    @property
    def action_space(self) -> Discrete:
        """0: left, 1: nothing, 2: right."""
        return Discrete(3)

    def default_params(self) -> Params:
        """The original's constants."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws every coordinate near the hanging rest."""
        x, x_dot, theta, theta_dot = jax.random.uniform(key, (4,), jnp.float32, -params.start_range, params.start_range)
        state = State(x, x_dot, np.float32(np.pi) + theta, theta_dot, jnp.int32(0))
        return _observe(state, params), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """One explicit Euler step of the equations of motion."""
        new = cartpole.move(key, state, action, params)
        upright = (
            (sin_cos(new.theta)[1] > params.height_threshold)
            & (jnp.abs(new.theta_dot) < params.theta_dot_threshold)
            & (jnp.abs(new.x) < params.x_reward_threshold)
        )
        reward = upright - params.move_cost * (action != 1)
        terminated = (jnp.abs(new.x) > params.x_threshold) | cartpole.time_is_up(new, params)
        return Step(_observe(new, params), new, reward.astype(jnp.float32), terminated, {})

    def render(self, state: State, params: Params) -> np.ndarray:
        """Side view: 300 × 600 pixels."""
        return cartpole.draw(state, params)


def _observe(state: State, params: Params) -> jax.Array:
    central = jnp.abs(state.x) < params.x_reward_threshold
    slow = jnp.abs(state.theta_dot) < params.theta_dot_threshold
    flags = jnp.where(jnp.stack([central, slow]), 1.0, -1.0)
    return jnp.concatenate([cartpole.observe(state, params), flags])
