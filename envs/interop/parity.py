"""Parity: how far our environments are from the implementations that the field's results were made with.

`parity("CartPole-v1")` puts random states into the reference, takes the same action in both, and tables the largest
differences of the next state, the observation and the reward, every disagreement about the ending, the time limits,
the spaces and the distributions of starts. `python -m envs.interop.parity` writes the document of all environments.

A reference is a function (env, params, samples, rng) -> [Check, …] registered under the environment's name
(`register`); `injection` builds one for environments whose step is deterministic and whose reference lets its state be
set. Others (a transition table to compare, a trajectory to replay) write such a function in a module of their own.

The step is compared twice: as it runs, in float32, where the limit is what rounding explains, and in float64, where
only a different equation could differ: so the two kinds of error cannot hide one another.

Where a step is discontinuous (a threshold that ends the episode, a wall that stops a car), a float64 reference and a
float32 copy may fall on different sides. Each adapter knows how far a sample is from its discontinuities, its *margin*.
Samples nearer than the adapter's `edge` are compared too, but their disagreements are counted separately instead of
failing the check: their number is in the report.
"""

import dataclasses
import functools
import importlib
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from envs import episode, registry, spaces
from envs.base import Env
from envs.classic_control import acrobot, cartpole, mountain_car, pendulum
from envs.errors import InputError, unknown


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of a report."""

    quantity: str  # what was compared
    measure: str  # of what kind `value` is: "max |error|", "mismatches", "KS p-value" …
    value: float
    limit: float  # `value` must be at most this; for a p-value at least
    samples: int  # how many were compared
    at_edge: int = 0  # disagreements at a discontinuity, within rounding of it: tolerated, not in `value`
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value is within its limit; a value that is not a number is not."""
        return self.value >= self.limit if self.measure.endswith("p-value") else self.value <= self.limit


@dataclasses.dataclass(frozen=True)
class ParityReport:
    """The comparison of one environment."""

    name: str
    reference: str  # the implementation compared with, and its version
    samples: int
    seed: int
    rows: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(row.passed for row in self.rows)

    @property
    def summary(self) -> str:
        """The result in a few words, for a cell of a table: "exact", "max |error| 2.9e-07", "differs: reward"."""
        failed = [row.quantity for row in self.rows if not row.passed]
        if failed:
            return "differs: " + ", ".join(failed)
        worst: dict[str, float] = {}
        for row in self.rows:
            if row.measure.endswith("|error|"):
                worst[row.measure] = max(worst.get(row.measure, 0.0), row.value)
        if any(worst.values()):
            return ", ".join(f"{measure} {value:.2g}" for measure, value in worst.items())
        if worst or any(row.measure == "mismatches" for row in self.rows):
            return "exact"
        return "same distributions"


Reference: TypeAlias = Callable[[Env, Any, int, np.random.Generator], Iterable[Check]]
_REFERENCES: dict[str, tuple[Reference | str, str]] = {}


def register(name: str, reference: Reference | str, package: str = "gymnasium") -> None:
    """Gives the environment `name` a reference to be compared with.

    Args:
        reference: the comparing function, or "module:function", imported at its first use.
        package: the distribution that holds the reference, named in the report with its version.

    Raises:
        InputError: `name` has a reference already.
    """
    if name in _REFERENCES:
        raise InputError(f"environment {name!r} has a reference already.")
    _REFERENCES[name] = (reference, package)


def names() -> list[str]:
    """The environments that have a reference, sorted."""
    return sorted(_REFERENCES)


