"""CartPole of the Behaviour Suite: balance a pole on a cart for ten seconds.

Observation: f32[6] x / 3, velocity / 3, sin θ, cos θ, angular velocity (rad/s), share of the time that has passed.
Action: 0 pushes the cart to the left, 1 does nothing, 2 pushes to the right.
Reward: 1 while cos θ > 0.8 and |x| < 3, else 0.
Ends: with the first reward of 0, or after more than 10 seconds: step 1001 at 0.01 s per step is the last.
Start: x, θ and both velocities uniform in ±0.05.
The equations of motion are those of `envs.classic_control.cartpole`; θ is kept in 0 … 2π.

Source, time limit and common deviations: see `envs.bsuite`. Experiment "cartpole": as it is.
Deviations: float32 arithmetic instead of float64. Time is counted in steps; the original adds up seconds, with the same
last step for its standard constants.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.classic_control import cartpole
from envs.drawing import Canvas
from envs.spaces import Box, Discrete
from envs.trigonometry import sin_cos


class State(NamedTuple):
    """Cart, pole and clock."""

    x: jax.Array  # f32[] position, m
    x_dot: jax.Array  # f32[] velocity, m/s
    theta: jax.Array  # f32[] pole angle from upright, rad, in 0 … 2π after the first step
    theta_dot: jax.Array  # f32[] angular velocity, rad/s
    t: jax.Array  # i32[] steps taken


class Params(NamedTuple):
    """Physics and rules."""

    gravity: float = 9.8  # m/s²
    mass_cart: float = 1.0  # kg
    mass_pole: float = 0.1  # kg
    length: float = 0.5  # half of the pole's length, m
    force: float = 10.0  # push per action, N
    dt: float = 0.01  # seconds per step
    max_time: float = 10.0  # seconds
    height_threshold: float = 0.8  # cos θ must be above it
    x_threshold: float = 3.0  # m; |x| must be below it
    start_range: float = 0.05  # every coordinate starts uniform in ± this


@dataclass(frozen=True)
class CartPole(Env[State, Params]):
    """A cart with a pole, three actions and a visible clock."""

    @property
    def random_step(self) -> bool:
        """False: only the start is random."""
        return False

    @property
    def observation_space(self) -> Box:
        """f32[6]."""
        inf = np.inf
        return Box((-inf, -inf, -1.0, -1.0, -inf, 0.0), (inf, inf, 1.0, 1.0, inf, inf), (6,))

    @property
    def action_space(self) -> Discrete:
        """0: left, 1: nothing, 2: right."""
        return Discrete(3)

    def default_params(self) -> Params:
        """The original's constants."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws every coordinate near the upright rest."""
        x, x_dot, theta, theta_dot = jax.random.uniform(key, (4,), jnp.float32, -params.start_range, params.start_range)
        state = State(x, x_dot, theta, theta_dot, jnp.int32(0))
        return observe(state, params), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """One explicit Euler step of the equations of motion."""
        new = move(key, state, action, params)
        upright = (sin_cos(new.theta)[1] > params.height_threshold) & (jnp.abs(new.x) < params.x_threshold)
        terminated = ~upright | time_is_up(new, params)
        return Step(observe(new, params), new, upright.astype(jnp.float32), terminated, {})

    def render(self, state: State, params: Params) -> np.ndarray:
        """Side view: 300 × 600 pixels."""
        return draw(state, params)


def move(key: jax.Array, state: State, action: jax.Array, params: Any) -> State:
    """Returns the state one step later; `params` are those of this environment or of the swing-up."""
    physics = cartpole.Params()._replace(
        gravity=params.gravity,
        mass_cart=params.mass_cart,
        mass_pole=params.mass_pole,
        length=params.length,
        force=(jnp.asarray(action, jnp.float32) - 1) * params.force,
        dt=params.dt,
    )
    before = cartpole.State(state.x, state.x_dot, state.theta, state.theta_dot)
    new = cartpole.CartPole().step(key, before, jnp.int32(1), physics).state
    return State(new.x, new.x_dot, jnp.mod(new.theta, 2 * np.pi), new.theta_dot, state.t + 1)


def time_is_up(state: State, params: Any) -> jax.Array:
    """Whether more than `max_time` has passed, bool[]; rounding in max_time / dt does not count."""
    return state.t > params.max_time / params.dt + 1e-3


def observe(state: State, params: Any) -> jax.Array:
    """Returns what both environments observe: f32[6]."""
    sin, cos = sin_cos(state.theta)
    return jnp.stack(
        [
            state.x / params.x_threshold,
            state.x_dot / params.x_threshold,
            sin,
            cos,
            state.theta_dot,
            state.t * params.dt / params.max_time,
        ]
    ).astype(jnp.float32)


def draw(state: State, params: Any) -> np.ndarray:
    """Returns a picture of the rail between the two limits of x, uint8[300, 600, 3]."""
    canvas = Canvas(height=300, width=600)
    scale = 280 / float(params.x_threshold)
    x, theta = 300 + float(state.x) * scale, float(state.theta)
    rail, axle = 180.0, 170.0
    reach = scale * 2 * float(params.length)
    canvas.line((20, rail), (580, rail), 2, "black")
    canvas.rectangle((x - 22, rail - 12), (x + 22, rail + 12), "black")
    canvas.line((x, axle), (x + reach * np.sin(theta), axle - reach * np.cos(theta)), 9, "tan")
    canvas.circle((x, axle), 5, "slate")
    return canvas.pixels
