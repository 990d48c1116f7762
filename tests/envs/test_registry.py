import sys
import types

import jax
import numpy as np
import pytest

import envs
from envs import registry
from envs.classic_control.cartpole import CartPole, Params
from envs.errors import InputError, unknown
from envs.gridworld.grid_world import GridWorld
from envs.wrappers import Wrapper


@pytest.fixture
def entries(monkeypatch):
    """A copy of the registry that a test may change."""
    copy = dict(registry._ENTRIES)
    monkeypatch.setattr(registry, "_ENTRIES", copy)
    return copy


def test_names_are_sorted_and_hold_the_classics():
    names = envs.names()
    assert names == sorted(names)
    assert {
        "CartPole-v0",
        "CartPole-v1",
        "Acrobot-v1",
        "MountainCar-v0",
        "MountainCarContinuous-v0",
        "Pendulum-v1",
        "Pendulum-Lab-v0",
        "GridWorld-4x4",
        "GridWorld-5x5",
    } <= set(names)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("CartPole-v0", 200),
        ("CartPole-v1", 500),
        ("Acrobot-v1", 500),
        ("MountainCar-v0", 200),
        ("MountainCarContinuous-v0", 999),
        ("Pendulum-v1", 200),
        ("Pendulum-Lab-v0", 200),
        ("GridWorld-4x4", 100),
        ("GridWorld-5x5", 100),
    ],
)
def test_time_limits(name, limit):
    assert envs.make(name)[0].max_steps == limit


def test_overrides_reach_their_field():
    env, params = envs.make("CartPole-v1", length=0.7, max_steps=None)
    assert env == CartPole(max_steps=None)
    assert params == Params(length=np.float32(0.7))._replace(
        **{k: v for k, v in params._asdict().items() if k != "length"}
    )
    assert params.length == np.float32(0.7)
    env, params = envs.make("GridWorld-5x5", rows=3, goal_reward=2)
    assert env == GridWorld(rows=3, cols=5, random_start=True, rewards=(-1.0, 10.0))
    assert params.goal_reward == np.float32(2)


def test_defaults_and_overrides_have_the_same_types():
    """Otherwise the override of one constant would recompile every program."""
    for overrides in ({}, {"length": 1}, {"length": np.float64(0.3)}, {"length": np.int64(1)}):
        _, params = envs.make("CartPole-v1", **overrides)
        assert all(isinstance(leaf, np.ndarray) and leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("CartPol-v1", {}, ["CartPol-v1", "Did you mean 'CartPole-v1'"]),
        ("cartpole-V1", {}, ["Did you mean 'CartPole-v1'"]),
        ("Pendulun-v1", {}, ["Did you mean 'Pendulum-v1'"]),
        ("zzz", {}, ["unknown environment 'zzz'", "Allowed:", "Acrobot-v1"]),
        ("CartPole-v1", {"lenght": 1.0}, ["lenght", "Did you mean 'length'", "gravity", "max_steps"]),
        ("CartPole-v1", {"max_step": 1}, ["Did you mean 'max_steps'"]),
        ("CartPole-v1", {"length": "long"}, ["length='long'", "float32"]),
        ("CartPole-v1", {"length": None}, ["length=None"]),
        ("CartPole-v1", {"length": 1j}, ["length=1j"]),
        ("CartPole-v1", {"length": [0.5, 0.6]}, ["length", "shape ()", "shape (2,)"]),
        ("CartPole-v1", {"length": [[0.5], [0.6, 0.7]]}, ["length"]),
        ("GridWorld-4x4", {"rows": 1, "cols": 1}, ["rows=1 cols=1"]),
    ],
)
def test_bad_input_is_explained(name, overrides, words):
    with pytest.raises(InputError) as caught:
        envs.make(name, **overrides)
    for word in words:
        assert word in str(caught.value)


def test_register_a_class_and_a_module_path(entries, monkeypatch):
    envs.register("Mine-v0", CartPole, max_steps=7)
    assert envs.make("Mine-v0")[0].max_steps == 7
    assert envs.make("Mine-v0", max_steps=8)[0].max_steps == 8
    module = types.ModuleType("made_for_this_test")
    module.Mine = CartPole
    monkeypatch.setitem(sys.modules, "made_for_this_test", module)
    envs.register("Mine-v1", "made_for_this_test:Mine")
    assert "Mine-v1" in envs.names()
    assert envs.make("Mine-v1")[0] == CartPole()


def test_a_name_can_stand_for_a_wrapped_environment(entries):
    envs.register("Wrapped-v0", CartPole, wrap="envs.wrappers:Wrapper", max_steps=7)
    env, params = envs.make("Wrapped-v0", max_steps=9, length=0.7)
    assert env == Wrapper(CartPole(max_steps=9))
    assert env.max_steps == 9
    assert params.length == np.float32(0.7)
    assert envs.make("Wrapped-v0")[0].max_steps == 7
    with pytest.raises(InputError, match="Did you mean 'max_steps'"):
        envs.make("Wrapped-v0", max_step=9)


def test_a_name_is_taken_once(entries):
    with pytest.raises(InputError, match="registered already"):
        envs.register("CartPole-v1", CartPole)


def test_unknown_without_a_near_match_lists_what_is_allowed():
    assert str(unknown("agent", "xyz", ["ppo", "dqn"])) == "unknown agent 'xyz'. Allowed: dqn, ppo."
    assert str(unknown("agent", "xyz", [])) == "unknown agent 'xyz'. Allowed: none."
    assert isinstance(unknown("agent", 3, ["ppo"]), ValueError)
