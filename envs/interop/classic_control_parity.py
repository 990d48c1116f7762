"""Parity of the classic control environments with Gymnasium's: random states are put into both.

Both take the same action from the same state, and the next state, the observation, the reward and the ending are
compared. The step is compared twice: as it runs, in float32, where the limit is what rounding explains, and in
float64, where only a different equation could differ: so the two kinds of error cannot hide one another.

Where a step is discontinuous (a threshold that ends the episode, a wall that stops a car), a float64 reference and a
float32 copy may fall on different sides. Each adapter knows how far a sample is from its discontinuities, its *margin*.
Samples nearer than the adapter's `edge` are compared too, but their disagreements are counted separately instead of
failing the check: their number is in the report.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from envs.base import Env
from envs.classic_control import acrobot, cartpole, mountain_car, pendulum
from envs.interop.parity import (
    Check,
    Reference,
    gymnasium_play,
    gymnasium_reference,
    random_policy,
    same_spaces,
    same_time_limit,
)


class Injection(NamedTuple):
    """How to put states into a Gymnasium environment with a deterministic step, and what to expect.

    Rows of states are float64 arrays of k numbers; the drawn ones are representable in float32, so that both sides
    start from the same numbers.
    """

    gymnasium_id: str
    draw: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]  # n -> f64[n, k] states, [n, …] actions
    inject: Callable[[Any, np.ndarray], None]  # puts a row f64[k] into the unwrapped reference
    extract: Callable[[Any], np.ndarray]  # reads f64[k] back
    to_state: Callable[[np.ndarray], Any]  # f64[n, k] -> our batched State
    from_state: Callable[[Any], np.ndarray]  # our batched State -> f64[n, k]
    start_ranges: Sequence[tuple[float, float]]  # of each of the k numbers
    # (states, actions, the reference's next states) -> f64[n] distance from the nearest discontinuity of the step
    margin: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    tolerance: float  # largest difference of next state and observation in float32
    reward_tolerance: float  # the same for rewards
    edge: float  # a margin up to this is within float32 rounding of the discontinuity
    samples_per_episode: int  # samples for each whole random episode of the reference (its cost in time decides)
    double_tolerance: float = 1e-10  # largest difference of the next state in float64
    angles: tuple[int, ...] = ()  # which of the k numbers are wrapped angles


def injection(adapter: Injection) -> Reference:
    """Makes the comparing function of an adapter."""

    def compare(env: Env, params: Any, samples: int, episodes: int | None, rng: np.random.Generator) -> list[Check]:
        spec, reference = gymnasium_reference(adapter.gymnasium_id)
        episodes = episodes or max(1, samples // adapter.samples_per_episode)
        return [
            *_steps(env, params, reference, adapter, samples, rng),
            same_time_limit(env, spec),
            same_spaces(env, reference),
            *_starts(env, params, reference, adapter, samples, rng),
            *random_policy(env, params, gymnasium_play(adapter.gymnasium_id, rng), episodes, rng),
        ]

    return compare


def _steps(
    env: Env, params: Any, reference: Any, adapter: Injection, samples: int, rng: np.random.Generator
) -> list[Check]:
    states, actions = adapter.draw(rng, samples)
    reference.reset(seed=0)
    their_states = np.empty_like(states)
    their_obs, their_rewards, their_ends = [], np.empty(samples), np.empty(samples, bool)
    for i in range(samples):
        adapter.inject(reference, states[i])
        obs, their_rewards[i], their_ends[i], _, _ = reference.step(actions[i])
        their_obs.append(np.asarray(obs))
        their_states[i] = adapter.extract(reference)

    margin = adapter.margin(states, actions, their_states)
    single = _step_all(env, params, adapter.to_state(states), actions)
    with jax.enable_x64(True):
        # Not the float32 parameters of `make`: 0.02 rounded to float32 is another number in float64.
        doubles = jax.tree.map(_double, adapter.to_state(states))
        double = _step_all(env, env.default_params(), doubles, actions)

    def state_error(ours: Any) -> np.ndarray:
        difference = adapter.from_state(ours.state) - their_states
        for i in adapter.angles:
            difference[:, i] = (difference[:, i] + np.pi) % (2 * np.pi) - np.pi
        return np.abs(difference).max(-1)

    edge = margin < adapter.edge
    obs_error = np.abs(np.asarray(single.obs, np.float64) - np.asarray(their_obs, np.float64)).max(-1)
    reward_error = np.abs(np.asarray(single.reward, np.float64) - their_rewards)
    double_edge = margin < adapter.double_tolerance
    return [
        _largest("next state", state_error(single), adapter.tolerance, edge),
        _largest("observation", obs_error, adapter.tolerance, edge),
        _largest("reward", reward_error, adapter.reward_tolerance, edge),
        _flags("terminated", single.terminated, their_ends, edge),
        _largest("next state, float64", state_error(double), adapter.double_tolerance, double_edge),
        _flags("terminated, float64", double.terminated, their_ends, double_edge),
    ]


def _step_all(env: Env, params: Any, states: Any, actions: np.ndarray) -> Any:
    """Our Step of every sample, its leaves as NumPy arrays; floating actions take the default precision."""
    _, step = _compiled(env.replace(max_steps=None))
    return jax.device_get(step(jax.random.key(0), states, jnp.asarray(actions), params))


@functools.cache
def _compiled(env: Env) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns (reset, step), batched and compiled, shared by all comparisons of one environment."""
    return jax.jit(jax.vmap(env.reset, in_axes=(0, None))), jax.jit(jax.vmap(env.step, in_axes=(None, 0, 0, None)))


