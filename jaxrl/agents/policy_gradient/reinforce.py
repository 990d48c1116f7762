"""REINFORCE (Williams 1992; Sutton & Barto 2018, sections 13.3 and 13.4) with reward-to-go and a choice of baseline.

    ∇J = E[ Σ_t ∇log π(a_t|s_t) (G_t − b(s_t)) ],   G_t = Σ_{k ≥ t} γ^{k−t} r_{k+1}

The baseline b is nothing, the mean of the batch's returns, or a learned V(s), fitted to the returns by least squares.
One Adam step is taken on every rollout.

A rollout has a fixed length, an episode has not. What the rollout cuts is treated in one of two ways:

- baseline "value": episodes go on in the next rollout; where the rollout or the time limit cuts one, the missing end of
  the return is V of the true successor. Every step counts.
- baseline "none" or "mean": there is no value to stand for a missing end, so only whole episodes count. Every rollout
  begins with new episodes, and an episode counts if it *began* early enough that even the longest would fit. Whether it
  counts therefore does not depend on how it goes; to count all that happen to end would prefer short episodes. It
  takes an environment with a time limit and a rollout at least as long, and wastes up to the limit's length of every
  rollout. The time limit is the end of the return: where it only serves training, take the learned baseline.

Deviations: γ^t in front of the gradient is left out, as nearly everyone does (see `actor_critic`, which has it as an
option); the mean over steps stands in the loss, not over episodes; the batch mean is the same for all steps and holds
the step's own return too, which shrinks the gradient a little (by one part in the number of episodes).
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from envs.values import NonNegative, Positive
from jaxrl import exploration, losses, policies, returns
from jaxrl.agents.policy_gradient import policy_and_value
from jaxrl.agents.policy_gradient.policy_and_value import Learner
from jaxrl.loops import on_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Transition


@dataclass(frozen=True)
class Config(on_policy.Config, policy_and_value.Config):
    """What is static: a new value means a new compilation."""

    num_envs: int = 8
    rollout_length: int = 64
    """Steps in each environment between updates; without learned value at least the environment's time limit."""
    baseline: Literal["none", "mean", "value"] = "value"
    """What is subtracted from the return: nothing, the batch's mean return, or a learned value of the state."""


@struct.dataclass
class Hyperparams(on_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: NonNegative = 5e-3
    """Step size of the policy's Adam, at the start."""
    value_learning_rate: NonNegative = 1e-2
    """Step size of the value's Adam, at the start."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus."""
    max_grad_norm: Positive = 0.5
    """The gradients of policy and value are each scaled down to this norm."""


def build(config: Config, observation_space: Space, action_space: Space) -> policies.Networks:
    """Builds policy and value for a pair of spaces; see `policies.build` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    return policies.build("reinforce", observation_space, action_space, *shape, squash=config.squash)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam for each of policy and value, behind a clip of the gradient's norm."""

    def adam(learning_rate: Any) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.adam(learning_rate))

    return policies.two_optimizers(adam(hp.learning_rate), adam(hp.value_learning_rate))


def init_learner(nets: policies.Networks, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters; without learned value "critic" stays as it is drawn."""
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
        batch: [T, B, ...]; extras are `policies.Sampled`; without learned value the weight is 0 where a step is not of
            a whole episode.
        key: not used.

    Returns:
        (learner, scalars).
    """
    del key
    if config.anneal_learning_rate:
        left = exploration.anneal(1.0, 0.0, context.progress)
        hp = replace(hp, learning_rate=hp.learning_rate * left, value_learning_rate=hp.value_learning_rate * left)
    if config.baseline == "value":
        # With λ = 1 no other successor's value counts than those of the last and of the truncated steps.
        next_value = returns.successor_values(
            lambda obs: nets.value(learner.params, obs), jnp.zeros_like(batch.reward), batch.next_obs, batch.truncated
        )
        discount, lam = returns.cuts(batch.terminated, batch.truncated, hp.gamma, 1.0)
    else:
        next_value = jnp.zeros_like(batch.reward)
        # Beyond any ending there is nothing; what this makes of a cut episode is not counted.
        discount, lam = returns.cuts(batch.terminated | batch.truncated, batch.truncated, hp.gamma, 1.0)
    target = returns.lambda_returns(batch.reward, discount, next_value, lam)

    def mean(x: jax.Array) -> jax.Array:
        return losses.mean(x, batch.weight)

    def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        policy, value = nets.both(params, batch.obs)
        value_loss = jnp.float32(0)
        baseline = {"none": jnp.float32(0), "mean": mean(target), "value": value}[config.baseline]
        if config.baseline == "value":
            value_loss = mean(losses.squared(value - target))
        policy_loss = mean(losses.policy_gradient(policy.log_prob(batch.extras.unit_action), target - baseline))
        entropy = mean(policy.entropy())
        total = policy_loss + value_loss - hp.entropy_coef * entropy
        return total, {"loss": total, "policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    grads, scalars = jax.grad(loss, has_aux=True)(learner.params)
    counted = jnp.float32(1) if isinstance(batch.weight, tuple) else batch.weight.mean()
    scalars |= {"grad_norm": optax.tree.norm(grads), "counted": counted}
    return policy_and_value.descend(learner, grads, optimizer(hp)), Diagnostics(scalars)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """REINFORCE for a pair of spaces.

    Raises:
        InputError: spaces that REINFORCE cannot handle.
    """
    nets = build(config, observation_space, action_space)
    learn = partial(update, config, nets)
    # `update` draws nothing: the key beside that of the rollout is for new episodes and idle where there are none.
    draws = config.baseline == "value"
    return policy_and_value.algorithm(nets, partial(init_learner, nets), learn, update_draws=draws)


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds REINFORCE to an environment.

    Raises:
        InputError: spaces that REINFORCE cannot handle or normalise; without learned value, an environment without
            time limit or a rollout shorter than it.
    """
    learned = config.baseline == "value"
    if not learned and (env.max_steps is None or config.rollout_length < env.max_steps):
        raise InputError(
            f"rollout_length={config.rollout_length} with baseline={config.baseline!r}: only whole episodes count, so "
            f"it must be at least the environment's time limit, which is {env.max_steps}; or take baseline='value'."
        )
    learner = algorithm(config, env.observation_space, env.action_space)
    return on_policy.make("reinforce", env, learner, config, whole_episodes=not learned)
