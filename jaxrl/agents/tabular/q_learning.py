"""Tabular Q-learning and double Q-learning (Watkins 1989; van Hasselt 2010; Sutton & Barto 2018, sections 6.5, 6.7).

    Q(s, a) ← Q(s, a) + α [r + γ (1 − terminated) max_a' Q(s', a') − Q(s, a)]

Double: two tables; a coin says which one learns, and that one chooses a' while the other values it; actions follow the
mean of both. Every environment step is followed at once by its update. With several environments their updates are
added up, so that two of them in the same state and action move the value twice. Actions are ε-greedy with ties broken
at random, or softmax.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env
from envs.spaces import Space
from jaxrl import losses, n_step
from jaxrl.agents.tabular import tables
from jaxrl.loops import on_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Policy, Transition


@dataclass(frozen=True)
class Config(tables.Config, on_policy.OnlineConfig):
    """What is static: a new value means a new compilation."""

    double: bool = False
    """Double Q-learning."""


@struct.dataclass
class Hyperparams(tables.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""


class Learner(NamedTuple):
    """What `update` changes."""

    q: jax.Array  # f32[S, A]; double: f32[2, S, A]
    episodes: jax.Array  # i32[] finished


def init_learner(config: Config, shape: tuple[int, int], key: jax.Array, hp: Hyperparams) -> Learner:
    """The table, or both of them, at the start; the key is not used."""
    del key
    return Learner(tables.start((2, *shape) if config.double else shape, hp), jnp.int32(0))


def update(
    config: Config, hp: Hyperparams, context: Context, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, Diagnostics]:
    """One step towards the targets of a batch of transitions.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        context: how far the run is.
        learner: the table, or both of them.
        batch: [B] transitions with integer obs and actions.
        key: for the coins of double Q-learning.

    Returns:
        (learner, diagnostics with the size of each transition's TD error as priority).
    """
    q, discount_t = learner.q, n_step.discount(batch, hp.gamma)
    if config.double:
        first = jax.random.bernoulli(key, shape=batch.action.shape).astype(jnp.int32)
        place = first, batch.obs, batch.action
        values = q[1 - first, batch.next_obs], q[first, batch.next_obs]
        error = losses.double_q_learning(q[first, batch.obs], batch.action, batch.reward, discount_t, *values)
    else:
        place = batch.obs, batch.action
        error = losses.q_learning(q[batch.obs], batch.action, batch.reward, discount_t, q[batch.next_obs])
    q = q.at[place].add(tables.learning_rate(hp, context) * losses.weighted(error, batch.weight))
    td_error = jnp.abs(error)
    epsilon = tables.epsilon(config, hp, context, learner.episodes)
    scalars = {"td_error": losses.mean(td_error, batch.weight), "epsilon": epsilon}
    return Learner(q, tables.finished(learner.episodes, batch)), Diagnostics(scalars, td_error)


def table(config: Config, learner: Learner) -> jax.Array:
    """The action values that the policy follows, f32[S, A]."""
    return learner.q.mean(0) if config.double else learner.q


def explore(config: Config, hp: Hyperparams, context: Context, learner: Learner) -> Policy:
    """The policy that gathers experience."""
    epsilon = tables.epsilon(config, hp, context, learner.episodes)
    return tables.exploring(config, hp, epsilon, table(config, learner))


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """Q-learning for a pair of spaces.

    Raises:
        InputError: spaces that are not Discrete.
    """
    return Algorithm(
        init=partial(init_learner, config, tables.shape("q_learning", observation_space, action_space)),
        update=partial(update, config),
        explore=partial(explore, config),
        greedy=lambda hp, context, learner: tables.greedy(table(config, learner)),
        init_draws=False,
    )


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds Q-learning to an environment with Discrete observations and actions.

    Raises:
        InputError: other spaces.
    """
    return on_policy.make("q_learning", env, algorithm(config, env.observation_space, env.action_space), config)
