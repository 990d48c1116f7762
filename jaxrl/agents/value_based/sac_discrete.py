"""Soft actor-critic for discrete actions (Christodoulou 2019, arXiv:1910.07207).

    V(s') = Σ_a π_φ(a|s') (min_i Q_θi⁻(s', a) − α log π_φ(a|s')),   y = r + γ (1 − terminated) V(s')
    L(θ) = Σ_i E[½ (y − Q_θi(s, a))²],   L(φ) = E[Σ_a π_φ(a|s) (α log π_φ(a|s) − min_i Q_θi(s, a))]
    L(α) = α E[H(π_φ(·|s)) − H̄]

Every expectation over actions is a sum, so nothing is sampled but the actions taken. The targets θ⁻ follow softly at
every update. A transition cut by the time limit is bootstrapped like any other.

Deviations from the paper: orthogonal weights; a step size for each of policy, critics and temperature; the target
entropy is a smaller part of log A than the paper's 0.98, which holds a policy on few actions close to uniform; the
replay is filled by random actions in `init`.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.base import Env
from envs.spaces import Space
from envs.values import Fraction, NonNegative, Positive
from jaxrl import losses, masks, n_step, networks
from jaxrl.actions import require_discrete
from jaxrl.agents.value_based import action_values
from jaxrl.distributions import Categorical, at_index
from jaxrl.loops import off_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Policy, Transition


@dataclass(frozen=True)
class Config(off_policy.Config, action_values.Sizes):
    """What is static: a new value means a new compilation."""

    num_updates: int = 1
    batch_size: int = 128


@struct.dataclass
class Hyperparams(off_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    policy_learning_rate: NonNegative = 3e-4
    """Step size of Adam for the policy."""
    critic_learning_rate: NonNegative = 1e-3
    """Step size of Adam for the critics."""
    temperature_learning_rate: NonNegative = 1e-3
    """Step size of Adam for log α; 0 keeps the temperature as it is."""
    target_rate: Fraction = 0.005
    """How far the targets follow at every update (τ)."""
    temperature: Positive = 1.0
    """α at the start."""
    target_entropy: float = 0.5
    """The entropy that α steers to, as a part of that of the uniform policy, log A for A actions that are allowed."""


class Optimizers(NamedTuple):
    """One for each part of the learner, or their states."""

    actor: Any
    critics: Any
    alpha: Any


class Learner(NamedTuple):
    """What `update` changes."""

    actor: Any
    critics: Any  # [2, ...]
    target_critics: Any  # [2, ...]
    log_alpha: jax.Array  # f32[]
    opt_states: Optimizers


class Networks(NamedTuple):
    """Policy and twin action values."""

    actor: networks.Network  # apply(params, obs [..., *obs]) -> (logits f32[..., A],)
    critics: networks.Network  # apply(params, obs [..., *obs]) -> f32[2, ..., A]


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds the networks for a pair of spaces.

    Raises:
        InputError: an action space that is not Discrete.
    """
    num_actions = require_discrete("sac_discrete", action_space).n
    shape = (config.torso, config.hidden, config.activation)
    return Networks(
        networks.with_heads(observation_space, [("policy", num_actions, 0.01)], *shape),
        networks.ensemble(networks.q_network(observation_space, num_actions, *shape), 2),
    )


def optimizers(hp: Hyperparams) -> Optimizers:
    """Adam for each."""
    return Optimizers(
        *map(optax.adam, (hp.policy_learning_rate, hp.critic_learning_rate, hp.temperature_learning_rate))
    )


def init_learner(nets: Networks, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters; the targets start as copies."""
    key_actor, key_critics = jax.random.split(key)
    actor, critics = nets.actor.init(key_actor), nets.critics.init(key_critics)
    log_alpha = jnp.log(jnp.asarray(hp.temperature, jnp.float32))
    parts = (actor, critics, log_alpha)
    opt_states = Optimizers(*(opt.init(part) for opt, part in zip(optimizers(hp), parts, strict=True)))
    return Learner(actor, critics, jax.tree.map(jnp.copy, critics), log_alpha, opt_states)


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
        batch: [batch, ...] transitions, of one step or as `n_step.extend` makes them.
        key: not used.

    Returns:
        (learner, diagnostics with the size of each transition's TD error, the mean of both critics, as priority).
    """
    del config, context, key
    opt, alpha = optimizers(hp), jnp.exp(learner.log_alpha)

    next_policy = policy(nets, learner.actor, batch.next_obs)
    q_t = nets.critics.apply(learner.target_critics, batch.next_obs).min(0)
    v_t = losses.soft_value(next_policy, q_t, alpha)
    target = batch.reward + n_step.discount(batch, hp.gamma) * v_t

    def critic_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        q = at_index(nets.critics.apply(params, batch.obs), batch.action)
        error = target - q
        return losses.weighted(losses.squared(error), batch.weight).mean(-1).sum(), (q.mean(), jnp.abs(error).mean(0))

    (critic_value, (q_mean, size)), grads = jax.value_and_grad(critic_loss, has_aux=True)(learner.critics)
    step, critics_opt = opt.critics.update(grads, learner.opt_states.critics)
    critics = optax.apply_updates(learner.critics, step)
    q = nets.critics.apply(critics, batch.obs).min(0)

    def actor_loss(params: Any) -> tuple[jax.Array, jax.Array]:
        pi = policy(nets, params, batch.obs)
        return -losses.soft_value(pi, q, alpha).mean(), pi.entropy().mean()

    (actor_value, entropy), grads = jax.value_and_grad(actor_loss, has_aux=True)(learner.actor)
    step, actor_opt = opt.actor.update(grads, learner.opt_states.actor)
    actor = optax.apply_updates(learner.actor, step)

    allowed = masks.allowed(batch.obs)
    uniform = math.log(q.shape[-1]) if allowed is None else jnp.log(allowed.sum(-1)).mean()
    target_entropy = hp.target_entropy * uniform
    grad = jax.grad(losses.temperature)(learner.log_alpha, entropy, target_entropy)
    step, alpha_opt = opt.alpha.update(grad, learner.opt_states.alpha)
    log_alpha: Any = optax.apply_updates(learner.log_alpha, step)

    targets = optax.incremental_update(critics, learner.target_critics, hp.target_rate)
    scalars = {
        "critic_loss": critic_value,
        "actor_loss": actor_value,
        "q_mean": q_mean,
        "entropy": entropy,
        "temperature": alpha,
    }
    following = Learner(actor, critics, targets, log_alpha, Optimizers(actor_opt, critics_opt, alpha_opt))
    return following, Diagnostics(scalars, size)


def policy(nets: Networks, actor: Any, obs: Any) -> Categorical:
    """π over the actions that are allowed."""
    return Categorical(masks.choosable(nets.actor.apply(actor, obs)[0], obs))


def explore(nets: Networks, hp: Hyperparams, context: Context, learner: Learner) -> Policy:
    """Draws from π."""
    del hp, context

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        return policy(nets, learner.actor, obs).sample(key), memory, ()

    return Policy(act)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """SAC for Discrete actions and a space of observations.

    Raises:
        InputError: an action space that is not Discrete.
    """
    nets = build(config, observation_space, action_space)
    return Algorithm(
        init=partial(init_learner, nets),
        update=partial(update, config, nets),
        explore=partial(explore, nets),
        greedy=lambda hp, context, learner: action_values.greedy(lambda obs: nets.actor.apply(learner.actor, obs)[0]),
    )


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds SAC to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    return off_policy.make("sac_discrete", env, algorithm(config, env.observation_space, env.action_space), config)