def parity(name: str, samples: int = 10_000, seed: int = 0) -> ParityReport:
    """Compares an environment with its reference implementation.

    Args:
        name: an environment with a reference (`names`).
        samples: number of random (state, action) pairs, and of starts.
        seed: of everything drawn.

    Raises:
        InputError: the environment has no reference, `samples` is not positive, or the reference is not installed.
    """
    if name not in _REFERENCES:
        raise unknown("environment with a reference implementation", name, _REFERENCES)
    if samples < 1:
        raise InputError(f"samples={samples} must be at least 1.")
    compare, package = _REFERENCES[name]
    if isinstance(compare, str):
        module, _, attribute = compare.partition(":")
        compare = getattr(importlib.import_module(module), attribute)
    env, params = registry.make(name)
    rows = tuple(compare(env, params, samples, np.random.default_rng(seed)))
    return ParityReport(name, f"{package} {version(package)}", samples, seed, rows)


def table(report: ParityReport) -> list[tuple[str, ...]]:
    """Renders the checks as rows of text; the first row is the header."""
    header = ("quantity", "measure", "value", "limit", "samples", "at edge", "result", "note")
    return [
        header,
        *(
            (
                row.quantity,
                row.measure,
                f"{row.value:.3g}",
                ("≥ " if row.measure.endswith("p-value") else "≤ ") + f"{row.limit:.3g}",
                f"{row.samples:,}",
                str(row.at_edge),
                "pass" if row.passed else "FAIL",
                row.note,
            )
            for row in report.rows
        ),
    ]


def markdown(reports: Sequence[ParityReport]) -> str:
    """Writes reports as one Markdown document."""
    python = platform.python_version()
    lines = [
        "# Parity with the reference implementations",
        "",
        "Random states are put into the reference, both take the same action, and the results are compared: in",
        "float32, as our environments run, and in float64, which leaves no rounding for a wrong equation to hide",
        "behind. Rows count every sample; `at edge` are disagreements of samples within float32 rounding of a",
        "discontinuity (a threshold, a wall), tolerated and counted apart. Angles are compared on the circle.",
        "",
        f"Measured with Python {python}, jax {version('jax')}, NumPy {version('numpy')}, backend"
        f" {jax.default_backend()}, by `python -m envs.interop.parity`; one environment alone: `jaxrl parity NAME`.",
    ]
    for report in reports:
        verdict = "all checks pass" if report.passed else "some checks FAIL"
        header, *rows = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table(report))
        lines += [
            "",
            f"## {report.name}",
            "",
            f"`jaxrl parity {report.name}`, against {report.reference}, {report.samples:,} samples, seed {report.seed}:"
            f" {verdict}.",
            "",
            header,
            "|" + "---|" * (header.count("|") - 1),
            *rows,
        ]
    return "\n".join(lines) + "\n"


class Episodes(NamedTuple):
    """Whole episodes, each counted once."""

    returns: np.ndarray  # f64[n] undiscounted
    lengths: np.ndarray  # i64[n] steps


# Plays one whole episode of the reference, from its reset to its end or time limit, with the next actions of an
# endless supply; returns (return, length).
Play: TypeAlias = Callable[[Iterator[Any]], tuple[float, int]]


def random_policy(env: Env, params: Any, play: Play, episodes: int, rng: np.random.Generator) -> list[Check]:
    """Compares returns and lengths of whole episodes under uniformly random actions.

    Args:
        play: plays one episode of the reference (`gymnasium_play` makes one for Gymnasium's).
        episodes: how many the reference plays; ours, which cost less, are four times as many.
    """
    actions = _random_actions(env.action_space, rng)
    returns, lengths = zip(*(play(actions) for _ in range(episodes)), strict=True)
    theirs = Episodes(np.array(returns, np.float64), np.array(lengths, np.int64))
    # Four times the longest of theirs: no more than a guard against episodes of ours that never end.
    cut = np.int32(4 * theirs.lengths.max())
    ours = jax.device_get(_random_episodes(env, 4 * episodes, params, jax.random.key(int(rng.integers(2**31))), cut))
    return same_episodes("random policy", Episodes(*(x.astype(np.float64) for x in ours)), theirs)


