import numpy as np
import pytest
import scipy.stats

from jaxrl import statistics

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 5, 7, 8, 10, 64, 101])
def test_iqm_is_the_trimmed_mean(runs):
    scores = RNG.standard_normal((3, runs, 6))
    np.testing.assert_allclose(statistics.iqm(scores[0]), scipy.stats.trim_mean(scores[0], 0.25, axis=None))
    np.testing.assert_allclose(statistics.iqm(scores, axis=1), scipy.stats.trim_mean(scores, 0.25, axis=1))
    pooled = scipy.stats.trim_mean(scores.reshape(3, -1), 0.25, axis=1)
    np.testing.assert_allclose(statistics.iqm(scores, axis=(-2, -1)), pooled)


def test_by_hand():
    scores = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 107.0]
    assert statistics.iqm(scores) == 3.5  # 2, 3, 4, 5 remain
    assert statistics.median(scores) == 3.5
    assert statistics.mean(scores) == 16.0
    assert statistics.optimality_gap([0.5, 2.0]) == 0.25  # (0.5 + 0) / 2
    assert statistics.optimality_gap([[100.0], [300.0]], threshold=200.0) == 50.0
    # tasks have means 1, 10 and 5; the median over all entries would be 3.5
    assert statistics.median_of_tasks([[0.0, 20.0, 5.0], [2.0, 0.0, 5.0]]) == 5.0
    assert (
        statistics.probability_of_improvement([1.0, 2.0, 3.0], [2.0, 0.0]) == 4.5 / 6
    )  # wins: 1>0, 2>0, 3>2, 3>0; tie: 2=2


def test_nan_is_not_trimmed_away():
    """A run that diverged must show; sorting puts NaN last, where trimming would drop it."""
    scores = np.arange(16.0).reshape(2, 8)
    scores[1, 3] = np.nan
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(statistics.iqm(scores, axis=1), [3.5, np.nan])
        low, high = statistics.bootstrap_curve(scores, resamples=50)
    assert np.isfinite([low[0], high[0]]).all()
    assert np.isnan([low[1], high[1]]).all()


def test_probability_of_improvement_is_mann_whitney():
    x, y = RNG.integers(8, size=(7, 3)), RNG.integers(8, size=(9, 3))
    u = [scipy.stats.mannwhitneyu(x[:, task], y[:, task]).statistic / 63 for task in range(3)]
    np.testing.assert_allclose(statistics.probability_of_improvement(x, y), np.mean(u))
    with pytest.raises(ValueError, match="2 tasks"):
        statistics.probability_of_improvement(np.ones((3, 2)), np.ones((3, 1)))


@pytest.mark.parametrize("statistic", [statistics.mean, statistics.median, statistics.iqm])
def test_interval_agrees_with_scipy(statistic):
    scores = np.random.default_rng(3).gamma(2.0, size=30)
    ours = statistics.stratified_bootstrap(scores, statistic, confidence=0.9, resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (scores,), statistic, confidence_level=0.9, n_resamples=20_000, method="percentile", random_state=1
    ).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=0.03)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    curves = rng.normal(5.0, 2.0, size=(400, 40))  # 400 studies of 40 runs, as 400 times of one curve
    low, high = statistics.bootstrap_curve(curves, resamples=500)
    covered = np.mean((low <= 5.0) & (high >= 5.0))
    assert 0.89 <= covered <= 0.98  # nominal 0.95; percentile intervals of 40 runs are a little short


def test_runs_are_drawn_within_each_task():
    """Tasks that differ between themselves but not between runs leave no uncertainty."""
    scores = np.tile(np.arange(5.0), (10, 1))
    for statistic in (statistics.iqm, statistics.mean, statistics.median_of_tasks):
        low, high = statistics.stratified_bootstrap(scores, statistic, resamples=100)
        assert low == high == statistic(scores)


def test_a_curve_is_its_points(monkeypatch):
    curve = RNG.standard_normal((11, 12))
    low, high = statistics.bootstrap_curve(curve, resamples=300, seed=5)
    points = [statistics.stratified_bootstrap(point, resamples=300, seed=5) for point in curve]
    np.testing.assert_array_equal(np.stack([low, high], 1), points)
    monkeypatch.setattr(statistics, "_BLOCK", 300 * 12 * 2)  # in blocks of two times
    np.testing.assert_array_equal(statistics.bootstrap_curve(curve, resamples=300, seed=5), (low, high))
    tasks = RNG.standard_normal((3, 12, 4))
    low, _ = statistics.bootstrap_curve(tasks, resamples=300)
    assert low[1] == statistics.stratified_bootstrap(tasks[1], resamples=300)[0]
    assert statistics.bootstrap_curve(np.empty((0, 4)))[0].shape == (0,)


