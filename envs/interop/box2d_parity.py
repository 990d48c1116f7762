"""Parity of LunarLander with Gymnasium's, which leaves the physics to Box2D: single steps, starts and whole episodes.

A Box2D world can be read, not set. So steps of Gymnasium are recorded: the world before each as a state of ours, the
action, the random dispersion of the engines (what its generator is about to draw) and the result. Ours makes the same
step. In free flight only rounding differs. In contact both approximate the same problem, by different means (see
`envs.box2d.lander_physics`), so there are quantiles of the error; and Box2D with many more sweeps than it usually does
shows what both converge to.

Whole episodes are followed for 450 steps in both; few last longer.

One compiled program serves both environments and all winds: ours with continuous actions and a wind whose power may be
zero. The four discrete actions are points of the continuous ones, which is checked. It is compiled without
optimisation, which would cost more than it gives.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from envs.base import Step
from envs.box2d import lander_physics as physics
from envs.box2d.lunar_lander import State, shape_ground
from envs.interop.foreign import load
from envs.interop.parity import (
    Check,
    Episodes,
    gymnasium_reference,
    same_episodes,
    same_mean,
    same_spaces,
    same_time_limit,
)

BATCH, LIMIT = 128, 450
AS_CONTINUOUS = np.array([(-1, 0), (-1, -1), (1, 0), (-1, 1)], np.float32)  # the discrete actions 0 … 3
CONVERGED_SWEEPS = 3000  # Box2D does 180

# What an error is measured in: the columns of an observation, and the reward behind them.
PARTS = {"position": [0, 1], "velocity": [2, 3], "angle": [4], "spin": [5], "reward": [8]}
FEET = [6, 7]
FLIGHT_95, FLIGHT_MAX = (3e-7, 1e-5, 1e-6, 2e-5, 5e-4), (5e-6, 2e-4, 2e-5, 3e-4, 2e-2)
CONTACT_MEDIAN, CONTACT_90 = (2e-5, 1e-3, 1e-4, 2e-3), (5e-4, 2e-2, 5e-3, 0.1)
CONVERGED_90 = (4e-5, 4e-3, 3e-4, 4e-3)

Policy = Callable[[np.ndarray], Any]  # observation(s) -> action(s) as its environment takes them


class Recorded(NamedTuple):
    """Steps of Gymnasium's, and what ours needs to repeat them."""

    states: State  # before, as ours: NumPy leaves [N, ...]
    actions: np.ndarray  # f32[N, 2]
    dispersions: np.ndarray  # f32[N, 2] in ±1
    obs: np.ndarray  # f32[N, 8] after
    rewards: np.ndarray  # f64[N]


class Flights(NamedTuple):
    """Whole episodes, and how they ended."""

    episodes: Episodes
    crashed: np.ndarray  # bool[n]
    landed: np.ndarray  # bool[n]


