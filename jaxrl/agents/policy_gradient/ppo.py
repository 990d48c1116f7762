"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347): clipped surrogate, or a penalty on the KL.

    L(θ) = E[ −min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) + c_v (V − G)²/2 − c_e H ],   ρ = π(a|s) / π_old(a|s)

or, with surrogate="kl_penalty", −ρ A + β KL(π_old ‖ π) in place of the minimum (the paper's section 4): β is doubled
after an update whose KL was more than 1.5 times the target, halved after one with less than the target / 1.5.

A is the generalised advantage estimate, normalised in every minibatch; G = A + V(s). Details after "The 37
implementation details of PPO" (Huang et al. 2022): orthogonal weights, Adam with ε = 1e-5, clipping of the value
(optional), of the *global* gradient norm, a learning rate that falls linearly to 0. Discrete actions, or a Gaussian
with a state-independent standard deviation over the unit box, clipped or squashed by tanh, and scaled to the
environment's Box. Actions are masked where the observation has an entry "action_mask" (see `jaxrl.policies`).

With `early_stop` an update ends at the first minibatch whose KL is beyond 1.5 times the target (as in OpenAI's Spinning
Up, there epoch by epoch). The remaining gradient steps are computed and thrown away, so the program has no branch.

Deviations from CleanRL's ppo.py: values are computed once from the stored observations rather than while acting, and a
step cut by the time limit is bootstrapped with the value of its true successor, where CleanRL bootstraps nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.flatten_util import ravel_pytree

from envs.base import Env
from envs.spaces import Space
from envs.values import Fraction, NonNegative, Positive
from jaxrl import exploration, losses, minibatches, policies, returns
from jaxrl.loops import on_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Transition


@dataclass(frozen=True)
class Config(on_policy.Config, policies.Config):
    """What is static: a new value means a new compilation."""

    num_epochs: int = 4
    """Passes over every rollout."""
    num_minibatches: int = 4
    """Parts of a rollout, one gradient step each; must divide num_envs · rollout_length."""
    shared_torso: bool = False
    """One torso for policy and value instead of two."""
    surrogate: Literal["clip", "kl_penalty"] = "clip"
    """What keeps the policy near the one that acted: the clipped ratio, or a penalty with adaptive weight."""
    early_stop: bool = False
    """End an update once the policy has moved beyond 1.5 · hp.target_kl."""
    clip_value: bool = True
    """Clip the change of the value as that of the policy."""
    normalize_advantage: bool = True
    """Give the advantages of every minibatch mean 0 and standard deviation 1."""
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over hp.total_steps."""


@struct.dataclass
class Hyperparams(on_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: NonNegative = 2.5e-4
    """Step size of Adam, at the start."""
    gae_lambda: Fraction = 0.95
    """λ of the advantage estimate."""
    clip_epsilon: NonNegative = 0.2
    """How far the probability ratio may move before its gradient is cut."""
    target_kl: Positive = 0.01
    """KL(π_old ‖ π) that the penalty aims at or the early stop allows, in nats."""
    kl_coef: float = 1.0
    """Weight β of the penalty at the start."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: Positive = 0.5
    """The gradient is scaled down to this global norm."""


class Learner(NamedTuple):
    """What `update` changes."""

    params: Any
    opt_state: Any
    kl_coef: jax.Array  # f32[] β; constant with the clipped surrogate


def build(config: Config, observation_space: Space, action_space: Space) -> policies.Networks:
    """Builds policy and value for a pair of spaces; see `policies.build` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    return policies.build("ppo", observation_space, action_space, *shape, config.shared_torso, config.squash)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam behind a clip of the global gradient norm, over one flat vector: fewer and larger operations."""
    chain = optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.adam(hp.learning_rate, eps=1e-5))
    return optax.flatten(chain)


