"""Truncated quantile critics (Kuznetsov et al. 2020, arXiv:2005.04269): SAC on distributions of returns.

    {z_j} = the atoms of all critics' Z_θi⁻(s', a'), sorted, without the greatest `num_dropped` per critic
    y_j = r + γ (1 − terminated) (z_j − α log π_φ(a'|s')),   a' ~ π_φ(·|s')
    L(θ) = Σ_i E[mean over j and m of ρ_τm(y_j − θ_im(s, a))],   ρ_τ(u) = |τ − 1{u < 0}| huber(u),   τ_m = (m − ½)/M
    L(φ) = E[α log π_φ(a|s) − mean of all atoms at (s, a)],   L(α) = −α E[log π_φ(a|s) + H̄]

Each critic gives M quantiles of the return. Dropping the greatest of the pooled atoms is the remedy for overestimation
that the smaller of two critics is in SAC, but finer. π is a Gaussian squashed by tanh into the unit box, which is
scaled to the environment's Box. The targets θ⁻ follow softly. A transition cut by the time limit is bootstrapped like
any other.

The exploring policy is π itself, or, with `noise_theta` < 1, π with draws that are correlated in time (see `sac`).

Deviations from the paper: two critics of two layers of 256 units instead of five of three layers of 512, as in
Stable-Baselines3's version; orthogonal weights; a step size for each of policy, critics and temperature; the replay is
filled by random actions in `init`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from envs.values import Count
from jaxrl import losses, n_step, networks
from jaxrl.actions import require_bounded_box
from jaxrl.agents.continuous_control import descent, maximum_entropy, unit_box
from jaxrl.agents.continuous_control.maximum_entropy import Hyperparams, Learner, Networks, init_learner, optimizers
from jaxrl.loops import off_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Transition

__all__ = ["Config", "Hyperparams", "Learner", "Networks", "algorithm", "build", "init_learner", "make", "update"]


@dataclass(frozen=True)
class Config(unit_box.Config):
    """What is static: a new value means a new compilation."""

    num_critics: int = 2
    """Distributions of returns that are learnt side by side."""
    num_quantiles: int = 25
    """Quantiles that each of them gives (M)."""
    num_dropped: Count = 2
    """How many of the greatest atoms are left out of the target, for each critic."""


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds policy and quantiles of returns for a pair of spaces; these are f32[num_critics, ..., num_quantiles].

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    size = require_bounded_box("tqc", action_space).shape[0]
    shape = (config.hidden, config.activation)
    return Networks(
        networks.squashed_policy(observation_space, size, *shape),
        networks.critics(observation_space, size, config.num_critics, *shape, outputs=config.num_quantiles),
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
    """One gradient step of the critics, one of the policy and one of the temperature; then the targets follow.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        context: not used.
        learner: parameters, targets and optimiser states.
        batch: [batch, ...] transitions, actions in the unit box (`jaxrl.actions.unit_box`).
        key: for the actions.

    Returns:
        (learner, diagnostics with each transition's loss, the mean of all critics, as priority).
    """
    del context
    opt = optimizers(hp)
    alpha = jnp.exp(learner.log_alpha)
    key_next, key_action = jax.random.split(key)

    next_action, next_log_prob = nets.actor.apply(learner.actor, batch.next_obs).sample_and_log_prob(key_next)
    atoms = nets.critics.apply(learner.target_critics, batch.next_obs, next_action)
    pooled = jnp.sort(jnp.moveaxis(atoms, 0, 1).reshape(batch.reward.shape[0], -1), axis=-1)
    kept = pooled[:, : config.num_critics * (config.num_quantiles - config.num_dropped)]
    discount_t = n_step.discount(batch, hp.gamma)
    target = batch.reward[:, None] + discount_t[:, None] * (kept - alpha * next_log_prob[:, None])

    def critic_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        quantiles = nets.critics.apply(params, batch.obs, batch.action)
        each = losses.quantile_regression(quantiles, target).mean((-1, -2))  # [num_critics, batch]
        return losses.weighted(each, batch.weight).sum(), (quantiles.mean(), each.mean(0))

    def actor_loss(params: Any) -> tuple[jax.Array, jax.Array]:
        action, log_prob = nets.actor.apply(params, batch.obs).sample_and_log_prob(key_action)
        q = nets.critics.apply(critics, batch.obs, action).mean((0, -1))
        return (alpha * log_prob - q).mean(), -log_prob.mean()

    (critic_value, (q_mean, surprise)), critics, critics_opt = descent.step(
        opt.critics, critic_loss, learner.critics, learner.critics_opt
    )
    (actor_value, entropy), actor, actor_opt = descent.step(opt.actor, actor_loss, learner.actor, learner.actor_opt)
    log_alpha, alpha_opt = maximum_entropy.adjust(
        hp, opt.alpha, learner.log_alpha, learner.alpha_opt, entropy, next_action.shape[-1]
    )
    targets = optax.incremental_update(critics, learner.target_critics, hp.target_rate)
    scalars = {
        "critic_loss": critic_value,
        "actor_loss": actor_value,
        "q_mean": q_mean,
        "entropy": entropy,
        "temperature": alpha,
    }
    following = Learner(actor, critics, targets, log_alpha, actor_opt, critics_opt, alpha_opt)
    return following, Diagnostics(scalars, surprise)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """TQC for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box, or sizes that cannot work together.
    """
    if not 0 <= config.num_dropped < config.num_quantiles:
        raise InputError(f"num_dropped={config.num_dropped} must be 0 … num_quantiles-1={config.num_quantiles - 1}.")
    nets = build(config, observation_space, action_space)
    size = require_bounded_box("tqc", action_space).shape[0]
    return maximum_entropy.algorithm(nets, size, partial(update, config, nets))


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds TQC to an environment with a bounded Box of actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    return off_policy.make("tqc", env, algorithm(config, env.observation_space, env.action_space), config)