def gymnasium_play(gymnasium_id: str, rng: np.random.Generator) -> Play:
    """Makes the `Play` of a Gymnasium environment with its own time limit; `rng` seeds it."""
    spec, reference = _build(gymnasium_id)
    limit = spec.max_episode_steps
    reference.reset(seed=int(rng.integers(2**31)))

    def play(actions: Iterator[Any]) -> tuple[float, int]:
        reference.reset()
        total, length, ended = 0.0, 0, False
        while not ended:
            _, reward, terminated, truncated, _ = reference.step(next(actions))
            total, length = total + float(reward), length + 1
            ended = terminated or truncated or length == limit
        return total, length

    return play


def same_episodes(policy: str, ours: Episodes, theirs: Episodes) -> list[Check]:
    """Tests whether two sets of episodes of one policy have the same returns and lengths.

    Returns and lengths are compared by the two-sample Kolmogorov-Smirnov test, whose p-values are upper bounds where
    values are tied (lengths, scores); so mean returns are compared too, by the difference in standard errors, with one
    variance estimated from both. All three fail wrongly once in ten thousand seeds, or less often.
    """

    def described(x: np.ndarray) -> str:
        return f"{x.mean():.4g} ± {x.std() / np.sqrt(x.size):.2g}"

    def distribution(quantity: str, a: np.ndarray, b: np.ndarray) -> Check:
        p = float(np.asarray(stats.ks_2samp(*_tied(a, b), method="asymp"))[1])
        note = f"mean {described(a)} in {a.size:,}; reference {described(b)}"
        return Check(f"{policy}: {quantity}", "KS p-value", p, 1e-4, b.size, note=note)

    both = np.concatenate([ours.returns, theirs.returns])
    difference = float(ours.returns.mean() - theirs.returns.mean())
    error = float(both.std() * np.sqrt(1 / ours.returns.size + 1 / theirs.returns.size))
    p = float(2 * stats.norm.sf(abs(difference) / error)) if error > 0 else 1.0
    return [
        distribution("returns", ours.returns, theirs.returns),
        distribution("lengths", ours.lengths, theirs.lengths),
        Check(
            f"{policy}: mean return",
            "z p-value",
            p,
            1e-4,
            theirs.returns.size,
            note=f"difference {difference:.2g} ± {error:.2g}",
        ),
    ]


def _random_actions(space: spaces.Space, rng: np.random.Generator) -> Iterator[Any]:
    """Yields uniformly random elements of a Discrete or a bounded Box without end; drawn in blocks, for speed."""
    while True:
        if isinstance(space, spaces.Discrete):
            yield from rng.integers(space.n, size=4096).tolist()
        elif isinstance(space, spaces.Box):
            yield from rng.uniform(space.lower, space.upper, (4096, *space.shape)).astype(space.dtype)
        else:
            raise InputError(
                f"random actions of a {type(space).__name__} are not drawn here: give a Discrete or a Box."
            )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _random_episodes(env: Env, episodes: int, params: Any, key: jax.Array, cut: jax.Array) -> tuple:
    """Plays every lane of ours until its first episode ended; returns (f32[episodes] returns, i32[episodes] lengths).

    A lane that has not ended after `cut` steps has what it got until then.
    """
    key, key_reset = jax.random.split(key)

    def going(carry: tuple) -> jax.Array:
        t, _, _, _, ended = carry
        return (t < cut) & ~ended.all()

    def body(carry: tuple) -> tuple:
        t, running, returns, lengths, ended = carry
        key_action, key_step = jax.random.split(jax.random.fold_in(key, t))
        action = jax.vmap(lambda k: spaces.sample(env.action_space, k))(jax.random.split(key_action, episodes))
        running, out = episode.step(env, params, key_step, running, action)
        returns = jnp.where(ended, returns, returns + out.reward)
        lengths = jnp.where(ended, lengths, lengths + 1)
        return t + 1, running, returns, lengths, ended | out.terminated | out.truncated

    first = episode.reset(env, params, key_reset, episodes)
    start = jnp.int32(0), first, first.episode_return, first.t, jnp.zeros(episodes, bool)
    return jax.lax.while_loop(going, body, start)[2:4]


