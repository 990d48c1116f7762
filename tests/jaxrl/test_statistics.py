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


def test_the_interval_of_a_mean_is_students():
    scores = np.random.default_rng(3).gamma(2.0, size=9)
    theirs = scipy.stats.ttest_1samp(scores, 0.0).confidence_interval(0.9)
    np.testing.assert_allclose(statistics.stratified_bootstrap(scores, statistics.mean, confidence=0.9), theirs)


def plain_mean(scores, axis):
    """A mean that is not known to be one, so that its error comes from resampling."""
    return np.mean(scores, axis)


@pytest.mark.parametrize("shape", [(6,), (6, 3)])
def test_resampling_finds_the_error_of_a_mean(shape):
    """Also over tasks, which are drawn independently of one another, whose errors then add as variances do."""
    scores = np.random.default_rng(4).normal(size=shape)
    if len(shape) == 2:
        scores[:, 1:] = scores[:, :1]  # the same runs drawn for all tasks would not average out
    low, high = statistics.stratified_bootstrap(scores, plain_mean, resamples=20_000)
    error = scores.std(0, ddof=1) / np.sqrt(6)
    want = np.sqrt((error**2).sum()) / error.size
    np.testing.assert_allclose(high - low, 2 * scipy.stats.t.ppf(0.975, 5) * want, rtol=0.02)
    np.testing.assert_allclose((low + high) / 2, scores.mean())


DISTRIBUTIONS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "skewed": lambda rng, size: rng.exponential(size=size),
    "two kinds of run": lambda rng, size: np.where(rng.random(size) < 0.8, 480, 100) + 20 * rng.random(size),
}


@pytest.mark.parametrize("runs", [2, 3, 4, 8])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_intervals_of_few_runs_cover_the_truth_as_often_as_they_say(name, runs):
    """The percentiles of a bootstrap cover it in half of the studies of two runs, and in 0.87 of those of four."""
    draw = DISTRIBUTIONS[name]
    whole = np.sort(draw(np.random.default_rng(0), 200_000))
    truth = whole[50_000:-50_000].mean()
    studies = draw(np.random.default_rng(runs), (600, runs))
    low, high = statistics.bootstrap_curve(studies, statistics.iqm, resamples=300)
    assert np.mean((low <= truth) & (truth <= high)) >= 0.9
    low, high = statistics.bootstrap_curve(studies, statistics.mean)
    if name == "normal":
        assert 0.93 <= np.mean((low <= 0) & (high >= 0)) <= 0.97


def test_fewer_than_two_runs_have_no_interval():
    assert np.isnan(statistics.stratified_bootstrap([100.0])).all()
    assert np.isnan(statistics.stratified_bootstrap([100.0], statistics.mean)).all()
    low, high = statistics.bootstrap_curve(np.ones((3, 1)))
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_a_share_has_wilsons_interval():
    for hits, runs in ((0, 4), (3, 4), (7, 20)):
        theirs = scipy.stats.binomtest(hits, runs).proportion_ci(method="wilson")
        np.testing.assert_allclose(statistics.share_interval(hits / runs, runs), theirs, atol=1e-12)
    assert np.isnan(statistics.share_interval([0.0, 1.0], 1)).all()


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
    np.testing.assert_allclose(np.stack([low, high], 1), points, rtol=1e-12)
    monkeypatch.setattr(statistics, "_BLOCK", 300 * 12 * 2)  # in blocks of two times
    np.testing.assert_allclose(statistics.bootstrap_curve(curve, resamples=300, seed=5), (low, high), rtol=1e-12)
    tasks = RNG.standard_normal((3, 12, 4))
    low, _ = statistics.bootstrap_curve(tasks, resamples=300)
    np.testing.assert_allclose(low[1], statistics.stratified_bootstrap(tasks[1], resamples=300)[0])
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


