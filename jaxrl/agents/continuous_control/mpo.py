"""Maximum a posteriori policy optimisation (Abdolmaleki et al. 2018, arXiv:1806.06920; arXiv:1812.02256).

    E-step   q(a|s) ∝ π⁻(a|s) exp(Q⁻(s, a)/η),   η = argmin η ε + η E_s[log E_{a~π⁻} exp(Q⁻(s, a)/η)]
    M-step   max_φ E_s E_{a~q} [log N(a; μ_φ, Σ⁻) + log N(a; μ⁻, Σ_φ)]
             subject to  E_s KL(π⁻ ‖ N(μ_φ, Σ⁻)) ≤ ε_μ,   E_s KL(π⁻ ‖ N(μ⁻, Σ_φ)) ≤ ε_Σ
    critic   y = r + γ (1 − terminated) E_{a'~π⁻(·|s')} Q⁻(s', a'),   L(θ) = E[½ (y − Q_θ(s, a))²]

The improved policy q is no network: it is `num_samples` actions of the target policy π⁻ in each state of the batch and
their weights. φ is then fitted to them by weighted maximum likelihood. Mean and covariance are bounded apart, so that
the mean can move while the spread, and with it exploration, shrinks slowly. Each bound has a multiplier that gradient
steps raise while the divergence is above it; they and η are learnt as logarithms. π⁻ and Q⁻ are copies, taken every
`target_period` gradient steps.

π is a Gaussian with diagonal covariance whose mean is squashed into the unit box by tanh; draws beyond the box are
clipped to it before they act or are judged. The box is scaled to the environment's Box.

Deviations from the paper: targets of one step (or `n_step`, uncorrected) in place of Retrace; multipliers are one for
each of mean and covariance, over all coordinates; bounds are wider by default (tasks of 10⁴ steps, not 10⁶); the replay
is filled by random actions in `init`. A transition cut by the time limit is bootstrapped like any other.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.base import Env
from envs.spaces import Space
from envs.values import NonNegative, Positive
from jaxrl import losses, n_step, networks
from jaxrl.actions import require_bounded_box
from jaxrl.agents.continuous_control import descent, unit_box
from jaxrl.distributions import Normal
from jaxrl.loops import off_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Transition


@dataclass(frozen=True)
class Config(unit_box.Config):
    """What is static: a new value means a new compilation."""

    num_samples: int = 20
    """Actions that are weighed in each state."""
    target_period: int = 100
    """Gradient steps between two copies of policy and critic."""


@struct.dataclass
class Hyperparams(off_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    policy_learning_rate: NonNegative = 1e-3
    """Step size of Adam for the policy."""
    critic_learning_rate: NonNegative = 1e-3
    """Step size of Adam for the critic."""
    dual_learning_rate: NonNegative = 1e-2
    """Step size of Adam for the logarithms of temperature and multipliers."""
    epsilon: Positive = 0.1
    """ε, how far the weighted samples may be from the target policy, in nats."""
    epsilon_mean: Positive = 0.01
    """ε_μ, how far the mean may move from the target's, in nats."""
    epsilon_std: Positive = 1e-4
    """ε_Σ, how far the covariance may move from the target's, in nats."""
    temperature: Positive = 1.0
    """η at the start, in units of value."""
    multiplier_mean: float = 1.0
    """Multiplier of the bound on the mean at the start."""
    multiplier_std: float = 10.0
    """Multiplier of the bound on the covariance at the start."""


class Duals(NamedTuple):
    """What belongs to the bounds, as logarithms, f32[] each."""

    temperature: jax.Array
    mean: jax.Array
    std: jax.Array


class Learner(NamedTuple):
    """What `update` changes."""

    actor: Any
    critic: Any
    duals: Duals
    target_actor: Any
    target_critic: Any
    actor_opt: Any
    critic_opt: Any
    duals_opt: Any
    count: jax.Array  # i32[] gradient steps


class Networks(NamedTuple):
    """Policy and action value."""

    actor: networks.Network  # apply(params, obs [..., *obs]) -> Normal over [..., D], around the unit box
    critic: networks.Network  # apply(params, obs, action f32[..., D]) -> f32[1, ..., 1]


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds the networks for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    size = require_bounded_box("mpo", action_space).shape[0]
    shape = (config.hidden, config.activation)
    heads = [("mean", size, 0.01), ("std", size, 0.01)]
    actor = networks.with_heads(observation_space, heads, "mlp", *shape)

    def policy(params: Any, obs: Any) -> Normal:
        mean, spread = actor.apply(params, obs)
        return Normal(jnp.tanh(mean), 0.75 * jax.nn.softplus(spread) + 1e-4)  # a spread of about ½ at the start

    critic = networks.critics(observation_space, size, 1, *shape)
    return Networks(networks.Network(actor.init, policy), critic)


class Optimizers(NamedTuple):
    """One for each part of the learner."""

    actor: optax.GradientTransformation
    critic: optax.GradientTransformation
    duals: optax.GradientTransformation


def optimizers(hp: Hyperparams) -> Optimizers:
    """Adam for each; behind a clip of the gradient's norm for policy and critic."""

    def clipped(learning_rate: Any) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(40.0), optax.adam(learning_rate))

    return Optimizers(
        clipped(hp.policy_learning_rate), clipped(hp.critic_learning_rate), optax.adam(hp.dual_learning_rate)
    )


