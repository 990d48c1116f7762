"""CrossQ (Bhatt et al. 2024, arXiv:1902.05605): soft actor-critic with batch normalisation and no target networks.

    (Q_θi(s, a), Q_θi(s', a')) = one pass over the joint batch,   a' ~ π_φ(·|s')
    y = r + γ (1 − terminated) (min_i Q_θi(s', a') − α log π_φ(a'|s'))
    L(θ) = Σ_i E[½ (y − Q_θi(s, a))²],   L(φ) = E[α log π_φ(a|s) − min_i Q_θi(s, a)],   L(α) = −α E[log π_φ(a|s) + H̄]

Both halves of the joint batch are normalised by its common statistics, which is what makes target networks needless; no
gradient goes through y. All networks normalise their input and every layer by batch renormalisation. The policy moves
once for `policy_delay` steps of the critics; acting and judging actions use the running statistics. π is a Gaussian
squashed by tanh into the unit box, which is scaled to the environment's Box. A transition cut by the time limit is
bootstrapped like any other.

Deviations from the paper: critics of two layers of 256 units instead of 2,048 (`critic_hidden`); orthogonal weights;
the replay is filled by random actions in `init`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from envs.values import Fraction, NonNegative
from jaxrl import losses, n_step, networks
from jaxrl.actions import require_bounded_box
from jaxrl.agents.continuous_control import descent, maximum_entropy, unit_box
from jaxrl.distributions import SquashedNormal
from jaxrl.loops import off_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Transition


@dataclass(frozen=True)
class Config(unit_box.Config):
    """What is static: a new value means a new compilation."""

    num_envs: int = 3
    num_updates: int = 3
    policy_delay: int = 3
    """Gradient steps of the critics for each one of policy and temperature; must divide num_updates."""
    critic_hidden: tuple[int, ...] = (256, 256)
    """Sizes of the dense layers of the critics; those of the policy are `hidden`."""


@struct.dataclass
class Hyperparams(maximum_entropy.Temperature):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: NonNegative = 1e-3
    """Step size of Adam, for policy, critics and log α."""
    adam_b1: Fraction = 0.5
    """Adam's decay of the mean gradient."""


class Learner(NamedTuple):
    """What `update` changes; statistics are those of batch renormalisation."""

    actor: Any
    actor_statistics: Any
    critics: Any  # [2, ...]
    critics_statistics: Any  # [2, ...]
    log_alpha: jax.Array  # f32[]
    actor_opt: Any
    critics_opt: Any
    alpha_opt: Any


class Networks(NamedTuple):
    """Policy and twin action values, on encoded observations."""

    encode: Any  # obs [..., *obs] -> f32[..., n]
    actor: networks.Renormed  # f32[..., n] -> mean and log of the standard deviation, f32[..., 2 D]
    critic: networks.Renormed  # observation and action f32[..., n + D] -> f32[..., 1]


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds the networks for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    actions = require_bounded_box("crossq", action_space).shape[0]
    (size,) = networks.input_shape(observation_space, "mlp")
    return Networks(
        lambda obs: networks.encode(observation_space, "mlp", obs),
        networks.batch_renormed(size, 2 * actions, config.hidden, config.activation, 0.01),
        networks.batch_renormed(size + actions, 1, config.critic_hidden, config.activation),
    )


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam, one for each part of the learner."""
    return optax.adam(hp.learning_rate, b1=hp.adam_b1)


def init_learner(nets: Networks, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters."""
    key_actor, key_critics = jax.random.split(key)
    actor, actor_statistics = nets.actor.init(key_actor)
    critics, critics_statistics = jax.vmap(nets.critic.init)(jax.random.split(key_critics))
    log_alpha = maximum_entropy.log_temperature(hp)
    opt = optimizer(hp).init
    states = opt(actor), opt(critics), opt(log_alpha)
    return Learner(actor, actor_statistics, critics, critics_statistics, log_alpha, *states)


def policy_of(outputs: jax.Array) -> SquashedNormal:
    """The distribution that the policy's outputs f32[..., 2 D] stand for."""
    mean, log_std = jnp.split(outputs, 2, axis=-1)
    return SquashedNormal(mean, jnp.exp(jnp.clip(log_std, -20.0, 2.0)), -1.0, 1.0)


