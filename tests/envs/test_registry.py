import sys
import types

import jax
import numpy as np
import pytest

import envs
from envs import registry, spaces, values
from envs.classic_control.cartpole import CartPole, Params
from envs.errors import InputError, unknown
from envs.gridworld.grid_world import GridWorld
from envs.wrappers import ActionRepeat, Wrapper


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
        ("zzz", {}, ["unknown environment 'zzz'. There are", "envs.names() lists them"]),
        ("Ant-v5", {}, ["unknown environment 'Ant-v5'. There are"]),
        ("Pong", {}, ["Did you mean 'Pong-Pixels-v0' or 'Pong-Vector-v0'?"]),
        ("CartPole-v1", {"lenght": 1.0}, ["lenght", "Did you mean 'length'", "gravity", "max_steps"]),
        ("CartPole-v1", {"max_step": 1}, ["Did you mean 'max_steps'"]),
        ("CartPole-v1", {"length": "long"}, ["length='long'", "float32"]),
        ("CartPole-v1", {"length": None}, ["length=None"]),
        ("CartPole-v1", {"length": 1j}, ["length=1j"]),
        ("CartPole-v1", {"length": [0.5, 0.6]}, ["length", "shape ()", "shape (2,)"]),
        ("CartPole-v1", {"length": [[0.5], [0.6, 0.7]]}, ["length"]),
        ("CartPole-v1", {"length": np.nan}, ["length=nan", "float32"]),
        ("CartPole-v1", {"length": 1e39}, ["length=1e+39", "float32"]),
        ("CartPole-v1", {"max_steps": 0}, ["max_steps=0", "at least 1 or None"]),
        ("CartPole-v1", {"max_steps": 2.5}, ["max_steps=2.5", "a whole number"]),
        ("MiniGrid-Empty-5x5-v0", {"observation": "imag"}, ["observation=imag", "Did you mean 'image'?"]),
        ("FrozenLake-v1", {"is_slippery": "false"}, ["is_slippery=false must be true or false"]),
        ("GridWorld-4x4", {"rows": 1, "cols": 1}, ["rows=1 cols=1"]),
        ("no_such_module:Env", {}, ["no module 'no_such_module'", "working directory"]),
        ("no_such_package.inner:Env", {}, ["no module 'no_such_package.inner'"]),
        (":Env", {}, ["is not MODULE:NAME"]),
        ("envs.classic_control.cartpole:CartPol", {}, ["has no 'CartPol'. Did you mean 'CartPole'?"]),
        ("envs.classic_control.cartpole:Params", {}, ["is no environment"]),
        ("envs.wrappers:FrameStack", {}, ["cannot be made by its name alone", "'env'"]),
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


def test_a_name_is_taken_once_unless_it_is_replaced(entries):
    with pytest.raises(InputError, match="registered already; replace=True"):
        envs.register("CartPole-v1", CartPole)
    assert envs.make("CartPole-v1")[0].max_steps == 500
    for steps in (3, 4):  # as a cell of a notebook is run again
        envs.register("Mine-v0", CartPole, replace=True, max_steps=steps)
        assert envs.make("Mine-v0")[0].max_steps == steps
    with pytest.raises(InputError, match="MODULE:CLASS"):
        envs.register("my:env", CartPole)


def test_an_environment_of_ones_own_needs_no_registry(monkeypatch):
    """Class, function and instance in a module; its fields and parameters are options like those of a name."""
    module = types.ModuleType("made_for_this_test")
    module.Mine, module.short, module.one = CartPole, lambda: CartPole(max_steps=3), CartPole(max_steps=5)
    monkeypatch.setitem(sys.modules, "made_for_this_test", module)
    env, params = envs.make("made_for_this_test:Mine", max_steps=7, length=0.7)
    assert env == CartPole(max_steps=7)
    assert params.length == np.float32(0.7)
    assert envs.make("made_for_this_test:short")[0].max_steps == 3
    assert envs.make("made_for_this_test:one")[0].max_steps == 5


def test_values_are_converted_by_the_type_of_their_field():
    assert envs.make("CartPole-v1", max_steps=10.0)[0] == CartPole(max_steps=10)
    assert envs.make("GridWorld-4x4", rewards=[0, 2])[0] == GridWorld(rewards=(0.0, 2.0))
    assert envs.make("FrozenLake-v1", desc=["SF", "FG"])[0].desc == ("SF", "FG")
    _, params = envs.make("Breakout-Vector-v0")
    for name, value in params._asdict().items():
        if value.dtype == np.int32:  # a whole number that was computed is one
            assert envs.make("Breakout-Vector-v0", **{name: float(value)})[1] == params
            with pytest.raises(InputError, match="int32"):
                envs.make("Breakout-Vector-v0", **{name: 2**40})


@pytest.mark.parametrize("name", envs.names())
def test_no_size_ends_in_a_crash(name):
    """Whole numbers of 0 and below are refused, or the environment works with them."""
    kinds = envs.make(name)[0].option_kinds()
    for field, kind in kinds.items():
        assert values.known(kind), f"{field}: {kind}"
        if "int" not in str(kind) or "tuple" in str(kind):
            continue
        for value in (0, -1):
            try:
                env, params = envs.make(name, **{field: value})
            except InputError:
                continue
            key = jax.random.key(0)
            _, state = jax.eval_shape(env.reset, key, params)
            action = jax.eval_shape(lambda key, env=env: spaces.sample(env.action_space, key), key)
            jax.eval_shape(env.step, key, state, action, params)


def test_unknown_without_a_near_match_lists_what_is_allowed():
    assert str(unknown("agent", "xyz", ["ppo", "dqn"])) == "unknown agent 'xyz'. Allowed: dqn, ppo."
    assert str(unknown("agent", "xyz", [])) == "unknown agent 'xyz'. Allowed: none."
    assert isinstance(unknown("agent", 3, ["ppo"]), ValueError)


def test_what_was_made_is_found_again():
    """Name and overrides come back, arrays among them; what no name stands for is not found."""
    for name, overrides in (
        ("Pendulum-v1", {"length": 0.7, "max_steps": 30}),
        ("CartPoleScale-bsuite", {"reward_scale": 0.01}),
        ("DeepSea-bsuite", {"size": 3, "right_action": [[1, 0, 0], [0, 1, 1], [1, 1, 0]]}),
        ("GridWorld-5x5", {}),
    ):
        env, params = envs.make(name, **overrides)
        assert registry.find(env, params) == (name, overrides)
        assert registry.find(env, env.default_params()) == (
            name,
            {k: v for k, v in overrides.items() if k in env.options()},
        )
    env, params = envs.make("CartPole-v1")
    assert registry.find(ActionRepeat(env, 2), params) is None