def _tied(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replaces numbers by ranks in which those that float32 sums cannot tell apart are equal.

    Two sums of the same rewards are one value, not two that never meet. (Of values that lie everywhere this ties a few
    neighbours only.)
    """
    both = np.concatenate([ours, theirs])
    order = np.argsort(both)
    gaps = np.diff(both[order], prepend=both[order[0]])
    ranks = np.empty(both.size, np.int64)
    ranks[order] = np.cumsum(gaps > 1e-5 * np.abs(both).max())
    return ranks[: ours.size], ranks[ours.size :]


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
    double_tolerance: float = 1e-10  # largest difference of the next state in float64
    angles: tuple[int, ...] = ()  # which of the k numbers are wrapped angles


def injection(adapter: Injection) -> Reference:
    """Makes the comparing function of an adapter."""

    def compare(env: Env, params: Any, samples: int, rng: np.random.Generator) -> list[Check]:
        spec, reference = _build(adapter.gymnasium_id)
        checks = _steps(env, params, reference, adapter, samples, rng)
        checks.append(_time_limit(env, spec))
        checks.append(_spaces(env, reference))
        checks += _starts(env, params, reference, adapter, samples, rng)
        return checks

    return compare


def gymnasium() -> Any:
    """Imports Gymnasium.

    Raises:
        InputError: it is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module("gymnasium")
    except ImportError as error:
        raise InputError(f'Gymnasium is needed here ({error}): pip install "jaxrl[interop]"') from None


def _build(gymnasium_id: str) -> tuple[Any, Any]:
    """Returns (spec, bare environment): without wrappers, whose checks forbid steps from states never reset to."""
    spec = gymnasium().spec(gymnasium_id)
    creator = importlib.import_module("gymnasium.envs.registration").load_env_creator(spec.entry_point)
    return spec, creator(**spec.kwargs)


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


def _time_limit(env: Env, spec: Any) -> Check:
    ours, theirs = env.max_steps, spec.max_episode_steps
    return Check("time limit", "mismatches", int(ours != theirs), 0, 1, note=f"{ours} steps; reference {theirs}")


def _spaces(env: Env, reference: Any) -> Check:
    """Compares kind, shape, dtype (of Boxes) and bounds of the observation and the action space."""

    def same(ours: spaces.Space, theirs: Any) -> bool:
        if isinstance(ours, spaces.Discrete):
            return type(theirs).__name__ == "Discrete" and theirs.n == ours.n and theirs.start == 0
        if isinstance(ours, spaces.Box):
            return (
                type(theirs).__name__ == "Box"
                and theirs.shape == ours.shape
                and theirs.dtype == ours.dtype
                and np.array_equal(theirs.low, ours.lower)
                and np.array_equal(theirs.high, ours.upper)
            )
        return False

    pairs = ((env.observation_space, reference.observation_space), (env.action_space, reference.action_space))
    return Check("spaces", "mismatches", sum(not same(*pair) for pair in pairs), 0, 2, note="observation and action")


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
        )
    )


register("CartPole-v0", _cartpole("CartPole-v0"))
register("CartPole-v1", _cartpole("CartPole-v1"))
register("Acrobot-v1", _acrobot())
register("MountainCar-v0", _mountain_car("MountainCar-v0", mountain_car.Params(), continuous=False))
register(
    "MountainCarContinuous-v0",
    _mountain_car("MountainCarContinuous-v0", mountain_car.Params(force=0.0015, goal_position=0.45), continuous=True),
)
register("Pendulum-v1", _pendulum())


if __name__ == "__main__":
    sys.stdout.write(markdown([parity(name) for name in names()]))
