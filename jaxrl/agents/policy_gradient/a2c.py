"""Advantage actor-critic, A2C: the synchronous form of A3C (Mnih et al. 2016, arXiv:1602.01783).

    L(θ) = E[ −log π(a|s) A + c_v (V(s) − G)²/2 − c_e H ],   G_t = r_{t+1} + γ r_{t+2} + … + γⁿ V(s_{t+n}),   A = G − V

Many actors take n steps each, every step bootstrapped with the value at the end of the rollout (λ = 1; less λ gives
generalised advantage estimates), then one RMSProp step is taken on all of it.

What became of A3C's asynchrony: its actors were threads, each with a copy of the parameters, whose gradients went into
shared memory without locks (Hogwild), since one environment at a time kept a thread waiting. What that gave was
decorrelated samples, and the many environments of one batch give them as well; what it cost were gradients of stale
parameters, and runs that no seed repeats. Here the environments are an axis of an array, all actors use the newest
parameters, and waiting does not arise. (Synchronous actors learn as well: "OpenAI Baselines: ACKTR & A2C", 2017.)

Deviations from the paper: a step cut by the time limit is bootstrapped with the value of its true successor; policy
and value share no layer unless asked to; the mean of the batch stands in the loss, not the sum.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import optax
from flax import struct

from envs.base import Env
from envs.spaces import Space
from envs.values import Fraction, NonNegative, Positive
from jaxrl import exploration, losses, policies, returns
from jaxrl.agents.policy_gradient import policy_and_value
from jaxrl.agents.policy_gradient.policy_and_value import Learner
from jaxrl.loops import on_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Transition


@dataclass(frozen=True)
class Config(on_policy.Config, policy_and_value.Config):
    """What is static: a new value means a new compilation."""

    num_envs: int = 16
    rollout_length: int = 8
    shared_torso: bool = False
    """One torso for policy and value instead of two."""
    normalize_advantage: bool = False
    """Give the advantages of every update mean 0 and standard deviation 1."""
    epsilon_in_root: bool = True
    """Add RMSProp's ε = 1e-5 under the root, as in the paper, or to the root, as in PyTorch: a far smaller floor."""


@struct.dataclass
class Hyperparams(on_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: NonNegative = 2e-3
    """Step size of RMSProp, at the start."""
    gae_lambda: Fraction = 1.0
    """λ of the advantage estimate; 1 is the paper's n-step return."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: Positive = 0.5
    """The gradient is scaled down to this global norm."""


def build(config: Config, observation_space: Space, action_space: Space) -> policies.Networks:
    """Builds policy and value for a pair of spaces; see `policies.build` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    return policies.build("a2c", observation_space, action_space, *shape, config.shared_torso, config.squash)


def optimizer(hp: Hyperparams, epsilon_in_root: bool = True) -> optax.GradientTransformation:
    """RMSProp behind a clip of the global gradient norm; ε inside the root keeps first steps from being huge."""
    rmsprop = optax.rmsprop(hp.learning_rate, decay=0.99, eps=1e-5, eps_in_sqrt=epsilon_in_root)
    return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), rmsprop)


def init_learner(nets: policies.Networks, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters."""
    return policy_and_value.init_learner(nets.init(key), optimizer(hp))


def update(
    config: Config,
    nets: policies.Networks,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array,
) -> tuple[Learner, Diagnostics]:
    """One gradient step on one rollout.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        context: how far the run is.
        learner: parameters and optimiser state.
        batch: [T, B, ...]; extras are `policies.Sampled`.
        key: not used.

    Returns:
        (learner, scalars).
    """
    del key
    if config.anneal_learning_rate:
        hp = replace(hp, learning_rate=exploration.anneal(hp.learning_rate, 0.0, context.progress))
    discount, lam = returns.cuts(batch.terminated, batch.truncated, hp.gamma, hp.gae_lambda)

    def mean(x: jax.Array) -> jax.Array:
        return losses.mean(x, batch.weight)

    def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        policy, value = nets.both(params, batch.obs)
        # Of the true successor, also where the episode was cut.
        next_value = returns.successor_values(
            lambda obs: nets.value(learner.params, obs), value, batch.next_obs, batch.truncated
        )
        advantage, target = returns.gae(batch.reward, discount, jax.lax.stop_gradient(value), next_value, lam)
        if config.normalize_advantage:
            advantage = losses.standardized(advantage, batch.weight)
        policy_loss = mean(losses.policy_gradient(policy.log_prob(batch.extras.unit_action), advantage))
        value_loss = mean(losses.squared(value - target))
        entropy = mean(policy.entropy())
        total = policy_loss + hp.value_coef * value_loss - hp.entropy_coef * entropy
        return total, {"loss": total, "policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    grads, scalars = jax.grad(loss, has_aux=True)(learner.params)
    scalars["grad_norm"] = optax.tree.norm(grads)
    return policy_and_value.descend(learner, grads, optimizer(hp, config.epsilon_in_root)), Diagnostics(scalars)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """A2C for a pair of spaces.

    Raises:
        InputError: spaces that A2C cannot handle.
    """
    nets = build(config, observation_space, action_space)
    learn = partial(update, config, nets)
    return policy_and_value.algorithm(nets, partial(init_learner, nets), learn, update_draws=False)


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds A2C to an environment.

    Raises:
        InputError: spaces that A2C cannot handle or normalise.
    """
    return on_policy.make("a2c", env, algorithm(config, env.observation_space, env.action_space), config)
