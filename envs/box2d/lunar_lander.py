"""LunarLander: set a lander down on a pad with three engines, as Gymnasium 1.4's LunarLander-v3.

Observation: f32[8] x and y of the hull's origin from the pad (10 m, 6.67 m; y from where the feet stand), their
velocities (5 m/s, 7.5 m/s), angle (rad), spin (2.5 rad/s), and 1 for each foot on the ground (right, left).
Action (discrete): 0 nothing, 1 left engine, 2 main engine, 3 right engine.
Action (continuous): f32[2] in ±1, main (off below 0, else at 50 … 100 %) and lateral (off within ±0.5, else the left
engine if negative, at |value|).
Reward: the change of a potential, -100 (distance + speed + |angle|) + 10 for each foot on the ground, less 0.3 and 0.03
for the main's and the side engine's throttle. The last reward is -100 for a crash and +100 for coming to rest instead.
Ends: the hull touches the ground or |x| ≥ 1 (crash); all bodies at rest for 0.5 s (landed). Time limit: 1000 steps.
Start: at the top centre, with a random push on the hull for one step and random ground around a flat pad.
Wind (`enable_wind`): a force along x and a torque, each tanh(sin(k/50) + sin(πk/100)) times its power, k counting steps
from a random start for each.

The rigid-body step is `envs.box2d.lander_physics`; it states how it differs from Box2D. Further deviations from
Gymnasium: Gymnasium starts with the legs out of joint and lets Box2D's first step mend that; here the outcome of that
step, which is affine in the push (to 5e-5 m; measured from Box2D 2.3.10), is the start. Float32 throughout.
Not physical, but kept: the side engines' point of attack moves with the angle (17 pixels in x, 14 in y).
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.box2d.lander_physics import (
    DT,
    GROUND_POINTS,
    HEIGHT,
    HINGE,
    HULL,
    LEG_HALF,
    SCALE,
    SIDES,
    SPACING,
    WIDTH,
    Bodies,
    advance,
    apply_impulse,
)
from envs.drawing import Canvas, Point
from envs.spaces import Box, Discrete
from envs.trigonometry import sin_cos

PAD_Y = HEIGHT / 4  # m, height that the ground around the pad is drawn from
PAD_LEFT, PAD_RIGHT = 4, 6  # ground corners between which it is flat
MAIN_ENGINE_Y = 4 / SCALE  # m below the hull's origin
SIDE_ENGINE_X = 12 / SCALE  # m, lever of the side engines' push
SIDE_ENGINE_AT = (17 / SCALE, 14 / SCALE)  # m

# Where the bodies are after Gymnasium's first step, as (constant, per kN of push along x, per kN along y, per N·m of
# turbulence); gravity's own part, DT·g and DT²·g, comes on top.
START_X = (0.0, 0.0798269, 0.0, 3.97e-5)  # from the top centre, m
START_Y = (0.00614, 0.0, 0.0806631, 0.0)
START_ANGLE = (0.0, -0.0092499, 0.0, 4.395e-4)
START_VX = (0.0, 4.0427986, 0.0, -4.579e-4)
START_VY = (0.0, 0.0, 4.0331614, 0.0)
START_SPIN = (0.0, -0.4578771, 0.0, 0.0217542)  # of all three bodies
START_LEG_ANGLE = ((0.491883, -0.011996, 0.0, 5.7e-4), (-0.492144, -0.012001, 0.0, 5.7e-4))
START_LEG_VX = ((0.0, 3.706773, 0.0, 0.015507), (0.0, 3.706773, 0.0, 0.015507))
START_LEG_VY = ((0.0, -0.291139, 4.033161, 0.013832), (0.0, 0.291139, 4.033161, -0.013832))


class State(NamedTuple):
    """Lander, ground, and what reward and wind remember."""

    bodies: Bodies
    ground: jax.Array  # f32[11] heights, m, at x = 0, 2, … 20 m
    potential: jax.Array  # f32[] of the last observation
    wind_index: jax.Array  # i32[] k of the wind's force
    turbulence_index: jax.Array  # i32[] k of its torque
    main_power: jax.Array  # f32[] throttle of the last step, 0 … 1 (for the picture)
    side_power: jax.Array  # f32[] likewise, -1 (left) … 1 (right)


class Params(NamedTuple):
    """Physics and engines."""

    gravity: float = -10.0  # m/s², between -12 and 0
    wind_power: float = 15.0  # N, used where the wind is enabled
    turbulence_power: float = 1.5  # N·m, likewise
    main_engine_power: float = 13.0  # N·s per metre of offset: 13 × 4/30 N·s in a step at full throttle
    side_engine_power: float = 0.6
    start_push: float = 1000.0  # N, largest push along each axis in the first step


@dataclass(frozen=True)
class LunarLander(Env[State, Params]):
    """A lander with a main engine and two side engines."""

    max_steps: int | None = 1000
    continuous: bool = False
    enable_wind: bool = False

    @property
    def observation_space(self) -> Box:
        """f32[8], with Gymnasium's bounds."""
        high = (2.5, 2.5, 10.0, 10.0, 2 * np.pi, 10.0, 1.0, 1.0)
        return Box((*(-h for h in high[:6]), 0.0, 0.0), high, (8,))

    @property
    def action_space(self) -> Box | Discrete:
        """Discrete(4), or f32[2] (main, lateral) in ±1."""
        return Box(-1.0, 1.0, (2,)) if self.continuous else Discrete(4)

    def default_params(self) -> Params:
        """Gymnasium's constants."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws the ground, the push and the wind's phase; the first step without engines is included."""
        key_draws, key_wind = jax.random.split(key) if self.enable_wind else (key, key)
        draws = jax.random.uniform(key_draws, (GROUND_POINTS + 3,))
        push = params.start_push * (2 * draws[:2] - 1)
        force = torque = jnp.float32(0.0)
        indices = jnp.zeros(2, jnp.int32)
        if self.enable_wind:
            indices = jax.random.randint(key_wind, (2,), -9999, 9999, jnp.int32)
            force, torque = self._wind(indices[0], indices[1], params)
        return self.start(shape_ground(draws[2:]), push[0] + force, push[1], torque, indices + 1, params)

    def start(
        self,
        ground: jax.Array,
        push_x: jax.Array,
        push_y: jax.Array,
        torque: jax.Array,
        indices: jax.Array,
        params: Params,
    ) -> tuple[jax.Array, State]:
        """Returns (obs, state) after the first step under a push (N) and torque (N·m) on the hull.

        Args:
            ground: f32[11] heights, m.
            indices: i32[2] the wind's k of the next step, for the force and the torque.
        """

        def affine(row: tuple[float, ...]) -> jax.Array:
            return row[0] + row[1] * push_x / 1000 + row[2] * push_y / 1000 + row[3] * torque

        fall = DT * params.gravity
        spin = affine(START_SPIN)
        zero = jnp.float32(0.0)
        bodies = Bodies(
            x=WIDTH / 2 + affine(START_X),
            y=HEIGHT + affine(START_Y) + DT * fall,
            angle=affine(START_ANGLE),
            vx=affine(START_VX),
            vy=affine(START_VY) + fall,
            spin=spin,
            leg_angle=jnp.stack([affine(row) for row in START_LEG_ANGLE]),
            leg_vx=jnp.stack([affine(row) for row in START_LEG_VX]),
            leg_vy=jnp.stack([affine(row) + fall for row in START_LEG_VY]),
            leg_spin=jnp.stack([spin, spin]),
            motor=jnp.zeros(2),
            torque=jnp.zeros(2),
            impulse=jnp.zeros((2, 2, 2)),
            leg_contact=jnp.zeros(2, bool),
            leg_segments=jnp.zeros(2, jnp.int32),
            hull_contact=jnp.bool_(False),
            hull_near=jnp.bool_(False),
            rest_steps=jnp.int32(0),
            asleep=jnp.bool_(False),
        )
        obs = observe(bodies)
        state = State(bodies, ground, potential(obs), indices[0], indices[1], zero, zero)
        return obs, state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Fires the engines with a random dispersion and moves the lander by 1/50 s."""
        return self.step_with(jax.random.uniform(key, (2,), jnp.float32, -1.0, 1.0), state, action, params)

    def step_with(self, dispersion: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """`step` with its random draws given: f32[2] in ±1, how far (1/30 m) the engines' push is off."""
        main, side = self.throttles(action)
        bodies = fire_engines(state.bodies, main, side, dispersion / SCALE, params)
        force, torque = self._wind(state.wind_index, state.turbulence_index, params)
        bodies = advance(bodies, state.ground, params.gravity, force, torque)
        obs = observe(bodies)
        value = potential(obs)
        crashed = bodies.hull_contact | (jnp.abs(obs[0]) >= 1.0)
        reward = value - state.potential - 0.3 * main - 0.03 * jnp.abs(side)
        reward = jnp.where(bodies.asleep, 100.0, jnp.where(crashed, -100.0, reward))
        new = State(bodies, state.ground, value, state.wind_index + 1, state.turbulence_index + 1, main, side)
        return Step(obs, new, reward, crashed | bodies.asleep, {})

    def throttles(self, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns f32[] throttles of the main engine (0 … 1) and the side engines (-1, left, … 1, right)."""
        if not self.continuous:
            return (action == 2).astype(jnp.float32), jnp.where(action == 1, -1.0, jnp.where(action == 3, 1.0, 0.0))
        main, lateral = jnp.clip(action, -1.0, 1.0)
        return jnp.where(main > 0, 0.5 + 0.5 * main, 0.0), jnp.where(jnp.abs(lateral) > 0.5, lateral, 0.0)

    def _wind(self, wind: jax.Array, turbulence: jax.Array, params: Params) -> tuple[jax.Array, jax.Array]:
        """Returns the wind's force (N, along x) and torque (N·m)."""
        if not self.enable_wind:
            return jnp.float32(0.0), jnp.float32(0.0)

        def gust(k: jax.Array) -> jax.Array:
            return jnp.tanh(jnp.sin(0.02 * k) + jnp.sin(0.01 * np.pi * k))

        return gust(wind) * params.wind_power, gust(turbulence) * params.turbulence_power

    def render(self, state: State, params: Params) -> np.ndarray:
        """The whole world from the side: 400 × 600 pixels."""
        canvas = Canvas(height=400, width=600, background="black")
        ground = np.asarray(state.ground)
        bodies = jax.tree.map(np.asarray, state.bodies)

        def pixel(x: float, y: float) -> Point:
            return float(x) * SCALE, 400 - float(y) * SCALE

        for i in range(GROUND_POINTS - 1):
            left, right = i * SPACING, (i + 1) * SPACING
            corners = [(left, -1), (right, -1), (right, ground[i + 1]), (left, ground[i])]
            canvas.polygon([pixel(*corner) for corner in corners], "white")
        for i in (PAD_LEFT, PAD_RIGHT):
            x, y = pixel(i * SPACING, ground[i])
            canvas.line((x, y), (x, y - 50), 1, "grey")
            canvas.polygon([(x, y - 50), (x, y - 40), (x + 25, y - 45)], "yellow")

        def placed(points: np.ndarray, angle: float, x: float, y: float) -> list[Point]:
            sin, cos = np.sin(angle), np.cos(angle)
            return [pixel(x + cos * px - sin * py, y + sin * px + cos * py) for px, py in points]

        where = (float(bodies.angle), float(bodies.x), float(bodies.y))
        main, side = float(state.main_power), float(state.side_power)
        if main > 0:
            bottom = HULL[:, 1].min()
            length = 0.9 * main
            for width, reach, color in ((0.25, length, "red"), (0.13, 0.6 * length, "yellow")):
                flame = np.array([(-width, bottom), (width, bottom), (0.0, bottom - reach)])
                canvas.polygon(placed(flame, *where), color)
        if side != 0:
            # The right engine (positive) fires out of the left flank and pushes the lander to the right, and so on.
            edge, tip = -np.sign(side) * HULL[:, 0].max(), -side * 0.5
            flame = np.array([(edge, 0.38), (edge, 0.54), (edge + tip, 0.46)])
            canvas.polygon(placed(flame, *where), "red")
        for i, mirror in enumerate(SIDES):
            box = LEG_HALF * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
            from_hinge = box + np.array([mirror * HINGE[0], -HINGE[1]])
            color = "green" if bodies.leg_contact[i] else "slate"
            canvas.polygon(placed(from_hinge, float(bodies.leg_angle[i]), *where[1:]), color)
        canvas.polygon(placed(HULL, *where), "purple")
        return canvas.pixels


def shape_ground(draws: jax.Array) -> jax.Array:
    """Returns f32[11] heights (m) from f32[12] draws in 0 … 1: up to half the world, level at the pad, smoothed."""
    middle = GROUND_POINTS // 2
    level = np.abs(np.arange(GROUND_POINTS + 1) - middle) <= 2
    heights = jnp.where(level, PAD_Y, draws * HEIGHT / 2)
    # Gymnasium's smoothing wraps around at the left end, to the twelfth draw. The factor is 0.33, not a third.
    return 0.33 * (jnp.roll(heights, 1) + heights + jnp.roll(heights, -1))[:GROUND_POINTS]


def fire_engines(bodies: Bodies, main: jax.Array, side: jax.Array, dispersion: jax.Array, params: Params) -> Bodies:
    """Hits the hull with the engines' impulses of one step; `dispersion`, f32[2], is in metres."""
    sin, cos = sin_cos(bodies.angle)
    # The lever is at once the offset of the point of attack from the hull's origin and, times the power, the impulse.
    along, across = MAIN_ENGINE_Y + 2 * dispersion[0], dispersion[1]
    lever_x, lever_y = sin * along - cos * across, -cos * along - sin * across
    power = -params.main_engine_power * main
    fired = apply_impulse(bodies, power * lever_x, power * lever_y, lever_x, lever_y)

    across = 3 * dispersion[1] + jnp.sign(side) * SIDE_ENGINE_X
    lever_x, lever_y = sin * dispersion[0] - cos * across, -cos * dispersion[0] - sin * across
    power = -params.side_engine_power * jnp.abs(side)
    at_x, at_y = lever_x - sin * SIDE_ENGINE_AT[0], lever_y + cos * SIDE_ENGINE_AT[1]
    return apply_impulse(fired, power * lever_x, power * lever_y, at_x, at_y)


def observe(bodies: Bodies) -> jax.Array:
    """Returns the observation, f32[8]."""
    return jnp.stack(
        [
            (bodies.x - WIDTH / 2) / (WIDTH / 2),
            (bodies.y - PAD_Y - HINGE[1]) / (HEIGHT / 2),
            bodies.vx * (WIDTH / 2) * DT,
            bodies.vy * (HEIGHT / 2) * DT,
            bodies.angle,
            20 * DT * bodies.spin,
            bodies.leg_contact[0].astype(jnp.float32),
            bodies.leg_contact[1].astype(jnp.float32),
        ]
    )


def potential(obs: jax.Array) -> jax.Array:
    """Returns the value f32[] whose change is the reward, from an observation."""
    distance = jnp.sqrt(jnp.square(obs[0]) + jnp.square(obs[1]))
    speed = jnp.sqrt(jnp.square(obs[2]) + jnp.square(obs[3]))
    return -100 * (distance + speed + jnp.abs(obs[4])) + 10 * (obs[6] + obs[7])
