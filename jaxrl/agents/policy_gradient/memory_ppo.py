"""PPO for networks with a memory: the update that a recurrent network and a transformer share.

    (π(·|o_≤t), V_t, m_t) = net_θ(o_t, m_{t−1}),   L(θ) as in PPO (Schulman et al. 2017, arXiv:1707.06347)

The loss is PPO's: clipped surrogate, squared error of the value, entropy bonus, generalised advantages normalised in
every minibatch. What a memory changes: a minibatch is a set of environments, each with its whole rollout, which the
network replays from the memory m that it had when the rollout began. The memory is set back where an episode ended, in
acting and in replaying alike, so that before the first gradient step both give the same probabilities. Later steps and
epochs still begin with the m of the parameters that acted; nothing flows back beyond the beginning of the rollout.

The value of a true successor o_{t+1} is computed as it would be if the episode went on, with the memory after step t: a
step cut by the time limit is bootstrapped like any other. Where every episode is cut at the same step, that successor
has a past in which the agent never acts, so its value is an extrapolation that nothing corrects.

Policy and value are two heads of one network, so rewards are scaled: the gradient of large values would leave nothing
to the policy under the clipped norm.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.base import Env
from envs.errors import InputError
from envs.values import Fraction, NonNegative, Positive
from jaxrl import exploration, losses, minibatches, networks, policies, returns
from jaxrl.agents.policy_gradient import policy_and_value
from jaxrl.agents.policy_gradient.policy_and_value import Learner
from jaxrl.loops import on_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Transition


@dataclass(frozen=True)
class Config(on_policy.Config):
    """What is static: a new value means a new compilation."""

    num_envs: int = 16
    normalize_reward: bool = True
    num_epochs: int = 4
    """Passes over every rollout."""
    num_minibatches: int = 2
    """Parts of a rollout, one gradient step each; must divide num_envs."""
    torso: networks.Torso = "mlp"
    """What stands between the observation and the memory."""
    hidden: tuple[int, ...] = ()
    """Sizes of the dense layers before the memory."""
    activation: networks.Activation = "tanh"
    """After every dense layer."""
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over hp.total_steps."""


@struct.dataclass
class Hyperparams(on_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: NonNegative = 2e-3
    """Step size of Adam, at the start."""
    gae_lambda: Fraction = 0.95
    """λ of the advantage estimate."""
    clip_epsilon: NonNegative = 0.2
    """How far the probability ratio may move before its gradient is cut."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: Positive = 0.5
    """The gradient is scaled down to this global norm."""


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam behind a clip of the global gradient norm."""
    return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.adam(hp.learning_rate, eps=1e-5))


def init_learner(nets: policies.MemoryNetworks, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters."""
    return policy_and_value.init_learner(nets.init(key), optimizer(hp))


class Sequences(NamedTuple):
    """What a gradient step sees, [T, environments, ...]."""

    obs: Any
    action: jax.Array  # as it was drawn, before the map into the action space
    ended: jax.Array  # the memory is set back after this step
    log_prob: jax.Array  # of the action under the policy that took it
    advantage: jax.Array
    target: jax.Array
    weight: Any  # f32 or (), see `Transition`


def loss(
    nets: policies.MemoryNetworks, hp: Hyperparams, params: Any, memory: Any, samples: Sequences
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """L(θ) of a minibatch and what is reported of it.

    Args:
        nets: policy and value.
        hp: hyper-parameters.
        params: θ.
        memory: [environments, ...] before the first step.
        samples: the minibatch.
    """

    def mean(x: jax.Array) -> jax.Array:
        return losses.mean(x, samples.weight)

    policy, value, _ = nets.unroll(params, samples.obs, memory, samples.ended)
    log_prob = policy.log_prob(samples.action)
    advantage = losses.standardized(samples.advantage, samples.weight)
    policy_loss = mean(losses.clipped_surrogate(log_prob, samples.log_prob, advantage, hp.clip_epsilon))
    value_loss = mean(losses.squared(value - samples.target))
    entropy = mean(policy.entropy())
    total = policy_loss + hp.value_coef * value_loss - hp.entropy_coef * entropy
    return total, {
        "loss": total,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": mean(losses.approx_kl(log_prob, samples.log_prob)),
        "clip_fraction": mean(jnp.abs(jnp.exp(log_prob - samples.log_prob) - 1) > hp.clip_epsilon),
    }


def update(
    config: Config,
    nets: policies.MemoryNetworks,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array,
) -> tuple[Learner, Diagnostics]:
    """Several epochs of minibatch gradient steps on one rollout.

    Args:
        config: static configuration.
        nets: policy and value.
        hp: hyper-parameters.
        context: how far the run is.
        learner: parameters and optimiser state.
        batch: [T, B, ...]; extras are `policies.Sampled`, memory [B, ...] is that of the policy before the first step.
        key: for the permutations.

    Returns:
        (learner, scalars averaged over all gradient steps).
    """
    if config.anneal_learning_rate:
        hp = replace(hp, learning_rate=exploration.anneal(hp.learning_rate, 0.0, context.progress))
    ended = batch.terminated | batch.truncated
    _, value, next_value = nets.unroll(learner.params, batch.obs, batch.memory, ended, batch.next_obs)
    discount, lam = returns.cuts(batch.terminated, batch.truncated, hp.gamma, hp.gae_lambda)
    advantage, target = returns.gae(batch.reward, discount, value, next_value, lam)
    drawn = batch.extras
    samples = Sequences(batch.obs, drawn.unit_action, ended, drawn.log_prob, advantage, target, batch.weight)

    def gradient_step(learner: Learner, chosen: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        minibatch = jax.tree.map(lambda x: jnp.asarray(x)[:, chosen], samples)
        start = jax.tree.map(lambda x: jnp.asarray(x)[chosen], batch.memory)
        of_params = partial(loss, nets, hp, memory=start, samples=minibatch)
        grads, scalars = jax.grad(of_params, has_aux=True)(learner.params)
        learner = policy_and_value.descend(learner, grads, optimizer(hp))
        return learner, scalars | {"grad_norm": optax.tree.norm(grads)}

    def epoch(learner: Learner, key: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        order = minibatches.split(key, batch.reward.shape[1], config.num_minibatches)
        return jax.lax.scan(gradient_step, learner, order)

    learner, scalars = jax.lax.scan(epoch, learner, jax.random.split(key, config.num_epochs))
    return learner, Diagnostics(jax.tree.map(jnp.mean, scalars))


def algorithm(config: Config, nets: policies.MemoryNetworks) -> Algorithm:
    """PPO with a network that has a memory."""
    return Algorithm(
        init=partial(init_learner, nets),
        update=partial(update, config, nets),
        explore=lambda hp, context, learner: policies.sampling_with_memory(nets, learner.params),
        greedy=lambda hp, context, learner: policies.greedy_with_memory(nets, learner.params),
    )


def make(name: str, env: Env, config: Config, learner: Algorithm) -> Agent:
    """Binds an `algorithm` of this family to an environment.

    Raises:
        InputError: environments that do not split into minibatches, or observations that cannot be normalised.
    """
    if config.num_minibatches < 1 or config.num_envs % config.num_minibatches:
        raise InputError(
            f"num_minibatches={config.num_minibatches} does not divide num_envs={config.num_envs}: a minibatch is a "
            "set of environments, each with its whole rollout."
        )
    return on_policy.make(name, env, learner, config)
