"""Aggregates over runs, after Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264), and how far they can be trusted.

Scores are [runs] for one task, or [runs, tasks] where every run of a task is independent of those of the others.

An interval is the statistic ± Student's t (runs − 1 degrees of freedom) times its standard error: that of the mean in
closed form, that of any other statistic from a stratified bootstrap, times √(n / (n − 1)) for what a bootstrap of n
runs leaves out (Hesterberg 2015, "What teachers should know about the bootstrap"). Simulated coverage of "95 %", over
normal, skewed, heavy-tailed, flat and bimodal scores, against that of the bootstrap's own percentiles:

    runs                    2            3            4            8           16           32
    IQM, ours        .92 – .96    .91 – .96    .95 – .98    .94 – .98    .93 – .98    .93 – .99
    IQM, percentile  .47 – .52    .66 – .77    .86 – .88    .91 – .94    .93 – .95    .92 – .95

The mean of few runs remains what it is: where one run in four fails, four runs often show none that does, and the
interval of their mean covers the truth in two of three studies, whatever the method. So a verdict needs five runs, and
nothing here gives an interval for fewer than two.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

Axis: TypeAlias = int | tuple[int, ...] | None
Statistic: TypeAlias = Callable[..., np.ndarray]
"""(scores, axis=...) -> scores reduced over the axes (runs, tasks), such as `iqm`."""

VERDICT_RUNS = 5  # with fewer on a side nothing is called better, worse, the same or a match
_BLOCK = 1 << 22  # numbers resampled at a time: bounds the memory of a long curve to some tens of MB


def mean(scores: ArrayLike, axis: Axis = None) -> np.ndarray:
    """Returns the mean over `axis` (None: all); over tasks it equals the mean of the tasks' means."""
    return np.mean(np.asarray(scores, np.float64), axis)


def median(scores: ArrayLike, axis: Axis = None) -> np.ndarray:
    """Returns the median over `axis` (None: all). NaN where a score is NaN."""
    return np.median(np.asarray(scores, np.float64), axis)


def median_of_tasks(scores: ArrayLike, axis: tuple[int, int] = (-2, -1)) -> np.ndarray:
    """Returns the median over tasks of each task's mean over runs, the "median" of Agarwal et al.

    Args:
        scores: [..., runs, tasks].
        axis: the axes of runs and tasks.
    """
    scores = np.moveaxis(np.asarray(scores, np.float64), axis, (-2, -1))
    return np.median(scores.mean(-2), -1)


def iqm(scores: ArrayLike, axis: Axis = None) -> np.ndarray:
    """Returns the interquartile mean: the mean of what is left when a quarter is cut at either end.

    The number cut at each end is floor(n / 4), as `scipy.stats.trim_mean(scores, 0.25)` has it. Runs and tasks are
    pooled when `axis` holds both. NaN where a score is NaN: a run that diverged is not trimmed away.

    Args:
        scores: any shape.
        axis: the axes to reduce; None: all.
    """
    pooled = _pool(scores, axis)
    n = pooled.shape[-1]
    cut = n // 4
    # Only the two borders need to be in place, not a full order.
    middle = np.partition(pooled, (cut, n - cut - 1), axis=-1)[..., cut : n - cut].mean(-1)
    return np.where(np.isnan(pooled).any(-1), np.nan, middle)[()]


