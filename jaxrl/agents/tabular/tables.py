"""What the agents of this family share: tables f32[S, A] of action values, how they act and how their rates move."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env, Game
from envs.errors import InputError
from envs.spaces import Discrete, Space
from envs.values import Checked, Fraction, NonNegative, Positive
from jaxrl import exploration
from jaxrl.actions import require_discrete
from jaxrl.loops import on_policy
from jaxrl.types import Context, Policy, Transition


@dataclass(frozen=True)
class Config(Checked):
    """What is static: a new value means a new compilation."""

    exploration: Literal["epsilon_greedy", "softmax"] = "epsilon_greedy"
    """The policy that acts; those that learn on-policy learn about it."""
    epsilon_schedule: Literal["linear", "per_episode"] = "linear"
    """Linear in environment steps over a part of the run, or times hp.epsilon_decay after every episode."""


@struct.dataclass
class Values:
    """The hyper-parameters of every table."""

    learning_rate: NonNegative = 0.1
    """α, at the start where it falls."""
    initial_value: float = 0.0
    """Q at the start; above the largest return it is optimistic and explores."""


@struct.dataclass
class Hyperparams(on_policy.Hyperparams, exploration.EpsilonGreedy, Values):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    gamma: Fraction = 0.9
    """Discount."""
    learning_rate_decay: Fraction = 0.0
    """Part of α that is taken away, linearly, by the end of hp.total_steps: 1 ends at 0."""
    epsilon_start: Fraction = 0.1
    """Probability of a random action at the start."""
    epsilon_end: Fraction = 0.1
    """Probability of a random action after the decay."""
    epsilon_decay: Fraction = 0.995
    """Factor of ε after every episode, with epsilon_schedule="per_episode"."""
    temperature: Positive = 1.0
    """Of the softmax policy, in units of value."""


def shape(agent: str, observation_space: Space, action_space: Space) -> tuple[int, int]:
    """The numbers of states and actions.

    Raises:
        InputError: spaces that are not Discrete.
    """
    if not isinstance(observation_space, Discrete):
        raise InputError(f"{agent} needs a Discrete observation space; the environment has {observation_space}.")
    return observation_space.n, require_discrete(agent, action_space).n


def shape_alone(agent: str, env: Env) -> tuple[int, int]:
    """As `shape`, for the loops of this family, which know one player.

    Raises:
        InputError: spaces that are not Discrete, or several players.
    """
    if isinstance(env, Game):
        raise InputError(f"{agent} plays alone: {type(env).__name__} has {env.num_players} players.")
    return shape(agent, env.observation_space, env.action_space)


def start(shape: tuple[int, ...], hp: Values) -> jax.Array:
    """The table at the start."""
    return jnp.full(shape, hp.initial_value, jnp.float32)


def finished(before: jax.Array, batch: Transition) -> jax.Array:
    """How many episodes have ended, i32[], with those of these steps; the count stops at the largest number."""
    total = before + jnp.sum(batch.terminated | batch.truncated, dtype=jnp.int32)
    return jnp.where(total < before, jnp.iinfo(jnp.int32).max, total)


def learning_rate(hp: Hyperparams, context: Context) -> jax.Array:
    """α of the moment, f32[]."""
    return hp.learning_rate * exploration.anneal(1.0, 1.0 - hp.learning_rate_decay, context.progress)


def epsilon(config: Config, hp: Hyperparams, context: Context, episodes: jax.Array) -> jax.Array:
    """ε of the moment f32[], when so many episodes i32[] have ended."""
    if config.epsilon_schedule == "per_episode":
        return exploration.exponential(hp.epsilon_start, hp.epsilon_end, hp.epsilon_decay, episodes)
    return exploration.epsilon(hp, context.progress)


def exploring(config: Config, hp: Hyperparams, epsilon: jax.Array, q: jax.Array) -> Policy:
    """The ε-greedy or softmax policy of a table; ties of the greatest value are broken at random."""

    def act(key: jax.Array, obs: jax.Array, memory: Any) -> tuple[Any, Any, Any]:
        if config.exploration == "softmax":
            return exploration.softmax(key, q[obs], hp.temperature), memory, ()
        return exploration.epsilon_greedy(key, q[obs], epsilon, random_ties=True), memory, ()

    return Policy(act)


def greedy(q: jax.Array) -> Policy:
    """The action of the greatest value."""
    return Policy(lambda key, obs, memory: (jnp.argmax(q[obs], -1), memory, ()))
