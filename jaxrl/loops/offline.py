"""The loop of agents that learn from a dataset, which all runs share; the environment only evaluates.

The dataset is `shared["data"]`: transitions [N, ...] as the environment gave them (n-step ones from `jaxrl.n_step`, or
sequences, are rows like any other), on the device once for all runs. What a budget counts are updates.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs.base import Env
from envs.episode import EpisodeStats
from envs.errors import InputError
from envs.spaces import Box
from envs.values import Checked, Fraction, Positive
from jaxrl import actions, masks, minibatches
from jaxrl import signals as signal
from jaxrl.loops import clock, entry, keys
from jaxrl.rollout import example
from jaxrl.types import Agent, Algorithm, Context, Metrics, Policy, Signal, Transition


@dataclass(frozen=True)
class Config(Checked):
    """What is static: a new value means a new compilation."""

    num_updates: int = 100
    """Gradient steps per iteration."""
    batch_size: int = 256
    """Rows per gradient step."""


@struct.dataclass
class Hyperparams:
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    gamma: Fraction = 0.99
    """Discount."""
    total_steps: Positive | None = None
    """Updates that the schedules run over; the length of the run unless given."""


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Any
    env_params: Any
    learner: Any
    signals: tuple[Any, ...]  # the state of each
    iteration: jax.Array  # i32[]


def make(
    name: str,
    env: Env,
    algorithm: Algorithm,
    config: Any,
    *,
    steps_per_update: int = 1,
    signals: tuple[Signal, ...] = (),
) -> Agent:
    """Binds an algorithm to the environment that it is evaluated in.

    Args:
        name: of the agent.
        env: the environment; actions Discrete or a Box.
        algorithm: its update gets [steps_per_update · batch_size, ...] rows, actions in the unit box.
        config: with `num_updates` and `batch_size`, e.g. a `Config` with the algorithm's own fields.
        steps_per_update: batches that one update takes; divides num_updates.
        signals: what happens to a batch when it is drawn, and to what the policy sees.

    Raises:
        InputError: actions that are neither Discrete nor a Box, or sizes that do not go together.
    """
    space = actions.require_simple(name, env.action_space)
    masks.require_fit(name, env.observation_space, space)
    if config.num_updates % steps_per_update:
        raise InputError(f"num_updates={config.num_updates} is no multiple of {steps_per_update}.")
    batch_size = steps_per_update * config.batch_size

    def context(state: State, shared: Any) -> Context:
        return Context(shared, state.env_params, clock.progress(state.hp, state.iteration, config.num_updates))

    def policy(state: State, shared: Any = ()) -> Policy:
        greedy = algorithm.greedy(state.hp, context(state, shared), state.learner)
        return signal.seeing(signals, state.hp, state.signals, actions.in_env(space, greedy))

    def explore(state: State, shared: Any = ()) -> Policy:
        sampling = algorithm.explore(state.hp, context(state, shared), state.learner)
        return signal.seeing(signals, state.hp, state.signals, actions.in_env(space, sampling))

    def init(key: jax.Array, hp: Any, env_params: Any, shared: Any = ()) -> State:
        if not isinstance(shared, dict) or "data" not in shared:
            raise InputError(f"{name} learns from a dataset: give shared={{'data': transitions [N, ...]}}.")
        require_rows(name, env, shared["data"])
        key, key_learner, key_signals = keys.split(key, True, algorithm.init_draws, signal.draw(signals))
        learner = algorithm.init(key_learner, hp)
        return State(key, hp, env_params, learner, signal.init(signals, key_signals, hp), jnp.int32(0))

    def step(state: State, shared: Any = ()) -> tuple[State, Metrics]:
        key, key_rows, key_drawn, key_updates = keys.spawn(state.key, True, True, signal.draw(signals), True)
        data, num = jax.tree.map(jnp.asarray, shared["data"]), config.num_updates // steps_per_update
        size = data.reward.shape[0]
        rows = jax.random.randint(key_rows, (num, batch_size), 0, size)

        def learn(learner: Any, xs: tuple[jax.Array, jax.Array]) -> tuple[Any, dict[str, jax.Array]]:
            rows, key = xs
            batch = minibatches.take(data, rows)
            if isinstance(space, Box):
                batch = batch._replace(action=actions.unit_box(space).to_unit(batch.action))
            batch = signal.drawn(signals, state.hp, state.signals, batch, key_drawn)
            learner, diagnostics = algorithm.update(state.hp, context(state, shared), learner, batch, key)
            return learner, diagnostics.scalars

        learner, scalars = jax.lax.scan(learn, state.learner, (rows, jax.random.split(key_updates, num)))
        nothing = EpisodeStats(jnp.float32(0), jnp.int32(0), jnp.int32(0))
        following = state._replace(key=key, learner=learner, iteration=clock.advance(state.iteration))
        return following, Metrics(nothing, jax.tree.map(jnp.mean, scalars))

    return entry.agent(Agent(init, step, policy, config.num_updates, 0, name, env, config, explore))


def require_rows(name: str, env: Env, data: Any) -> None:
    """Checks that the arrays of a dataset belong together and to an environment.

    Args:
        name: of the agent, for messages.
        env: the environment.
        data: transitions [N, ...], or sequences [N, L, ...].

    Raises:
        InputError: no transitions, no rows, or a part of another shape.
    """
    if not isinstance(data, Transition):
        raise InputError(
            f"{name}: shared['data'] must be a jaxrl.Transition of arrays [N, ...], not {type(data).__name__}."
        )
    rows = np.shape(data.reward)
    if len(rows) not in (1, 2) or 0 in rows:
        raise InputError(
            f"{name}: rewards of shape {rows} must be [N], or [N, L] in sequences, with N and L at least 1."
        )
    step = example(env)
    for part in ("obs", "action", "reward", "terminated", "truncated", "next_obs"):
        shapes = jax.tree.map(lambda x: (*rows, *x.shape), getattr(step, part))
        given = jax.tree.map(np.shape, getattr(data, part))
        if jax.tree.leaves(shapes) != jax.tree.leaves(given):
            raise InputError(
                f"{name}: {part} of the dataset has the shape {given}; {type(env).__name__} needs {shapes}."
            )