def compare_lunar_lander(
    env: Any, params: Any, samples: int, episodes: int | None, rng: np.random.Generator
) -> list[Check]:
    """Compares LunarLander with discrete or continuous actions; fewer than 2,000 samples are taken for 2,000."""
    samples = max(samples, 2000)  # quantiles of the steps of one or two episodes would be their own, not the physics'
    spec, reference = gymnasium_reference(_gymnasium_id(env))
    checks = single_steps(env, params, samples, rng)
    checks += _starts(env, params, samples // 100)
    checks += [same_time_limit(env, spec), same_spaces(env, reference)]
    if not env.continuous:
        checks.append(_discrete_actions(env))
    checks.append(_start_distribution(env, params, reference, samples // 20, rng))
    calm = _calm(params)
    landings, falls = episodes or samples // 20, episodes or samples // 8
    heuristic = load("gymnasium.envs.box2d.lunar_lander", "interop").heuristic
    checks += _same_flights(
        "controller",
        _our_flights(env, calm, functools.partial(controlled, continuous=env.continuous), landings, rng),
        _their_flights(reference, lambda obs: heuristic(reference, obs), landings, rng),
    )
    ours = _our_flights(env, calm, lambda obs: _random_actions(env, rng, len(obs)), falls, rng)
    theirs = _their_flights(reference, lambda _: _random_actions(env, rng, 1)[0], falls, rng)
    returns, lengths, *rest = _same_flights("random policy", ours, theirs)
    return [*checks, returns, _mean_length(lengths, ours.episodes.lengths, theirs.episodes.lengths), *rest]


def single_steps(env: Any, params: Any, samples: int, rng: np.random.Generator) -> list[Check]:
    """Compares recorded steps: in free flight, in wind, in contact, and in contact with Box2D converged.

    Args:
        samples: twice the number of steps in free flight; there are fewer of the other kinds.
    """
    name, calm = _gymnasium_id(env), _calm(params)

    def act(obs: np.ndarray) -> Any:
        return controlled(obs, env.continuous)

    def error(reference: Any, policy: Policy, ours: Any, steps: int, *, contact: bool) -> np.ndarray:
        recorded = record(reference, policy, steps, rng, contact=contact)
        out = replay(env, recorded, ours)
        return np.abs(np.concatenate([out.obs - recorded.obs, (out.reward - recorded.rewards)[:, None]], 1))

    _, still = gymnasium_reference(name)
    _, windy = gymnasium_reference(name, enable_wind=True)
    flight = error(still, lambda _: _random_actions(env, rng, 1)[0], calm, samples // 2, contact=False)
    wind = error(windy, act, params, samples // 4, contact=False)
    contact = error(still, act, calm, samples // 10, contact=True)
    with _sweeps(CONVERGED_SWEEPS):
        converged = error(gymnasium_reference(name)[1], act, calm, samples // 20, contact=True)
    name = f"contact, Box2D with {CONVERGED_SWEEPS:,} sweeps"
    # A foot that touches one step sooner or later changes the reward by 10; it counts as a wrong foot, not as an error.
    same = flight[:, FEET].max(1) == 0
    same_in_wind = wind[:, FEET].max(1) == 0
    return [
        *_quantiles("flight", flight[same], 0.95, FLIGHT_95),
        *_quantiles("flight", flight[same], 1.0, FLIGHT_MAX),
        _feet("flight", flight, 0.005),
        *_quantiles("flight in wind", wind[same_in_wind], 0.95, FLIGHT_95),
        _feet("flight in wind", wind, 0.005),
        *_quantiles("contact", contact, 0.5, CONTACT_MEDIAN),
        *_quantiles("contact", contact, 0.9, CONTACT_90),
        _feet("contact", contact, 0.03),
        *_quantiles(name, converged, 0.9, CONVERGED_90),
        _feet(name, converged, 0.03),
    ]


def record(reference: Any, policy: Policy, steps: int, rng: np.random.Generator, *, contact: bool) -> Recorded:
    """Records steps of Gymnasium's, of episodes of at most 400.

    Args:
        policy: observation -> action as `reference` takes it.
        contact: record steps that begin with a foot on the ground, else those before the first contact; never the
            last of an episode.
    """
    rows: list[tuple] = []
    while len(rows) < steps:
        obs, _ = reference.reset(seed=int(rng.integers(2**31)))
        for _ in range(400):
            on_ground = any(leg.ground_contact for leg in reference.legs)
            if on_ground and not contact:
                break
            state = _as_ours(reference) if on_ground == contact else None
            action, dispersion = policy(obs), _about_to_draw(reference.np_random)
            obs, reward, terminated, _, _ = reference.step(action)
            if terminated:
                break
            if state is not None and (contact or obs[6] + obs[7] == 0):
                continuous = action if reference.continuous else AS_CONTINUOUS[action]
                rows.append((state, continuous, dispersion, obs, reward))
    states, actions, dispersions, obs, rewards = zip(*rows[:steps], strict=True)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    return Recorded(
        stacked, np.array(actions, np.float32), np.array(dispersions, np.float32), np.array(obs), np.array(rewards)
    )


def replay(env: Any, recorded: Recorded, params: Any) -> Step:
    """Our steps from the recorded states, NumPy leaves [N, ...]; in padded batches of one size."""
    step, _, _ = _programs(_general(env))
    n, parts = len(recorded.actions), []
    for first in range(0, n, BATCH):
        pick = np.minimum(np.arange(first, first + BATCH), n - 1)
        states, actions, dispersions = jax.tree.map(lambda x, pick=pick: x[pick], recorded[:3])
        parts.append(step(dispersions, states, actions, params))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *parts)


def controlled(obs: np.ndarray, continuous: bool) -> Any:
    """The actions of Gymnasium's own controller, for f[..., 8].

    It tilts towards the pad, and stays the higher the farther away it is; with a foot on the ground it only brakes.
    """
    landed = (obs[..., 6] > 0) | (obs[..., 7] > 0)
    tilt = np.clip(0.5 * obs[..., 0] + obs[..., 2], -0.4, 0.4)
    turn = np.where(landed, 0.0, 0.5 * (tilt - obs[..., 4]) - obs[..., 5])
    brake = -0.5 * obs[..., 3]
    lift = np.where(landed, brake, 0.5 * (0.55 * np.abs(obs[..., 0]) - obs[..., 1]) + brake)
    if continuous:
        return np.clip(np.stack([20 * lift - 1, -20 * turn], -1), -1, 1).astype(np.float32)
    up = (lift > np.abs(turn)) & (lift > 0.05)
    return np.where(up, 2, np.where(turn < -0.05, 3, np.where(turn > 0.05, 1, 0)))


def _gymnasium_id(env: Any) -> str:
    return "LunarLanderContinuous-v3" if env.continuous else "LunarLander-v3"


def _general(env: Any) -> Any:
    return env.replace(continuous=True, enable_wind=True)


def _calm(params: Any) -> Any:
    return params._replace(wind_power=np.float32(0.0), turbulence_power=np.float32(0.0))


@functools.cache
def _programs(env: Any) -> tuple[Callable[..., Any], ...]:
    """Returns (step_with, reset, start), batched and compiled."""
    jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    return (
        jit(jax.vmap(env.step_with, (0, 0, 0, None))),
        jit(jax.vmap(env.reset, (0, None))),
        jit(jax.vmap(lambda draws, *rest: env.start(shape_ground(draws), *rest))),
    )


def _random_actions(env: Any, rng: np.random.Generator, n: int) -> Any:
    return rng.uniform(-1, 1, (n, 2)).astype(np.float32) if env.continuous else rng.integers(4, size=n)


@contextlib.contextmanager
def _sweeps(velocity: int) -> Iterator[None]:
    """Makes Gymnasium's new worlds do so many sweeps over velocities in a step."""
    box2d = load("gymnasium.envs.box2d.lunar_lander", "interop").Box2D
    world = box2d.b2World

    class World(world):
        def Step(self, dt: float, _: int, position: int) -> None:
            world.Step(self, dt, velocity, position)

    box2d.b2World = World
    try:
        yield
    finally:
        box2d.b2World = world


def _about_to_draw(generator: np.random.Generator) -> np.ndarray:
    """The two numbers in ±1 that a generator will draw next."""
    before = generator.bit_generator.state
    numbers = generator.uniform(-1, 1, size=2)
    generator.bit_generator.state = before
    return numbers


def _touched_segments(reference: Any) -> np.ndarray:
    """Bits of the ground's segments that each foot touches in Gymnasium's world, i32[2]."""
    masks = []
    for leg in reference.legs:
        mask = 0
        for edge in leg.contacts:
            (left, _), (right, _) = edge.contact.fixtureA.shape.vertices
            if edge.contact.touching and right - left < 3:
                mask |= 1 << round(left / 2)
        masks.append(mask)
    return np.array(masks, np.int32)


def _as_ours(reference: Any) -> State:
    """Gymnasium's world as a state of ours, NumPy leaves."""
    f: Any = np.float32
    hull, legs = reference.lander, reference.legs
    motor = f([side * leg.joint.GetMotorTorque(50) / 50 for side, leg in zip(physics.SIDES, legs, strict=True)])
    zero: Any = {"impulse": np.zeros((2, 2, 2), np.float32), "rest_steps": np.int32(0)}
    flags: Any = {name: np.bool_(False) for name in ("hull_contact", "hull_near", "asleep")}
    feet: Any = {
        "leg_contact": np.array([leg.ground_contact for leg in legs]),
        "leg_segments": _touched_segments(reference),
    }
    bodies = physics.Bodies(
        x=f(hull.position[0]),
        y=f(hull.position[1]),
        angle=f(hull.angle),
        vx=f(hull.linearVelocity[0]),
        vy=f(hull.linearVelocity[1]),
        spin=f(hull.angularVelocity),
        leg_angle=f([leg.angle for leg in legs]),
        leg_vx=f([leg.linearVelocity[0] for leg in legs]),
        leg_vy=f([leg.linearVelocity[1] for leg in legs]),
        leg_spin=f([leg.angularVelocity for leg in legs]),
        motor=motor,
        torque=motor,
        **feet,
        **zero,
        **flags,
    )
    ground = f([corners[0][1] for corners in reference.sky_polys] + [reference.sky_polys[-1][1][1]])
    wind: Any = [np.int32(getattr(reference, name, 0)) for name in ("wind_idx", "torque_idx")]
    return State(bodies, ground, f(reference.prev_shaping), wind[0], wind[1], f(0), f(0))


def _quantiles(phase: str, error: np.ndarray, q: float, limits: Sequence[float]) -> Iterator[Check]:
    """One line for each part of the observation (and the reward where it has a limit)."""
    measure = {0.5: "median |error|", 0.9: "90 % |error|", 0.95: "95 % |error|", 1.0: "max |error|"}[q]
    values = np.quantile(error, q, axis=0)
    for (part, columns), limit in zip(PARTS.items(), limits, strict=False):
        yield Check(f"{phase}: {part}", measure, float(values[columns].max()), limit, len(error))


def _feet(phase: str, error: np.ndarray, limit: float) -> Check:
    """Which feet touch the ground."""
    return Check(f"{phase}: feet", "wrong share", float(error[:, FEET].mean()), limit, len(error))


def _starts(env: Any, params: Any, seeds: int) -> Iterator[Check]:
    """Gymnasium's resets with their draws repeated: with and without wind, at two strengths of gravity."""
    rows, theirs = [], []
    for seed in range(seeds):
        wind, gravity = seed % 2 == 1, (-10.0, -8.0)[seed // 2 % 2]
        _, reference = gymnasium_reference(_gymnasium_id(env), enable_wind=wind, gravity=gravity)
        obs, _ = reference.reset(seed=seed)
        drawn = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        heights = drawn.uniform(0, physics.HEIGHT / 2, size=physics.GROUND_POINTS + 1) / (physics.HEIGHT / 2)
        push_x, push_y = drawn.uniform(-params.start_push, params.start_push, size=2)
        gusts = [0.0, 0.0]
        if wind:
            phases = (reference.wind_idx - 1, reference.torque_idx - 1)
            gusts = [math.tanh(math.sin(0.02 * k) + math.sin(0.01 * math.pi * k)) for k in phases]
        push_x, torque = push_x + params.wind_power * gusts[0], params.turbulence_power * gusts[1]
        ours = params._replace(gravity=np.float32(gravity))
        forces = [np.float32(force) for force in (push_x, push_y, torque)]
        rows.append((heights.astype(np.float32), *forces, np.zeros(2, np.int32), ours))
        theirs.append((np.asarray(obs), _as_ours(reference)))
    _, _, start = _programs(_general(env))
    obs, state = jax.device_get(start(*jax.tree.map(lambda *leaves: np.stack(leaves), *rows)))
    their_obs, their_state = jax.tree.map(lambda *leaves: np.stack(leaves), *theirs)

    def largest(part: str, ours: Any, reference: Any, limit: float) -> Check:
        return Check(f"start: {part}", "max |error|", float(np.abs(ours - reference).max()), limit, seeds)

    yield largest("observation", obs, their_obs, 2e-5)
    yield largest("ground", state.ground, their_state.ground, 2e-6)
    legs = ("leg_angle", "leg_spin", "leg_vx", "leg_vy")
    ours, other = ([getattr(bodies, name) for name in legs] for bodies in (state.bodies, their_state.bodies))
    yield largest("legs", np.array(ours), np.array(other), 1e-4)
    yield largest("potential", state.potential, their_state.potential, 2e-3)


def _discrete_actions(env: Any) -> Check:
    """The four actions fire as the points of the continuous ones do that stand for them here."""
    actions = jnp.arange(4)
    discrete, continuous = jax.vmap(env.throttles)(actions), jax.vmap(_general(env).throttles)(AS_CONTINUOUS[actions])
    return Check("discrete actions", "mismatches", int(np.sum(np.array(discrete) != np.array(continuous))), 0, 8)


def _start_distribution(env: Any, params: Any, reference: Any, samples: int, rng: np.random.Generator) -> Check:
    """Observations of our `reset` and of Gymnasium's."""
    _, reset, _ = _programs(_general(env))
    ours = _our_starts(reset, _calm(params), samples, rng)[0][:samples]
    reference.reset(seed=int(rng.integers(2**31)))
    theirs = np.array([reference.reset()[0] for _ in range(samples)])
    p_values = [float(np.asarray(stats.ks_2samp(ours[:, i], theirs[:, i]))[1]) for i in range(6)]
    note = "smallest of 6 coordinates, corrected for their number"
    return Check("starts: distribution", "KS p-value", min(1.0, min(p_values) * 6), 1e-4, samples, note=note)


def _our_starts(reset: Callable[..., Any], params: Any, episodes: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """At least so many starts of ours, in whole batches: (obs, state), NumPy leaves."""
    parts = []
    for _ in range(-(-episodes // BATCH)):
        key = jax.random.key(int(rng.integers(2**31)))
        parts.append(jax.device_get(reset(jax.random.split(key, BATCH), params)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _our_flights(env: Any, params: Any, policy: Policy, episodes: int, rng: np.random.Generator) -> Flights:
    """Whole episodes of ours, in batches that go on until the last of them has ended."""
    step, reset, _ = _programs(_general(env))
    parts = []
    for _ in range(-(-episodes // BATCH)):
        obs, state = _our_starts(reset, params, BATCH, rng)
        total, length, last = np.zeros(BATCH), np.zeros(BATCH, int), np.zeros(BATCH)
        running = np.ones(BATCH, bool)
        for _ in range(LIMIT):
            action = policy(np.asarray(obs))
            action = action if env.continuous else AS_CONTINUOUS[action]
            out = step(rng.uniform(-1, 1, (BATCH, 2)).astype(np.float32), state, action, params)
            obs, state = out.obs, out.state
            reward = np.asarray(out.reward)
            total += np.where(running, reward, 0)
            length += running
            ended = running & np.asarray(out.terminated)
            last = np.where(ended, reward, last)
            running &= ~ended
            if not running.any():
                break
        parts.append((total, length, last))
    total, length, last = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Flights(Episodes(total, length), last == -100, last == 100)


def _their_flights(reference: Any, policy: Policy, episodes: int, rng: np.random.Generator) -> Flights:
    """Whole episodes of Gymnasium's."""
    rows = []
    reference.reset(seed=int(rng.integers(2**31)))
    for _ in range(episodes):
        obs, _ = reference.reset()
        total, length, last = 0.0, 0, 0.0
        for _ in range(LIMIT):
            obs, reward, terminated, _, _ = reference.step(policy(obs))
            total, length = total + float(reward), length + 1
            if terminated:
                last = reward
                break
        rows.append((total, length, last))
    total, length, last = np.array(rows).T
    return Flights(Episodes(total, length.astype(int)), last == -100, last == 100)


def _same_flights(policy: str, ours: Flights, theirs: Flights) -> Iterator[Check]:
    """Returns, lengths, and how often the lander crashed and landed."""
    yield from same_episodes(policy, ours.episodes, theirs.episodes)
    for ending in ("crashed", "landed"):
        yield same_mean(f"{policy}: {ending}", getattr(ours, ending), getattr(theirs, ending))


def _mean_length(compared: Check, ours: np.ndarray, theirs: np.ndarray) -> Check:
    """Random flights are known to be 3 % longer here (see `envs.box2d.lander_physics`), so that much is allowed."""
    error = np.hypot(ours.std() / np.sqrt(ours.size), theirs.std() / np.sqrt(theirs.size)) / theirs.mean()
    value = float(abs(ours.mean() / theirs.mean() - 1))
    limit = float(0.03 + 4 * error)
    return Check("random policy: mean length", "relative difference", value, limit, theirs.size, note=compared.note)
