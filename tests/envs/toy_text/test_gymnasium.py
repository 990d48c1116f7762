"""The toy-text environments against Gymnasium's; their options; and that the comparison would find a difference."""

import jax
import numpy as np
import pytest

import envs
from envs.errors import InputError
from envs.interop import toy_text_parity as parity
from envs.interop.parity import Check
from envs.interop.parity import parity as report
from envs.tabular import State
from envs.toy_text import blackjack, frozen_lake

gymnasium = pytest.importorskip("gymnasium")


def original(name, **options):
    return gymnasium.make(name, **options).unwrapped


def passed(checks):
    return [check for check in checks if not check.passed] == []


@pytest.mark.parametrize(
    "name",
    [
        "FrozenLake-v1",
        pytest.param("FrozenLake8x8-v1", marks=pytest.mark.slow),
        "CliffWalking-v1",
        pytest.param("CliffWalkingSlippery-v1", marks=pytest.mark.slow),
        "Taxi-v4",
        "Blackjack-v1",
    ],
)
def test_parity(name):
    result = report(name, samples=1000)
    assert result.passed, [row for row in result.rows if not row.passed]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("FrozenLake8x8-v1", {}),
        ("CliffWalkingSlippery-v1", {}),
        ("FrozenLake-v1", {"is_slippery": False}),
        ("FrozenLake-v1", {"success_rate": 0.8, "reward_schedule": (10, -5, -1)}),
        ("FrozenLake-v1", {"desc": ("FSGH", "SHFG")}),
        ("Taxi-v4", {"is_rainy": True, "rainy_probability": 0.5}),
    ],
)
def test_tables_under_options(name, options):
    env, params = envs.make(name, **options)
    assert passed(parity.same_tables(env, params, original(name, **options)))


