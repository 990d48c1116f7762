"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv:1509.02971).

    y = r + γ (1 − terminated) Q_θ⁻(s', μ_φ⁻(s'))
    L(θ) = E[½ (y − Q_θ(s, a))²],   L(φ) = −E[Q_θ(s, μ_φ(s))]

After every update both targets follow softly, θ⁻ ← (1 − τ) θ⁻ + τ θ. The policy μ ends in tanh and acts in the unit
box, which is scaled to the environment's; noise is added in the unit box and clipped there. A transition cut by the
time limit is bootstrapped like any other.

Deviations from the paper: orthogonal weights, the action enters the critic's first layer, no weight decay, no batch
normalisation; two layers of 256 units and one step size for both networks, as in TD3's authors' version; Gaussian noise
by default (the paper's is `noise_theta` 0.15 with `noise_std` 0.2); the replay is filled by random actions in `init`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env
from envs.spaces import Space
from jaxrl import losses, n_step, networks
from jaxrl.actions import require_bounded_box
from jaxrl.agents.continuous_control import descent, deterministic, unit_box
from jaxrl.agents.continuous_control.deterministic import Learner, Networks, init_learner, optimizer
from jaxrl.loops import off_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Transition

__all__ = ["Config", "Hyperparams", "Learner", "Networks", "algorithm", "build", "init_learner", "make", "update"]


@dataclass(frozen=True)
class Config(unit_box.Config):
    """What is static: a new value means a new compilation."""


@struct.dataclass
class Hyperparams(deterministic.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds policy and critic for a pair of spaces; values are f32[1, ..., 1].

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    size = require_bounded_box("ddpg", action_space).shape[0]
    shape = (config.hidden, config.activation)
    return Networks(
        networks.deterministic_policy(observation_space, size, *shape),
        networks.critics(observation_space, size, 1, *shape),
    )


def update(
    config: Config,
    nets: Networks,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array,
) -> tuple[Learner, Diagnostics]:
    """One gradient step of the critic, then one of the policy, then the targets follow.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        context: not used.
        learner: parameters, targets and optimiser states.
        batch: [batch, ...] transitions, actions in the unit box (`jaxrl.actions.unit_box`).
        key: not used.

    Returns:
        (learner, diagnostics with the size of each transition's TD error as priority).
    """
    del config, context, key
    adam = optimizer(hp)
    next_action = nets.actor.apply(learner.target_actor, batch.next_obs)
    v_t = nets.critics.apply(learner.target_critics, batch.next_obs, next_action)[0, :, 0]
    target = batch.reward + n_step.discount(batch, hp.gamma) * v_t

    def critic_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        q = nets.critics.apply(params, batch.obs, batch.action)[0, :, 0]
        error = target - q
        return losses.weighted(losses.squared(error), batch.weight).mean(), (q.mean(), jnp.abs(error))

    def actor_loss(params: Any) -> tuple[jax.Array, Any]:
        return -nets.critics.apply(critics, batch.obs, nets.actor.apply(params, batch.obs)).mean(), ()

    (critic_value, (q_mean, td_error)), critics, critics_opt = descent.step(
        adam, critic_loss, learner.critics, learner.critics_opt
    )
    (actor_value, _), actor, actor_opt = descent.step(adam, actor_loss, learner.actor, learner.actor_opt)
    scalars = {"critic_loss": critic_value, "actor_loss": actor_value, "q_mean": q_mean}
    return deterministic.follow(hp, learner, actor, critics, actor_opt, critics_opt), Diagnostics(scalars, td_error)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """DDPG for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    nets = build(config, observation_space, action_space)
    size = require_bounded_box("ddpg", action_space).shape[0]
    return deterministic.algorithm(nets, size, partial(update, config, nets))


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds DDPG to an environment with a bounded Box of actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    return off_policy.make("ddpg", env, algorithm(config, env.observation_space, env.action_space), config)
