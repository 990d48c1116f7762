"""Optimal and other exact values by dynamic programming on the tables, against figures that are known or derived.

Figures called computed come from a separate programme that works on Gymnasium's `P` or from simulations of Gymnasium.
"""

import functools

import jax
import numpy as np
import pytest

import envs
from envs.tabular import State
from envs.toy_text import blackjack

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def tables_of(name, **options):
    """In float64, with rows that sum to 1 in it."""
    env, params = envs.make(name, **options)
    tables = jax.device_get(jit(env.tables)(params))
    p, start = tables.probability.astype(np.float64), tables.start.astype(np.float64)
    return tables._replace(probability=p / p.sum(-1, keepdims=True), start=start / start.sum())


def backup(tables, v, gamma=1.0):
    """Q, f64[S, A]."""
    return (tables.probability * (tables.reward + gamma * ~tables.terminated * v[tables.next_state])).sum(-1)


def iterate(tables, choose, gamma=1.0, steps=100_000, v=None):
    """Applies V ← choose(Q) until it moves no more, or so many times."""
    v = np.zeros(len(tables.start)) if v is None else v
    for _ in range(steps):
        new = choose(backup(tables, v, gamma))
        if np.abs(new - v).max() < 1e-12:
            break
        v = new
    return v


def best(q):
    return q.max(-1)


def uniform(q):
    return q.mean(-1)


def greedy(tables, gamma):
    actions = backup(tables, iterate(tables, best, gamma), gamma).argmax(-1)
    return lambda q: np.take_along_axis(q, actions[:, None], -1)[:, 0]


@pytest.mark.parametrize(
    ("name", "limit", "in_time", "stationary", "random"),
    [("FrozenLake-v1", 100, 0.7442, 0.7402, 0.0139), ("FrozenLake8x8-v1", 200, 0.9132, 0.8630, 0.0019)],
)
def test_frozen_lake(name, limit, in_time, stationary, random):
    """Gymnasium's registry says 0.74 and 0.91; the four digits are computed."""
    tables = tables_of(name)
    assert iterate(tables, best, steps=limit)[0] == pytest.approx(in_time, abs=5e-5)
    assert iterate(tables, greedy(tables, 0.99), steps=limit)[0] == pytest.approx(stationary, abs=5e-5)
    assert iterate(tables, uniform, steps=limit)[0] == pytest.approx(random, abs=5e-5)


def test_frozen_lake_without_a_time_limit():
    assert iterate(tables_of("FrozenLake-v1"), best)[0] == pytest.approx(14 / 17, abs=1e-6)
    v = iterate(tables_of("FrozenLake-v1", is_slippery=False), best, 0.9)
    assert v[0] == pytest.approx(0.9**5)  # six steps


def test_cliff_walking():
    """-13 is the way along the edge; best with ε = 0.1: computed."""
    tables = tables_of("CliffWalking-v1")
    assert iterate(tables, best)[36] == -13
    assert iterate(tables, lambda q: 0.9 * q.max(-1) + 0.1 * q.mean(-1))[36] == pytest.approx(-20.71, abs=0.005)
    edge = greedy(tables, 1.0)
    assert iterate(tables, lambda q: 0.9 * edge(q) + 0.1 * q.mean(-1))[36] == pytest.approx(-45.80, abs=0.005)
    assert iterate(tables_of("CliffWalkingSlippery-v1"), best)[36] == pytest.approx(-64.71, abs=0.005)


def test_taxi():
    tables = tables_of("Taxi-v4")
    v = iterate(tables, best, steps=200)
    assert v @ tables.start == pytest.approx(7.93, abs=0.005)
    starts = tables.start > 0
    assert (v[starts].min(), v[starts].max()) == (3, 15)
    assert iterate(tables, uniform, steps=200) @ tables.start == pytest.approx(-771.1, abs=0.05)


def test_taxi_in_the_rain():
    """Rain costs; a passenger who might have been fickle but never is changes nothing."""
    dry, rain = tables_of("Taxi-v4"), tables_of("Taxi-v4", is_rainy=True)
    optimum = iterate(dry, best) @ dry.start
    assert iterate(rain, best) @ rain.start < optimum - 1
    calm = tables_of("Taxi-v4", fickle_passenger=True, fickle_probability=0.0)
    assert iterate(calm, best) @ calm.start == pytest.approx(optimum)


