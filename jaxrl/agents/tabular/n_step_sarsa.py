"""n-step Sarsa and n-step tree backup (Sutton & Barto 2018, sections 7.2 and 7.5; Precup et al. 2000).

    G = r_1 + γ r_2 + … + γⁿ⁻¹ r_n + γⁿ Q(s_n, a_n)                         Sarsa
    G = r_1 + γ [Σ_{a ≠ a_1} π(a|s_1) Q(s_1, a) + π(a_1|s_1) G_2 ], …       tree backup, π greedy in Q

    Q(s_0, a_0) ← Q(s_0, a_0) + α [G − Q(s_0, a_0)]

A sum is cut at the end of the episode: nothing follows a termination, and after the time limit the value of the true
successor does. Every step updates the state and action of n steps ago, so those of an episode's last steps are updated
while the next one begins (the book does it before); with several environments the updates are added up.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env
from jaxrl import exploration
from jaxrl.agents.tabular import chosen_ahead, tables
from jaxrl.distributions import at_index
from jaxrl.types import Agent, Context, Diagnostics, Transition


@dataclass(frozen=True)
class Config(chosen_ahead.Config):
    """What is static: a new value means a new compilation."""

    n: int = 4
    """Rewards in a return."""
    tree_backup: bool = False
    """Learn about the greedy policy by tree backup, instead of Sarsa."""


@struct.dataclass
class Hyperparams(tables.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""


class Learner(NamedTuple):
    """What `update` changes."""

    q: jax.Array  # f32[S, A]
    window: Transition  # [n, num_envs] the last n steps, across ends of episodes; extras: `Ahead`, no probability
    filled: jax.Array  # i32[] steps in the window
    episodes: jax.Array  # i32[] finished


def init_learner(config: Config, shape: tuple[int, int], hp: Hyperparams) -> Learner:
    """The table at the start, and an empty window."""
    scalars = jnp.zeros((config.n, config.num_envs))
    numbers, flags = scalars.astype(jnp.int32), scalars.astype(jnp.bool_)
    window = Transition(numbers, numbers, scalars, flags, flags, numbers, chosen_ahead.Ahead(numbers, ()))
    return Learner(tables.start(shape, hp), window, jnp.int32(0), jnp.int32(0))


def update(
    config: Config,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array | None = None,
) -> tuple[Learner, Diagnostics]:
    """Appends one step of every environment and updates the state and action of n steps ago.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        context: how far the run is.
        learner: the table and the steps before.
        batch: [num_envs] transitions with integer obs and actions; extras are `chosen_ahead.Ahead`.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del key
    now = batch._replace(extras=batch.extras._replace(probability=()))
    steps = jax.tree.map(lambda old, new: jnp.concatenate([old[1:], new[None]]), learner.window, now)
    filled = jnp.minimum(learner.filled + 1, config.n)

    q, discount_t = learner.q, hp.gamma * (1.0 - steps.terminated)
    q_t, a_t = q[steps.next_obs], steps.extras.action  # [n, B, A], [n, B]
    chosen = at_index(q_t, a_t)
    if config.tree_backup:
        greedy = exploration.epsilon_greedy_probabilities(q_t, 0.0)
        value, weight = jnp.sum(greedy * q_t, -1), at_index(greedy, a_t)
    else:
        value, weight = chosen, jnp.ones_like(chosen)
    # What is known beyond a step replaces the estimate of the action taken there; weight 0 is an end.
    weight = weight * ~(steps.terminated | steps.truncated)
    returns = steps.reward[-1] + discount_t[-1] * value[-1]
    for i in reversed(range(config.n - 1)):
        returns = steps.reward[i] + discount_t[i] * (value[i] + weight[i] * (returns - chosen[i]))

    # Until the window is full its first entry is no step.
    alpha = tables.learning_rate(hp, context) * (filled == config.n)
    place = steps.obs[0], steps.action[0]
    error = returns - q[place]
    following = Learner(q.at[place].add(alpha * error), steps, filled, tables.finished(learner.episodes, batch))
    return following, Diagnostics({"td_error": jnp.abs(error).mean()})


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds n-step Sarsa to an environment with Discrete observations and actions.

    Raises:
        InputError: other spaces, or several players.
    """
    shape = tables.shape_alone("n_step_sarsa", env)
    return chosen_ahead.make("n_step_sarsa", env, config, partial(init_learner, config, shape), partial(update, config))
