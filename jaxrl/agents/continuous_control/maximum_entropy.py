"""What soft actor-critics share: their learner, and the temperature that holds the policy at an entropy.

L(α) = −α E[log π_φ(a|s) + H̄]
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.values import Fraction, NonNegative, Positive
from jaxrl import losses, networks
from jaxrl.agents.continuous_control import descent, unit_box
from jaxrl.distributions import SquashedNormal
from jaxrl.loops import off_policy
from jaxrl.types import Algorithm


@struct.dataclass
class Temperature(off_policy.Hyperparams):
    """The price of entropy, as hyper-parameters."""

    temperature: Positive = 1.0
    """α at the start."""
    target_entropy: float = -1.0
    """The entropy that α steers to, in nats for each coordinate of the action."""


@struct.dataclass
class Hyperparams(Temperature):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    policy_learning_rate: NonNegative = 3e-4
    """Step size of Adam for the policy."""
    critic_learning_rate: NonNegative = 1e-3
    """Step size of Adam for the critics."""
    temperature_learning_rate: NonNegative = 1e-3
    """Step size of Adam for log α; 0 keeps the temperature as it is."""
    target_rate: Fraction = 0.005
    """How far the targets follow at every step of the critics (τ)."""
    noise_theta: Fraction = 1.0
    """Part of the exploring policy's noise that is new at every step; 1: independent draws."""


class Learner(NamedTuple):
    """What `update` changes."""

    actor: Any
    critics: Any  # [num_critics, ...]
    target_critics: Any  # [num_critics, ...]
    log_alpha: jax.Array  # f32[]
    actor_opt: Any
    critics_opt: Any
    alpha_opt: Any


class Networks(NamedTuple):
    """Policy and action values."""

    actor: networks.Network  # apply(params, obs [..., *obs]) -> SquashedNormal over [..., D], in the unit box
    critics: networks.Network  # apply(params, obs, action f32[..., D]) -> f32[num_critics, ..., outputs]


class Optimizers(NamedTuple):
    """One for each part of the learner."""

    actor: optax.GradientTransformation
    critics: optax.GradientTransformation
    alpha: optax.GradientTransformation


def optimizers(hp: Hyperparams) -> Optimizers:
    """Adam for each."""
    return Optimizers(
        optax.adam(hp.policy_learning_rate),
        optax.adam(hp.critic_learning_rate),
        optax.adam(hp.temperature_learning_rate),
    )


def log_temperature(hp: Temperature) -> jax.Array:
    """Log α at the start, f32[]."""
    return jnp.log(jnp.asarray(hp.temperature, jnp.float32))


def init_learner(nets: Networks, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters; the targets start as copies."""
    key_actor, key_critics = jax.random.split(key)
    actor, critics = nets.actor.init(key_actor), nets.critics.init(key_critics)
    log_alpha = log_temperature(hp)
    opt = optimizers(hp)
    return Learner(
        actor=actor,
        critics=critics,
        target_critics=jax.tree.map(jnp.copy, critics),
        log_alpha=log_alpha,
        actor_opt=opt.actor.init(actor),
        critics_opt=opt.critics.init(critics),
        alpha_opt=opt.alpha.init(log_alpha),
    )


def adjust(
    hp: Temperature,
    optimizer: optax.GradientTransformation,
    log_alpha: jax.Array,
    opt_state: Any,
    entropy: jax.Array,
    size: int,
) -> tuple[jax.Array, Any]:
    """One gradient step of the temperature; see `losses.temperature`.

    Args:
        hp: hyper-parameters.
        optimizer: of log α.
        log_alpha: f32[]
        opt_state: of the optimiser.
        entropy: f32[] of the policy, in nats.
        size: coordinates of an action, for each of which `hp.target_entropy` counts.

    Returns:
        (log α, opt_state).
    """

    def loss(log_alpha: jax.Array) -> tuple[jax.Array, Any]:
        return losses.temperature(log_alpha, entropy, hp.target_entropy * size), ()

    _, log_alpha, opt_state = descent.step(optimizer, loss, log_alpha, opt_state)
    return log_alpha, opt_state


def algorithm(nets: Networks, size: int, update: Callable[..., Any]) -> Algorithm:
    """An update with the policies that belong to it: π's mode evaluated, and its draws to gather experience.

    Args:
        nets: policy and action values.
        size: coordinates of an action.
        update: of the algorithm, (hp, context, learner, batch, key) -> (learner, diagnostics).
    """

    def pi(learner: Learner) -> Callable[[Any], SquashedNormal]:
        return partial(nets.actor.apply, learner.actor)

    return Algorithm(
        init=partial(init_learner, nets),
        update=update,
        explore=lambda hp, context, learner: unit_box.correlated(pi(learner), size, hp.noise_theta),
        greedy=lambda hp, context, learner: unit_box.greedy(lambda obs: pi(learner)(obs).mode()),
    )
