"""The rigid-body step behind LunarLander: a hull, two legs hinged on it, and ground made of straight segments.

Gymnasium leaves this to Box2D. Box2D moves each body freely and then repairs the violated constraints one at a time
("sequential impulses", E. Catto, Fast and Simple Physics using Sequential Impulses, GDC 2006; Modeling and Solving
Constraints, GDC 2009), 180 sweeps over velocities and up to 60 over positions in every step of 1/50 s. Here the same
problem is posed in other unknowns, so that 6 sweeps reach what Box2D's converge to:

* Both hinges sit at the hull's origin, so the velocities that respect them are exactly those given by five numbers:
  the velocity of that point, and one angular velocity for each body. Momentum is projected on these once, which is
  what Box2D's joint impulses achieve, and contacts and motors are then solved among the five. In Box2D an impulse at
  a foot (0.07 kg) reaches the hull (4.8 kg) through the hinge by about 2 % per sweep.
* A contact impulse is solved together with the torque in its own leg's hinge (2 × 2, then clipped): same reason.
* Ground friction is bounded by the current normal impulse, as in Box2D. Restitution is zero.

What a leg's hinge does, in terms of `bend`, the angle by which the leg is spread (0.35 … 0.85 rad): a motor pushes
the foot down, towards 0.35, at 0.3 rad/s with at most 40 N·m, and limits stop it at both ends. At the lower one the
motor and the limit push against each other, so the torque is one-sided: as much as is needed to spread the leg, at
most the motor's against it. Box2D's motor needs several steps to build that up after the leg reached the limit;
`motor` follows it.

Deviations from Box2D 2.3 (the measured size of them is in tests/envs/box2d):

* Box2D stops short of convergence at hard impacts; this solver does not. Raising Box2D's own number of sweeps from 180
  to 1500 changes the score of Gymnasium's controller by less than can be seen in 400 episodes.
* Feet touch the ground with their two lower corners only, each against the segment below it: a peak of the ground
  between them, or the upper end of a leg, is not seen. The hull's own contact is detected (all corners and the peaks),
  but has no force: the episode ends there.
* No body is stopped part of the way through a step. Box2D does that to keep fast bodies from passing through the
  ground; a foot that passes through within a step is reported as touching at the end of it, as in Box2D, and is moved
  out in the next. Above some 5 m/s Box2D thereby tears a leg off its hinge for a few steps, and the hull hits the
  ground sooner: under random actions episodes are 3 % longer here. Their returns have the same distribution.

On speed: XLA puts a copy of cheap arithmetic into every kernel that reads its result, but computes a quotient once.
Quotients stand below where they cut long chains, also where a product with a reciprocal would do.

Units: metres, seconds, kilograms, radians; y points upwards. All functions are unbatched.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.trigonometry import sin_cos

SCALE = 30.0  # pixels per metre in Gymnasium's description of the shapes
WIDTH, HEIGHT = 600 / SCALE, 400 / SCALE  # the world, m
DT = 1 / 50  # s
GROUND_POINTS = 11  # equally spaced over WIDTH
SPACING = WIDTH / (GROUND_POINTS - 1)

HULL = np.array([(-14, 17), (-17, 0), (-17, -10), (17, -10), (17, 0), (14, 17)]) / SCALE  # corners, anticlockwise
FOOT = np.array([(-2, -8), (2, -8)]) / SCALE  # lower corners of a leg, from its centre; the leg is twice as high
LEG_HALF = np.array([2, 8]) / SCALE
HINGE = np.array([20, 18]) / SCALE  # |x|, y of the hinge from a leg's centre
SIDES = (1.0, -1.0)  # leg 0 stands to the right of the hull, leg 1 to the left

# Gymnasium writes 0.4 … 0.9; Box2D counts from the angle at which the leg is created, 0.05 the other way.
BEND_LOW, BEND_HIGH = 0.4 - 0.05, 0.9 - 0.05  # rad, limits of a leg's hinge
MOTOR_SPEED = -0.3  # rad/s of `bend`
MOTOR_IMPULSE = 40 * DT  # N·m·s, most that the motor gives in a step
FRICTION = float(np.sqrt(0.2 * 0.1))  # Box2D takes the geometric mean: leg 0.2 (its default), ground 0.1

# Box2D's tolerances (b2Settings.h)
SKIN = 0.02  # m, two polygon radii: surfaces closer than this touch
SLOP = 0.005  # m, penetration that is left alone
ANGLE_SLOP = 2 / 180 * np.pi  # rad
MAX_ANGLE_FIX = 8 / 180 * np.pi  # rad for each correction
IMPACT_GAP = 0.005 + 0.00125  # m: Box2D's search for impacts within a step stops here
SLEEP_SPEED, SLEEP_SPIN = 0.01, 2 / 180 * np.pi  # m/s, rad/s: slower than both counts as rest
SLEEP_STEPS = 25  # 0.5 s of rest
BOX2D_SWEEPS = 180

VELOCITY_SWEEPS = 6
POSITION_SWEEPS = 3


def polygon_mass(corners: np.ndarray, density: float) -> tuple[float, np.ndarray, float]:
    """Returns (mass, centre, moment of inertia about the centre) of a uniform polygon, corners f64[N, 2] in order."""
    following = np.roll(corners, -1, 0)
    twice_area = corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]
    centre = (twice_area[:, None] * (corners + following)).sum(0) / (3 * twice_area.sum())
    a, b = corners - centre, following - centre
    second = ((a * a).sum(1) + (a * b).sum(1) + (b * b).sum(1)) * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 12
    return density * abs(twice_area.sum()) / 2, centre, density * abs(second.sum())


_mass, _centre, _inertia = polygon_mass(HULL, 5.0)
HULL_MASS, HULL_CENTRE, HULL_INERTIA = float(_mass), float(_centre[1]), float(_inertia)  # kg, m above origin, kg·m²
_mass, _centre, _inertia = polygon_mass(LEG_HALF * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]), 1.0)
LEG_MASS, LEG_INERTIA = float(_mass), float(_inertia)
# What one sweep of Box2D changes in the impulse of a motor that a limit holds still.
MOTOR_BUILD_UP = BOX2D_SWEEPS * abs(MOTOR_SPEED) / (1 / HULL_INERTIA + 1 / LEG_INERTIA)


class Bodies(NamedTuple):
    """Hull and legs. Leg 0 is the right one, as Gymnasium's `legs[0]`."""

    x: jax.Array  # f32[] hull's origin, where both hinges are, m
    y: jax.Array  # f32[]
    angle: jax.Array  # f32[] of the hull, rad anticlockwise
    vx: jax.Array  # f32[] velocity of the hull's centre of mass, m/s
    vy: jax.Array  # f32[]
    spin: jax.Array  # f32[] rad/s
    leg_angle: jax.Array  # f32[2] rad
    leg_vx: jax.Array  # f32[2] velocity of the legs' centres, m/s
    leg_vy: jax.Array  # f32[2]
    leg_spin: jax.Array  # f32[2] rad/s
    motor: jax.Array  # f32[2] motor's impulse in the last step, towards more `bend`, N·m·s
    torque: jax.Array  # f32[2] motor's and limit's impulse together: a guess for the next step
    impulse: jax.Array  # f32[2, 2, 2] impulse at (leg, corner) along (the ground, its normal), N·s: likewise
    leg_contact: jax.Array  # bool[2] foot on the ground, as Gymnasium sees it
    leg_segments: jax.Array  # i32[2] bit k: foot touches the k-th segment of the ground
    hull_contact: jax.Array  # bool[] hull on the ground: a crash
    hull_near: jax.Array  # bool[] hull within the skin of the ground: it will be touching in the next step
    rest_steps: jax.Array  # i32[] steps for which every body has been at rest
    asleep: jax.Array  # bool[] at rest for 0.5 s