def _double(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _flags(quantity: str, ours: np.ndarray, theirs: np.ndarray, edge: np.ndarray) -> Check:
    """Counts disagreements, those at an edge apart."""
    wrong = ours != theirs
    note = f"{int(theirs.sum()):,} terminate; {int(edge.sum())} at an edge"
    return Check(quantity, "mismatches", int(np.sum(wrong & ~edge)), 0, len(ours), int(np.sum(wrong & edge)), note)


def _largest(quantity: str, error: np.ndarray, limit: float, edge: np.ndarray) -> Check:
    """The largest error, leaving out the samples at an edge that are over the limit."""
    excused = edge & (error > limit)
    counted = error[~excused]
    value = float(counted.max()) if counted.size else 0.0
    note = f"median {np.median(error):.2g}, 99 % below {np.quantile(error, 0.99):.2g}"
    return Check(quantity, "max |error|", value, limit, error.size, int(excused.sum()), note)


def _starts(
    env: Env, params: Any, reference: Any, adapter: Injection, samples: int, rng: np.random.Generator
) -> list[Check]:
    seed = int(rng.integers(2**31))
    keys = jax.random.split(jax.random.key(seed), samples)
    reset, _ = _compiled(env.replace(max_steps=None))
    ours = adapter.from_state(jax.device_get(reset(keys, params))[1])
    reference.reset(seed=seed)
    theirs = np.empty_like(ours)
    for i in range(samples):
        reference.reset()
        theirs[i] = adapter.extract(reference)
    low, high = (np.asarray(bound, np.float32) for bound in zip(*adapter.start_ranges, strict=True))
    outside = [int(np.any((starts < low) | (starts > high), axis=-1).sum()) for starts in (ours, theirs)]
    # Numbers that do not vary are compared by the range, which is then a point.
    varying = [i for i, (a, b) in enumerate(adapter.start_ranges) if a < b]
    p_values = [float(np.asarray(stats.ks_2samp(ours[:, i], theirs[:, i]))[1]) for i in varying]
    return [
        Check("starts: range", "outside", outside[0], 0, samples, note=f"reference: {outside[1]} outside"),
        # One false alarm in ten thousand seeds: the smallest of several p-values is corrected for their number.
        Check(
            "starts: distribution",
            "KS p-value",
            min(1.0, min(p_values) * len(p_values)),
            1e-4,
            samples,
            note=f"smallest of {len(p_values)} coordinates, corrected for their number",
        ),
    ]


def _uniform(rng: np.random.Generator, samples: int, ranges: Sequence[tuple[float, float]]) -> np.ndarray:
    """Draws f64[samples, k] uniformly, rounded to float32."""
    low, high = zip(*ranges, strict=True)
    return rng.uniform(low, high, (samples, len(ranges))).astype(np.float32).astype(np.float64)


def _columns(state: Any) -> np.ndarray:
    """Our State of scalars, batched, as f64[n, k]."""
    return np.stack([np.asarray(leaf, np.float64) for leaf in state], -1)


def _rows(cls: type) -> Callable[[np.ndarray], Any]:
    """The inverse of `_columns`."""
    return lambda states: cls(*jnp.asarray(states, jnp.float32).T)


def _set_array(reference: Any, row: np.ndarray) -> None:
    reference.state = row.copy()


def _get_array(reference: Any) -> np.ndarray:
    return np.asarray(reference.state, np.float64)


# Everywhere below, states are drawn from a little beyond the region in which episodes live, so that each ending and
# each clip is met many times, and continuous actions from half again their bounds.


def _cartpole(gymnasium_id: str) -> Reference:
    def inject(reference: Any, row: np.ndarray) -> None:
        _set_array(reference, row)
        # Gymnasium pays 0 instead of 1 for steps after an ending, and it remembers one.
        reference.steps_beyond_terminated = None

    def draw(rng: np.random.Generator, samples: int) -> tuple[np.ndarray, np.ndarray]:
        return _uniform(rng, samples, [(-2.5, 2.5), (-4, 4), (-0.25, 0.25), (-4, 4)]), rng.integers(2, size=samples)

    def margin(states: np.ndarray, actions: np.ndarray, following: np.ndarray) -> np.ndarray:
        limits = cartpole.Params()
        x, theta = np.abs(following[:, 0]), np.abs(following[:, 2])
        return np.minimum(np.abs(x - limits.x_limit), np.abs(theta - limits.theta_limit))

    return injection(
        Injection(
            gymnasium_id=gymnasium_id,
            draw=draw,
            inject=inject,
            extract=_get_array,
            to_state=_rows(cartpole.State),
            from_state=_columns,
            start_ranges=[(-0.05, 0.05)] * 4,
            margin=margin,
            tolerance=2e-6,
            reward_tolerance=0.0,
            edge=2e-6,
            samples_per_episode=1,
        )
    )


def _acrobot() -> Reference:
    def draw(rng: np.random.Generator, samples: int) -> tuple[np.ndarray, np.ndarray]:
        ranges = [(-np.pi, np.pi)] * 2 + [(-4 * np.pi, 4 * np.pi), (-9 * np.pi, 9 * np.pi)]
        return _uniform(rng, samples, ranges), rng.integers(3, size=samples)

    def margin(states: np.ndarray, actions: np.ndarray, following: np.ndarray) -> np.ndarray:
        return np.abs(-np.cos(following[:, 0]) - np.cos(following[:, 0] + following[:, 1]) - 1.0)

    return injection(
        Injection(
            gymnasium_id="Acrobot-v1",
            draw=draw,
            inject=_set_array,
            extract=lambda reference: np.asarray(reference.state, np.float64)[:4],
            to_state=_rows(acrobot.State),
            from_state=_columns,
            start_ranges=[(-0.1, 0.1)] * 4,
            margin=margin,
            # At the highest velocities 0.2 s of Runge-Kutta amplify the rounding of the start by 10⁴: the reference
            # itself moves as far when its input is moved by half a unit in the last place of float32.
            tolerance=1e-2,
            reward_tolerance=0.0,
            edge=1e-3,
            samples_per_episode=40,
            double_tolerance=1e-8,
            angles=(0, 1),
        )
    )


def _mountain_car(gymnasium_id: str, physics: mountain_car.Params, *, continuous: bool) -> Reference:
    def draw(rng: np.random.Generator, samples: int) -> tuple[np.ndarray, np.ndarray]:
        states = _uniform(rng, samples, [(-1.2, 0.6), (-0.07, 0.07)])
        if continuous:
            return states, _uniform(rng, samples, [(-1.5, 1.5)])
        return states, rng.integers(3, size=samples)

    def margin(states: np.ndarray, actions: np.ndarray, following: np.ndarray) -> np.ndarray:
        throttle = np.clip(actions[:, 0], -1, 1) if continuous else actions - 1.0
        velocity = states[:, 1] + throttle * physics.force - physics.gravity * np.cos(3 * states[:, 0])
        landing = states[:, 0] + np.clip(velocity, -physics.max_speed, physics.max_speed)
        # The wall is an edge for where the car would be without it; an arrival has two conditions.
        goal = np.minimum(
            np.abs(following[:, 0] - physics.goal_position), np.abs(following[:, 1] - physics.goal_velocity)
        )
        near_goal = np.where(following[:, 0] > physics.goal_position - 0.01, goal, np.inf)
        return np.minimum(np.abs(landing - physics.min_position), near_goal)

    return injection(
        Injection(
            gymnasium_id=gymnasium_id,
            draw=draw,
            inject=_set_array,
            extract=_get_array,
            to_state=_rows(mountain_car.State),
            from_state=_columns,
            start_ranges=[(-0.6, -0.4), (0.0, 0.0)],
            margin=margin,
            tolerance=5e-7,
            reward_tolerance=1e-5 if continuous else 0.0,
            edge=5e-7,
            samples_per_episode=8,
            # Gymnasium rounds the state of the continuous version to float32 itself.
            double_tolerance=1e-7 if continuous else 1e-10,
        )
    )


def _pendulum() -> Reference:
    def draw(rng: np.random.Generator, samples: int) -> tuple[np.ndarray, np.ndarray]:
        # Angles are not wrapped by either side, so several turns away from upright count too.
        states = _uniform(rng, samples, [(-4 * np.pi, 4 * np.pi), (-8, 8)])
        return states, _uniform(rng, samples, [(-3, 3)])

    return injection(
        Injection(
            gymnasium_id="Pendulum-v1",
            draw=draw,
            inject=_set_array,
            extract=_get_array,
            to_state=_rows(pendulum.State),
            from_state=_columns,
            start_ranges=[(-np.pi, np.pi), (-1.0, 1.0)],
            margin=lambda states, actions, following: np.full(len(states), np.inf),
            tolerance=5e-6,
            reward_tolerance=2e-5,
            edge=0.0,
            samples_per_episode=8,
        )
    )


compare_cartpole_v0 = _cartpole("CartPole-v0")
compare_cartpole_v1 = _cartpole("CartPole-v1")
compare_acrobot = _acrobot()
compare_mountain_car = _mountain_car("MountainCar-v0", mountain_car.Params(), continuous=False)
compare_mountain_car_continuous = _mountain_car(
    "MountainCarContinuous-v0", mountain_car.Params(force=0.0015, goal_position=0.45), continuous=True
)
compare_pendulum = _pendulum()
