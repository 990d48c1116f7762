"""Aggregates over runs and their uncertainty, after Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264). NumPy only.

Scores are [runs] for one task, or [runs, tasks] where every run of a task is independent of those of the others.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

Axis: TypeAlias = int | tuple[int, ...] | None
Statistic: TypeAlias = Callable[..., np.ndarray]
"""(scores, axis=...) -> scores reduced over the axes (runs, tasks), such as `iqm`."""

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

    Args:
        x: [runs] or [runs, tasks] scores of X.
        y: the same for Y: as many tasks, any number of runs.
    """
    xs, ys = _with_tasks(x), _with_tasks(y)
    if xs.shape[-1] != ys.shape[-1]:
        raise ValueError(f"X has {xs.shape[-1]} tasks and Y has {ys.shape[-1]}")
    difference = xs[:, None, :] - ys[None, :, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> np.ndarray:
    """Returns the share of runs above each threshold, f64[thresholds]: the run-score distribution of Agarwal et al.

    Args:
        scores: [runs] or [runs, tasks]; tasks count alike.
        thresholds: [thresholds].
    """
    pooled = _with_tasks(scores).ravel()
    return np.mean(pooled[:, None] > np.asarray(thresholds, np.float64), 0)


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


class Comparison(NamedTuple):
    """Two groups of runs beside each other."""

    difference: float  # statistic of X less that of Y
    low: float  # its interval
    high: float
    improvement: float  # probability that a run of X beats one of Y
    verdict: Literal["better", "worse", "no difference"]  # X against Y; no difference: the interval holds 0


def compare(
    x: ArrayLike,
    y: ArrayLike,
    statistic: Statistic = iqm,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compares two groups of runs: the difference of a statistic with its percentile bootstrap interval.

    Runs of both groups are redrawn independently, within each task.

    Args:
        x: [runs] or [runs, tasks] scores of X.
        y: the same for Y: as many tasks, any number of runs.
        statistic: called as statistic(x, axis=(-2, -1)).
        confidence: the mass inside the interval, in (0, 1).
        resamples: how many times the runs are drawn, with replacement.
        seed: of NumPy's generator.
    """
    improvement = probability_of_improvement(x, y)  # checks the shapes
    rng = np.random.default_rng(seed)

    def redrawn(scores: np.ndarray) -> np.ndarray:
        drawn = rng.integers(len(scores), size=(resamples, *scores.shape))
        return statistic(scores[drawn, np.arange(scores.shape[1])], axis=(-2, -1))

    xs, ys = _with_tasks(x), _with_tasks(y)
    tail = (1 - confidence) / 2
    low, high = np.quantile(redrawn(xs) - redrawn(ys), (tail, 1 - tail))
    difference = float(statistic(xs, axis=(-2, -1)) - statistic(ys, axis=(-2, -1)))
    verdict = "better" if low > 0 else "worse" if high < 0 else "no difference"
    return Comparison(difference, float(low), float(high), improvement, verdict)


def mean_difference(x: ArrayLike, y: ArrayLike) -> tuple[float, float]:
    """Returns the 95 % interval (low, high) of mean(x) − mean(y) by the normal approximation.

    Args:
        x: [strata, samples], independent samples within each stratum (policy, task); the strata are fixed.
        y: the same strata, any number of samples.
    """
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if xs.ndim != 2 or ys.ndim != 2 or len(xs) != len(ys):
        raise ValueError(f"the same strata are needed on both sides, not {xs.shape} and {ys.shape}")
    difference = np.mean(xs.mean(1) - ys.mean(1))
    variance = xs.var(1, ddof=1) / xs.shape[1] + ys.var(1, ddof=1) / ys.shape[1]
    half = 1.959964 * np.sqrt(variance.sum()) / len(xs)
    return float(difference - half), float(difference + half)


def stratified_bootstrap(
    scores: ArrayLike,
    statistic: Statistic = iqm,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval (low, high) of `statistic`, runs resampled within each task.

    Args:
        scores: [runs] or [runs, tasks].
        statistic: called as statistic(x, axis=(-2, -1)) on resampled scores x [..., runs, tasks].
        confidence: the mass inside the interval, in (0, 1).
        resamples: how many times the runs are drawn, with replacement.
        seed: of NumPy's generator; the same seed gives the same interval.
    """
    low, high = bootstrap_curve(_with_tasks(scores)[None], statistic, confidence, resamples, seed)
    return float(low[0]), float(high[0])


def bootstrap_curve(
    scores: ArrayLike,
    statistic: Statistic = iqm,
    confidence: float = 0.95,
    resamples: int = 2000,
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
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"confidence must be in (0, 1) and resamples >= 1, not {confidence} and {resamples}")
    _, runs, tasks = curve.shape
    drawn = np.random.default_rng(seed).integers(runs, size=(resamples, runs, tasks))
    at_once = max(1, _BLOCK // drawn.size)
    values = np.concatenate(
        [
            np.reshape(
                statistic(curve[start : start + at_once][:, drawn, np.arange(tasks)], axis=(-2, -1)), (-1, resamples)
            )
            for start in range(0, len(curve), at_once)
        ]
        or [np.empty((0, resamples))]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, (tail, 1 - tail), axis=-1)
    return low, high


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
