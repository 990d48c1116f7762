"""Distributed distributional deep deterministic policy gradient, D4PG (Barth-Maron et al. 2018, arXiv:1804.08617).

    Y = Σ_{i<n} γ^i r_i + γ^n (1 − terminated) Z_θ⁻(s_n, μ_φ⁻(s_n)),   projected onto the values of Z
    L(θ) = −E[Σ_j P(Y = z_j) log P(Z_θ(s, a) = z_j)],   L(φ) = −E[E[Z_θ(s, μ_φ(s))]]

DDPG whose critic gives the distribution of the return, on `num_atoms` values evenly spaced from `v_min` to `v_max`
(as C51), with n-step targets. The bounds must hold the discounted returns of the task. After every update both targets
follow softly. The policy μ ends in tanh and acts in the unit box, which is scaled to the environment's; noise is added
in the unit box and clipped there. An episode cut by the time limit is bootstrapped at the state really reached.

Deviations from the paper: the parallel actors are `num_envs` environments stepped in turn with the learner, not
asynchronously; the replay is uniform unless `prioritized` (the paper found that of little or no use), and then drawn by
KL(Y ‖ Z); no correction for the policy in the n steps, as there; targets follow softly instead of copies every 100
updates; two layers of 256 units, orthogonal weights; the replay is filled by random actions in `init`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env
from envs.spaces import Space
from envs.values import Bounds
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

    n_step: int = 5
    num_atoms: Annotated[int, Bounds(2)] = 51
    """Values that the distribution of the return has."""


@struct.dataclass
class Hyperparams(deterministic.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    v_min: float = -100.0
    """The least return that the distribution can hold."""
    v_max: float = 100.0
    """The greatest."""


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds policy and distribution of returns for a pair of spaces; the critic gives logits f32[1, ..., num_atoms].

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    size = require_bounded_box("d4pg", action_space).shape[0]
    shape = (config.hidden, config.activation)
    return Networks(
        networks.deterministic_policy(observation_space, size, *shape),
        networks.critics(observation_space, size, 1, *shape, outputs=config.num_atoms),
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
        (learner, diagnostics with each transition's KL(Y ‖ Z) as priority).
    """
    del context, key
    adam = optimizer(hp)
    atoms = jnp.linspace(hp.v_min, hp.v_max, config.num_atoms)
    next_action = nets.actor.apply(learner.target_actor, batch.next_obs)
    probs_t = jax.nn.softmax(nets.critics.apply(learner.target_critics, batch.next_obs, next_action)[0])
    support = batch.reward[:, None] + n_step.discount(batch, hp.gamma)[:, None] * atoms
    target = losses.categorical_projection(probs_t, support, hp.v_min, hp.v_max, config.num_atoms)

    def critic_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        logits = nets.critics.apply(params, batch.obs, batch.action)[0]
        cross_entropy = -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)
        kl = cross_entropy + jnp.sum(
            jax.scipy.special.xlogy(target, target), axis=-1
        )  # 0 where nothing is left to learn
        return losses.weighted(cross_entropy, batch.weight).mean(), ((jax.nn.softmax(logits) @ atoms).mean(), kl)

    def actor_loss(params: Any) -> tuple[jax.Array, Any]:
        logits = nets.critics.apply(critics, batch.obs, nets.actor.apply(params, batch.obs))[0]
        return -(jax.nn.softmax(logits) @ atoms).mean(), ()

    (critic_value, (q_mean, kl)), critics, critics_opt = descent.step(
        adam, critic_loss, learner.critics, learner.critics_opt
    )
    (actor_value, _), actor, actor_opt = descent.step(adam, actor_loss, learner.actor, learner.actor_opt)
    scalars = {"critic_loss": critic_value, "actor_loss": actor_value, "q_mean": q_mean}
    return deterministic.follow(hp, learner, actor, critics, actor_opt, critics_opt), Diagnostics(scalars, kl)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """D4PG for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    nets = build(config, observation_space, action_space)
    size = require_bounded_box("d4pg", action_space).shape[0]
    return deterministic.algorithm(nets, size, partial(update, config, nets))


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds D4PG to an environment with a bounded Box of actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    return off_policy.make("d4pg", env, algorithm(config, env.observation_space, env.action_space), config)
