"""Classic control against Gymnasium, what every comparison shares, and the reporting itself."""

import builtins
import functools
import importlib
import math

import numpy as np
import pytest

import envs
from envs.classic_control import cartpole, mountain_car, pendulum
from envs.errors import InputError
from envs.interop import classic_control_parity
from envs.interop import parity as module
from envs.interop.parity import Check, Episodes, ParityReport, markdown, parity, table

CLASSIC = ["Acrobot-v1", "CartPole-v0", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]
SAMPLES = 1600


@functools.cache
def compared(name):
    return parity(name, samples=SAMPLES)


@pytest.mark.parametrize("name", [name for name in CLASSIC if name != "CartPole-v0"])
def test_classic_control_equals_gymnasium(name):
    report = compared(name)
    assert report.passed, [row for row in report.rows if not row.passed]
    rows = {row.quantity: row for row in report.rows}
    assert rows["next state"].samples == rows["starts: range"].samples == SAMPLES
    # No tolerance was needed at any threshold, and no equation differs beyond float64 rounding.
    assert rows["terminated"].at_edge == rows["terminated, float64"].at_edge == 0
    limit = {"Acrobot-v1": 1e-9, "MountainCarContinuous-v0": 6.1e-8}.get(name, 1e-14)
    assert rows["next state, float64"].value < limit
    assert rows["reward"].value < 1e-5


def test_the_short_version_of_cartpole():
    """The rest is CartPole-v1."""
    spec, _ = module.gymnasium_reference("CartPole-v0")
    check = module.same_time_limit(envs.make("CartPole-v0")[0], spec)
    assert check.passed
    assert check.note == "200 steps; reference 200"


@pytest.mark.parametrize(
    ("name", "changes", "failing"),
    [
        (
            "CartPole-v1",
            {"length": 0.5001, "start_range": 0.038},
            {"next state", "observation", "starts: distribution"},
        ),
        ("MountainCar-v0", {"goal_position": 0.51}, {"terminated"}),
        (
            "Pendulum-v1",
            {"torque_cost": 0.0011, "start_speed": 1.05},
            {"reward", "starts: range"},
        ),
    ],
)
def test_small_differences_are_found(monkeypatch, name, changes, failing):
    """A comparison that could not fail would prove nothing. (In float64 the standard parameters are compared.)"""
    make = module.registry.make
    monkeypatch.setattr(module.registry, "make", lambda name: make(name, **changes))
    monkeypatch.setattr(classic_control_parity, "random_policy", lambda *_: [])
    report = parity(name, samples=SAMPLES)
    assert {row.quantity for row in report.rows if not row.passed} == failing
    assert not report.passed


def test_a_wrong_equation_is_found_in_float64_too(monkeypatch):
    monkeypatch.setattr(classic_control_parity, "random_policy", lambda *_: [])
    monkeypatch.setattr(pendulum.Params.__new__, "__defaults__", (10.001, *pendulum.Params.__new__.__defaults__[1:]))
    report = parity("Pendulum-v1", samples=SAMPLES)
    assert {row.quantity for row in report.rows if not row.passed} == {
        "next state",
        "observation",
        "next state, float64",
    }


def test_different_spaces_and_time_limits_are_found():
    _, reference = module.gymnasium_reference("CartPole-v1")
    assert module.same_spaces(cartpole.CartPole(), reference).value == 0
    assert module.same_spaces(pendulum.Pendulum(), reference).value == 2
    spec, reference = module.gymnasium_reference("Acrobot-v1")
    assert module.same_time_limit(cartpole.CartPole(), spec).value == 0
    assert module.same_time_limit(mountain_car.MountainCar(), spec).value == 1
    assert module.same_spaces(mountain_car.MountainCar(), reference).value == 1


def test_disagreements_at_an_edge_are_counted_apart():
    ours, theirs = np.array([True, False, True, True]), np.array([True, True, False, True])
    edge = np.array([True, True, False, False])
    check = classic_control_parity._flags("terminated", ours, theirs, edge)
    assert (check.value, check.at_edge, check.samples) == (1, 1, 4)
    check = classic_control_parity._largest("next state", np.array([0.1, 5.0, 0.2, 0.3]), 1.0, edge)
    assert (check.value, check.at_edge, check.passed) == (0.3, 1, True)
    check = classic_control_parity._largest("next state", np.array([0.1, 0.2, 5.0, np.nan]), 1.0, edge)
    assert math.isnan(check.value)
    assert not check.passed


@pytest.mark.parametrize("name", ["GridWorld-4x4", "CartPole-v7", "nothing"])
def test_without_a_reference_the_error_lists_those_that_have_one(name):
    with pytest.raises(InputError) as caught:
        parity(name)
    assert all(other in str(caught.value) for other in CLASSIC)


def test_bad_sample_count():
    with pytest.raises(InputError, match="samples=0"):
        parity("CartPole-v1", samples=0)
    with pytest.raises(InputError, match="episodes=0"):
        parity("CartPole-v1", episodes=0)