@pytest.mark.parametrize("options", [{"is_rainy": True}, {"fickle_probability": 0.9}])
def test_a_fickle_passenger(options):
    """What Gymnasium's passengers do has the probabilities of our tables, in which their mind is a state."""
    env, params = envs.make("Taxi-v4", fickle_passenger=True, **options)
    table = parity.outcomes(jax.device_get(jax.jit(env.tables)(params)))
    rng = np.random.default_rng(0)
    reference = original("Taxi-v4", fickle_passenger=True, **options)
    steps = parity.taxi_steps(reference, 5000, rng)
    assert sum(s.index // 500 > s.outcome[0] // 500 for s in steps) > 500  # many changed their mind
    checks = parity.same_steps("step", table, steps)
    assert len(checks) == 2
    assert passed(checks)


@pytest.mark.parametrize("options", [{"sab": False, "natural": True}, {"natural": True}])
def test_blackjack_under_options(options):
    env, params = envs.make("Blackjack-v1", **options)
    table = parity.outcomes(jax.device_get(jax.jit(env.tables)(params)))
    rng = np.random.default_rng(0)
    reference = original("Blackjack-v1", **({"sab": True} | options))
    for natural in (False, True):
        hands = parity.blackjack_hands(reference, 3000, rng, natural=natural)
        assert passed(parity.same_steps("hands", table, hands))


def test_small_differences_are_found():
    """A comparison that could not fail would prove nothing."""
    rng = np.random.default_rng(0)
    reference = original("FrozenLake-v1")
    env, params = envs.make("FrozenLake-v1", success_rate=0.334)
    assert not passed(parity.same_tables(env, params, reference))
    env, params = envs.make("FrozenLake-v1", reward_schedule=(1, 0, 0.001))
    table_error, *_ = [c for c in parity.same_tables(env, params, reference) if not c.passed]
    assert table_error.quantity == "tables: probabilities"
    env, params = envs.make("FrozenLake-v1", success_rate=0.4)
    steps = parity.our_steps(env, params, 10_000, rng)
    possible, probable = parity.same_steps("step", parity.listed(reference.P), steps)
    assert possible.passed
    assert not probable.passed
    env, params = envs.make("FrozenLake-v1", desc=("FSFF", "FHFH", "FFFH", "HFFG"))
    starts = next(c for c in parity.same_tables(env, params, reference) if c.quantity == "starts")
    assert starts.value == 1

    env, params = envs.make("Blackjack-v1", sab=False)
    tables = jax.device_get(jax.jit(env.tables)(params))
    hands = parity.blackjack_hands(original("Blackjack-v1", sab=True), 6000, rng, natural=True)
    assert not passed(parity.same_steps("hands", parity.outcomes(tables), hands))
    starts = parity.blackjack_starts(original("Blackjack-v1"), 500, rng)
    assert passed(parity.same_starts(tables, starts))
    impossible, probable = parity.same_starts(tables, np.append(starts, 0))  # no hand has a sum of 0
    assert (impossible.value, impossible.passed, probable.passed) == (1, False, True)
    uniform = np.where(tables.start > 0, 1 / np.sum(tables.start > 0), 0)
    impossible, probable = parity.same_starts(tables._replace(start=uniform), starts)
    assert (impossible.passed, probable.passed) == (True, False)


def test_an_impossible_outcome_is_counted():
    step = parity.Happened(0, 0, (1, 0.0, False))
    table = {(0, 0): {(1, 1.0, False): 1.0}}
    check = Check("step: impossible outcomes", "mismatches", 1, 0, 1)
    assert parity.same_steps("step", table, [step]) == [check]


@pytest.mark.parametrize("seed", range(4))
def test_random_maps_are_gymnasium_s(seed):
    """The same stream of random numbers, so the same maps: also which of them can be crossed."""
    from gymnasium.envs.toy_text.frozen_lake import generate_random_map

    for size, p in ((3, 0.5), (8, 0.8), (8, 0.62)):
        assert frozen_lake.random_map(size, p, seed) == tuple(generate_random_map(size, p, seed))


def test_bad_lakes(monkeypatch):
    for desc in (("SF", "G"), ("SX", "FG"), ("FF", "FG")):
        with pytest.raises(InputError, match="desc="):
            frozen_lake.FrozenLake(desc=desc)
    for size, p in ((1, 0.5), (4, 1.5), (4, 0.0)):
        with pytest.raises(InputError, match="size="):
            frozen_lake.random_map(size, p)
    monkeypatch.setattr(frozen_lake, "_ATTEMPTS", 100)
    with pytest.raises(InputError, match="none of 100 maps"):
        frozen_lake.random_map(4, 0.03, seed=0)


def test_taxi_says_its_mask():
    env, params = envs.make("Taxi-v4")
    index = np.int32(((2 * 5 + 3) * 5 + 0) * 4 + 1)  # in the open
    out = jax.jit(env.step)(jax.random.key(0), State(index), np.int32(2), params)
    assert int(out.obs) == ((2 * 5 + 4) * 5 + 0) * 4 + 1
    assert out.info["action_mask"].tolist() == [True, True, False, True, False, False]


def test_blackjack_in_one_number():
    env, _ = envs.make("Blackjack-v1", discrete=True)
    plain, _ = envs.make("Blackjack-v1")
    assert env.observation_space.n == 704
    total, card, ace = jax.vmap(plain.observe)(np.arange(704))
    np.testing.assert_array_equal(jax.vmap(env.observe)(np.arange(704)), (total * 11 + card) * 2 + ace)
    natural = State(np.int32(blackjack.CODES + 6))
    assert [int(part) for part in plain.observe(natural.index)] == [21, 7, 1]


def test_the_dealer():
    """Busts of a dealer who stands on every 17, infinite deck, by the card shown: a well-known table of the game."""
    busts = [0.1153, 0.3536, 0.3739, 0.3945, 0.4164, 0.4232, 0.2623, 0.2447, 0.2284, 0.2121]
    for card, bust in enumerate(busts, 1):
        final, natural = blackjack.results(card)
        assert final[0] == pytest.approx(bust, abs=5e-5)
        assert final.sum() == pytest.approx(1)
        assert not final[1:17].any()
        assert natural == pytest.approx({1: 4 / 13, 10: 1 / 13}.get(card, 0))
        assert natural <= final[21]