def optimality_gap(scores: ArrayLike, axis: Axis = None, threshold: float = 1.0) -> np.ndarray:
    """Returns by how much scores fall short of `threshold` on average; what lies above it counts as having met it."""
    return np.mean(np.maximum(threshold - np.asarray(scores, np.float64), 0.0), axis)


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """Returns the probability that a run of X beats one of Y on a task drawn at random; ties count half.

    NaN where a score is NaN: a run that diverged has neither won nor lost.

    Args:
        x: [runs] or [runs, tasks] scores of X.
        y: the same for Y: as many tasks, any number of runs.
    """
    xs, ys = _with_tasks(x), _with_tasks(y)
    if xs.shape[-1] != ys.shape[-1]:
        raise ValueError(f"X has {xs.shape[-1]} tasks and Y has {ys.shape[-1]}")
    if np.isnan(xs).any() or np.isnan(ys).any():
        return float("nan")
    difference = xs[:, None, :] - ys[None, :, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> np.ndarray:
    """Returns the share of runs above each threshold, f64[thresholds]: the run-score distribution of Agarwal et al.

    A run that is NaN counts as below every threshold: it diverged, and is one of the runs all the same.

    Args:
        scores: [runs] or [runs, tasks]; tasks count alike.
        thresholds: [thresholds].
    """
    pooled = _with_tasks(scores).ravel()
    return np.mean(pooled[:, None] > np.asarray(thresholds, np.float64), 0)


def share_interval(share: ArrayLike, runs: int, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Returns the interval (low, high) of a share of independent runs, after Wilson 1927; NaN for fewer than two runs.

    Args:
        share: any shape, each in [0, 1]: how many of the runs, such as a `performance_profile`.
        runs: of how many.
        confidence: the mass inside the interval, in (0, 1).
    """
    p = np.asarray(share, np.float64)
    if runs < 2:
        return np.full(p.shape, np.nan), np.full(p.shape, np.nan)
    from scipy import special  # slow to import, and most programs do not need it

    z = special.ndtri((1 + confidence) / 2)
    centre = (p + z**2 / (2 * runs)) / (1 + z**2 / runs)
    half = z / (1 + z**2 / runs) * np.sqrt(p * (1 - p) / runs + z**2 / (4 * runs**2))
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def area_under_curve(steps: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Returns the mean of curves over the steps from the first to the last point, by the trapezoidal rule.

    Args:
        steps: [time], ascending.
        scores: [..., time].
    """
    x, y = np.asarray(steps, np.float64), np.asarray(scores, np.float64)
    if x.ndim != 1 or y.shape[-1:] != x.shape or np.any(np.diff(x) <= 0):
        raise ValueError(f"ascending steps [time] and scores [..., time] are needed, not {x.shape} and {y.shape}")
    return y[..., 0] if len(x) == 1 else np.trapezoid(y, x, axis=-1) / (x[-1] - x[0])


def steps_to_threshold(steps: ArrayLike, scores: ArrayLike, threshold: float) -> np.ndarray:
    """Returns the first step at which each curve reaches `threshold`; infinity where none does.

    Args:
        steps: [time], ascending.
        scores: [..., time].
        threshold: reached means at least so much.
    """
    reached = np.asarray(scores, np.float64) >= threshold
    first = np.asarray(steps, np.float64)[np.argmax(reached, -1)]
    return np.where(reached.any(-1), first, np.inf)[()]


Verdict: TypeAlias = Literal["better", "worse", "the same", "cannot tell"]


class Comparison(NamedTuple):
    """Two groups of runs beside each other."""

    difference: float  # statistic of X less that of Y
    low: float  # its interval; NaN where there is none
    high: float
    improvement: float  # probability that a run of X beats one of Y
    verdict: Verdict  # X against Y
    reason: str  # why it cannot be told; "" where it can


def compare(
    x: ArrayLike,
    y: ArrayLike,
    statistic: Statistic = iqm,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    tolerance: float | None = None,
) -> Comparison:
    """Compares two groups of runs by the difference of a statistic and its interval (Welch's, see this module).

    "Better" and "worse": the interval lies on one side of 0. "The same": it lies within ± `tolerance`, which is a claim
    of its own and goes before. Everything else is "cannot tell", and so are fewer than five runs on a side and runs
    that are not finite.

    Args:
        x: [runs] or [runs, tasks] scores of X.
        y: the same for Y: as many tasks, any number of runs.
        statistic: called as statistic(x, axis=(-2, -1)).
        confidence: the mass inside the interval, in (0, 1).
        resamples: of the bootstrap, for every statistic but the mean.
        seed: of NumPy's generator.
        tolerance: differences up to it do not matter; None: nothing is ever called the same.
    """
    improvement = probability_of_improvement(x, y)  # checks the shapes
    xs, ys = _with_tasks(x), _with_tasks(y)
    rng = np.random.default_rng(seed)
    sides = [_standard_error(scores[None], statistic, resamples, rng) for scores in (xs, ys)]
    variances = [float(error[0] ** 2) for error, _ in sides]
    degrees = [float(degrees[0]) for _, degrees in sides]
    with np.errstate(invalid="ignore"):  # infinity less infinity
        difference = float(statistic(xs, axis=(-2, -1)) - statistic(ys, axis=(-2, -1)))
    half = float(_half_width(np.sqrt(sum(variances)), _satterthwaite(variances, degrees), confidence))
    low, high = difference - half, difference + half
    lost = [f"{n} of {len(g)} of the {side}" for side, g in (("first", xs), ("second", ys)) if (n := _lost(g))]
    few = [f"the {side} has {len(g)}" for side, g in (("first", xs), ("second", ys)) if len(g) < VERDICT_RUNS]
    verdict, reason = "cannot tell", ""
    if lost:
        reason = f"not finite: {', '.join(lost)}"
    elif few:
        reason = f"a verdict needs {VERDICT_RUNS} on each side: {', '.join(few)}"
    elif tolerance is not None and -tolerance <= low and high <= tolerance:
        verdict = "the same"
    elif low > 0:
        verdict = "better"
    elif high < 0:
        verdict = "worse"
    elif tolerance is None:
        reason = "the interval holds 0; what counts as the same is for a tolerance to say"
    else:
        reason = f"the interval holds 0 and reaches beyond ± {tolerance:g}"
    return Comparison(difference, low, high, improvement, verdict, reason)


def _lost(scores: np.ndarray) -> int:
    """How many runs of [runs, tasks] are not finite."""
    return int((~np.isfinite(scores)).any(-1).sum())


def stratified_bootstrap(
    scores: ArrayLike,
    statistic: Statistic = iqm,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the interval (low, high) of `statistic`, runs resampled within each task; NaN for fewer than two runs.

    Args:
        scores: [runs] or [runs, tasks].
        statistic: called as statistic(x, axis=(-2, -1)) on resampled scores x [..., runs, tasks].
        confidence: the mass inside the interval, in (0, 1).
        resamples: how many times the runs are drawn, with replacement; the mean needs none.
        seed: of NumPy's generator; the same seed gives the same interval.
    """
    low, high = bootstrap_curve(_with_tasks(scores)[None], statistic, confidence, resamples, seed)
    return float(low[0]), float(high[0])


def bootstrap_curve(
    scores: ArrayLike,
    statistic: Statistic = iqm,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pointwise intervals (low [time], high [time]) of a curve; see `stratified_bootstrap`.

    The same runs are drawn at every time, as one would redraw whole training runs.

    Args:
        scores: [time, runs] or [time, runs, tasks].
    """
    curve = np.asarray(scores, np.float64)
    if curve.ndim == 2:
        curve = curve[..., None]
    if curve.ndim != 3 or 0 in curve.shape[1:]:
        raise ValueError(f"scores must be [time, runs] or [time, runs, tasks] and not empty, not {np.shape(scores)}")
    middle = statistic(curve, axis=(-2, -1)) if len(curve) else np.empty(0)
    error, degrees = _standard_error(curve, statistic, resamples, np.random.default_rng(seed))
    half = _half_width(error, degrees, confidence)
    return middle - half, middle + half


def _standard_error(
    curve: np.ndarray, statistic: Statistic, resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(standard error of the statistic, its degrees of freedom), each [time], of scores [time, runs, tasks]."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    times, runs, tasks = curve.shape
    if runs < 2:
        return np.full(times, np.nan), np.full(times, np.nan)
    if statistic is mean:
        variances = curve.var(1, ddof=1) / runs / tasks**2  # [time, tasks]
        return np.sqrt(variances.sum(-1)), _satterthwaite(variances.T, [runs - 1] * tasks)
    drawn = rng.integers(runs, size=(resamples, runs, tasks))
    at_once = max(1, _BLOCK // drawn.size)
    values = np.concatenate(
        [
            np.reshape(
                statistic(curve[start : start + at_once][:, drawn, np.arange(tasks)], axis=(-2, -1)), (-1, resamples)
            )
            for start in range(0, times, at_once)
        ]
        or [np.empty((0, resamples))]
    )
    return values.std(-1) * np.sqrt(runs / (runs - 1)), np.full(times, runs - 1.0)


def _satterthwaite(variances: ArrayLike, degrees: Sequence[float]) -> np.ndarray:
    """Degrees of freedom of a sum of independent estimates with these variances [parts, ...], after Satterthwaite."""
    parts = np.asarray(variances, np.float64)
    each = np.reshape(np.asarray(degrees, np.float64), (-1,) + (1,) * (parts.ndim - 1))
    whole = parts.sum(0)
    # Relative to the whole, so that tiny variances do not vanish when squared; all of them zero: any number will do.
    relative = np.divide(parts, whole, out=np.ones_like(parts), where=whole > 0)
    return 1 / (relative**2 / each).sum(0)


def _half_width(error: ArrayLike, degrees: ArrayLike, confidence: float) -> np.ndarray:
    """Student's t times the standard error."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), not {confidence}")
    from scipy import special  # see `share_interval`

    return special.stdtrit(degrees, (1 + confidence) / 2) * np.asarray(error, np.float64)


def _with_tasks(scores: ArrayLike) -> np.ndarray:
    array = np.asarray(scores, np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"scores must be [runs] or [runs, tasks] and not empty, not {array.shape}")
    return array


def _pool(scores: ArrayLike, axis: Axis) -> np.ndarray:
    """Moves the axes to reduce to the end and makes them one."""
    array = np.asarray(scores, np.float64)
    axes = tuple(range(array.ndim)) if axis is None else (axis if isinstance(axis, tuple) else (axis,))
    moved = np.moveaxis(array, axes, range(-len(axes), 0))
    pooled = moved.reshape(*moved.shape[: array.ndim - len(axes)], -1)
    if pooled.shape[-1] == 0:
        raise ValueError("there are no scores")
    return pooled