def test_comparing_means_is_welchs_test():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=9), rng.normal(1.0, 3.0, size=6)
    theirs = scipy.stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    found = statistics.compare(x, y, statistics.mean)
    np.testing.assert_allclose([found.low, found.high], theirs)


def test_comparing_means_over_strata_covers_the_truth():
    """Episodes of several policies: [episodes, policies], whose levels differ."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        a, b = rng.normal([0.0, 5.0], 1.0, (6, 2)), rng.normal([0.5, 5.5], 2.0, (8, 2))
        found = statistics.compare(a, b, statistics.mean)
        hits += found.low <= -0.5 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


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


@pytest.mark.parametrize(("name", "runs"), [("normal", 5), ("skewed", 5), ("two kinds of run", 8), ("normal", 30)])
def test_equal_groups_are_told_apart_in_one_study_of_twenty_at_most(name, runs):
    rng = np.random.default_rng(1)
    draw = DISTRIBUTIONS[name]
    words = [statistics.compare(draw(rng, runs), draw(rng, runs), resamples=200).verdict for _ in range(300)]
    assert np.mean(np.not_equal(words, "cannot tell")) <= 0.07


def test_groups_a_standard_deviation_apart_are_told_apart():
    rng = np.random.default_rng(1)
    apart = [
        statistics.compare(rng.normal(size=30), rng.normal(1.2, size=20), resamples=300).verdict for _ in range(50)
    ]
    assert np.mean(np.equal(apart, "worse")) > 0.85
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    found = statistics.compare(x, y, statistics.mean)
    assert (found.difference, found.improvement, found.verdict, found.reason) == (3.0, 1.0, "better", "")
    np.testing.assert_allclose([found.low, found.high], statistics.stratified_bootstrap(x, statistics.mean))
    swapped = statistics.compare(y, x, statistics.mean)
    assert (swapped.difference, swapped.verdict) == (-3.0, "worse")


@pytest.mark.parametrize(
    ("x", "y", "tolerance", "verdict", "reason"),
    [
        ([100.0], [101.0], None, "cannot tell", "a verdict needs 5 on each side: the first has 1, the second has 1"),
        ([9.0] * 4, [1.0, 2.0, 3.0, 4.0, 5.0], None, "cannot tell", "each side: the first has 4"),
        ([9.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0], None, "better", ""),
        ([np.nan, 1.0, 1.0, 1.0, 1.0], [2.0] * 5, 9.0, "cannot tell", "not finite: 1 of 5 of the first"),
        ([1.0] * 5, [np.nan, np.inf, 1.0, 1.0, 1.0], None, "cannot tell", "not finite: 2 of 5 of the second"),
        ([0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.1], None, "cannot tell", "for a tolerance to say"),
        ([0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.1], 1.0, "cannot tell", "reaches beyond ± 1"),
        ([0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.1], 3.0, "the same", ""),
        ([1.0, 1.1, 1.2, 1.3, 1.4], [0.0, 0.1, 0.2, 0.3, 0.4], 3.0, "the same", ""),  # a difference too small to matter
        ([1.0, 1.1, 1.2, 1.3, 1.4], [0.0, 0.1, 0.2, 0.3, 0.4], 0.5, "better", ""),
        ([500.0] * 5, [500.0] * 5, 0.0, "the same", ""),
    ],
)  # fmt: skip
def test_verdicts(x, y, tolerance, verdict, reason):
    found = statistics.compare(x, y, statistics.mean, tolerance=tolerance)
    assert found.verdict == verdict
    assert reason in found.reason
    assert bool(found.reason) == (verdict == "cannot tell")


def test_a_run_that_is_nan_is_no_loss():
    assert np.isnan(statistics.probability_of_improvement([np.nan, 1.0], [0.0, 0.0]))
    assert np.isnan(statistics.probability_of_improvement([1.0, 1.0], [[0.0], [np.nan]]))
    np.testing.assert_array_equal(statistics.performance_profile([np.nan, 1.0, 2.0, 3.0], [0, 1.5]), [0.75, 0.5])
