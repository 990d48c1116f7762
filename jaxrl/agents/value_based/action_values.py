"""What the agents of this family share: an action-value network with a target that follows it, and how it acts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrl import exploration, networks
from jaxrl.loops import off_policy
from jaxrl.types import Context, Policy


@dataclass(frozen=True)
class Config(off_policy.Config):
    """What is static: a new value means a new compilation."""

    num_envs: int = 10
    num_updates: int = 1
    batch_size: int = 128
    replay_capacity: int = 10_000
    torso: networks.Torso = "mlp"
    """What stands between the observation and the heads."""
    hidden: tuple[int, ...] = (120, 84)
    """Sizes of the dense layers."""
    activation: networks.Activation = "relu"
    """After every dense layer."""


@struct.dataclass
class Hyperparams(off_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 1e-3
    """Step size of Adam."""
    target_period: int = 50
    """Updates between two moves of the target parameters."""
    target_rate: float = 1.0
    """How far the target parameters move: 1 copies, a small τ follows softly."""


class Learner(NamedTuple):
    """What `update` changes."""

    params: Any
    target_params: Any
    opt_state: Any
    age: jax.Array  # i32[] gradient steps since the target moved


def init_learner(params: Any, optimizer: optax.GradientTransformation) -> Learner:
    """The target starts as a copy."""
    return Learner(params, jax.tree.map(jnp.copy, params), optimizer.init(params), jnp.int32(0))


def descend(hp: Hyperparams, learner: Learner, grads: Any, optimizer: optax.GradientTransformation) -> Learner:
    """One gradient step; the target moves after every `hp.target_period` of them."""
    step, opt_state = optimizer.update(grads, learner.opt_state)
    params = optax.apply_updates(learner.params, step)
    age = learner.age + 1
    due = age >= hp.target_period
    target_params = optax.incremental_update(params, learner.target_params, jnp.where(due, hp.target_rate, 0.0))
    return Learner(params, target_params, opt_state, jnp.where(due, 0, age))


def greedy(q_values: Callable[[Any], jax.Array]) -> Policy:
    """The action of the greatest value; q_values: obs [B, ...] -> f32[B, A]."""

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        del key
        return jnp.argmax(q_values(obs), -1), memory, ()

    return Policy(act)


def epsilon_greedy(hp: exploration.EpsilonGreedy, context: Context, q_values: Callable[[Any], jax.Array]) -> Policy:
    """As `greedy`, but for uniformly random actions with the probability ε of the moment."""
    epsilon = exploration.epsilon(hp, context.progress)

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        return exploration.epsilon_greedy(key, q_values(obs), epsilon), memory, ()

    return Policy(act)
