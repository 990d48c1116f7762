"""Parity: how far our environments are from the implementations that the field's results were made with.

`parity("CartPole-v1")` compares single steps from the same states under the same decisions, the time limit, the spaces,
the distributions of starts, and the distributions of returns and lengths of whole episodes under random actions.
`docs/environments.py` writes the document of all environments.

A reference is a function (env, params, samples, episodes, rng) -> [Check, …] registered under the environment's name
(`register`, at the end of this file). The modules beside this one hold them, a family each, and say how states get
into the original; they are imported when they are used. Here is what they share: the report, and the comparisons that
need nothing but a running original.
"""

import dataclasses
import functools
import importlib
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from envs import episode, registry, spaces
from envs.base import Env
from envs.errors import InputError, unknown
from envs.interop.foreign import load


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
    episodes: int | None = None  # whole episodes of the reference, where they were asked for

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
        errors = [row for row in self.rows if row.measure.endswith("|error|")]
        worst = max(errors, key=lambda row: row.value, default=None)
        if worst is not None and worst.value > 0:
            where = f" ({worst.quantity})" if any(row.measure != worst.measure for row in errors) else ""
            return f"{worst.measure} {worst.value:.2g}{where}"
        about_steps = {row.measure for row in self.rows if row.quantity not in ("time limit", "spaces")}
        if errors or "mismatches" in about_steps:
            return "exact"
        return "same distributions"


Reference: TypeAlias = Callable[[Env, Any, int, int | None, np.random.Generator], Iterable[Check]]
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


def parity(name: str, samples: int = 10_000, seed: int = 0, episodes: int | None = None) -> ParityReport:
    """Compares an environment with its reference implementation.

    Args:
        name: an environment with a reference (`names`).
        samples: number of random (state, action) pairs; a reference says how many starts come with them.
        seed: of everything drawn.
        episodes: whole episodes of the original; None leaves it to the reference, by what they cost there.

    Raises:
        InputError: the environment has no reference, `samples` or `episodes` is not positive, or the reference
            is not installed.
    """
    if name not in _REFERENCES:
        raise unknown("environment with a reference implementation", name, _REFERENCES)
    if samples < 1:
        raise InputError(f"samples={samples} must be at least 1.")
    if episodes is not None and episodes < 1:
        raise InputError(f"episodes={episodes} must be at least 1.")
    compare, package = _REFERENCES[name]
    if isinstance(compare, str):
        module, _, attribute = compare.partition(":")
        compare = getattr(importlib.import_module(module), attribute)
    env, params = registry.make(name)
    rows = tuple(compare(env, params, samples, episodes, np.random.default_rng(seed)))
    return ParityReport(name, f"{package} {version(package)}", samples, seed, rows, episodes)


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
        "Single steps are compared from the same states under the same random decisions; then spaces, time limits, the",
        "distributions of starts, and whole episodes of random policies. Rows count every sample. `at edge` are",
        "disagreements of samples within float32 rounding of a discontinuity (a threshold, a wall), tolerated and",
        "counted apart; where rows say float64, ours ran in float64, which leaves no rounding for a wrong equation to",
        "hide behind.",
        "",
        "A p-value is the probability of a difference as large as the one seen, or larger, if both sides have the same",
        "distribution (KS: two-sample Kolmogorov-Smirnov; z: difference of the means in standard errors). Below 0.0001",
        "it is a failure. KS values are upper bounds where numbers are tied, as lengths and scores are. Of means the",
        "standard errors are given.",
        "",
        f"Measured with Python {python}, jax {version('jax')}, NumPy {version('numpy')}, backend"
        f" {jax.default_backend()}, by `python docs/environments.py parity`; one environment alone:"
        " `jaxrl parity NAME`.",
    ]
    overview = [("environment", "reference", "result"), *((r.name, r.reference, r.summary) for r in reports)]
    lines += ["", *_markdown_table(overview)]
    for report in reports:
        verdict = "all checks pass" if report.passed else "some checks FAIL"
        episodes = f" --episodes {report.episodes}" if report.episodes else ""
        lines += [
            "",
            f"## {report.name}",
            "",
            f"`jaxrl parity {report.name}{episodes}`, against {report.reference}, {report.samples:,} samples, seed"
            f" {report.seed}: {verdict}.",
            "",
            *_markdown_table(table(report)),
        ]
    return "\n".join(lines) + "\n"


