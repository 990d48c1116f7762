"""Our five games against the original package: replayed steps and episodes, and the returns of random policies."""

import functools

import numpy as np
import pytest

import envs
from envs.interop import minatar_parity
from envs.interop.parity import parity

pytest.importorskip("minatar")

SAMPLES = 2400  # single steps from scattered states; half as many in whole episodes
# Mean return of uniformly random actions in the paper, rounded to two digits, from a few thousand episodes.
PUBLISHED = {"Asterix": 0.50, "Breakout": 0.50, "Freeway": 0.17, "Seaquest": 0.10, "SpaceInvaders": 2.9}


@functools.cache
def report(game):
    return parity(f"{game}-MinAtar", samples=SAMPLES, seed=11)


def count(note):
    """The number that a note begins with."""
    return int(note.split()[0].replace(",", ""))


def mean(note):
    """(mean, standard error) of ours in the note of a distribution."""
    words = note.split()
    return float(words[1]), float(words[3])


@pytest.mark.parametrize("game", PUBLISHED)
def test_replayed_decisions_give_the_same_steps_and_episodes(game):
    assert report(game).passed, [row for row in report(game).rows if not row.passed]
    assert report(game).summary == "exact"
    rows = {row.quantity: row for row in report(game).rows}
    for quantity in ("random decisions", "reward", "terminated", "observation", "state"):
        assert (rows[quantity].value, rows[quantity].limit, rows[quantity].samples) == (0, 0, SAMPLES)
    assert rows["whole episodes: steps"].samples == SAMPLES // 2
    # What is compared must happen: rewards, ends, and starts of the original's own.
    assert count(rows["reward"].note) > 20
    assert count(rows["terminated"].note) > 20
    assert rows["whole episodes: starts"].samples > 4 or game == "Freeway"


@pytest.mark.parametrize("game", ["Asterix", "Seaquest", "SpaceInvaders"])
def test_constant_difficulty(game):
    env, params = envs.make(f"{game}-MinAtar", ramping=False)
    adapter = getattr(minatar_parity, game)()
    checks = minatar_parity.replayed(env, params, adapter, SAMPLES, np.random.default_rng(12))
    assert all(check.passed for check in checks), [check for check in checks if not check.passed]


def test_a_changed_rule_is_found():
    """A chicken that waits one step less; only what follows from it differs."""
    env, params = envs.make("Freeway-MinAtar", move_interval=2)
    rng = np.random.default_rng(11)
    checks = minatar_parity.replayed(env, params, minatar_parity.Freeway(), SAMPLES, rng)
    assert {check.quantity for check in checks if not check.passed} == {
        "state",
        "whole episodes: starts",
        "whole episodes: steps",
    }


def test_other_random_decisions_are_found(monkeypatch):
    """An arrival in the original asks for new cars: without an answer to that the step cannot be made."""
    env, params = envs.make("Freeway-MinAtar")
    monkeypatch.setattr(minatar_parity.Freeway, "calls", lambda *_: [])
    checks = minatar_parity.replayed(env, params, minatar_parity.Freeway(), SAMPLES, np.random.default_rng(11))
    decisions, reward = checks[1:3]
    assert not decisions.passed
    assert decisions.value == count(reward.note)  # one reward for each arrival
    # The other way round: an answer that nothing asked for.
    monkeypatch.setattr(minatar_parity.Freeway, "calls", lambda *_: [minatar_parity.chance(True)])
    checks = minatar_parity.replayed(env, params, minatar_parity.Freeway(), SAMPLES, np.random.default_rng(11))
    assert checks[1].value == SAMPLES


@pytest.mark.parametrize("game", PUBLISHED)
def test_random_actions_return_what_was_published(game):
    returns = next(row for row in report(game).rows if row.quantity == "random policy: returns")
    ours, error = mean(returns.note)
    assert abs(ours - PUBLISHED[game]) < 3 * error + 0.1 * PUBLISHED[game]


def test_freeway_ends_after_2501_steps():
    rows = {row.quantity: row for row in report("Freeway").rows}
    for policy in ("random policy", "upward policy"):
        assert "mean 2501 ± 0 in" in rows[f"{policy}: lengths"].note
        assert "reference 2501 ± 0" in rows[f"{policy}: lengths"].note
    assert mean(rows["upward policy: returns"].note)[0] > 15  # arrivals, and so new cars, are common