def init_learner(nets: Networks, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters; the targets start as copies."""
    key_actor, key_critic = jax.random.split(key)
    actor, critic = nets.actor.init(key_actor), nets.critic.init(key_critic)
    starts = (hp.temperature, hp.multiplier_mean, hp.multiplier_std)
    duals = Duals(*(jnp.log(jnp.asarray(x, jnp.float32)) for x in starts))
    opt = optimizers(hp)
    return Learner(
        actor=actor,
        critic=critic,
        duals=duals,
        target_actor=jax.tree.map(jnp.copy, actor),
        target_critic=jax.tree.map(jnp.copy, critic),
        actor_opt=opt.actor.init(actor),
        critic_opt=opt.critic.init(critic),
        duals_opt=opt.duals.init(duals),
        count=jnp.int32(0),
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
    """One gradient step of critic, policy and duals, and the copies where they are due.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        context: not used.
        learner: parameters, targets and optimiser states.
        batch: [batch, ...] transitions, actions in the unit box (`jaxrl.actions.unit_box`).
        key: for the actions that are weighed.

    Returns:
        (learner, diagnostics with the size of each transition's TD error as priority).
    """
    del context
    opt = optimizers(hp)
    # Actions of the target policy and their values, in the states acted in and in their successors at once.
    both = jax.tree.map(lambda *x: jnp.concatenate(x), batch.obs, batch.next_obs)
    repeated = jax.tree.map(lambda x: jnp.broadcast_to(x, (config.num_samples, *x.shape)), both)
    wide = nets.actor.apply(learner.target_actor, both)
    mean, std = (jnp.broadcast_to(x, (config.num_samples, *x.shape)) for x in (wide.mean, wide.std))
    draws = Normal(mean, std).sample(key)
    values = nets.critic.apply(learner.target_critic, repeated, jnp.clip(draws, -1.0, 1.0))[0, ..., 0]
    num = batch.reward.shape[0]
    action, q, q_t = draws[:, :num], values[:, :num], values[:, num:]
    old = Normal(wide.mean[:num], wide.std[:num])

    target = batch.reward + n_step.discount(batch, hp.gamma) * q_t.mean(0)

    def critic_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        q = nets.critic.apply(params, batch.obs, batch.action)[0, ..., 0]
        error = target - q
        return losses.weighted(losses.squared(error), batch.weight).mean(), (q.mean(), jnp.abs(error))

    def policy_loss(params: Any, duals: Duals) -> tuple[jax.Array, dict[str, jax.Array]]:
        eta, by_mean, by_std = (jnp.exp(x) for x in duals)
        weights, temperature_loss = losses.mpo_weights(q, eta, hp.epsilon)
        new = nets.actor.apply(params, batch.obs)
        mean_moves, std_moves = Normal(new.mean, old.std), Normal(old.mean, new.std)
        likelihood = mean_moves.log_prob(action) + std_moves.log_prob(action)
        kl_mean, kl_std = old.kl(mean_moves).mean(), old.kl(std_moves).mean()
        fit = -jnp.sum(weights * likelihood, axis=0).mean()
        bounds = losses.bounded(kl_mean, by_mean, hp.epsilon_mean) + losses.bounded(kl_std, by_std, hp.epsilon_std)
        scalars = {
            "policy_loss": fit,
            "kl_mean": kl_mean,
            "kl_std": kl_std,
            "kl_weights": jnp.sum(weights * jnp.log(config.num_samples * weights + 1e-8), axis=0).mean(),
            "temperature": eta,
            "multiplier_mean": by_mean,
            "multiplier_std": by_std,
            "policy_std": new.std.mean(),
        }
        return fit + bounds + temperature_loss.mean(), scalars

    (critic_value, (q_mean, td_error)), critic, critic_opt = descent.step(
        opt.critic, critic_loss, learner.critic, learner.critic_opt
    )
    (actor_grads, duals_grads), scalars = jax.grad(policy_loss, (0, 1), has_aux=True)(learner.actor, learner.duals)
    step, actor_opt = opt.actor.update(actor_grads, learner.actor_opt)
    actor = optax.apply_updates(learner.actor, step)
    step, duals_opt = opt.duals.update(duals_grads, learner.duals_opt)
    duals: Any = optax.apply_updates(learner.duals, step)

    count = learner.count + 1
    due = count % config.target_period == 0
    target_actor, target_critic = jax.tree.map(
        lambda new, old: jnp.where(due, new, old), (actor, critic), (learner.target_actor, learner.target_critic)
    )
    scalars |= {"critic_loss": critic_value, "q_mean": q_mean}
    states = actor_opt, critic_opt, duals_opt
    following = Learner(actor, critic, duals, target_actor, target_critic, *states, count)
    return following, Diagnostics(scalars, td_error)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """MPO for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    nets = build(config, observation_space, action_space)

    def pi(learner: Learner, obs: Any) -> Normal:
        return nets.actor.apply(learner.actor, obs)

    return Algorithm(
        init=partial(init_learner, nets),
        update=partial(update, config, nets),
        explore=lambda hp, context, learner: unit_box.sampling(
            lambda key, obs: jnp.clip(pi(learner, obs).sample(key), -1.0, 1.0)
        ),
        greedy=lambda hp, context, learner: unit_box.greedy(lambda obs: pi(learner, obs).mode()),
    )


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds MPO to an environment with a bounded Box of actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    return off_policy.make("mpo", env, algorithm(config, env.observation_space, env.action_space), config)
