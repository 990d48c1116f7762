"""Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, arXiv:1802.09477).

    y = r + γ (1 − terminated) min_i Q_θi⁻(s', a'),   a' = clip(μ_φ⁻(s') + clip(ε, ±c), ±1),   ε ~ N(0, σ̃²)
    L(θ) = Σ_i E[½ (y − Q_θi(s, a))²],   L(φ) = −E[Q_θ1(s, μ_φ(s))]

DDPG with three changes: the smaller of two critics in the target, noise on the target's action, and a policy (and
targets, which follow softly) that moves once for `policy_delay` steps of the critics. One call of `update` is such a
round, so nothing is computed to be thrown away. Actions, noise and σ̃, c are in the unit box, which is scaled to the
environment's. A transition cut by the time limit is bootstrapped like any other.

Deviations from the paper: orthogonal weights; the replay is filled by random actions in `init`, `warmup_steps` of them;
Ornstein–Uhlenbeck noise as an option (`noise_theta`).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from envs.values import NonNegative
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

    policy_delay: int = 2
    """Gradient steps of the critics for each one of the policy; must divide num_updates."""


@struct.dataclass
class Hyperparams(deterministic.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    target_noise_std: NonNegative = 0.2
    """Standard deviation of the noise on the target's action (σ̃)."""
    target_noise_clip: NonNegative = 0.5
    """Bound of that noise (c)."""


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds policy and twin critics for a pair of spaces; values are f32[2, ..., 1].

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    size = require_bounded_box("td3", action_space).shape[0]
    shape = (config.hidden, config.activation)
    return Networks(
        networks.deterministic_policy(observation_space, size, *shape),
        networks.critics(observation_space, size, 2, *shape),
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
    """One round: `policy_delay` gradient steps of the critics, one of the policy, then the targets follow.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        context: not used.
        learner: parameters, targets and optimiser states.
        batch: [policy_delay · batch, ...] transitions, actions in the unit box (`jaxrl.actions.unit_box`); each step of
            the critics takes its share, in order, and the policy that of the last.
        key: for the noise on the targets' actions.

    Returns:
        (learner, diagnostics with the size of each transition's TD error, the mean of both critics, as priority).
    """
    del context
    adam = optimizer(hp)
    # The targets stand still during a round: one pass values the successors of all its steps.
    action_tm1 = nets.actor.apply(learner.target_actor, batch.next_obs)
    noise = hp.target_noise_std * jax.random.normal(key, action_tm1.shape)
    noise = jnp.clip(noise, -hp.target_noise_clip, hp.target_noise_clip)
    next_action = jnp.clip(action_tm1 + noise, -1.0, 1.0)
    v_t = nets.critics.apply(learner.target_critics, batch.next_obs, next_action)[..., 0].min(0)
    target = batch.reward + n_step.discount(batch, hp.gamma) * v_t

    def critic_step(carry: tuple[Any, Any], share: Any) -> tuple[tuple[Any, Any], Any]:
        obs, action, target, weight = share

        def critic_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            q = nets.critics.apply(params, obs, action)[..., 0]
            error = target - q
            return losses.weighted(losses.squared(error), weight).mean(-1).sum(), (q.mean(), jnp.abs(error))

        values, critics, critics_opt = descent.step(adam, critic_loss, *carry)
        return (critics, critics_opt), values

    shares = jax.tree.map(
        lambda x: x.reshape(config.policy_delay, len(x) // config.policy_delay, *x.shape[1:]),
        (batch.obs, batch.action, target, batch.weight),
    )
    carry = (learner.critics, learner.critics_opt)
    (critics, critics_opt), (critic_values, (q_means, td_errors)) = jax.lax.scan(critic_step, carry, shares)

    obs = jax.tree.map(lambda x: x[-1], shares[0])
    first = jax.tree.map(lambda x: x[:1], critics)

    def actor_loss(params: Any) -> tuple[jax.Array, Any]:
        return -nets.critics.apply(first, obs, nets.actor.apply(params, obs)).mean(), ()

    (actor_value, _), actor, actor_opt = descent.step(adam, actor_loss, learner.actor, learner.actor_opt)
    scalars = {"critic_loss": critic_values.mean(), "actor_loss": actor_value, "q_mean": q_means.mean()}
    priority = td_errors.mean(1).reshape(-1)  # over the critics; one for each row of the batch
    following = deterministic.follow(hp, learner, actor, critics, actor_opt, critics_opt)
    return following, Diagnostics(scalars, priority)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """TD3 for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box, or sizes that cannot work together.
    """
    if config.policy_delay < 1 or config.num_updates % config.policy_delay:
        raise InputError(f"policy_delay={config.policy_delay} does not divide num_updates={config.num_updates}.")
    nets = build(config, observation_space, action_space)
    size = require_bounded_box("td3", action_space).shape[0]
    return deterministic.algorithm(nets, size, partial(update, config, nets))


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds TD3 to an environment with a bounded Box of actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    learner = algorithm(config, env.observation_space, env.action_space)
    return off_policy.make("td3", env, learner, config, steps_per_update=config.policy_delay)
