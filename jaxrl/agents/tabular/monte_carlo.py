"""On-policy Monte Carlo control, first-visit or every-visit (Sutton & Barto 2018, sections 5.3 and 5.4).

    Q(s, a) ← mean of the returns that followed (s, a), or a step of size α towards each of them

An iteration collects a stretch of fixed length with an ε-soft policy and then learns from every step in it. Returns
that the episode's end closes are true returns. Those that are still open at the end of the stretch, or that the time
limit cut, are closed by max_a Q of the true successor: bootstrapping is the price of a fixed length, and small where
the stretch holds many episodes. First-visit counts a pair once for each episode within the stretch.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from envs.values import NonNegative
from jaxrl import losses, returns
from jaxrl.agents.tabular import tables
from jaxrl.loops import on_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Policy, Transition


@dataclass(frozen=True)
class Config(tables.Config, on_policy.Config):
    """What is static: a new value means a new compilation."""

    num_envs: int = 1
    rollout_length: int = 100
    first_visit: bool = True
    """Learn from the first visit to a pair in an episode only, instead of from every one."""
    sample_average: bool = True
    """Mean of all returns so far, instead of steps of size hp.learning_rate."""


@struct.dataclass
class Hyperparams(tables.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: NonNegative = 0.05
    """α at the start, without sample averages."""


class Learner(NamedTuple):
    """What `update` changes."""

    q: jax.Array  # f32[S, A]
    visits: jax.Array  # f32[S, A] returns averaged so far
    episodes: jax.Array  # i32[] finished


def init_learner(shape: tuple[int, int], key: jax.Array, hp: Hyperparams) -> Learner:
    """The table at the start; the key is not used."""
    del key
    return Learner(tables.start(shape, hp), jnp.zeros(shape), jnp.int32(0))


def update(
    config: Config,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array | None = None,
) -> tuple[Learner, Diagnostics]:
    """Learns from a stretch of successive transitions.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        context: how far the run is.
        learner: the table.
        batch: [T, B] transitions with integer obs and actions.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del key
    q, visits, episodes = learner
    discount_t, lambda_t = returns.cuts(batch.terminated, batch.truncated, hp.gamma, 1.0)
    target = returns.lambda_returns(batch.reward, discount_t, q[batch.next_obs].max(-1), lambda_t)
    counted = _first_visits(batch) if config.first_visit else jnp.ones_like(batch.reward)
    counted = losses.weighted(counted, batch.weight)
    place = batch.obs, batch.action
    error = counted * (target - q[place])
    if config.sample_average:
        visits = visits.at[place].add(counted)
        q = q + jnp.zeros_like(q).at[place].add(error) / jnp.maximum(visits, 1.0)
    else:
        # As far as n steps of size α would go towards the mean of the n returns: added up they would overshoot.
        count = jnp.zeros_like(q).at[place].add(counted)
        mean = jnp.zeros_like(q).at[place].add(error) / jnp.maximum(count, 1.0)
        q = q + (1.0 - (1.0 - tables.learning_rate(hp, context)) ** count) * mean
    scalars = {
        "error": jnp.abs(error).sum() / counted.sum(),
        "epsilon": tables.epsilon(config, hp, context, episodes),
    }
    return Learner(q, visits, tables.finished(episodes, batch)), Diagnostics(scalars)


def _first_visits(batch: Transition) -> jax.Array:
    """1.0 where a step is the first with its state and action in its episode, f32[T, B]."""
    ended = (batch.terminated | batch.truncated).astype(jnp.int32)
    number = jnp.cumsum(ended, 0) - ended  # of the episode that a step belongs to
    length = len(number)
    earlier = jnp.arange(length)[:, None] > jnp.arange(length)[None, :]
    again = earlier[:, :, None]
    for column in (batch.obs, batch.action, number):
        again = again & (column[:, None] == column[None, :])
    return 1.0 - again.any(1)


def explore(config: Config, hp: Hyperparams, context: Context, learner: Learner) -> Policy:
    """The policy that gathers experience and is learnt about."""
    return tables.exploring(config, hp, tables.epsilon(config, hp, context, learner.episodes), learner.q)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """Monte Carlo control for a pair of spaces.

    Raises:
        InputError: spaces that are not Discrete.
    """
    return Algorithm(
        init=partial(init_learner, tables.shape("monte_carlo", observation_space, action_space)),
        update=partial(update, config),
        explore=partial(explore, config),
        greedy=lambda hp, context, learner: tables.greedy(learner.q),
        init_draws=False,
        update_draws=False,
    )


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds Monte Carlo control to an environment with Discrete observations and actions.

    Raises:
        InputError: other spaces, or observations that are to be normalised.
    """
    if config.normalize_obs:
        raise InputError("monte_carlo has a table of Discrete observations, which normalize_obs cannot change.")
    return on_policy.make("monte_carlo", env, algorithm(config, env.observation_space, env.action_space), config)