class _Ground(NamedTuple):
    """The three segments that can be below any part of the lander."""

    first: jax.Array  # i32[] index of the leftmost
    left: jax.Array  # f32[] its x
    heights: tuple[jax.Array, ...]  # 4 × f32[] heights of their ends
    slopes: tuple[jax.Array, ...]  # 3 × f32[]
    secants: tuple[jax.Array, ...]  # 3 × f32[] of the slopes' angles, 1 / cosine


class _Row(NamedTuple):
    """One scalar velocity constraint: its Jacobian, and what a unit impulse does to the five velocities."""

    jx: jax.Array  # on the hinge's velocity
    jy: jax.Array
    arm: jax.Array  # on the leg's spin
    response: tuple[jax.Array, ...]  # 5: hinge x, y, hull's spin, leg 0's, leg 1's
    turn: jax.Array  # change of the rate of `bend`
    gain: jax.Array  # change of the constraint's own velocity
    ratio: jax.Array  # torque impulse that keeps `bend` as it is, per unit impulse, negated
    locked_gain: jax.Array  # change of the constraint's own velocity while the hinge does not turn


class _Torque(NamedTuple):
    """The torque between hull and leg, towards more bend."""

    response: tuple[jax.Array, ...]
    gain: jax.Array  # change of the rate of `bend` for a unit impulse
    at_low: jax.Array  # bool[]
    at_high: jax.Array  # bool[]
    floor: jax.Array  # f32[] the motor's strongest pull inwards, an impulse ≤ 0


