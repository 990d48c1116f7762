"""One-step actor-critic, learning at every step (Sutton & Barto 2018, section 13.5; Barto, Sutton & Anderson 1983).

    δ = r + γ(1 − terminated) V(s′) − V(s),   w ← w + α_w δ ∇V(s),   θ ← θ + α_θ I δ ∇log π(a|s)

Both updates happen after every step, from that step alone: no rollout is kept and nothing is replayed. I = γ^t counts
the steps since the episode began: with it the update is a sample of the gradient of the discounted return from the
start. Late steps then hardly teach anything, so nearly every implementation takes I = 1, and so does this one unless
`discount_gradient` is set; what is followed then is no gradient of any objective (Nota & Thomas 2020,
arXiv:1906.07073), though it works.

Deviations from the book: steps are scaled by Adam behind a clip of the gradient's norm; several environments take their
step at once and their mean is followed (num_envs=1 is the book's); a step cut by the time limit is bootstrapped.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.base import Env
from envs.spaces import Space
from envs.values import NonNegative, Positive
from jaxrl import exploration, losses, policies
from jaxrl.agents.policy_gradient import policy_and_value
from jaxrl.loops import clock, on_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Transition


@dataclass(frozen=True)
class Config(on_policy.OnlineConfig, policy_and_value.Config):
    """What is static: a new value means a new compilation."""

    num_envs: int = 16
    steps_per_iteration: int = 32
    discount_gradient: bool = False
    """Multiply the policy's step by γ^t, t steps after the episode's start."""


@struct.dataclass
class Hyperparams(on_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: NonNegative = 3e-4
    """Step size of the policy's Adam, at the start."""
    value_learning_rate: NonNegative = 1e-3
    """Step size of the value's Adam, at the start."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""
    max_grad_norm: Positive = 0.5
    """The gradients of policy and value are each scaled down to this norm."""


class Learner(NamedTuple):
    """What `update` changes."""

    params: Any
    opt_state: Any
    t: Any  # i32[num_envs] steps since each episode began; () unless the gradient is discounted


def build(config: Config, observation_space: Space, action_space: Space) -> policies.Networks:
    """Builds policy and value for a pair of spaces; see `policies.build` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    return policies.build("actor_critic", observation_space, action_space, *shape, squash=config.squash)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam for each of policy and value, behind a clip of the gradient's norm."""

    def adam(learning_rate: Any) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.adam(learning_rate, eps=1e-5))

    return policies.two_optimizers(adam(hp.learning_rate), adam(hp.value_learning_rate))


def init_learner(config: Config, nets: policies.Networks, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters."""
    params = nets.init(key)
    t = jnp.zeros(config.num_envs, jnp.int32) if config.discount_gradient else ()
    return Learner(params, optimizer(hp).init(params), t)


def update(
    config: Config,
    nets: policies.Networks,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array,
) -> tuple[Learner, Diagnostics]:
    """One gradient step on one step of every environment.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        context: how far the run is.
        learner: parameters, optimiser state and how old the episodes are.
        batch: [B, ...]; extras are `policies.Sampled`.
        key: not used.

    Returns:
        (learner, scalars).
    """
    del key
    if config.anneal_learning_rate:
        left = exploration.anneal(1.0, 0.0, context.progress)
        hp = replace(hp, learning_rate=hp.learning_rate * left, value_learning_rate=hp.value_learning_rate * left)
    next_value = nets.value(learner.params, batch.next_obs)
    target = batch.reward + hp.gamma * (1.0 - batch.terminated) * next_value

    def mean(x: jax.Array) -> jax.Array:
        return losses.mean(x, batch.weight)

    def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        policy, value = nets.both(params, batch.obs)
        advantage = target - value
        if config.discount_gradient:
            advantage *= jnp.power(hp.gamma, learner.t)
        policy_loss = mean(losses.policy_gradient(policy.log_prob(batch.extras.unit_action), advantage))
        value_loss = mean(losses.squared(value - target))
        entropy = mean(policy.entropy())
        total = policy_loss + value_loss - hp.entropy_coef * entropy
        return total, {"loss": total, "policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    grads, scalars = jax.grad(loss, has_aux=True)(learner.params)
    updates, opt_state = optimizer(hp).update(grads, learner.opt_state, learner.params)
    scalars["grad_norm"] = optax.tree.norm(grads)
    t = learner.t
    if config.discount_gradient:
        t = jnp.where(batch.terminated | batch.truncated, 0, clock.advance(t))
    return Learner(optax.apply_updates(learner.params, updates), opt_state, t), Diagnostics(scalars)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """The actor-critic for a pair of spaces.

    Raises:
        InputError: spaces that it cannot handle.
    """
    nets = build(config, observation_space, action_space)
    learn = partial(update, config, nets)
    return policy_and_value.algorithm(nets, partial(init_learner, config, nets), learn, update_draws=False)


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds the actor-critic to an environment.

    Raises:
        InputError: spaces that it cannot handle.
    """
    return on_policy.make("actor_critic", env, algorithm(config, env.observation_space, env.action_space), config)
