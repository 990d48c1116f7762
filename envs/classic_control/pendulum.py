"""Pendulum: swing a rod up and hold it there with a weak motor, as Gymnasium's Pendulum-v1; and a laboratory variant.

Observation: f32[3] cosine and sine of the angle (0 is upright, positive to the left), angular velocity (rad/s).
Action: f32[1] torque (N·m), clipped to ±2.
Reward: −(angle² + 0.1 × velocity² + 0.001 × torque²), of the state *before* the step, the angle taken within ±π.
Ends: never. Time limit: 200 steps.
Start: angle uniform in ±π, velocity uniform in ±1.
Deviations from Gymnasium: float32 arithmetic instead of float64.

Pendulum-Lab-v0 (`PendulumLab`) has the constants of a textbook exercise on REINFORCE: a point mass at the end of a
massless rod (moment of inertia m·l², where Pendulum-v1 has a uniform rod's m·l²/3), g = 9.81 m/s², start angle uniform
in ±π/4 and start velocity uniform in ±0.1, the same torque, reward and 200 steps. Deviations from the exercise: gravity
pulls the mass *away* from upright (the exercise's sign makes upright the stable rest, which contradicts its text;
`gravity=-9.81` gives that); the velocity is clipped to ±8; there is no ending at a full half turn, which under a
negative reward would pay the agent for falling; the observation is Pendulum-v1's instead of (angle, velocity).
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.drawing import Canvas
from envs.spaces import Box
from envs.trigonometry import sin_cos


class State(NamedTuple):
    """The rod."""

    theta: jax.Array  # f32[] angle from upright, rad, not wrapped
    theta_dot: jax.Array  # f32[] rad/s


class Params(NamedTuple):
    """Physics constants and the range of starts."""

    gravity: float = 10.0  # m/s²
    mass: float = 1.0  # kg
    length: float = 1.0  # m
    center: float = 0.5  # of mass, as a fraction of the length from the hinge
    inertia: float = 1.0 / 3.0  # about the hinge, as a fraction of mass × length²
    max_torque: float = 2.0  # N·m; the action is clipped to ± this
    max_speed: float = 8.0  # rad/s; clipped
    dt: float = 0.05  # seconds per step
    speed_cost: float = 0.1  # weight of velocity² in the cost
    torque_cost: float = 0.001  # weight of torque² in the cost
    start_angle: float = np.pi  # rad; the angle starts uniform in ± this
    start_speed: float = 1.0  # rad/s; the velocity starts uniform in ± this


@dataclass(frozen=True)
class Pendulum(Env[State, Params]):
    """A rod on a motor that is too weak to lift it in one go."""

    max_steps: int | None = 200

    @property
    def random_step(self) -> bool:
        """False: only the start is random."""
        return False

    @property
    def observation_space(self) -> Box:
        """f32[3]; the velocity is clipped by the dynamics."""
        high = (1.0, 1.0, 8.0)
        return Box(tuple(-h for h in high), high, (3,))

    @property
    def action_space(self) -> Box:
        """f32[1] torque, ±2 N·m."""
        return Box(-2.0, 2.0, (1,))

    def default_params(self) -> Params:
        """Gymnasium's constants."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws angle and velocity uniformly around upright and rest."""
        angle, speed = jax.random.uniform(key, (2,), jnp.float32, -1.0, 1.0)
        state = State(angle * params.start_angle, speed * params.start_speed)
        return observe(state), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """One semi-implicit Euler step: the new velocity moves the angle."""
        del key
        torque = jnp.clip(action[0], -params.max_torque, params.max_torque)
        angle = jnp.mod(state.theta + jnp.pi, 2 * jnp.pi) - jnp.pi
        cost = (
            jnp.square(angle)
            + params.speed_cost * jnp.square(state.theta_dot)
            + params.torque_cost * jnp.square(torque)
        )
        weight = params.mass * params.gravity * params.center * params.length * sin_cos(state.theta)[0]
        acceleration = (weight + torque) / (params.inertia * params.mass * jnp.square(params.length))
        theta_dot = jnp.clip(state.theta_dot + acceleration * params.dt, -params.max_speed, params.max_speed)
        new = State(state.theta + theta_dot * params.dt, theta_dot)
        return Step(observe(new), new, -cost, jnp.zeros((), jnp.bool_), {})

    def as_observation(self, state: State, params: Params) -> jax.Array:
        """Cosine, sine and angular velocity."""
        del params
        return observe(state)

    def render(self, state: State, params: Params) -> np.ndarray:
        """Side view, the hinge in the middle: 500 × 500 pixels, 2.2 rod lengths from the middle to an edge."""
        canvas = Canvas(height=500, width=500)
        reach, theta = 250 / 2.2, float(state.theta)
        tip = (250 - reach * np.sin(theta), 250 - reach * np.cos(theta))
        canvas.line((250, 250), tip, 22, "red")
        canvas.circle((250, 250), 6, "black")
        return canvas.pixels


@dataclass(frozen=True)
class PendulumLab(Pendulum):
    """The laboratory variant: a point mass that starts within ±π/4 of upright (see the module's docstring)."""

    def default_params(self) -> Params:
        """The exercise's constants."""
        return Params(gravity=9.81, center=1.0, inertia=1.0, start_angle=np.pi / 4, start_speed=0.1)


def observe(state: State) -> jax.Array:
    """Returns the f32[3] observation of `state`."""
    sin, cos = sin_cos(state.theta)
    return jnp.stack([cos, sin, state.theta_dot])