def leg_offset(side: float, sin: jax.Array, cos: jax.Array, x: float, y: float) -> tuple[jax.Array, jax.Array]:
    """Returns the vector from the hinge to the point (x, y) of a leg, given from the leg's centre."""
    return _rotate(sin, cos, x + side * HINGE[0], y - HINGE[1])


def apply_impulse(bodies: Bodies, impulse_x: jax.Array, impulse_y: jax.Array, px: jax.Array, py: jax.Array) -> Bodies:
    """Hits the hull with an impulse (N·s) at a point (m, from the hull's origin, along the world's axes)."""
    sin, cos = sin_cos(bodies.angle)
    rx, ry = px + HULL_CENTRE * sin, py - HULL_CENTRE * cos
    return bodies._replace(
        vx=bodies.vx + impulse_x / HULL_MASS,
        vy=bodies.vy + impulse_y / HULL_MASS,
        spin=bodies.spin + (rx * impulse_y - ry * impulse_x) / HULL_INERTIA,
    )


def advance(
    bodies: Bodies,
    ground: jax.Array,
    gravity: jax.Array | float,
    force: jax.Array,
    torque: jax.Array,
    sweeps: int = VELOCITY_SWEEPS,
) -> Bodies:
    """Moves the lander by 1/50 s.

    Args:
        ground: f32[11] heights of the ground's corners, m.
        gravity: f32[] m/s², negative downwards.
        force: f32[] N along x at the hull's centre.
        torque: f32[] N·m on the hull.
        sweeps: sweeps over the velocity constraints.
    """
    legs = range(2)
    local = _below(ground, bodies.x)
    sin, cos = sin_cos(bodies.angle)
    leg_sin, leg_cos = zip(*(sin_cos(bodies.leg_angle[i]) for i in legs), strict=True)
    # From the hinge to the centres of mass: hull, leg 0, leg 1.
    arms = [_rotate(sin, cos, 0.0, HULL_CENTRE)] + [
        leg_offset(side, leg_sin[i], leg_cos[i], 0.0, 0.0) for i, side in enumerate(SIDES)
    ]
    masses, inertias = (HULL_MASS, LEG_MASS, LEG_MASS), (HULL_INERTIA, LEG_INERTIA, LEG_INERTIA)

    # Where every body would go by itself.
    vx = [bodies.vx + DT * force / HULL_MASS, bodies.leg_vx[0], bodies.leg_vx[1]]
    vy = [v + DT * gravity for v in (bodies.vy, bodies.leg_vy[0], bodies.leg_vy[1])]
    spin = [bodies.spin + DT * torque / HULL_INERTIA, bodies.leg_spin[0], bodies.leg_spin[1]]

    # Momentum along the five velocities, and the inverse of the 5 × 5 mass matrix. Given the hinge's velocity the
    # three spins are independent, so only a 2 × 2 matrix has to be inverted.
    first = [(-m * d[1], m * d[0]) for m, d in zip(masses, arms, strict=True)]  # coupling of a spin to the hinge
    # one over the moments of inertia about the hinge
    agile = [1 / (i + m * (d[0] * d[0] + d[1] * d[1])) for i, m, d in zip(inertias, masses, arms, strict=True)]
    total = HULL_MASS + 2 * LEG_MASS
    xx = total - sum(h[0] * h[0] * j for h, j in zip(first, agile, strict=True))
    xy = -sum(h[0] * h[1] * j for h, j in zip(first, agile, strict=True))
    yy = total - sum(h[1] * h[1] * j for h, j in zip(first, agile, strict=True))
    det = xx * yy - xy * xy
    inverse = (yy / det, -xy / det, xx / det)
    levers = [(h[0] * j, h[1] * j) for h, j in zip(first, agile, strict=True)]

    def respond(px: Any, py: Any, turns: list) -> tuple[jax.Array, ...]:
        """Changes of the five velocities from generalized momenta: of the hinge (px, py), of the spins (turns)."""
        for h, g in zip(levers, turns, strict=True):
            px, py = px - h[0] * g, py - h[1] * g
        x, y = inverse[0] * px + inverse[1] * py, inverse[1] * px + inverse[2] * py
        return (x, y, *(g * j - h[0] * x - h[1] * y for h, j, g in zip(levers, agile, turns, strict=True)))

    velocity = respond(
        sum(m * v for m, v in zip(masses, vx, strict=True)),
        sum(m * v for m, v in zip(masses, vy, strict=True)),
        [inertias[k] * spin[k] + masses[k] * (arms[k][0] * vy[k] - arms[k][1] * vx[k]) for k in range(3)],
    )

    # Constraints: for each leg a torque, and for each corner of the foot the ground's tangent and normal.
    torques, rows, gaps = [], [], []
    for i, side in enumerate(SIDES):
        bend = side * (bodies.leg_angle[i] - bodies.angle)
        turns = [-side, side * (1 - i), side * i]
        response = respond(0.0, 0.0, turns)
        at_low, at_high = bend <= BEND_LOW, bend >= BEND_HIGH
        floor = jnp.where(
            at_low, jnp.clip(bodies.motor[i] - MOTOR_BUILD_UP, -MOTOR_IMPULSE, MOTOR_IMPULSE), -MOTOR_IMPULSE
        )
        hinge_gain = side * (response[3 + i] - response[2])
        torques.append(_Torque(response, hinge_gain, at_low, at_high, floor))
        corners = []
        for corner in FOOT:
            rx, ry = leg_offset(side, leg_sin[i], leg_cos[i], *corner)
            gap, nx, ny = _gap(local, bodies.x + rx, bodies.y + ry)
            # Box2D pushes half way between the two surfaces. (Only finite numbers, also where nothing touches.)
            middle = 0.5 * jnp.minimum(gap, SKIN)
            rx, ry = rx - middle * nx, ry - middle * ny
            pair = []
            for jx, jy in ((ny, -nx), (nx, ny)):
                arm = rx * jy - ry * jx
                response = respond(jx, jy, [0.0, arm * (1 - i), arm * i])
                gain = jx * response[0] + jy * response[1] + arm * response[3 + i]
                turn = side * (response[3 + i] - response[2])
                ratio = turn / hinge_gain
                pair.append(_Row(jx, jy, arm, response, turn, gain, ratio, gain - ratio * turn))
            corners.append(pair)
            gaps.append(gap)
        rows.append(corners)
    # A foot that came through the ground in the last step was stopped at the surface by Box2D, which then sees the
    # corner that arrived first, not the other one behind it.
    touching, segments = [], []
    for i, side in enumerate(SIDES):
        sunk = jnp.minimum(jnp.minimum(gaps[2 * i], gaps[2 * i + 1]) - SLOP, 0.0)
        touching.append([gaps[2 * i + c] - sunk <= SKIN for c in range(2)])
        segments.append(_touched(local, bodies.x, bodies.y, side, leg_sin[i], leg_cos[i], SKIN + sunk))

    # Start from the impulses of the last step.
    torque_now = [
        jnp.clip(bodies.torque[i], torques[i].floor, jnp.where(torques[i].at_low, jnp.inf, MOTOR_IMPULSE)) for i in legs
    ]
    torque_now = [
        jnp.where(
            torques[i].at_low | torques[i].at_high,
            torque_now[i],
            jnp.clip(bodies.motor[i], -MOTOR_IMPULSE, MOTOR_IMPULSE),
        )
        for i in legs
    ]
    impulse = [
        [[jnp.where(touching[i][c], bodies.impulse[i, c, k], 0.0) for k in range(2)] for c in range(2)] for i in legs
    ]
    for i in legs:
        velocity = _add(velocity, torques[i].response, torque_now[i])
        for c in range(2):
            for k in range(2):
                velocity = _add(velocity, rows[i][c][k].response, impulse[i][c][k])

    def sweep(_: int, carry: tuple) -> tuple:
        velocity, torque_now, impulse = carry
        torque_now, impulse = list(torque_now), [[list(pair) for pair in leg] for leg in impulse]
        for i in (1, 0):
            side = SIDES[i]
            for k in (0, 1):  # friction first, as Box2D: the last word is the normal's
                for c in range(2):
                    if k == 0:
                        high = FRICTION * impulse[i][c][1]
                        low = -high
                    else:
                        high, low = jnp.where(touching[i][c], jnp.inf, 0.0), 0.0
                    velocity, impulse[i][c][k], torque_now[i] = _solve_pair(
                        velocity, impulse[i][c][k], low, high, torque_now[i], rows[i][c][k], torques[i], i, side
                    )
            velocity, torque_now[i] = _solve_torque(velocity, torque_now[i], torques[i], i, side)
        return velocity, tuple(torque_now), tuple(tuple(tuple(pair) for pair in leg) for leg in impulse)

    velocity, torque_now, impulse = jax.lax.fori_loop(
        0, sweeps, sweep, (velocity, tuple(torque_now), tuple(tuple(tuple(p) for p in leg) for leg in impulse))
    )
    motor = [
        jnp.where(torques[i].at_low, torques[i].floor, jnp.clip(torque_now[i], -MOTOR_IMPULSE, MOTOR_IMPULSE))
        for i in legs
    ]

    # Velocities of the centres of mass, and their motion.
    spin = velocity[2:]
    vx = [velocity[0] - w * d[1] for w, d in zip(spin, arms, strict=True)]
    vy = [velocity[1] + w * d[0] for w, d in zip(spin, arms, strict=True)]
    centre_x = [bodies.x + d[0] + DT * v for d, v in zip(arms, vx, strict=True)]
    centre_y = [bodies.y + d[1] + DT * v for d, v in zip(arms, vy, strict=True)]
    angle = [a + DT * w for a, w in zip((bodies.angle, bodies.leg_angle[0], bodies.leg_angle[1]), spin, strict=True)]
    x, y, angle = _rejoin(centre_x, centre_y, angle)
    x, y, angle, deepest = _push_out(x, y, angle, local, touching, rows, torques)

    # Rest.
    still = jnp.bool_(True)
    for k in range(3):
        still &= (vx[k] * vx[k] + vy[k] * vy[k] <= SLEEP_SPEED**2) & (jnp.abs(spin[k]) <= SLEEP_SPIN)
    rest_steps = jnp.where(still, bodies.rest_steps + 1, 0)
    asleep = (rest_steps >= SLEEP_STEPS) & (deepest >= -3 * SLOP)
    vx = [jnp.where(asleep, 0.0, v) for v in vx]
    vy = [jnp.where(asleep, 0.0, v) for v in vy]
    spin = [jnp.where(asleep, 0.0, w) for w in spin]

    # A body that came to the ground within the step touches it at once; the skin is looked at when a step starts.
    hull_gap = _hull_gap(local, x, y, angle[0])
    contact = []
    for i, side in enumerate(SIDES):
        before, now = bodies.leg_segments[i], segments[i]
        # Gymnasium hears of the beginning and the end of the contact with each segment, and the last word counts:
        # a foot that slides from one segment onto the next is off the ground for it once it has left the first.
        on = jnp.where(before & ~now != 0, False, jnp.where(now & ~before != 0, True, bodies.leg_contact[i]))
        arrived = _touched(local, x, y, side, *sin_cos(angle[1 + i]), IMPACT_GAP) & ~now
        segments[i] = now | arrived
        contact.append(on | (arrived != 0))
    return Bodies(
        x=x,
        y=y,
        angle=angle[0],
        vx=vx[0],
        vy=vy[0],
        spin=spin[0],
        leg_angle=jnp.stack(angle[1:]),
        leg_vx=jnp.stack(vx[1:]),
        leg_vy=jnp.stack(vy[1:]),
        leg_spin=jnp.stack(spin[1:]),
        motor=jnp.stack(motor),
        torque=jnp.stack(torque_now),
        impulse=jnp.stack([jnp.stack([jnp.stack(pair) for pair in leg]) for leg in impulse]),
        leg_contact=jnp.stack(contact),
        leg_segments=jnp.stack(segments),
        hull_contact=bodies.hull_near | (hull_gap < IMPACT_GAP),
        hull_near=hull_gap <= SKIN,
        rest_steps=rest_steps,
        asleep=asleep,
    )