def init_learner(nets: policies.Networks, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters."""
    params = nets.init(key)
    return Learner(params, optimizer(hp).init(params), jnp.float32(hp.kl_coef))


class Samples(NamedTuple):
    """What a gradient step sees, [minibatch, ...]."""

    obs: Any
    action: jax.Array  # as it was drawn, before the map into the action space
    log_prob: jax.Array  # of the action under the policy that took it
    value: jax.Array  # before the update
    advantage: jax.Array
    target: jax.Array
    weight: Any  # f32 or (), see `Transition`
    old_policy: Any  # the distribution of every step before the update, or () where nothing needs it


def loss(
    config: Config,
    nets: policies.Networks,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    params: Any,
    samples: Samples,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """L(θ) of a minibatch and what is reported of it; another one can be given to `make`.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        context: what the run knows beside them.
        learner: before the update.
        params: θ.
        samples: the minibatch.

    Returns:
        (loss f32[], scalars; with `early_stop` "approx_kl" is among them).
    """
    del context

    def mean(x: jax.Array) -> jax.Array:
        return losses.mean(x, samples.weight)

    policy, value = nets.both(params, samples.obs)
    log_prob, advantage = policy.log_prob(samples.action), samples.advantage
    if config.normalize_advantage:
        advantage = losses.standardized(advantage, samples.weight)
    if config.surrogate == "clip":
        approx_kl = mean(losses.approx_kl(log_prob, samples.log_prob))
        policy_loss = mean(losses.clipped_surrogate(log_prob, samples.log_prob, advantage, hp.clip_epsilon))
    else:
        approx_kl = mean(samples.old_policy.kl(policy))
        policy_loss = mean(losses.importance_weighted(log_prob, samples.log_prob, advantage))
        policy_loss += learner.kl_coef * approx_kl
    if config.clip_value:
        value_loss = mean(losses.clipped_value(value, samples.value, samples.target, hp.clip_epsilon))
    else:
        value_loss = mean(losses.squared(value - samples.target))
    entropy = mean(policy.entropy())
    total = policy_loss + hp.value_coef * value_loss - hp.entropy_coef * entropy
    return total, {
        "loss": total,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": approx_kl,
        "clip_fraction": mean(jnp.abs(jnp.exp(log_prob - samples.log_prob) - 1) > hp.clip_epsilon),
    }


def update(
    config: Config,
    nets: policies.Networks,
    loss: Callable[..., tuple[jax.Array, dict[str, jax.Array]]],
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array,
) -> tuple[Learner, Diagnostics]:
    """Several epochs of minibatch gradient steps on one rollout.

    Args:
        config: static configuration.
        nets: from `build`.
        loss: `loss`, or one like it.
        hp: hyper-parameters.
        context: how far the run is.
        learner: parameters and optimiser state.
        batch: [T, B, ...]; extras are `policies.Sampled`.
        key: for the permutations.

    Returns:
        (learner, scalars averaged over all gradient steps).
    """
    if config.anneal_learning_rate:
        hp = replace(hp, learning_rate=exploration.anneal(hp.learning_rate, 0.0, context.progress))
    # One pass of the critic over the rollout; V(next_obs) of the true successor, also where the episode was cut.
    value = nets.value(learner.params, batch.obs)
    next_value = returns.successor_values(
        lambda obs: nets.value(learner.params, obs), value, batch.next_obs, batch.truncated
    )
    discount, lam = returns.cuts(batch.terminated, batch.truncated, hp.gamma, hp.gae_lambda)
    advantage, target = returns.gae(batch.reward, discount, value, next_value, lam)
    old_policy = nets.policy(learner.params, batch.obs) if config.surrogate == "kl_penalty" else ()
    drawn = batch.extras
    samples = Samples(batch.obs, drawn.unit_action, drawn.log_prob, value, advantage, target, batch.weight, old_policy)
    samples = jax.tree.map(lambda x: jax.lax.collapse(jnp.asarray(x), 0, 2), samples)

    def gradient_step(carry: tuple[Learner, jax.Array], rows: jax.Array) -> tuple[Any, Any]:
        before, going = carry
        minibatch = minibatches.take(samples, rows)
        of_params = partial(loss, config, nets, hp, context, learner)
        grads, scalars = jax.grad(of_params, has_aux=True)(before.params, minibatch)
        updates, opt_state = optimizer(hp).update(grads, before.opt_state)
        after = before._replace(params=optax.apply_updates(before.params, updates), opt_state=opt_state)
        scalars["grad_norm"] = jnp.linalg.norm(ravel_pytree(grads)[0])  # a vector that the optimiser makes as well
        if config.early_stop:
            going &= scalars["approx_kl"] <= 1.5 * hp.target_kl
            after = jax.tree.map(lambda new, old: jnp.where(going, new, old), after, before)
        return (after, going), (scalars, going)

    def epoch(carry: tuple[Learner, jax.Array], key: jax.Array) -> tuple[Any, Any]:
        order = minibatches.split(key, samples.value.shape[0], config.num_minibatches)
        return jax.lax.scan(gradient_step, carry, order)

    keys = jax.random.split(key, config.num_epochs)
    (learner, _), (scalars, applied) = jax.lax.scan(epoch, (learner, jnp.bool_(True)), keys)
    if config.early_stop:
        scalars = jax.tree.map(lambda x: jnp.sum(x * applied) / jnp.maximum(applied.sum(), 1), scalars)
        scalars["applied"] = applied.mean()
    scalars = jax.tree.map(jnp.mean, scalars)
    if config.surrogate == "kl_penalty":
        kl = losses.mean(samples.old_policy.kl(nets.policy(learner.params, samples.obs)), samples.weight)
        factor = jnp.where(kl > 1.5 * hp.target_kl, 2.0, jnp.where(kl < hp.target_kl / 1.5, 0.5, 1.0))
        scalars |= {"kl": kl, "kl_coef": learner.kl_coef}
        learner = learner._replace(kl_coef=learner.kl_coef * factor)
    return learner, Diagnostics(scalars)


def algorithm(
    config: Config, observation_space: Space, action_space: Space, loss: Callable[..., Any] = loss
) -> Algorithm:
    """PPO for a pair of spaces.

    Raises:
        InputError: spaces that PPO cannot handle.
    """
    nets = build(config, observation_space, action_space)
    return Algorithm(
        init=partial(init_learner, nets),
        update=partial(update, config, nets, loss),
        explore=lambda hp, context, learner: policies.sampling(nets, learner.params),
        greedy=lambda hp, context, learner: policies.greedy(nets, learner.params),
    )


def make(env: Env, config: Config = Config(), loss: Callable[..., Any] = loss) -> Agent:
    """Binds PPO to an environment.

    Args:
        env: the environment.
        config: static configuration.
        loss: what is minimised; see `loss`.

    Raises:
        InputError: a rollout that does not split into minibatches, or spaces that PPO cannot handle.
    """
    minibatches.require_split("num_minibatches", config.num_minibatches, config.num_envs, config.rollout_length)
    return on_policy.make("ppo", env, algorithm(config, env.observation_space, env.action_space, loss), config)
