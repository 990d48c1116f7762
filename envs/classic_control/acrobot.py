"""Acrobot: swing a two-link arm, driven at its elbow only, up to a line (Sutton 1996), as Gymnasium's Acrobot-v1.

Observation: f32[6] cosine and sine of the first joint's angle (0 hangs straight down), cosine and sine of the second
joint's angle (relative to the first link), then the two angular velocities (rad/s).
Action: 0, 1, 2 for a torque of −1, 0, +1 N·m on the elbow.
Reward: −1 per step, 0 at the step that reaches the line.
Ends: the tip is more than 1 m above the shoulder. Time limit: 500 steps.
Start: both angles and both velocities uniform in ±0.1.
Deviations from Gymnasium: float32 arithmetic instead of float64; the tip's height uses the link lengths of the
parameters, where Gymnasium assumes 1 m; no torque noise (Gymnasium's default is none).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.drawing import Canvas
from envs.spaces import Box, Discrete
from envs.trigonometry import sin_cos


class State(NamedTuple):
    """The arm."""

    theta_1: jax.Array  # f32[] shoulder angle from straight down, rad, within ±π
    theta_2: jax.Array  # f32[] elbow angle relative to the first link, rad, within ±π
    theta_1_dot: jax.Array  # f32[] rad/s
    theta_2_dot: jax.Array  # f32[] rad/s


class Params(NamedTuple):
    """Physics constants."""

    gravity: float = 9.8  # m/s²
    length_1: float = 1.0  # m
    length_2: float = 1.0  # m
    mass_1: float = 1.0  # kg
    mass_2: float = 1.0  # kg
    center_1: float = 0.5  # from the shoulder to the first link's centre of mass, m
    center_2: float = 0.5  # from the elbow to the second link's centre of mass, m
    inertia: float = 1.0  # of each link, kg·m²
    torque: float = 1.0  # size of the torque at the elbow, N·m
    max_speed_1: float = 4 * np.pi  # rad/s; clipped
    max_speed_2: float = 9 * np.pi  # rad/s; clipped
    dt: float = 0.2  # seconds per step
    goal_height: float = 1.0  # of the tip over the shoulder, m; above it the episode terminates
    start_range: float = 0.1  # every coordinate starts uniform in ± this


@dataclass(frozen=True)
class Acrobot(Env[State, Params]):
    """A two-link arm that hangs from a fixed shoulder.

    `equations` chooses between the equations of motion of Sutton & Barto's book and those printed in the 1996 paper,
    which lack the centripetal term of the first link.
    """

    max_steps: int | None = 500
    equations: Literal["book", "paper"] = "book"

    @property
    def random_step(self) -> bool:
        """False: only the start is random."""
        return False

    @property
    def observation_space(self) -> Box:
        """f32[6]; the last two are clipped by the dynamics."""
        high = (1.0, 1.0, 1.0, 1.0, 4 * np.pi, 9 * np.pi)
        return Box(tuple(-h for h in high), high, (6,))

    @property
    def action_space(self) -> Discrete:
        """0, 1, 2: torque −1, 0, +1."""
        return Discrete(3)

    def default_params(self) -> Params:
        """Gymnasium's constants."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws an arm that nearly hangs at rest."""
        values = jax.random.uniform(key, (4,), jnp.float32, -params.start_range, params.start_range)
        state = State(*values)
        return observe(state), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """One Runge-Kutta step of fourth order under a constant torque; angles wrap and velocities are clipped."""
        del key
        torque = (jnp.asarray(action, jnp.int32) - 1) * params.torque
        half, full = params.dt / 2, params.dt
        slope_1 = self._slope(state, torque, params)
        slope_2 = self._slope(_along(state, slope_1, half), torque, params)
        slope_3 = self._slope(_along(state, slope_2, half), torque, params)
        slope_4 = self._slope(_along(state, slope_3, full), torque, params)
        slope = State(
            *((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(slope_1, slope_2, slope_3, slope_4, strict=True))
        )
        moved = _along(state, slope, full)
        new = State(
            theta_1=_wrap(moved.theta_1),
            theta_2=_wrap(moved.theta_2),
            theta_1_dot=jnp.clip(moved.theta_1_dot, -params.max_speed_1, params.max_speed_1),
            theta_2_dot=jnp.clip(moved.theta_2_dot, -params.max_speed_2, params.max_speed_2),
        )
        (sin_1, cos_1), (sin_2, cos_2) = sin_cos(new.theta_1), sin_cos(new.theta_2)
        height = -params.length_1 * cos_1 - params.length_2 * (cos_1 * cos_2 - sin_1 * sin_2)
        terminated = height > params.goal_height
        return Step(observe(new), new, jnp.where(terminated, 0.0, -1.0).astype(jnp.float32), terminated, {})

    def render(self, state: State, params: Params) -> np.ndarray:
        """Side view, the shoulder in the middle and the goal line above it: 500 × 500 pixels."""
        canvas = Canvas(height=500, width=500)
        length_1, length_2 = float(params.length_1), float(params.length_2)
        scale = 250 / (1.1 * (length_1 + length_2))
        first = float(state.theta_1)
        second = first + float(state.theta_2)
        shoulder = (250.0, 250.0)
        elbow = (250 + scale * length_1 * np.sin(first), 250 + scale * length_1 * np.cos(first))
        tip = (elbow[0] + scale * length_2 * np.sin(second), elbow[1] + scale * length_2 * np.cos(second))
        goal = 250 - scale * float(params.goal_height)
        canvas.line((0, goal), (500, goal), 2, "black")
        canvas.line(shoulder, elbow, 20, "slate")
        canvas.line(elbow, tip, 20, "blue")
        for joint in (shoulder, elbow):
            canvas.circle(joint, 10, "yellow")
        return canvas.pixels

    def _slope(self, state: State, torque: jax.Array, params: Params) -> State:
        """The time derivative of every coordinate."""
        m2, l1, c1, c2 = params.mass_2, params.length_1, params.center_1, params.center_2
        (sin_1, cos_1), (sin_2, cos_2) = sin_cos(state.theta_1), sin_cos(state.theta_2)
        d_1 = (
            params.mass_1 * jnp.square(c1)
            + m2 * (jnp.square(l1) + jnp.square(c2) + 2 * l1 * c2 * cos_2)
            + 2 * params.inertia
        )
        d_2 = m2 * (jnp.square(c2) + l1 * c2 * cos_2) + params.inertia
        # Angles count from straight down, so the torque of gravity is a sine: no quarter turn to subtract.
        phi_2 = m2 * c2 * params.gravity * (sin_1 * cos_2 + cos_1 * sin_2)
        coupling = m2 * l1 * c2 * sin_2
        phi_1 = (
            -coupling * state.theta_2_dot * (state.theta_2_dot + 2 * state.theta_1_dot)
            + (params.mass_1 * c1 + m2 * l1) * params.gravity * sin_1
            + phi_2
        )
        push = torque + d_2 / d_1 * phi_1 - phi_2
        if self.equations == "book":
            push = push - coupling * jnp.square(state.theta_1_dot)
        acceleration_2 = push / (m2 * jnp.square(c2) + params.inertia - jnp.square(d_2) / d_1)
        acceleration_1 = -(d_2 * acceleration_2 + phi_1) / d_1
        return State(state.theta_1_dot, state.theta_2_dot, acceleration_1, acceleration_2)


def observe(state: State) -> jax.Array:
    """Returns the f32[6] observation of `state`."""
    (sin_1, cos_1), (sin_2, cos_2) = sin_cos(state.theta_1), sin_cos(state.theta_2)
    return jnp.stack([cos_1, sin_1, cos_2, sin_2, state.theta_1_dot, state.theta_2_dot])


def _along(state: State, slope: State, duration: jax.Array | float) -> State:
    return State(*(value + duration * rate for value, rate in zip(state, slope, strict=True)))


def _wrap(angle: jax.Array) -> jax.Array:
    """Brings an angle into ±π by full turns; one that is inside already keeps its bits."""
    return jnp.where(jnp.abs(angle) <= jnp.pi, angle, angle - 2 * jnp.pi * jnp.round(angle / (2 * jnp.pi)))