def _rotate(sin: jax.Array, cos: jax.Array, x: jax.Array | float, y: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    return cos * x - sin * y, sin * x + cos * y


def _add(velocity: tuple, response: tuple, amount: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(v + r * amount for v, r in zip(velocity, response, strict=True))


def _below(ground: jax.Array, x: jax.Array) -> _Ground:
    """Cuts out the part of the ground that a lander at `x` can touch: no part of it is 1.17 m from its origin."""
    start = jnp.clip(jnp.floor((x - 1.17) / SPACING), 0, GROUND_POINTS - 4)
    first = start.astype(jnp.int32)
    heights = jax.lax.dynamic_slice(ground, (first,), (4,))
    points = tuple(heights[k] for k in range(4))
    slopes = tuple((points[k + 1] - points[k]) / SPACING for k in range(3))
    return _Ground(first, start * SPACING, points, slopes, tuple(jnp.sqrt(1 + s * s) for s in slopes))


def _gap(ground: _Ground, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns (distance to the segment at `x` along its normal, normal's x, y); infinite beyond the ground's ends."""
    along = x - ground.left

    def choose(values: tuple) -> jax.Array:
        return jnp.where(along < SPACING, values[0], jnp.where(along < 2 * SPACING, values[1], values[2]))

    height, slope, secant = choose(ground.heights[:3]), choose(ground.slopes), choose(ground.secants)
    along -= choose((0.0, SPACING, 2 * SPACING))
    gap = (y - height - slope * along) / secant
    return jnp.where((x < 0) | (x > WIDTH), jnp.inf, gap), -slope / secant, 1 / secant


def _touched(
    ground: _Ground, x: jax.Array, y: jax.Array, side: float, sin: jax.Array, cos: jax.Array, reach: jax.Array | float
) -> jax.Array:
    """Returns i32[], bit k set where the lower edge of a leg comes within `reach` of the ground's k-th segment."""
    ends = [leg_offset(side, sin, cos, *corner) for corner in FOOT]
    bits = []
    for k in range(3):
        cosine = 1 / ground.secants[k]
        sine = ground.slopes[k] * cosine
        # Along the segment and away from it, for both ends of the leg's edge.
        from_left = [(x + rx - ground.left - k * SPACING, y + ry - ground.heights[k]) for rx, ry in ends]
        (along_0, gap_0), (along_1, gap_1) = [(cosine * u + sine * v, cosine * v - sine * u) for u, v in from_left]
        length = SPACING * ground.secants[k]
        run = along_1 - along_0
        slant = (gap_1 - gap_0) / jnp.where(jnp.abs(run) < 1e-6, 1e-6, run)
        cut = [gap_0 + slant * (jnp.clip(along, 0.0, length) - along_0) for along in (along_0, along_1)]
        above = (jnp.maximum(along_0, along_1) >= 0) & (jnp.minimum(along_0, along_1) <= length)
        bits.append(jnp.where(above & (jnp.minimum(*cut) <= reach), 1 << k, 0))
    return (bits[0] | bits[1] | bits[2]) << ground.first


def _hull_gap(ground: _Ground, x: jax.Array, y: jax.Array, angle: jax.Array) -> jax.Array:
    """Returns the smallest distance between the hull and the ground: of its corners, and of the ground's to it."""
    sin, cos = sin_cos(angle)
    least = jnp.float32(jnp.inf)
    for corner in HULL:
        rx, ry = _rotate(sin, cos, *corner)
        least = jnp.minimum(least, _gap(ground, x + rx, y + ry)[0])
    edges = np.roll(HULL, -1, 0) - HULL
    outward = np.stack([edges[:, 1], -edges[:, 0]], 1) / np.linalg.norm(edges, axis=1, keepdims=True)
    for k in (1, 2):  # the two inner corners of the ground below: others are out of the hull's reach
        px, py = _rotate(-sin, cos, ground.left + k * SPACING - x, ground.heights[k] - y)
        depth = jnp.float32(-jnp.inf)
        for corner, normal in zip(HULL, outward, strict=True):
            depth = jnp.maximum(depth, normal[0] * (px - corner[0]) + normal[1] * (py - corner[1]))
        least = jnp.minimum(least, depth)
    return least


def _solve_pair(
    velocity: tuple,
    impulse: jax.Array,
    low: jax.Array | float,
    high: jax.Array,
    torque: jax.Array,
    row: _Row,
    hinge: _Torque,
    leg: int,
    side: float,
) -> tuple[tuple[jax.Array, ...], jax.Array, jax.Array]:
    """Brings a contact's velocity to zero together with the torque in its leg's hinge, within the bounds of both."""
    speed = row.jx * velocity[0] + row.jy * velocity[1] + row.arm * velocity[3 + leg]
    # While the upper limit pushes, the hinge stands still; while only the motor does, it turns at the motor's speed.
    limited = hinge.at_low | (hinge.at_high & (torque <= hinge.floor))
    turn = side * (velocity[3 + leg] - velocity[2]) - jnp.where(limited, 0.0, MOTOR_SPEED)
    torque_low = jnp.where(limited & hinge.at_high, -jnp.inf, hinge.floor)
    torque_high = jnp.where(hinge.at_low, jnp.inf, MOTOR_IMPULSE)
    wanted = jnp.clip(impulse - (speed - row.ratio * turn) / row.locked_gain, low, high)
    new_torque = torque - (turn + row.turn * (wanted - impulse)) / hinge.gain
    new_torque = jnp.clip(new_torque, torque_low, torque_high)
    change = new_torque - torque
    # The torque may have been clipped: what is left is the contact's alone.
    new = jnp.clip(impulse - (speed + row.turn * change) / row.gain, low, high)
    return _add(_add(velocity, row.response, new - impulse), hinge.response, change), new, new_torque


def _solve_torque(
    velocity: tuple, torque: jax.Array, hinge: _Torque, leg: int, side: float
) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Lets the motor reach its speed within its strength, and the limits stop the leg."""
    rate = side * (velocity[3 + leg] - velocity[2])
    stop = torque - rate / hinge.gain
    drive = torque - (rate - MOTOR_SPEED) / hinge.gain
    new = jnp.where(
        hinge.at_low,
        jnp.maximum(stop, hinge.floor),
        jnp.clip(drive, jnp.where(hinge.at_high, jnp.minimum(stop, hinge.floor), hinge.floor), MOTOR_IMPULSE),
    )
    return _add(velocity, hinge.response, new - torque), new


def _rejoin(centre_x: list, centre_y: list, angle: list) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """Closes the gap that straight motion opened at the hinges, moving each body in proportion to its mobility.

    One pass of Box2D's position solver over the two joints. Returns the hull's origin and the three angles.
    """
    angle = list(angle)
    for i in (1, 0):
        ax, ay = _rotate(*sin_cos(angle[0]), 0.0, -HULL_CENTRE)
        bx, by = leg_offset(SIDES[i], *sin_cos(angle[1 + i]), 0.0, 0.0)
        bx, by = -bx, -by
        error_x = centre_x[1 + i] + bx - centre_x[0] - ax
        error_y = centre_y[1 + i] + by - centre_y[0] - ay
        mobility = 1 / HULL_MASS + 1 / LEG_MASS
        xx = mobility + ay * ay / HULL_INERTIA + by * by / LEG_INERTIA
        xy = -ax * ay / HULL_INERTIA - bx * by / LEG_INERTIA
        yy = mobility + ax * ax / HULL_INERTIA + bx * bx / LEG_INERTIA
        det = xx * yy - xy * xy
        px, py = -(yy * error_x - xy * error_y) / det, -(xx * error_y - xy * error_x) / det
        centre_x[0], centre_y[0] = centre_x[0] - px / HULL_MASS, centre_y[0] - py / HULL_MASS
        angle[0] = angle[0] - (ax * py - ay * px) / HULL_INERTIA
        angle[1 + i] = angle[1 + i] + (bx * py - by * px) / LEG_INERTIA
    ax, ay = _rotate(*sin_cos(angle[0]), 0.0, -HULL_CENTRE)
    return centre_x[0] + ax, centre_y[0] + ay, angle


def _push_out(
    x: jax.Array, y: jax.Array, angle: list, ground: _Ground, touching: list, rows: list, torques: list
) -> tuple[jax.Array, jax.Array, list[jax.Array], jax.Array]:
    """Moves feet out of the ground and hinges back between their limits, as far as Box2D would.

    Box2D repeats corrections of a fifth of the depth beyond the slop until three slops are left; a pass here goes
    there directly. Returns the corrected x, y, angles and the least gap (beyond the skin) before the last pass.
    """

    def sweep(_: int, carry: tuple) -> tuple:
        place, kept, deepest = carry[0], list(carry[1]), jnp.float32(0.0)
        for i in (1, 0):
            side = SIDES[i]
            for c, corner in enumerate(FOOT):
                rx, ry = leg_offset(side, *sin_cos(place[3 + i]), *corner)
                gap = _gap(ground, place[0] + rx, place[1] + ry)[0] - SKIN
                gap = jnp.where(touching[i][c], gap, 0.0)
                deepest = jnp.minimum(deepest, gap)
                excess = -gap - SLOP
                k = 2 * i + c
                kept[k] = jnp.where(kept[k] < 0, jnp.clip(0.8 * excess, 0.0, 1.4 * SLOP), kept[k])
                row = rows[i][c][1]
                place = _add(place, row.response, jnp.maximum(excess - kept[k], 0.0) / row.gain)
            bend = side * (place[3 + i] - place[2])
            hinge = torques[i]
            short = jnp.where(hinge.at_low, jnp.clip(BEND_LOW - ANGLE_SLOP - bend, 0.0, MAX_ANGLE_FIX), 0.0)
            over = jnp.where(hinge.at_high, jnp.clip(bend - BEND_HIGH - ANGLE_SLOP, 0.0, MAX_ANGLE_FIX), 0.0)
            place = _add(place, hinge.response, (short - over) / hinge.gain)
        return place, tuple(kept), deepest

    # What may be left at each corner is found in the first pass.
    unknown = jnp.float32(-1.0)
    place, _, deepest = jax.lax.fori_loop(0, POSITION_SWEEPS, sweep, ((x, y, *angle), (unknown,) * 4, jnp.float32(0.0)))
    return place[0], place[1], list(place[2:]), deepest
