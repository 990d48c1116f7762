"""What the agents with a deterministic policy share: its noise, their learner, and targets that follow both."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.values import Fraction, NonNegative
from jaxrl import networks
from jaxrl.agents.continuous_control import unit_box
from jaxrl.loops import off_policy
from jaxrl.types import Algorithm


@struct.dataclass
class Hyperparams(off_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: NonNegative = 1e-3
    """Step size of Adam, for all networks."""
    target_rate: Fraction = 0.005
    """How far the targets follow at every step of the policy (τ)."""
    noise_std: NonNegative = 0.1
    """Standard deviation of what is added to the noise at every step, in units of half the range of an action."""
    noise_theta: Fraction = 1.0
    """Part of the noise forgotten at every step: 1 makes it independent and Gaussian, less Ornstein–Uhlenbeck."""


class Learner(NamedTuple):
    """What `update` changes."""

    actor: Any
    critics: Any  # [num_critics, ...]
    target_actor: Any
    target_critics: Any  # [num_critics, ...]
    actor_opt: Any
    critics_opt: Any


class Networks(NamedTuple):
    """Policy and action values."""

    actor: networks.Network  # apply(params, obs [..., *obs]) -> f32[..., D] in the unit box
    critics: networks.Network  # apply(params, obs [..., *obs], action f32[..., D]) -> f32[num_critics, ..., outputs]


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam, one for the policy and one for the critics."""
    return optax.adam(hp.learning_rate)


def init_learner(nets: Networks, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters; the targets start as copies."""
    key_actor, key_critics = jax.random.split(key)
    actor, critics = nets.actor.init(key_actor), nets.critics.init(key_critics)
    target_actor, target_critics = jax.tree.map(jnp.copy, (actor, critics))
    init = optimizer(hp).init
    return Learner(actor, critics, target_actor, target_critics, init(actor), init(critics))


def follow(hp: Hyperparams, learner: Learner, actor: Any, critics: Any, actor_opt: Any, critics_opt: Any) -> Learner:
    """The learner after its gradient steps: θ⁻ ← (1 − τ) θ⁻ + τ θ, and φ⁻ likewise."""
    target_actor = optax.incremental_update(actor, learner.target_actor, hp.target_rate)
    target_critics = optax.incremental_update(critics, learner.target_critics, hp.target_rate)
    return Learner(actor, critics, target_actor, target_critics, actor_opt, critics_opt)


def algorithm(nets: Networks, size: int, update: Callable[..., Any]) -> Algorithm:
    """An update with the policies that belong to it: μ evaluated as it is, and with noise to gather experience.

    Args:
        nets: policy and action values.
        size: coordinates of an action.
        update: of the algorithm, (hp, context, learner, batch, key) -> (learner, diagnostics).
    """

    def mu(learner: Learner) -> Callable[[Any], jax.Array]:
        return partial(nets.actor.apply, learner.actor)

    return Algorithm(
        init=partial(init_learner, nets),
        update=update,
        explore=lambda hp, context, learner: unit_box.noisy(mu(learner), size, hp.noise_theta, hp.noise_std),
        greedy=lambda hp, context, learner: unit_box.greedy(mu(learner)),
    )
