"""Whole numbers of 0 and below: refused by name before anything is compiled, or allowed by declaration and sound."""

import importlib.util
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs import values
from envs.errors import InputError
from jaxrl import agents
from jaxrl.agents import dqn, ppo, q_learning
from jaxrl.train import with_total_steps

_SPEC = importlib.util.spec_from_file_location("agent_records", Path(__file__).with_name("records.py"))
records = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(records)

CASES = {case.agent: case for case in reversed(list(records.CASES.values()))}  # one of each agent


def whole(kind):
    """Whether a type is of whole numbers, or holds some."""
    return kind is int or any(whole(part) for part in typing.get_args(kind) if part is not ...)


def lowest(kind):
    """The least whole number that a type allows by declaration."""
    bounds = [part.low for part in typing.get_args(kind) if isinstance(part, values.Bounds)]
    return min(bounds or [lowest(part) for part in typing.get_args(kind) if whole(part)])


def fields(name):
    """(Config or Hyperparams, field, type) of every field of an agent that is a whole number."""
    module = agents.get(name)
    for kind in (module.Config, module.Hyperparams):
        yield from ((kind, field, hint) for field, hint in values.kinds(kind).items() if whole(hint))


def use(module, env, kind, settings):
    """What is first done with settings."""
    return module.make(env, kind(**settings)) if kind is module.Config else with_total_steps(kind(**settings), 1_000)


@pytest.mark.parametrize("name", agents.NAMES)
def test_sizes_of_zero_and_below(name):
    module, case = agents.get(name), CASES[name]
    env, env_params = envs.make(case.env, **case.options)
    assert list(fields(name))
    for kind, field, hint in fields(name):
        for size in (0, -1):
            value = (size,) if "tuple" in str(hint) else size
            settings = (case.config if kind is module.Config else case.hp) | {field: value}
            if size < lowest(hint):
                with pytest.raises(InputError, match=rf"{field}=.*{size}"):
                    use(module, env, kind, settings)
                continue
            assert kind is module.Config
            if getattr(kind(), field) == value:  # as in all other tests
                continue
            try:
                agent = module.make(env, module.Config(**settings))
            except InputError:  # it does not go with other sizes
                continue
            hp = with_total_steps(module.Hyperparams(**case.hp), 1_000)
            step = jax.jit(lambda key, agent=agent, hp=hp: agent.step(agent.init(key, hp, env_params))[1])
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(step(jax.random.key(0)))), f"{field}={size}"


def test_what_may_be_zero_is_declared():
    """A new size does not get into this list unseen."""
    found = {field for name in agents.NAMES for _, field, hint in fields(name) if lowest(hint) < 1}
    assert found == {"burn_in", "hindsight", "lag", "num_dropped", "planning_steps", "warmup_steps"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env_steps": 0}, "env_steps=0 must be from 1"),
        ({"env_steps": 10**18}, "env_steps=1000000000000000000 must be from 1"),
        ({"env_steps": 10**13}, "iterations of q_learning between two evaluations"),
        ({"env_steps": 2.5}, "env_steps=2.5 must be a whole number"),
        ({"num_evals": 0}, "num_evals=0 must be from 1"),
        ({"num_evals": 10**9}, "num_evals=1000000000 must be from 1"),
        ({"eval_episodes": 0}, "eval_episodes=0 must be from 1"),
        ({"eval_episodes": 10**9}, "eval_episodes=1000000000 must be from 1"),
        ({"hp": q_learning.Hyperparams(gamma=1.5)}, "gamma=1.5 must be from 0 to 1"),
        ({"hp": q_learning.Hyperparams(gamma=np.nan)}, "gamma=nan must be a number from 0 to 1"),
        ({"hp": q_learning.Hyperparams(total_steps=0)}, "total_steps=0"),
    ],
)
def test_a_run_from_python(change, message, tmp_path):
    env, params = envs.make("GridWorld-4x4")
    agent = q_learning.make(env, q_learning.Config(steps_per_iteration=50))
    settings = {"hp": q_learning.Hyperparams(), "env_steps": 1_000, "num_evals": 1, "eval_episodes": 2} | change
    with pytest.raises(InputError, match=message):
        jaxrl.fit(agent, params, settings.pop("hp"), seeds=[0], directory=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_hyperparameters_of_several_runs_are_checked_together():
    several = ppo.Hyperparams(gamma=np.array([0.9, 0.99]), learning_rate=np.array([1e-3, 1e-2]))
    assert with_total_steps(several, 10).total_steps == 10
    with pytest.raises(InputError, match="gamma"):
        with_total_steps(ppo.Hyperparams(gamma=np.array([0.9, 1.1])), 10)
    with pytest.raises(InputError, match="learning_rate"):
        with_total_steps(ppo.Hyperparams(learning_rate=jnp.array([1e-3, -1.0])), 10)
    with pytest.raises(InputError, match="target_period=0 must be at least 1"):
        with_total_steps(dqn.Hyperparams(target_period=0), 10)