def test_without_gymnasium_the_error_says_what_to_install(monkeypatch):
    real = importlib.import_module

    def missing(name, *arguments):
        if name.startswith("gymnasium"):
            raise ImportError("No module named 'gymnasium'")
        return real(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(InputError) as caught:
        parity("CartPole-v1")
    assert 'pip install "jaxrl[interop]"' in str(caught.value)


def test_parity_imports_without_gymnasium(monkeypatch):
    """Listing what has a reference needs no extra."""
    real = builtins.__import__

    def guarded(name, *arguments, **options):
        assert not name.startswith("gymnasium")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", guarded)
    assert set(CLASSIC) <= set(module.names())


def test_a_reference_of_any_kind_can_be_registered(monkeypatch):
    monkeypatch.setattr(module, "_REFERENCES", dict(module._REFERENCES))

    def compare(env, params, samples, episodes, rng):
        assert (env.rows, episodes) == (4, 3)
        return [Check("cells", "mismatches", 0, 0, samples), Check("p", "KS p-value", 0.5, 0.1, samples)]

    module.register("GridWorld-4x4", compare, package="numpy")
    report = parity("GridWorld-4x4", samples=7, episodes=3)
    assert report.reference == f"numpy {np.__version__}"
    assert report.passed
    with pytest.raises(InputError, match="already"):
        module.register("GridWorld-4x4", compare)


def test_tables():
    rows = (Check("reward", "max |error|", 0.5, 0.25, 1000, 2, "a | b"), Check("s", "KS p-value", 0.5, 0.1, 10))
    report = ParityReport("Some-v0", "package 1.2", 1000, 0, rows)
    header, first, second = table(report)
    assert header[0] == "quantity"
    assert first == ("reward", "max |error|", "0.5", "≤ 0.25", "1,000", "2", "FAIL", "a | b")
    assert second[3] == "≥ 0.1"
    assert second[6] == "pass"
    text = markdown([report])
    assert "`jaxrl parity Some-v0`, against package 1.2, 1,000 samples, seed 0: some checks FAIL." in text
    assert "| reward | max \\|error\\| | 0.5 | ≤ 0.25 | 1,000 | 2 | FAIL | a \\| b |" in text
    assert "|" + "---|" * 8 in text
    assert "| Some-v0 | package 1.2 | differs: reward |" in text


def test_the_same_seed_gives_the_same_report():
    assert parity("CartPole-v1", samples=SAMPLES) == compared("CartPole-v1")
    other = parity("CartPole-v1", samples=SAMPLES, seed=1)
    assert {row.quantity for row in other.rows} == {row.quantity for row in compared("CartPole-v1").rows}
    assert other.rows != compared("CartPole-v1").rows


def test_random_episodes_of_another_pole_are_found():
    env, params = envs.make("CartPole-v1", length=0.4)
    rng = np.random.default_rng(0)
    returns, lengths, mean = module.random_policy(env, params, module.gymnasium_play("CartPole-v1", rng), SAMPLES, rng)
    assert not returns.passed
    assert not lengths.passed
    assert not mean.passed
    assert returns.samples == SAMPLES
    assert f"in {4 * SAMPLES:,}; reference" in returns.note
    assert returns.note == lengths.note  # CartPole pays 1 for every step


def test_random_episodes_of_given_probabilities():
    """An upright pole falls soonest when it is always pushed to the same side: after 8 to 10 steps (Barto, 1983)."""
    env, params = envs.make("CartPole-v1")
    played = []

    def play(actions):
        played.append([next(actions) for _ in range(10)])
        return 9.0, 20

    _, lengths, _ = module.random_policy(
        env, params, play, SAMPLES, np.random.default_rng(0), policy="right", weights=(0.0, 1.0)
    )
    assert np.all(np.array(played) == 1)
    assert lengths.quantity == "right: lengths"
    assert 9 < float(lengths.note.split()[1]) < 10


def test_sums_that_only_rounding_tells_apart_are_one_value():
    """Sums of 0.1 in float32 and in float64 are the same returns, and those of half a reward less are others."""
    steps = np.random.default_rng(0).integers(1, 6, 4000)
    theirs = Episodes(np.array([sum([0.1] * n) for n in steps]), steps)
    single = np.array([np.add.accumulate(np.full(n, 0.1, np.float32))[-1] for n in steps])
    assert np.any(single != theirs.returns)
    assert [check.value for check in module.same_episodes("policy", Episodes(single, steps), theirs)[:2]] == [1, 1]
    other, lengths, _ = module.same_episodes("policy", Episodes(single - np.float32(0.05), steps), theirs)
    assert not other.passed
    assert lengths.passed


def test_means_of_rare_events():
    """One in a thousand against none is chance, whatever the variance of the sample without any."""
    rare = np.zeros(4000)
    rare[:4] = 1
    assert module.same_mean("goals", rare, np.zeros(1000)).value > 0.1
    assert module.same_mean("goals", np.zeros(10), np.zeros(10)).value == 1
    assert module.same_mean("goals", np.ones(10), np.zeros(10)).value < 1e-4


@pytest.mark.parametrize(
    ("rows", "summary"),
    [
        (
            [Check("reward", "max |error|", 3e-7, 1e-6, 9), Check("state", "max |error|", 1e-8, 1, 9)],
            "max |error| 3e-07",
        ),
        ([Check("reward", "max |error|", 0.0, 0.0, 9), Check("starts", "KS p-value", 0.5, 0.1, 9)], "exact"),
        ([Check("reward", "mismatches", 0, 0, 9)], "exact"),
        ([Check("returns", "KS p-value", 0.5, 0.1, 9), Check("spaces", "mismatches", 0, 0, 9)], "same distributions"),
        (
            [Check("a", "median |error|", 0.1, 1, 9), Check("b", "max |error|", 0.2, 1, 9)],
            "max |error| 0.2 (b)",
        ),
        ([Check("reward", "mismatches", 1, 0, 9), Check("p", "KS p-value", 0.0, 0.1, 9)], "differs: reward, p"),
    ],
)
def test_summary(rows, summary):
    assert ParityReport("Some-v0", "package 1.2", 9, 0, tuple(rows)).summary == summary
