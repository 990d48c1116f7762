"""Actor-critic whose actors lag behind the learner, corrected by V-trace.

IMPALA (Espeholt et al. 2018, arXiv:1802.01561):

    L(θ) = E[ −log π(a|s) A + c_v (V(s) − G)²/2 − c_e H ]

with G and A from V-trace (`returns.vtrace`): importance weights π/μ, truncated, of the learner's policy π over the
policy μ that acted. One RMSProp step is taken on every rollout.

IMPALA's actors are processes that fetch parameters when they can. Here actors and learner share one program and the
lag is a number: a rollout is taken with the parameters of `lag` updates ago, so that the effect of staleness, and of
what corrects it, can be measured and repeated. With lag=0 all weights are 1 (but for rounding): an A2C.

Deviations from the paper: every actor has the same lag; a step cut by the time limit is bootstrapped with the value of
its true successor; the mean of the batch stands in the loss, not the sum; no recurrent network.
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
from envs.values import Count, Fraction, NonNegative, Positive
from jaxrl import exploration, losses, policies, returns
from jaxrl.agents.policy_gradient import policy_and_value
from jaxrl.loops import on_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Policy, Transition


@dataclass(frozen=True)
class Config(on_policy.Config, policy_and_value.Config):
    """What is static: a new value means a new compilation."""

    num_envs: int = 16
    rollout_length: int = 16
    lag: Count = 2
    """Updates by which the actors' parameters are older than the learner's."""
    correct: bool = True
    """Weight by π/μ; without, the stale rollouts are taken for the learner's own."""
    shared_torso: bool = False
    """One torso for policy and value instead of two."""


@struct.dataclass
class Hyperparams(on_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: NonNegative = 2e-3
    """Step size of RMSProp, at the start."""
    trace_lambda: Fraction = 1.0
    """λ of the traces; 1 is the paper's."""
    clip_rho: NonNegative = 1.0
    """Bound of the weights in the value targets."""
    clip_pg_rho: NonNegative = 1.0
    """Bound of the weights in the policy gradient."""
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
    earlier: Any  # parameters before each of the last `lag` updates, oldest first: leaves [lag, ...]


def build(config: Config, observation_space: Space, action_space: Space) -> policies.Networks:
    """Builds policy and value for a pair of spaces; see `policies.build` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    return policies.build("impala", observation_space, action_space, *shape, config.shared_torso, config.squash)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """RMSProp behind a clip of the global gradient norm."""
    rmsprop = optax.rmsprop(hp.learning_rate, decay=0.99, eps=1e-5, eps_in_sqrt=True)
    return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), rmsprop)


def init_learner(config: Config, nets: policies.Networks, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters; the actors have the same."""
    params = nets.init(key)
    earlier = jax.tree.map(lambda x: jnp.repeat(x[None], config.lag, 0), params)
    return Learner(params, optimizer(hp).init(params), earlier)


def update(
    config: Config,
    nets: policies.Networks,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array,
) -> tuple[Learner, Diagnostics]:
    """One gradient step on one rollout, of whatever policy.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        context: how far the run is.
        learner: parameters, those of the actors and optimiser state.
        batch: [T, B, ...]; extras are `policies.Sampled` of the policy that acted.
        key: not used.

    Returns:
        (learner, scalars).
    """
    del key
    if config.anneal_learning_rate:
        hp = replace(hp, learning_rate=exploration.anneal(hp.learning_rate, 0.0, context.progress))
    discount, lam = returns.cuts(batch.terminated, batch.truncated, hp.gamma, hp.trace_lambda)

    def mean(x: jax.Array) -> jax.Array:
        return losses.mean(x, batch.weight)

    def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        policy, value = nets.both(params, batch.obs)
        log_prob = policy.log_prob(batch.extras.unit_action)
        old_value, new_log_prob = jax.lax.stop_gradient((value, log_prob))
        next_value = returns.successor_values(
            lambda obs: nets.value(learner.params, obs), old_value, batch.next_obs, batch.truncated
        )
        weight = jnp.exp(new_log_prob - batch.extras.log_prob) if config.correct else jnp.ones_like(log_prob)
        clips = (hp.clip_rho, hp.clip_pg_rho)
        advantage, target = returns.vtrace(batch.reward, discount, old_value, next_value, weight, lam, *clips)
        policy_loss = mean(losses.policy_gradient(log_prob, advantage))
        value_loss = mean(losses.squared(value - target))
        entropy = mean(policy.entropy())
        total = policy_loss + hp.value_coef * value_loss - hp.entropy_coef * entropy
        return total, {
            "loss": total,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "weight": mean(weight),
            "lag_kl": mean(losses.approx_kl(new_log_prob, batch.extras.log_prob)),
        }

    grads, scalars = jax.grad(loss, has_aux=True)(learner.params)
    updates, opt_state = optimizer(hp).update(grads, learner.opt_state)
    scalars["grad_norm"] = optax.tree.norm(grads)
    earlier = learner.earlier
    if config.lag:
        earlier = jax.tree.map(lambda old, new: jnp.concatenate([old[1:], new[None]]), earlier, learner.params)
    return Learner(optax.apply_updates(learner.params, updates), opt_state, earlier), Diagnostics(scalars)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """IMPALA for a pair of spaces.

    Raises:
        InputError: spaces that it cannot handle.
    """
    nets = build(config, observation_space, action_space)
    learn = partial(update, config, nets)
    rest = policy_and_value.algorithm(nets, partial(init_learner, config, nets), learn, update_draws=False)

    def explore(hp: Hyperparams, context: Context, learner: Learner) -> Policy:
        oldest = jax.tree.map(lambda x: x[0], learner.earlier) if config.lag else learner.params
        return policies.sampling(nets, oldest)

    return rest._replace(explore=explore)


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds IMPALA to an environment.

    Raises:
        InputError: a negative lag, or spaces that it cannot handle or normalise.
    """
    return on_policy.make("impala", env, algorithm(config, env.observation_space, env.action_space), config)