def _markdown_table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The lines of a table whose first row is the header."""
    header, *body = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return [header, "|" + "---|" * len(rows[0]), *body]


def gymnasium_reference(gymnasium_id: str, **options: Any) -> tuple[Any, Any]:
    """Returns (spec, bare environment): without wrappers, whose checks forbid steps from states never reset to.

    Args:
        options: arguments of the environment beside those that its id fixes.

    Raises:
        InputError: Gymnasium is not installed.
    """
    spec = load("gymnasium", "interop").spec(gymnasium_id)
    creator = load("gymnasium.envs.registration", "interop").load_env_creator(spec.entry_point)
    return spec, creator(**spec.kwargs | options)


def same_time_limit(env: Env, spec: Any) -> Check:
    """Compares our time limit with that of a Gymnasium spec."""
    ours, theirs = env.max_steps, spec.max_episode_steps
    return Check("time limit", "mismatches", int(ours != theirs), 0, 1, note=f"{ours} steps; reference {theirs}")


def same_spaces(env: Env, reference: Any) -> Check:
    """Compares kind, shape, dtype (of Boxes) and bounds of the observation and the action space with Gymnasium's."""

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


_IN_TURN = 8  # episodes of a lane: the longest of many makes others wait, but long sums are much alike


class Episodes(NamedTuple):
    """Whole episodes, each counted once."""

    returns: np.ndarray  # f[n] undiscounted
    lengths: np.ndarray  # i[n] steps


# Plays one whole episode of the reference, from its reset to its end or time limit, with the next actions of an
# endless supply; returns (return, length).
Play: TypeAlias = Callable[[Iterator[Any]], tuple[float, int]]


