"""MountainCar: a car too weak for the hill must swing itself out of the valley (Moore 1990), as Gymnasium's v0.

Observation: f32[2] position (−1.2 … 0.6) and velocity (±0.07 per step).
Action: 0 pushes to the left, 1 does nothing, 2 pushes to the right.
Reward: −1 at every step, the last included.
Ends: position ≥ 0.5 with a velocity ≥ 0. Time limit: 200 steps.
Start: position uniform in −0.6 … −0.4, at rest. The wall at −1.2 stops the car dead.
Deviations from Gymnasium: float32 arithmetic instead of float64.
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
    """The car."""

    position: jax.Array  # f32[]
    velocity: jax.Array  # f32[] position per step


class Params(NamedTuple):
    """Physics constants."""

    gravity: float = 0.0025  # largest change of velocity by the slope, per step
    force: float = 0.001  # change of velocity by a full push, per step
    max_speed: float = 0.07  # velocity is clipped to ± this
    min_position: float = -1.2  # the wall
    max_position: float = 0.6  # position is clipped here
    goal_position: float = 0.5
    goal_velocity: float = 0.0  # the least velocity that counts as arrival
    start_low: float = -0.6
    start_high: float = -0.4


@dataclass(frozen=True)
class MountainCar(Env[State, Params]):
    """A car in a valley with three actions."""

    max_steps: int | None = 200

    @property
    def random_step(self) -> bool:
        """False: only the start is random."""
        return False

    @property
    def observation_space(self) -> Box:
        """f32[2]."""
        return Box((-1.2, -0.07), (0.6, 0.07), (2,))

    @property
    def action_space(self) -> Discrete:
        """0: left, 1: coast, 2: right."""
        return Discrete(3)

    def default_params(self) -> Params:
        """Gymnasium's constants."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws a resting car near the bottom of the valley."""
        state = start(key, params)
        return jnp.stack(state), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """One step of the car."""
        del key
        new, arrived = drive(state, (jnp.asarray(action, jnp.int32) - 1) * params.force, params)
        return Step(jnp.stack(new), new, jnp.float32(-1.0), arrived, {})

    def as_observation(self, state: State, params: Params) -> jax.Array:
        """Position and velocity."""
        del params
        return jnp.stack(state)

    def render(self, state: State, params: Params) -> np.ndarray:
        """Side view of the valley: 400 × 600 pixels."""
        return draw(state, params)


def start(key: jax.Array, params: Params) -> State:
    """Draws a resting car between `start_low` and `start_high`."""
    position = jax.random.uniform(key, (), jnp.float32, params.start_low, params.start_high)
    return State(position, jnp.zeros((), jnp.float32))


def drive(state: State, push: jax.Array, params: Params) -> tuple[State, jax.Array]:
    """Moves the car by one step.

    Args:
        push: f32[] what the engine adds to the velocity.

    Returns:
        (the new state, bool[] whether the car has arrived).
    """
    velocity = state.velocity + push - params.gravity * sin_cos(3 * state.position)[1]
    velocity = jnp.clip(velocity, -params.max_speed, params.max_speed)
    position = jnp.clip(state.position + velocity, params.min_position, params.max_position)
    velocity = jnp.where((position <= params.min_position) & (velocity < 0), 0.0, velocity)
    arrived = (position >= params.goal_position) & (velocity >= params.goal_velocity)
    return State(position, velocity), arrived


def draw(state: State, params: Params) -> np.ndarray:
    """Returns a picture of the hill sin(3x), the car and the flag, uint8[400, 600, 3]."""
    canvas = Canvas(height=400, width=600)
    left, right = float(params.min_position), float(params.max_position)
    scale = 600 / (right - left)

    def pixel(x: float) -> tuple[float, float]:
        return (x - left) * scale, 400 - scale * (0.55 + 0.45 * np.sin(3 * x))

    canvas.curve([pixel(x) for x in np.linspace(left, right, 121)], 2, "black")
    flag_x, flag_y = pixel(float(params.goal_position))
    canvas.line((flag_x, flag_y), (flag_x, flag_y - 50), 2, "black")
    canvas.polygon([(flag_x, flag_y - 50), (flag_x + 25, flag_y - 43), (flag_x, flag_y - 36)], "yellow")

    x = float(state.position)
    slope = np.arctan(1.35 * np.cos(3 * x))  # the hill's own slope: both axes have the same scale
    along = np.array([np.cos(slope), -np.sin(slope)])
    upward = np.array([-np.sin(slope), -np.cos(slope)])
    ground = np.asarray(pixel(x))

    def corner(forward: float, height: float) -> tuple[float, float]:
        x_pixel, y_pixel = ground + forward * along + height * upward
        return float(x_pixel), float(y_pixel)

    canvas.polygon([corner(-20, 8), corner(20, 8), corner(20, 26), corner(-20, 26)], "slate")
    for forward in (-11, 11):
        canvas.circle(corner(forward, 8), 8, "grey")
    return canvas.pixels
