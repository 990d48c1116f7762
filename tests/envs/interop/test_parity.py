"""10,000 injected states per environment against Gymnasium, and the reporting itself."""

import builtins
import importlib
import math

import numpy as np
import pytest

from envs.classic_control import cartpole, mountain_car, pendulum
from envs.errors import InputError
from envs.interop import parity as module
from envs.interop.parity import Check, ParityReport, markdown, parity, table

CLASSIC = ["Acrobot-v1", "CartPole-v0", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]


@pytest.mark.parametrize("name", [name for name in CLASSIC if name != "CartPole-v0"])
def test_classic_control_equals_gymnasium(name):
    report = parity(name)
    assert report.samples == 10_000
    assert report.passed, [row for row in report.rows if not row.passed]
    rows = {row.quantity: row for row in report.rows}
    # No tolerance was needed at any threshold, and no equation differs beyond float64 rounding.
    assert rows["terminated"].at_edge == rows["terminated, float64"].at_edge == 0
    limit = {"Acrobot-v1": 1e-9, "MountainCarContinuous-v0": 6.1e-8}.get(name, 1e-14)
    assert rows["next state, float64"].value < limit
    assert rows["reward"].value < 1e-5


def test_the_short_version_of_cartpole():
    report = parity("CartPole-v0")
    assert report.passed
    assert "200 steps" in next(row.note for row in report.rows if row.quantity == "time limit")


@pytest.mark.parametrize(
    ("name", "changes", "failing"),
    [
        (
            "CartPole-v1",
            {"length": 0.5001, "start_range": 0.047},
            {"next state", "observation", "starts: distribution"},
        ),
        ("MountainCar-v0", {"goal_position": 0.51}, {"terminated"}),
        (
            "Pendulum-v1",
            {"torque_cost": 0.0011, "start_speed": 1.05, "max_steps": 199},
            {"reward", "starts: range", "time limit"},
        ),
    ],
)
def test_small_differences_are_found(monkeypatch, name, changes, failing):
    """A comparison that could not fail would prove nothing. (In float64 the standard parameters are compared.)"""
    make = module.registry.make
    monkeypatch.setattr(module.registry, "make", lambda name: make(name, **changes))
    report = parity(name)
    assert {row.quantity for row in report.rows if not row.passed} == failing
    assert not report.passed


def test_a_wrong_equation_is_found_in_float64_too(monkeypatch):
    monkeypatch.setattr(pendulum.Params.__new__, "__defaults__", (10.001, *pendulum.Params.__new__.__defaults__[1:]))
    report = parity("Pendulum-v1")
    assert {row.quantity for row in report.rows if not row.passed} == {
        "next state",
        "observation",
        "next state, float64",
    }


def test_different_spaces_are_found():
    _, reference = module._build("CartPole-v1")
    assert module._spaces(cartpole.CartPole(), reference).value == 0
    assert module._spaces(pendulum.Pendulum(), reference).value == 2
    _, reference = module._build("Acrobot-v1")
    assert module._spaces(mountain_car.MountainCar(), reference).value == 1


def test_disagreements_at_an_edge_are_counted_apart():
    ours, theirs = np.array([True, False, True, True]), np.array([True, True, False, True])
    edge = np.array([True, True, False, False])
    check = module._flags("terminated", ours, theirs, edge)
    assert (check.value, check.at_edge, check.samples) == (1, 1, 4)
    check = module._largest("next state", np.array([0.1, 5.0, 0.2, 0.3]), 1.0, edge)
    assert (check.value, check.at_edge, check.passed) == (0.3, 1, True)
    check = module._largest("next state", np.array([0.1, 0.2, 5.0, np.nan]), 1.0, edge)
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

    def compare(env, params, samples, rng):
        assert env.rows == 4
        return [Check("cells", "mismatches", 0, 0, samples), Check("p", "KS p-value", 0.5, 0.1, samples)]

    module.register("GridWorld-4x4", compare, package="numpy")
    report = parity("GridWorld-4x4", samples=7)
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


def test_the_same_seed_gives_the_same_report():
    first, again, other = (parity("MountainCar-v0", seed=seed) for seed in (4, 4, 5))
    assert first == again
    assert first.rows != other.rows