def test_the_seed_decides():
    scores = RNG.standard_normal(20)
    assert statistics.stratified_bootstrap(scores, seed=1) == statistics.stratified_bootstrap(scores, seed=1)
    assert statistics.stratified_bootstrap(scores, seed=1) != statistics.stratified_bootstrap(scores, seed=2)


@pytest.mark.parametrize("scores", [[], np.ones((2, 0)), np.ones((2, 2, 2)), 1.0])
def test_bad_shapes(scores):
    with pytest.raises(ValueError, match=r"must be \[runs\]"):
        statistics.stratified_bootstrap(scores)


def test_bad_arguments():
    with pytest.raises(ValueError, match="confidence"):
        statistics.stratified_bootstrap([1.0, 2.0], confidence=95)
    with pytest.raises(ValueError, match="resamples"):
        statistics.stratified_bootstrap([1.0, 2.0], resamples=0)
    with pytest.raises(ValueError, match="time, runs"):
        statistics.bootstrap_curve(np.ones(3))
    with pytest.raises(ValueError, match="no scores"):
        statistics.iqm([])


def test_mean_difference_by_hand_and_by_coverage():
    # One stratum: means 2 and 1, both variances 4/3, four samples each.
    x, y = [[1.0, 1.0, 3.0, 3.0]], [[0.0, 0.0, 2.0, 2.0]]
    low, high = statistics.mean_difference(x, y)
    half = 1.959964 * np.sqrt(2 * (4 / 3) / 4)
    np.testing.assert_allclose([low, high], [1 - half, 1 + half])
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        a, b = rng.normal([[0.0], [5.0]], 1.0, (2, 50)), rng.normal([[0.5], [5.5]], 2.0, (2, 80))
        low, high = statistics.mean_difference(a, b)
        hits += low <= -0.5 <= high
    assert 0.92 <= hits / 400 <= 0.98
    with pytest.raises(ValueError, match="same strata"):
        statistics.mean_difference([[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]])


def test_profiles_areas_and_thresholds_by_hand():
    np.testing.assert_array_equal(
        statistics.performance_profile([[0.0, 1.0], [2.0, 3.0]], [-1, 0, 1, 2.5, 3]), [1, 0.75, 0.5, 0.25, 0]
    )
    steps = [0, 10, 40]
    curves = [[0.0, 2.0, 2.0], [1.0, 1.0, 3.0]]
    np.testing.assert_allclose(statistics.area_under_curve(steps, curves), [70 / 40, 70 / 40])
    assert statistics.area_under_curve([5], [[3.0]]) == 3.0
    np.testing.assert_array_equal(statistics.steps_to_threshold(steps, curves, 2.0), [10, 40])
    np.testing.assert_array_equal(statistics.steps_to_threshold(steps, curves, 2.5), [np.inf, 40])
    with pytest.raises(ValueError, match="ascending"):
        statistics.area_under_curve([0, 0, 1], curves)


def test_rliable_has_the_same():
    metrics = pytest.importorskip("rliable.metrics")
    scores, others = RNG.gamma(2.0, size=(9, 5)), RNG.gamma(2.0, size=(12, 5))
    np.testing.assert_allclose(statistics.iqm(scores), metrics.aggregate_iqm(scores))
    np.testing.assert_allclose(statistics.mean(scores), metrics.aggregate_mean(scores))
    np.testing.assert_allclose(statistics.median_of_tasks(scores), metrics.aggregate_median(scores))
    np.testing.assert_allclose(statistics.optimality_gap(scores), metrics.aggregate_optimality_gap(scores))
    np.testing.assert_allclose(
        statistics.probability_of_improvement(scores, others), metrics.probability_of_improvement(scores, others)
    )


def test_comparison_is_right_as_often_as_it_says():
    """Equal groups differ in about 5 % of studies; groups a standard deviation apart are nearly always told apart."""
    rng = np.random.default_rng(1)
    same = [statistics.compare(*rng.normal(size=(2, 30)), resamples=300).verdict for _ in range(200)]
    assert 0.88 <= np.mean(np.equal(same, "no difference")) <= 0.99
    apart = [
        statistics.compare(rng.normal(size=30), rng.normal(1.2, size=20), resamples=300).verdict for _ in range(50)
    ]
    assert np.mean(np.equal(apart, "worse")) > 0.85
    x, y = [1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]
    found = statistics.compare(x, y, statistics.mean)
    assert (found.difference, found.improvement, found.verdict) == (2.5, 1.0, "better")
    np.testing.assert_allclose([found.low, found.high], statistics.stratified_bootstrap(x, statistics.mean), atol=0.2)
    swapped = statistics.compare(y, x, statistics.mean)
    assert (swapped.difference, swapped.verdict) == (-2.5, "worse")