def test_blackjack():
    """The optima, "stick on 20" and the random policy: computed."""
    tables = tables_of("Blackjack-v1")
    code = np.arange(len(tables.start))
    total = np.where(code >= blackjack.CODES, 21, code // 22)

    def stick_on_20(q):
        return np.where(total >= 20, q[:, 0], q[:, 1])

    for policy, expected in ((best, -0.0431), (stick_on_20, -0.350), (uniform, -0.394)):
        value = iterate(tables, policy) @ tables.start
        assert value == pytest.approx(expected, abs=5e-5 if policy is best else 5e-4)
    plain = tables_of("Blackjack-v1", sab=False)
    value = iterate(plain, best) @ plain.start
    assert value == pytest.approx(-0.0466, abs=5e-5)
    # Half a point more for every natural (2 · 1/13 · 4/13 of all hands) that no 21 of the dealer meets.
    meets = sum(blackjack.CARD[card] * blackjack.results(card)[0][21] for card in range(1, 11))
    paid = tables_of("Blackjack-v1", sab=False, natural=True)
    assert iterate(paid, best) @ paid.start - value == pytest.approx(0.5 * 8 / 169 * (1 - meets), abs=1e-6)


def shortest(tables, start=None):
    """Steps to a termination on the shortest way, where outcomes are certain."""
    costs = tables._replace(reward=np.full_like(tables.reward, -1.0))
    v = iterate(costs, best, steps=200)
    return -v @ (tables.start if start is None else start)


@pytest.mark.parametrize(
    ("name", "steps"),
    [("WindyGridworld-v0", 15), ("WindyGridworldKings-v0", 7), ("DynaMaze-v0", 14), ("GridWorld-3x3", 4)],
)
def test_shortest_ways(name, steps):
    assert shortest(tables_of(name)) == steps


@pytest.mark.parametrize(("name", "before", "after"), [("BlockingMaze-v0", 10, 16), ("ShortcutMaze-v0", 16, 10)])
def test_the_walls_move(name, before, after):
    assert shortest(tables_of(name)) == before
    env, _ = envs.make(name)
    changed = jax.device_get(jit(env.tables)(env.changed_params()))
    assert shortest(changed) == after


def test_random_walks():
    five, nineteen = tables_of("RandomWalk-5"), tables_of("RandomWalk-19")
    np.testing.assert_allclose(iterate(five, uniform)[1:6], np.arange(1, 6) / 6, atol=1e-9)
    np.testing.assert_allclose(iterate(nineteen, uniform)[1:20], np.arange(1, 20) / 10 - 1, atol=1e-9)


@pytest.mark.parametrize(
    ("right", "expected"), [(2 - np.sqrt(2), -6 - 4 * np.sqrt(2)), (0.95, -44.21), (0.05, -82.105)]
)
def test_short_corridor(right, expected):
    """The optimum in closed form, and the two ε-greedy policies of the book's figure."""
    tables = tables_of("ShortCorridor-v0")
    assert iterate(tables, lambda q: q @ [1 - right, right])[0] == pytest.approx(expected, abs=5e-3)


def test_three_states():
    tables = tables_of("ThreeState-v0")
    np.testing.assert_allclose(iterate(tables, lambda q: q[:, 1], 0.9), [14.9, 11, 10], atol=1e-9)
    np.testing.assert_allclose(iterate(tables, best, 0.9), [14.9, 11, 10], atol=1e-9)


def test_maximization_bias():
    tables = tables_of("MaximizationBias-v0")
    q = backup(tables, iterate(tables, best))
    np.testing.assert_allclose(q[0], [-0.1] + [0] * 9, atol=1e-7)
    np.testing.assert_allclose(q[1], -0.1, atol=1e-7)


def test_bandits():
    tables = tables_of("ContextualBandit-v0")
    env, params = envs.make("ContextualBandit-v0")
    np.testing.assert_allclose(backup(tables, np.zeros(5)), params.means, atol=1e-7)
    assert tables.terminated.all()
    assert env.index(State(np.int32(3))) == 3
