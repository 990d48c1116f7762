"""Soft actor-critic with a learnt temperature (Haarnoja et al. 2018, arXiv:1812.05905); REDQ and DroQ as branches.

    y = r + γ (1 − terminated) (min_i Q_θi⁻(s', a') − α log π_φ(a'|s')),   a' ~ π_φ(·|s')
    L(θ) = Σ_i E[½ (y − Q_θi(s, a))²],   L(φ) = E[α log π_φ(a|s) − min_i Q_θi(s, a)],   a ~ π_φ(·|s)
    L(α) = −α E[log π_φ(a|s) + H̄]

π is a Gaussian squashed by tanh into the unit box, which is scaled to the environment's Box; entropies are those in the
unit box. The targets θ⁻ follow softly at every step of the critics. A transition cut by the time limit is bootstrapped
like any other.

Randomised ensembled double Q-learning (Chen et al. 2021, arXiv:2101.05982): `num_critics` 10, of which a random
`target_subset` of 2 gives the minimum in y while the policy climbs the mean of all, and `critic_steps` 20 for each step
of the policy and of the environment (`num_envs` 1, `num_updates` 20). DroQ (Hiraoka et al. 2022, arXiv:2110.02034): the
same with `num_critics` and `target_subset` 2, `dropout` 0.01 and `layer_norm`.

The exploring policy is π itself, or, with `noise_theta` < 1, π with draws that are correlated in time: every action has
the distribution that π gives it, but a run of them leads further (after Eberhard et al., "Pink noise is all you need",
ICLR 2023, here with Ornstein–Uhlenbeck noise, which starts at 0 with each episode).

Deviations from the paper: orthogonal weights; a step size for each of policy, critics and temperature; the replay is
filled by random actions in `init`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from envs.values import Bounds
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

    critic_steps: int = 1
    """Gradient steps of the critics for each one of policy and temperature; must divide num_updates."""
    num_critics: int = 2
    """Action values that are learnt side by side."""
    target_subset: int | None = None
    """How many of them, drawn anew for each step, give the minimum in the target; unless given, all do."""
    layer_norm: bool = False
    """Normalise before every activation of the critics."""
    dropout: Annotated[float, Bounds(0, 0.99)] = 0.0
    """Part of the critics' units that is dropped while learning."""


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds policy and critics for a pair of spaces; values are f32[num_critics, ..., 1], under a key of the dropout.

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    size = require_bounded_box("sac", action_space).shape[0]
    shape = (config.hidden, config.activation)
    return Networks(
        networks.squashed_policy(observation_space, size, *shape),
        networks.critics(
            observation_space, size, config.num_critics, *shape, layer_norm=config.layer_norm, dropout=config.dropout
        ),
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
    """One round: `critic_steps` gradient steps of the critics, then one of the policy and one of the temperature.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        context: not used.
        learner: parameters, targets and optimiser states.
        batch: [critic_steps · batch, ...] transitions, actions in the unit box (`jaxrl.actions.unit_box`); each step of
            the critics takes its share, in order, and the policy that of the last.
        key: for the actions, the subsets of critics and the dropout.

    Returns:
        (learner, diagnostics with the size of each transition's TD error, the mean of all critics, as priority).
    """
    del context
    opt = optimizers(hp)
    alpha = jnp.exp(learner.log_alpha)
    key_next, key_critics, key_action, key_dropout = jax.random.split(key, 4)
    # The policy stands still until the critics have moved: one pass draws the next actions of all their steps.
    next_action, next_log_prob = nets.actor.apply(learner.actor, batch.next_obs).sample_and_log_prob(key_next)

    def critic_step(carry: tuple[Any, Any, Any], xs: Any) -> tuple[tuple[Any, Any, Any], Any]:
        critics, targets, critics_opt = carry
        (batch, next_action, next_log_prob), key = xs
        key_subset, key_target, key_online = jax.random.split(key, 3)
        chosen = targets
        if config.target_subset is not None:
            index = jax.random.permutation(key_subset, config.num_critics)[: config.target_subset]
            chosen = jax.tree.map(lambda x: x[index], targets)
        q_t = nets.critics.apply(chosen, batch.next_obs, next_action, key_target)[..., 0].min(0)
        target = batch.reward + n_step.discount(batch, hp.gamma) * (q_t - alpha * next_log_prob)

        def critic_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            q = nets.critics.apply(params, batch.obs, batch.action, key_online)[..., 0]
            error = target - q
            return losses.weighted(losses.squared(error), batch.weight).mean(-1).sum(), (q.mean(), error)

        values, critics, critics_opt = descent.step(opt.critics, critic_loss, critics, critics_opt)
        targets = optax.incremental_update(critics, targets, hp.target_rate)
        return (critics, targets, critics_opt), values

    shares = jax.tree.map(
        lambda x: x.reshape(config.critic_steps, len(x) // config.critic_steps, *x.shape[1:]),
        (batch, next_action, next_log_prob),
    )
    (critics, targets, critics_opt), (critic_values, (q_means, errors)) = jax.lax.scan(
        critic_step,
        (learner.critics, learner.target_critics, learner.critics_opt),
        (shares, jax.random.split(key_critics, config.critic_steps)),
    )
    obs = jax.tree.map(lambda x: x[-1], shares[0].obs)

    def actor_loss(params: Any) -> tuple[jax.Array, jax.Array]:
        action, log_prob = nets.actor.apply(params, obs).sample_and_log_prob(key_action)
        q = nets.critics.apply(critics, obs, action, key_dropout)[..., 0]
        q = q.min(0) if config.target_subset is None else q.mean(0)
        return (alpha * log_prob - q).mean(), -log_prob.mean()

    (actor_value, entropy), actor, actor_opt = descent.step(opt.actor, actor_loss, learner.actor, learner.actor_opt)
    log_alpha, alpha_opt = maximum_entropy.adjust(
        hp, opt.alpha, learner.log_alpha, learner.alpha_opt, entropy, next_action.shape[-1]
    )
    scalars = {
        "critic_loss": critic_values.mean(),
        "actor_loss": actor_value,
        "q_mean": q_means.mean(),
        "entropy": entropy,
        "temperature": alpha,
    }
    priority = jnp.abs(errors).mean(1).reshape(-1)  # over the critics; one for each row of the batch
    following = Learner(actor, critics, targets, log_alpha, actor_opt, critics_opt, alpha_opt)
    return following, Diagnostics(scalars, priority)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """SAC for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box, or sizes that cannot work together.
    """
    if config.critic_steps < 1 or config.num_updates % config.critic_steps:
        raise InputError(f"critic_steps={config.critic_steps} does not divide num_updates={config.num_updates}.")
    if config.target_subset is not None and not 1 <= config.target_subset <= config.num_critics:
        raise InputError(f"target_subset={config.target_subset} must be 1 … num_critics={config.num_critics}.")
    nets = build(config, observation_space, action_space)
    size = require_bounded_box("sac", action_space).shape[0]
    return maximum_entropy.algorithm(nets, size, partial(update, config, nets))


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds SAC to an environment with a bounded Box of actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    learner = algorithm(config, env.observation_space, env.action_space)
    return off_policy.make("sac", env, learner, config, steps_per_update=config.critic_steps)
