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

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs import episode, threefry
from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from jaxrl import exploration, losses, networks, policies, returns
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    baseline: Literal["none", "mean", "value"] = "value"
    """What is subtracted from the return: nothing, the batch's mean return, or a learned value of the state."""
    num_envs: int = 8
    """Environments that one run steps in parallel."""
    rollout_length: int = 64
    """Steps in each environment between updates; without learned value at least the environment's time limit."""
    torso: networks.Torso = "mlp"
    """What stands between the observation and the heads."""
    hidden: tuple[int, ...] = (64, 64)
    """Sizes of the dense layers."""
    activation: networks.Activation = "tanh"
    """After every dense layer."""
    squash: policies.Squash = "clip"
    """How a Gaussian action enters the Box: clipped to it, or through tanh."""
    anneal_learning_rate: bool = True
    """Let both learning rates fall linearly to 0 over hp.total_steps."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 5e-3
    """Step size of the policy's Adam, at the start."""
    value_learning_rate: float = 1e-2
    """Step size of the value's Adam, at the start."""
    gamma: float = 0.99
    """Discount."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus."""
    max_grad_norm: float = 0.5
    """The gradients of policy and value are each scaled down to this norm."""
    total_steps: float | None = None
    """Environment steps over which the learning rates are annealed; the length of the run unless given."""


class Learner(NamedTuple):
    """What `update` changes."""

    params: Any  # without learned value its "critic" stays as it is drawn
    opt_state: Any


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    episode: episode.EpisodeState  # [num_envs]
    iteration: jax.Array  # i32[]


def build(config: Config, observation_space: Space, action_space: Space) -> policies.Networks:
    """Builds policy and value for a pair of spaces; see `policies.build` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    return policies.build("reinforce", observation_space, action_space, *shape, squash=config.squash)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam for each of policy and value, behind a clip of the gradient's norm."""

    def adam(learning_rate: Any) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.adam(learning_rate))

    return policies.two_optimizers(adam(hp.learning_rate), adam(hp.value_learning_rate))


def init_learner(nets: policies.Networks, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters."""
    params = nets.init(key)
    return Learner(params, optimizer(hp).init(params))


def surely_whole(ended: jax.Array, max_steps: int) -> jax.Array:
    """Which steps belong to episodes that began so early that any episode would have ended within the rollout.

    Args:
        ended: bool[T, B] terminated or truncated at that step; new episodes begin at t = 0.
        max_steps: the most steps that an episode can have.

    Returns:
        bool[T, B].
    """
    steps = jnp.arange(ended.shape[0])[:, None]
    first_of_episode = jnp.concatenate([jnp.ones_like(ended[:1]), ended[:-1]])
    began = jax.lax.cummax(jnp.where(first_of_episode, steps, 0), axis=0)
    return began <= ended.shape[0] - max_steps


def update(
    config: Config,
    nets: policies.Networks,
    hp: Hyperparams,
    learner: Learner,
    batch: Transition,
    key: jax.Array | None = None,
) -> tuple[Learner, dict[str, jax.Array]]:
    """One gradient step on one rollout.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters; the learning rates are used as they are.
        learner: parameters and optimiser state.
        batch: [T, B, ...]; extras hold "unit_action" as the policy drew it and, without learned value, "counted"
            bool[T, B], the steps of whole episodes (the others are left out).
        key: not used.

    Returns:
        (learner, scalars).
    """
    del key
    if config.baseline == "value":
        counted = jnp.ones_like(batch.reward)
        # With λ = 1 no other successor's value counts than those of the last and of the truncated steps.
        next_value = returns.successor_values(
            lambda obs: nets.value(learner.params, obs), jnp.zeros_like(batch.reward), batch.next_obs, batch.truncated
        )
        discount, lam = returns.cuts(batch.terminated, batch.truncated, hp.gamma, 1.0)
    else:
        counted = batch.extras["counted"].astype(jnp.float32)
        next_value = jnp.zeros_like(batch.reward)
        # Beyond any ending there is nothing; what this makes of a cut episode is not counted.
        discount, lam = returns.cuts(batch.terminated | batch.truncated, batch.truncated, hp.gamma, 1.0)
    target = returns.lambda_returns(batch.reward, discount, next_value, lam)

    def mean(x: jax.Array) -> jax.Array:
        return jnp.sum(x * counted) / jnp.maximum(counted.sum(), 1.0)

    def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        policy, value = nets.both(params, batch.obs)
        value_loss = jnp.float32(0)
        baseline = {"none": jnp.float32(0), "mean": mean(target), "value": value}[config.baseline]
        if config.baseline == "value":
            value_loss = mean(losses.squared(value - target))
        policy_loss = mean(losses.policy_gradient(policy.log_prob(batch.extras["unit_action"]), target - baseline))
        entropy = mean(policy.entropy())
        total = policy_loss + value_loss - hp.entropy_coef * entropy
        return total, {"loss": total, "policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    grads, scalars = jax.grad(loss, has_aux=True)(learner.params)
    updates, opt_state = optimizer(hp).update(grads, learner.opt_state, learner.params)
    scalars |= {"grad_norm": optax.tree.norm(grads), "counted": counted.mean()}
    return Learner(optax.apply_updates(learner.params, updates), opt_state), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds REINFORCE to an environment.

    Raises:
        InputError: spaces that REINFORCE cannot handle; without learned value, an environment without time limit or a
            rollout shorter than it.
    """
    learned = config.baseline == "value"
    if not learned and (env.max_steps is None or config.rollout_length < env.max_steps):
        raise InputError(
            f"rollout_length={config.rollout_length} with baseline={config.baseline!r}: only whole episodes count, so "
            f"it must be at least the environment's time limit, which is {env.max_steps}; or take baseline='value'."
        )
    steps_per_iteration = config.num_envs * config.rollout_length
    nets = build(config, env.observation_space, env.action_space)

    def policy(state: State) -> Policy:
        return policies.greedy(nets, state.learner.params)

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_learner, key_episode = jax.random.split(key, 3)
        running = episode.reset(env, env_params, key_episode, config.num_envs)
        return State(key, hp, env_params, init_learner(nets, hp, key_learner), running, jnp.int32(0))

    def step(state: State) -> tuple[State, Metrics]:
        key, key_rollout, key_episode = threefry.spawn(state.key, 3)
        running, hp = state.episode, state.hp
        if not learned:
            running = episode.reset(env, state.env_params, key_episode, config.num_envs)
        acting = policies.old_sampling(nets, state.learner.params)
        out = rollout(env, state.env_params, acting, running, (), key_rollout, config.rollout_length)
        batch = out.transitions
        if not learned and env.max_steps is not None:
            counted = surely_whole(batch.terminated | batch.truncated, env.max_steps)
            batch = batch._replace(extras=batch.extras | {"counted": counted})
        if config.anneal_learning_rate:
            taken = state.iteration * steps_per_iteration
            left = exploration.linear(1.0, 0.0, exploration.horizon(hp.total_steps), taken)
            hp = hp._replace(learning_rate=hp.learning_rate * left, value_learning_rate=hp.value_learning_rate * left)
        learner, scalars = update(config, nets, hp, state.learner, batch)
        following = state._replace(key=key, learner=learner, episode=out.episode, iteration=state.iteration + 1)
        return following, Metrics(out.stats, scalars)

    return Agent(init, step, policy, steps_per_iteration, 0, "reinforce", env, config)
