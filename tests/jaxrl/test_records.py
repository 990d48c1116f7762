"""Every agent computes what is recorded of it: see `records.py`, and there how to record anew."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import agents

_SPEC = importlib.util.spec_from_file_location("agent_records", Path(__file__).with_name("records.py"))
records = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(records)


@pytest.mark.parametrize("name", records.CASES)
def test_outcome_is_as_recorded(name):
    if jax.default_backend() != "cpu":
        pytest.skip("recorded on a CPU; other backends round, and multiply, in their own way")
    case = records.CASES[name]
    found = records.differences(records.load(case.agent)[name], records.run(case))
    assert not found, f"{name}:\n" + "\n".join(found)


def test_every_agent_is_recorded():
    assert {case.agent for case in records.CASES.values()} == set(agents.NAMES)
    assert sorted(path.name for path in records.FOLDER.iterdir()) == sorted(f"{name}.npz" for name in agents.NAMES)
    for agent in agents.NAMES:
        assert list(records.load(agent)) == [name for name, case in records.CASES.items() if case.agent == agent]


def state(*leaves):
    return [records.Entry("state", records.describe(jnp.asarray(x))) for x in leaves]


def words(x):
    return np.asarray(x, np.float32).view(np.uint32)


SMALL = np.linspace(-1, 2, 12, dtype=np.float32).reshape(3, 4)
LARGE = np.linspace(-1, 2, 700, dtype=np.float32).reshape(7, 100)
PLACES = np.arange(700).reshape(7, 100)  # one of them is neither at an end nor sampled
ROUNDED, LARGE_ROUNDED = (x * np.float32(1 + 1e-6) for x in (SMALL, LARGE))
CHANGED = SMALL + np.float32(1e-3) * (np.arange(12).reshape(3, 4) == 5)
LARGE_CHANGED = LARGE + np.float32(0.1) * (PLACES == 333)


@pytest.mark.parametrize(
    ("leaf", "rounded", "changed"),
    [
        (SMALL, ROUNDED, CHANGED),
        (LARGE, LARGE_ROUNDED, LARGE_CHANGED),
        (words(SMALL), words(ROUNDED), words(CHANGED)),
        (words(LARGE), words(LARGE_ROUNDED), words(LARGE_CHANGED)),
        (np.zeros(3, np.float32), np.zeros(3, np.float32), np.full(3, 1e-6, np.float32)),
        (np.array([1, np.nan], np.float32), np.array([1, np.nan], np.float32), np.array([1, 2], np.float32)),
        (np.uint32([0, 7]), np.uint32([0, 7]), np.uint32([1, 7])),  # words that hold integers
        (PLACES[0], PLACES[0], PLACES[1]),
        (PLACES, PLACES, PLACES.T.reshape(7, 100)),
        (PLACES > 333, PLACES > 333, PLACES >= 333),
        (np.bool_(True), np.bool_(True), np.bool_(False)),
    ],
    ids=lambda x: f"{x.dtype}{list(x.shape)}",
)
def test_rounding_is_forgiven_and_a_change_is_not(leaf, rounded, changed):
    assert not records.differences(state(leaf), state(rounded))
    (line,) = records.differences(state(leaf), state(changed))
    assert line.startswith(f"state: {jnp.asarray(leaf).dtype}{list(leaf.shape)} (")
    assert "is gone; of 1 of its kind today the nearest is" in line


def test_leaves_are_paired_whatever_their_order():
    a, b, c = SMALL, SMALL + 1, SMALL + 2
    assert not records.differences(state(a, b, a), state(c, a, b, a))  # one more is no difference
    assert len(records.differences(state(a, a, b), state(a, b, c))) == 1  # one of today serves one recorded
    (line,) = records.differences(state(a), state(a.reshape(4, 3), a.astype(np.float16)))
    assert line.endswith("of 0 of its kind today there is none")
    # The first could take the partner that the second needs.
    near, far = SMALL * np.float32(1 + 9e-6), SMALL * np.float32(1 - 9e-6)
    assert not records.differences(state(SMALL, far), state(far, near))
    key, other = jax.random.key(1), jax.random.key(2)
    assert not records.differences(state(key), state(other, key))
    assert len(records.differences(state(key), state(other))) == 1


def test_metrics_are_compared_by_name():
    def metrics(**values):
        return [records.Entry(f"metrics.{name}", records.describe(jnp.float32(x))) for name, x in values.items()]

    assert not records.differences(metrics(loss=1.0, kl=0.0), metrics(kl=1e-7, loss=1.0))
    assert len(records.differences(metrics(loss=1.0), metrics(loss=1.1))) == 1
    assert len(records.differences(metrics(loss=1.0), metrics(loss=1.0, kl=0.0))) == 1
    assert len(records.differences(metrics(loss=1.0, kl=0.0), metrics(loss=1.0))) == 1