def random_policy(
    env: Env,
    params: Any,
    play: Play,
    episodes: int,
    rng: np.random.Generator,
    policy: str = "random policy",
    weights: Sequence[float] = (),
) -> list[Check]:
    """Compares returns and lengths of whole episodes under random actions (see `same_episodes`).

    Args:
        play: plays one episode of the reference (`gymnasium_play` makes one for Gymnasium's).
        episodes: how many the reference plays; ours, which cost less, are four times as many, or a few more.
        policy: its name in the report.
        weights: probabilities of the actions of a Discrete space; empty: all actions are equally likely.
    """
    thresholds = _thresholds(env.action_space, weights)
    actions = _random_actions(env.action_space, rng, thresholds)
    returns, lengths = zip(*(play(actions) for _ in range(episodes)), strict=True)
    theirs = Episodes(np.array(returns), np.array(lengths))
    # Four times the longest of theirs: no more than a guard against episodes of ours that never end.
    cut = np.int32(4 * _IN_TURN * theirs.lengths.max())
    key, lanes = jax.random.key(int(rng.integers(2**31))), -(-4 * episodes // _IN_TURN)
    ours = _random_episodes(env, lanes, params, thresholds, key, cut)
    return same_episodes(policy, Episodes(*(np.ravel(x) for x in jax.device_get(ours))), theirs)


def gymnasium_play(gymnasium_id: str, rng: np.random.Generator) -> Play:
    """Makes the `Play` of a Gymnasium environment with its own time limit; `rng` seeds it."""
    spec, reference = gymnasium_reference(gymnasium_id)
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
    values are tied (lengths, scores); so mean returns are compared too. Each of the three fails wrongly in about one of
    ten thousand seeds.
    """

    def described(x: np.ndarray) -> str:
        return f"{x.mean(dtype=np.float64):.4g} ± {x.std(dtype=np.float64) / np.sqrt(x.size):.2g}"

    def distribution(quantity: str, a: np.ndarray, b: np.ndarray) -> Check:
        p = float(np.asarray(stats.ks_2samp(*_tied(a, b), method="asymp"))[1])
        note = f"mean {described(a)} in {a.size:,}; reference {described(b)}"
        return Check(f"{policy}: {quantity}", "KS p-value", p, 1e-4, b.size, note=note)

    return [
        distribution("returns", ours.returns, theirs.returns),
        distribution("lengths", ours.lengths, theirs.lengths),
        same_mean(f"{policy}: mean return", ours.returns, theirs.returns),
    ]


def same_mean(quantity: str, ours: np.ndarray, theirs: np.ndarray) -> Check:
    """Tests whether two samples have the same mean, by the difference in standard errors.

    One variance is estimated from both samples: that of few and rare events alone would often be far too small.
    """
    both = np.concatenate([ours, theirs]).astype(np.float64)
    difference = float(both[: ours.size].mean() - both[ours.size :].mean())
    error = float(both.std() * np.sqrt(1 / ours.size + 1 / theirs.size))
    p = float(2 * stats.norm.sf(abs(difference) / error)) if error > 0 else 1.0
    return Check(quantity, "z p-value", p, 1e-4, theirs.size, note=f"difference {difference:.2g} ± {error:.2g}")


def _thresholds(space: spaces.Space, weights: Sequence[float]) -> np.ndarray:
    """Returns f32[n - 1], between which a uniform number decides on one of n actions; empty for a Box."""
    if isinstance(space, spaces.Discrete):
        return np.cumsum(weights or [1 / space.n] * space.n)[:-1].astype(np.float32)
    if isinstance(space, spaces.Box):
        return np.zeros(0, np.float32)
    raise InputError(f"random actions of a {type(space).__name__} are not drawn here: give a Discrete or a Box.")


def _chosen(space: Any, thresholds: Any, uniform: Any) -> Any:
    """Turns f[n, *shape] in 0 … 1 into n random actions; NumPy in and out, or JAX."""
    if isinstance(space, spaces.Discrete):
        return (uniform[:, None] >= thresholds).sum(-1, dtype=np.int32)
    return (space.lower + uniform * (space.upper - space.lower)).astype(space.dtype)


def _random_actions(space: Any, rng: np.random.Generator, thresholds: np.ndarray) -> Iterator[Any]:
    """Yields random actions without end, drawn in blocks for speed."""
    while True:
        block = _chosen(space, thresholds, rng.random((4096, *space.shape)))
        yield from block if space.shape else block.tolist()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _random_episodes(
    env: Env, lanes: int, params: Any, thresholds: jax.Array, key: jax.Array, cut: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Plays the first _IN_TURN episodes of every lane of ours; returns f32 returns and i32 lengths [lanes, _IN_TURN].

    Lanes that have not come to that in `cut` steps have what they got until then.
    """
    shape, space = (lanes, _IN_TURN), cast(Any, env.action_space)
    key, key_starts = jax.random.split(key)
    reset = jax.vmap(jax.vmap(env.reset, in_axes=(0, None)), in_axes=(0, None))
    obs, state = reset(jax.random.split(key_starts, shape), params)
    lane = jnp.arange(lanes)

    def start(count: jax.Array) -> tuple[Any, Any]:
        return jax.tree.map(lambda leaf: leaf[lane, jnp.minimum(count, _IN_TURN - 1)], (obs, state))

    def going(carry: tuple) -> jax.Array:
        t, _, _, count, *_ = carry
        return (t < cut) & jnp.any(count < _IN_TURN)

    def body(carry: tuple) -> tuple:
        t, key, running, count, returns, lengths = carry
        key, key_action, key_step = jax.random.split(key, 3)
        action = _chosen(space, thresholds, jax.random.uniform(key_action, (lanes, *space.shape)))
        running, out = episode.step(env, params, key_step, running, action, start(count + 1))
        returns = returns.at[lane, count].add(out.reward, mode="drop")
        lengths = lengths.at[lane, count].add(1, mode="drop")
        return t + 1, key, running, count + out.stats.count, returns, lengths

    zero = jnp.zeros(lanes, jnp.int32)
    running = episode.EpisodeState(*start(zero), zero, jnp.zeros(lanes))
    first = jnp.int32(0), key, running, zero, jnp.zeros(shape), jnp.zeros(shape, jnp.int32)
    return jax.lax.while_loop(going, body, first)[4:]


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


_CLASSIC_CONTROL = "envs.interop.classic_control_parity"
register("CartPole-v0", f"{_CLASSIC_CONTROL}:compare_cartpole_v0")
register("CartPole-v1", f"{_CLASSIC_CONTROL}:compare_cartpole_v1")
register("Acrobot-v1", f"{_CLASSIC_CONTROL}:compare_acrobot")
register("MountainCar-v0", f"{_CLASSIC_CONTROL}:compare_mountain_car")
register("MountainCarContinuous-v0", f"{_CLASSIC_CONTROL}:compare_mountain_car_continuous")
register("Pendulum-v1", f"{_CLASSIC_CONTROL}:compare_pendulum")

_BOX2D = "envs.interop.box2d_parity"
register("LunarLander-v3", f"{_BOX2D}:compare_lunar_lander")
register("LunarLanderContinuous-v3", f"{_BOX2D}:compare_lunar_lander")

_MINATAR = "envs.interop.minatar_parity"
register("Asterix-MinAtar", f"{_MINATAR}:compare_asterix", "minatar")
register("Breakout-MinAtar", f"{_MINATAR}:compare_breakout", "minatar")
register("Freeway-MinAtar", f"{_MINATAR}:compare_freeway", "minatar")
register("Seaquest-MinAtar", f"{_MINATAR}:compare_seaquest", "minatar")
register("SpaceInvaders-MinAtar", f"{_MINATAR}:compare_space_invaders", "minatar")

_TOY_TEXT = "envs.interop.toy_text_parity"
register("FrozenLake-v1", f"{_TOY_TEXT}:compare_frozen_lake")
register("FrozenLake8x8-v1", f"{_TOY_TEXT}:compare_frozen_lake_8x8")
register("CliffWalking-v1", f"{_TOY_TEXT}:compare_cliff_walking")
register("CliffWalkingSlippery-v1", f"{_TOY_TEXT}:compare_cliff_walking_slippery")
register("Taxi-v4", f"{_TOY_TEXT}:compare_taxi")
register("Blackjack-v1", f"{_TOY_TEXT}:compare_blackjack")

_BSUITE = "envs.interop.bsuite_parity"
register("Catch-bsuite", f"{_BSUITE}:compare_catch", "bsuite")
register("DeepSea-bsuite", f"{_BSUITE}:compare_deep_sea", "bsuite")
register("DeepSeaStochastic-bsuite", f"{_BSUITE}:compare_deep_sea", "bsuite")
register("MemoryChain-bsuite", f"{_BSUITE}:compare_memory_chain", "bsuite")
register("UmbrellaChain-bsuite", f"{_BSUITE}:compare_umbrella_chain", "bsuite")
register("DiscountingChain-bsuite", f"{_BSUITE}:compare_discounting_chain", "bsuite")
register("SimpleBandit-bsuite", f"{_BSUITE}:compare_simple_bandit", "bsuite")
register("CartPole-bsuite", f"{_BSUITE}:compare_cartpole", "bsuite")
register("CartPoleSwingUp-bsuite", f"{_BSUITE}:compare_cartpole_swingup", "bsuite")
register("MountainCar-bsuite", f"{_BSUITE}:compare_mountain_car", "bsuite")


def _minigrid(name: str) -> Reference:
    """MiniGrid's references need the name of the original."""

    def compare(*args: Any) -> list[Check]:
        return importlib.import_module("envs.interop.minigrid_parity").compare(name, *args)

    return compare


for _name in registry.names():
    if _name.startswith("MiniGrid-"):
        register(_name, _minigrid(_name), "minigrid")
