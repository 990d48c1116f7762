"""Sarsa and expected Sarsa (Rummery & Niranjan 1994; van Seijen et al. 2009; Sutton & Barto 2018, sections 6.4, 6.6).

    Q(s, a) ← Q(s, a) + α [r + γ (1 − terminated) Σ_a' p(a') Q(s', a') − Q(s, a)]

For Sarsa p puts everything on the action that is really taken next; for expected Sarsa it is the policy's distribution
in s'. The policy is ε-greedy or softmax in Q and learns about itself. Every environment step is followed at once by its
update; with several environments their updates are added up. Where an episode ends by the time limit, a' is the action
that the policy would have taken in the true successor.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env
from jaxrl import losses
from jaxrl.agents.tabular import chosen_ahead, tables
from jaxrl.types import Agent, Context, Diagnostics, Transition


@dataclass(frozen=True)
class Config(chosen_ahead.Config):
    """What is static: a new value means a new compilation."""

    expected: bool = False
    """Expected Sarsa: the mean over the next action instead of the one taken."""


@struct.dataclass
class Hyperparams(tables.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""


class Learner(NamedTuple):
    """What `update` changes."""

    q: jax.Array  # f32[S, A]
    episodes: jax.Array  # i32[] finished


def init_learner(shape: tuple[int, int], hp: Hyperparams) -> Learner:
    """The table at the start."""
    return Learner(tables.start(shape, hp), jnp.int32(0))


def update(
    config: Config,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array | None = None,
) -> tuple[Learner, Diagnostics]:
    """One step towards the targets of a batch of transitions.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        context: how far the run is.
        learner: the table.
        batch: [B] transitions with integer obs and actions; extras are `chosen_ahead.Ahead`.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del key
    q, ahead, discount_t = learner.q, batch.extras, hp.gamma * (1.0 - batch.terminated)
    p = ahead.probability if config.expected else jax.nn.one_hot(ahead.action, q.shape[-1])
    error = losses.expected_sarsa(q[batch.obs], batch.action, batch.reward, discount_t, q[batch.next_obs], p)
    q = q.at[batch.obs, batch.action].add(tables.learning_rate(hp, context) * error)
    following = Learner(q, tables.finished(learner.episodes, batch))
    return following, Diagnostics({"td_error": jnp.abs(error).mean()})


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds Sarsa to an environment with Discrete observations and actions.

    Raises:
        InputError: other spaces, or several players.
    """
    shape = tables.shape_alone("sarsa", env)
    return chosen_ahead.make("sarsa", env, config, partial(init_learner, shape), partial(update, config))
