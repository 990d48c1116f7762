"""What the agents of this family share: an action-value network with a target that follows it, and how it acts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.values import Checked, Fraction, NonNegative
from jaxrl import exploration, masks, networks
from jaxrl.loops import off_policy
from jaxrl.networks import Network
from jaxrl.types import Algorithm, Context, Diagnostics, Policy


@dataclass(frozen=True)
class Sizes(Checked):
    """Of a network of action values."""

    torso: networks.Torso = "mlp"
    """What stands between the observation and the heads."""
    hidden: tuple[int, ...] = (120, 84)
    """Sizes of the dense layers."""
    activation: networks.Activation = "relu"
    """After every dense layer."""


@dataclass(frozen=True)
class Config(off_policy.Config, Sizes):
    """What is static: a new value means a new compilation."""

    num_envs: int = 10
    num_updates: int = 1
    batch_size: int = 128
    replay_capacity: int = 10_000


@struct.dataclass
class Hyperparams(off_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: NonNegative = 1e-3
    """Step size of Adam."""
    target_period: int = 50
    """Updates between two moves of the target parameters."""
    target_rate: Fraction = 1.0
    """How far the target parameters move: 1 copies, a small τ follows softly."""


class Learner(NamedTuple):
    """What `update` changes."""

    params: Any
    target_params: Any
    opt_state: Any
    age: jax.Array  # i32[] gradient steps since the target moved


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam. The gradient's norm is not clipped: on CartPole, where values near 100, a clip at 10 slowed learning."""
    return optax.adam(hp.learning_rate)


def init_learner(net: Any, key: jax.Array, hp: Any, optimizer: Callable[..., Any] = optimizer) -> Learner:
    """Draws the parameters; the target starts as a copy."""
    params = net.init(key)
    return Learner(params, jax.tree.map(jnp.copy, params), optimizer(hp).init(params), jnp.int32(0))


def descend(
    loss: Callable[[Any], tuple[jax.Array, tuple[dict[str, jax.Array], Any]]],
    hp: Any,
    learner: Any,
    optimizer: Callable[..., optax.GradientTransformation] = optimizer,
) -> tuple[Any, Diagnostics]:
    """One gradient step; the target moves after every `hp.target_period` of them.

    Args:
        loss: params -> (f32[], (scalars to report, priority f32[batch])).
        hp: hyper-parameters.
        learner: a `Learner`, or one with its fields.
        optimizer: of the hyper-parameters.

    Returns:
        (learner, diagnostics with the "loss" and the "grad_norm").
    """
    (value, (scalars, priority)), grads = jax.value_and_grad(loss, has_aux=True)(learner.params)
    step, opt_state = optimizer(hp).update(grads, learner.opt_state)
    params = optax.apply_updates(learner.params, step)
    age = learner.age + 1
    due = age >= hp.target_period
    target_params = optax.incremental_update(params, learner.target_params, jnp.where(due, hp.target_rate, 0.0))
    learner = learner._replace(
        params=params, target_params=target_params, opt_state=opt_state, age=jnp.where(due, 0, age)
    )
    return learner, Diagnostics({"loss": value, "grad_norm": optax.tree.norm(grads), **scalars}, priority)


def greedy(q_values: Callable[[Any], jax.Array]) -> Policy:
    """The action of the greatest value among those that are allowed; q_values: obs [B, ...] -> f32[B, A]."""

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        del key
        return jnp.argmax(masks.choosable(q_values(obs), obs), -1), memory, ()

    return Policy(act)


def epsilon_greedy(hp: exploration.EpsilonGreedy, context: Context, q_values: Callable[[Any], jax.Array]) -> Policy:
    """As `greedy`, but for uniformly random actions with the probability ε of the moment."""
    epsilon = exploration.epsilon(hp, context.progress)

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        return exploration.epsilon_greedy(key, q_values(obs), epsilon, allowed=masks.allowed(obs)), memory, ()

    return Policy(act)


def epsilon_greedy_algorithm(
    config: Any, net: Network, update: Callable[..., Any], q_values: Callable[[Any, Any], jax.Array]
) -> Algorithm:
    """An algorithm whose policy is ε-greedy.

    Args:
        config: static configuration, for `update`.
        net: what is learnt.
        update: (config, net, hp, context, learner, batch, key) -> (learner, diagnostics).
        q_values: (hp, outputs of the network) -> f32[B, A].
    """

    def values(hp: Any, learner: Any) -> Callable[[Any], jax.Array]:
        return lambda obs: q_values(hp, net.apply(learner.params, obs))

    return Algorithm(
        init=partial(init_learner, net),
        update=partial(update, config, net),
        explore=lambda hp, context, learner: epsilon_greedy(hp, context, values(hp, learner)),
        greedy=lambda hp, context, learner: greedy(values(hp, learner)),
    )
