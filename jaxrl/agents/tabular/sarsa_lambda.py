"""Sarsa(λ) and Watkins's Q(λ) with eligibility traces (Sutton 1988; Watkins 1989; Sutton & Barto 2018, section 12.7).

    δ = r + γ (1 − terminated) Q(s', a') − Q(s, a)
    e ← γ λ e,  then e(s, a) is raised;   Q ← Q + α δ e      (every state and action at once)

Q(λ) learns about the greedy policy: δ has max_a' Q(s', a'), and the traces are cut where the action taken next is not
greedy. Three kinds of trace: accumulating (e + 1), replacing (1; Singh & Sutton 1996) and dutch (e + 1 − α e; van
Seijen & Sutton 2014). Each environment has its own traces; with several of them their updates are added up. Traces end
with the episode; where that is by the time limit, a' is the action that the policy would have taken in the true
successor.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env
from envs.values import Fraction
from jaxrl import losses
from jaxrl.agents.tabular import chosen_ahead, tables
from jaxrl.types import Agent, Context, Diagnostics, Transition


@dataclass(frozen=True)
class Config(chosen_ahead.Config):
    """What is static: a new value means a new compilation."""

    off_policy: bool = False
    """Watkins's Q(λ) instead of Sarsa(λ)."""
    trace: Literal["accumulating", "replacing", "dutch"] = "accumulating"
    """How a visit raises its trace."""


@struct.dataclass
class Hyperparams(tables.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    trace_lambda: Fraction = 0.9
    """λ: how fast traces fade."""


class Learner(NamedTuple):
    """What `update` changes."""

    q: jax.Array  # f32[S, A]
    trace: jax.Array  # f32[num_envs, S, A] 0 at the start of an episode
    episodes: jax.Array  # i32[] finished


def init_learner(config: Config, shape: tuple[int, int], hp: Hyperparams) -> Learner:
    """The table at the start, without traces."""
    return Learner(tables.start(shape, hp), jnp.zeros((config.num_envs, *shape)), jnp.int32(0))


def update(
    config: Config,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array | None = None,
) -> tuple[Learner, Diagnostics]:
    """One online step of every environment.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        context: how far the run is.
        learner: the table and the traces of each environment.
        batch: [num_envs] transitions with integer obs and actions; extras are `chosen_ahead.Ahead`.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del key
    q, alpha, following = learner.q, tables.learning_rate(hp, context), batch.extras.action
    lanes = jnp.arange(len(batch.action))
    place = lanes, batch.obs, batch.action
    discount_t = hp.gamma * (1.0 - batch.terminated)
    q_tm1, q_t = q[batch.obs], q[batch.next_obs]
    if config.off_policy:
        error = losses.q_learning(q_tm1, batch.action, batch.reward, discount_t, q_t)
    else:
        error = losses.sarsa(q_tm1, batch.action, batch.reward, discount_t, q_t, following)

    trace = learner.trace
    if config.trace == "replacing":
        trace = trace.at[place].set(1.0)
    elif config.trace == "dutch":
        trace = trace.at[place].add(1.0 - alpha * trace[place])
    else:
        trace = trace.at[place].add(1.0)
    q = q + alpha * jnp.einsum("b,bsa->sa", error, trace)

    goes_on = ~(batch.terminated | batch.truncated)
    if config.off_policy:
        goes_on &= q_t[lanes, following] == q_t.max(-1)
    trace = trace * (hp.gamma * hp.trace_lambda * goes_on)[:, None, None]
    return Learner(q, trace, tables.finished(learner.episodes, batch)), Diagnostics({"td_error": jnp.abs(error).mean()})


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds Sarsa(λ) to an environment with Discrete observations and actions.

    Raises:
        InputError: other spaces, or several players.
    """
    shape = tables.shape_alone("sarsa_lambda", env)
    return chosen_ahead.make("sarsa_lambda", env, config, partial(init_learner, config, shape), partial(update, config))
