"""CartPole: balance a pole on a cart (Barto, Sutton & Anderson 1983), as Gymnasium's CartPole-v1 and v0.

Observation: f32[4] cart position (m), cart velocity (m/s), pole angle (rad), pole angular velocity (rad/s).
Action: 0 pushes the cart to the left, 1 to the right.
Reward: 1 at every step, the last included.
Ends: |position| > 2.4 or |angle| > 12°. Time limit: 500 steps (v0: 200).
Start: every coordinate uniform in ±0.05.
Deviations from Gymnasium: float32 arithmetic instead of float64. Gymnasium keeps its state in float64 between steps.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.drawing import Canvas
from envs.spaces import Box, Discrete
from envs.trigonometry import sin_cos


class State(NamedTuple):
    """Cart and pole."""

    x: jax.Array  # f32[] position, m
    x_dot: jax.Array  # f32[] velocity, m/s
    theta: jax.Array  # f32[] pole angle from upright, rad
    theta_dot: jax.Array  # f32[] angular velocity, rad/s


class Params(NamedTuple):
    """Physics constants."""

    gravity: float = 9.8  # m/s²
    mass_cart: float = 1.0  # kg
    mass_pole: float = 0.1  # kg
    length: float = 0.5  # half of the pole's length, m
    force: float = 10.0  # push per action, N
    dt: float = 0.02  # seconds per step
    x_limit: float = 2.4  # m; beyond it the episode terminates
    theta_limit: float = 12 * 2 * np.pi / 360  # rad; beyond it the episode terminates
    start_range: float = 0.05  # every coordinate starts uniform in ± this


@dataclass(frozen=True)
class CartPole(Env[State, Params]):
    """A cart on a rail with a pole hinged on it."""

    max_steps: int | None = 500

    @property
    def random_step(self) -> bool:
        """False: only the start is random."""
        return False

    @property
    def observation_space(self) -> Box:
        """f32[4]; velocities are unbounded, positions reach at most twice the limit where the episode ends."""
        high = (4.8, np.inf, 24 * 2 * np.pi / 360, np.inf)
        return Box(tuple(-h for h in high), high, (4,))

    @property
    def action_space(self) -> Discrete:
        """0: left, 1: right."""
        return Discrete(2)

    def default_params(self) -> Params:
        """Gymnasium's constants."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws every coordinate uniformly near zero."""
        values = jax.random.uniform(key, (4,), jnp.float32, -params.start_range, params.start_range)
        return values, State(*values)

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """One explicit Euler step of the equations of motion."""
        del key
        force = jnp.where(action == 1, params.force, -params.force)
        sin, cos = sin_cos(state.theta)
        total_mass = params.mass_cart + params.mass_pole
        moment = params.mass_pole * params.length
        push = (force + moment * jnp.square(state.theta_dot) * sin) / total_mass
        theta_acc = (params.gravity * sin - cos * push) / (
            params.length * (4.0 / 3.0 - params.mass_pole * jnp.square(cos) / total_mass)
        )
        x_acc = push - moment * theta_acc * cos / total_mass
        new = State(
            x=state.x + params.dt * state.x_dot,
            x_dot=state.x_dot + params.dt * x_acc,
            theta=state.theta + params.dt * state.theta_dot,
            theta_dot=state.theta_dot + params.dt * theta_acc,
        )
        terminated = (jnp.abs(new.x) > params.x_limit) | (jnp.abs(new.theta) > params.theta_limit)
        return Step(jnp.stack(new), new, jnp.float32(1.0), terminated, {})

    def as_observation(self, state: State, params: Params) -> jax.Array:
        """The four coordinates."""
        del params
        return jnp.stack(state)

    def render(self, state: State, params: Params) -> np.ndarray:
        """Side view of the rail: 400 × 600 pixels."""
        canvas = Canvas(height=400, width=600)
        scale = 600 / (2 * 2.4)
        x, theta = 300 + float(state.x) * scale, float(state.theta)
        rail, axle = 300.0, 285.0
        reach = scale * 2 * float(params.length)
        canvas.line((0, rail), (600, rail), 2, "black")
        canvas.rectangle((x - 25, rail - 15), (x + 25, rail + 15), "black")
        canvas.line((x, axle), (x + reach * np.sin(theta), axle - reach * np.cos(theta)), 10, "tan")
        canvas.circle((x, axle), 5, "slate")
        return canvas.pixels