def update(
    config: Config,
    nets: Networks,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array,
) -> tuple[Learner, Diagnostics]:
    """One round: `policy_delay` gradient steps of the critics, then one of the policy and one of the temperature.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        context: not used.
        learner: parameters, statistics and optimiser states.
        batch: [policy_delay · batch, ...] transitions, actions in the unit box (`jaxrl.actions.unit_box`); each step of
            the critics takes its share, in order, and the policy that of the last.
        key: for the actions.

    Returns:
        (learner, diagnostics with the size of each transition's TD error, the mean of both critics, as priority).
    """
    del context
    adam = optimizer(hp)
    alpha = jnp.exp(learner.log_alpha)
    key_next, key_action = jax.random.split(key)
    obs, next_obs = nets.encode(batch.obs), nets.encode(batch.next_obs)
    # The policy stands still until the critics have moved: one pass draws the next actions of all their steps.
    outputs = nets.actor.apply(learner.actor, learner.actor_statistics, next_obs)
    next_action, next_log_prob = policy_of(outputs).sample_and_log_prob(key_next)
    discount_t = n_step.discount(batch, hp.gamma)

    def critic_step(carry: tuple[Any, Any, Any], share: Any) -> tuple[tuple[Any, Any, Any], Any]:
        critics, statistics, critics_opt = carry
        reward, discount_t, next_log_prob, now, then, weight = share
        joint = jnp.concatenate([now, then])

        def critic_loss(params: Any) -> tuple[jax.Array, Any]:
            values, changed = jax.vmap(nets.critic.train, (0, 0, None))(params, statistics, joint)
            q, q_t = jnp.split(values[..., 0], 2, axis=1)
            target = reward + discount_t * (q_t.min(0) - alpha * next_log_prob)
            error = jax.lax.stop_gradient(target) - q
            loss = losses.weighted(losses.squared(error), weight).mean(-1).sum()
            return loss, (changed, q.mean(), jnp.abs(error))

        (value, (statistics, *reported)), critics, critics_opt = descent.step(adam, critic_loss, critics, critics_opt)
        return (critics, statistics, critics_opt), (value, *reported)

    now, then = jnp.concatenate([obs, batch.action], -1), jnp.concatenate([next_obs, next_action], -1)
    shares = jax.tree.map(
        lambda x: x.reshape(config.policy_delay, len(x) // config.policy_delay, *x.shape[1:]),
        (batch.reward, discount_t, next_log_prob, now, then, batch.weight),
    )
    carry = (learner.critics, learner.critics_statistics, learner.critics_opt)
    carry, (critic_values, q_means, td_errors) = jax.lax.scan(critic_step, carry, shares)
    critics, critics_statistics, critics_opt = carry
    obs = obs.reshape(config.policy_delay, len(obs) // config.policy_delay, *obs.shape[1:])[-1]

    def actor_loss(params: Any) -> tuple[jax.Array, Any]:
        outputs, changed = nets.actor.train(params, learner.actor_statistics, obs)
        action, log_prob = policy_of(outputs).sample_and_log_prob(key_action)
        x = jnp.concatenate([obs, action], -1)
        q = jax.vmap(nets.critic.apply, (0, 0, None))(critics, critics_statistics, x)[..., 0].min(0)
        return (alpha * log_prob - q).mean(), (changed, -log_prob.mean())

    (actor_value, (actor_statistics, entropy)), actor, actor_opt = descent.step(
        adam, actor_loss, learner.actor, learner.actor_opt
    )
    log_alpha, alpha_opt = maximum_entropy.adjust(
        hp, adam, learner.log_alpha, learner.alpha_opt, entropy, next_action.shape[-1]
    )
    scalars = {
        "critic_loss": critic_values.mean(),
        "actor_loss": actor_value,
        "q_mean": q_means.mean(),
        "entropy": entropy,
        "temperature": alpha,
    }
    priority = td_errors.mean(1).reshape(-1)  # over the critics; one for each row of the batch
    states = actor_opt, critics_opt, alpha_opt
    following = Learner(actor, actor_statistics, critics, critics_statistics, log_alpha, *states)
    return following, Diagnostics(scalars, priority)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """CrossQ for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box, or sizes that cannot work together.
    """
    if config.policy_delay < 1 or config.num_updates % config.policy_delay:
        raise InputError(f"policy_delay={config.policy_delay} does not divide num_updates={config.num_updates}.")
    nets = build(config, observation_space, action_space)

    def pi(learner: Learner, obs: Any) -> SquashedNormal:
        return policy_of(nets.actor.apply(learner.actor, learner.actor_statistics, nets.encode(obs)))

    return Algorithm(
        init=partial(init_learner, nets),
        update=partial(update, config, nets),
        explore=lambda hp, context, learner: unit_box.sampling(lambda key, obs: pi(learner, obs).sample(key)),
        greedy=lambda hp, context, learner: unit_box.greedy(lambda obs: pi(learner, obs).mode()),
    )


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds CrossQ to an environment with a bounded Box of actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    learner = algorithm(config, env.observation_space, env.action_space)
    return off_policy.make("crossq", env, learner, config, steps_per_update=config.policy_delay)
