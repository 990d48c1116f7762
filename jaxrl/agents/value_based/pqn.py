"""Parallelised Q-network, PQN (Gallici et al. 2024, arXiv:2407.04811): Q-learning without replay and target network.

    G_t = r_t + γ (1 − terminated) ((1 − λ) max_a Q_θ(s_{t+1}, a) + λ G_{t+1}),   L(θ) = E[½ (G_t − Q_θ(s_t, a_t))²]

Many environments act ε-greedily for some steps; the λ-returns of this rollout are targets for a few epochs of
minibatches, then it is thrown away. What keeps the values bounded without a target network is layer normalisation
before every activation. The recursion (`returns.lambda_returns`) goes on through exploratory actions without a
correction, which makes it Peng's Q(λ); it ends where an episode ends, by bootstrapping from the last observation if
the time limit cut it.

Deviations from the authors' code: s_{t+1} is the true successor also where an episode was cut (theirs takes both ends
for terminal); the targets are computed from the parameters that acted, in one pass after the rollout.
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
from envs.values import Fraction, NonNegative, Positive
from jaxrl import exploration, losses, masks, minibatches, networks, returns
from jaxrl.actions import require_discrete
from jaxrl.agents.value_based import action_values
from jaxrl.distributions import at_index
from jaxrl.loops import on_policy
from jaxrl.networks import Network
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Transition


@dataclass(frozen=True)
class Config(on_policy.Config, action_values.Sizes):
    """What is static: a new value means a new compilation."""

    num_envs: int = 32
    rollout_length: int = 32
    num_epochs: int = 4
    """Passes over a rollout."""
    num_minibatches: int = 8
    """Gradient steps per pass."""
    layer_norm: bool = True
    """Normalise before every activation."""
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over hp.total_steps."""


@struct.dataclass
class Hyperparams(on_policy.Hyperparams, exploration.EpsilonGreedy):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: NonNegative = 1e-3
    """Step size of RAdam, at the start."""
    q_lambda: Fraction = 0.9
    """λ of the returns: 0 one-step targets, 1 Monte Carlo."""
    epsilon_fraction: Fraction = 0.2
    max_grad_norm: Positive = 10.0
    """The gradient is scaled down to this global norm."""


class Learner(NamedTuple):
    """What `update` changes."""

    params: Any
    opt_state: Any


def build(config: Config, observation_space: Space, num_actions: int) -> Network:
    """Builds the network of action values: apply(params, obs [..., *obs]) -> f32[..., A]."""
    shape = (config.torso, config.hidden, config.activation)
    return networks.q_network(observation_space, num_actions, *shape, layer_norm=config.layer_norm)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """RAdam (Liu et al. 2020, arXiv:1908.03265) behind a clip of the global gradient norm."""
    return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.radam(hp.learning_rate))


def init_learner(net: Network, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters."""
    params = net.init(key)
    return Learner(params, optimizer(hp).init(params))


def update(
    config: Config, net: Network, hp: Hyperparams, context: Context, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, Diagnostics]:
    """Several epochs of minibatch gradient steps on one rollout.

    Args:
        config: static configuration.
        net: from `build`.
        hp: hyper-parameters.
        context: how far the run is.
        learner: parameters and optimiser state.
        batch: [T, B, ...] a rollout.
        key: for the permutations.

    Returns:
        (learner, scalars averaged over all gradient steps).
    """
    if config.anneal_learning_rate:
        hp = replace(hp, learning_rate=exploration.anneal(hp.learning_rate, 0.0, context.progress))
    discount_t, lambda_t = returns.cuts(batch.terminated, batch.truncated, hp.gamma, hp.q_lambda)
    v_t = masks.choosable(net.apply(learner.params, batch.next_obs), batch.next_obs).max(-1)
    target = returns.lambda_returns(batch.reward, discount_t, v_t, lambda_t)
    samples = jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2), (batch.obs, batch.action, target, batch.weight))

    def loss(params: Any, obs: Any, action: jax.Array, target: jax.Array, weight: Any) -> tuple[jax.Array, jax.Array]:
        q = net.apply(params, obs)
        return losses.mean(losses.squared(target - at_index(q, action)), weight), losses.mean(q.mean(-1), weight)

    def gradient_step(learner: Learner, rows: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        minibatch = minibatches.take(samples, rows)
        (value, q_mean), grads = jax.value_and_grad(loss, has_aux=True)(learner.params, *minibatch)
        step, opt_state = optimizer(hp).update(grads, learner.opt_state)
        scalars = {"loss": value, "q_mean": q_mean, "grad_norm": optax.tree.norm(grads)}
        return Learner(optax.apply_updates(learner.params, step), opt_state), scalars

    def epoch(learner: Learner, key: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        order = minibatches.split(key, target.size, config.num_minibatches)
        return jax.lax.scan(gradient_step, learner, order)

    learner, scalars = jax.lax.scan(epoch, learner, jax.random.split(key, config.num_epochs))
    return learner, Diagnostics(jax.tree.map(jnp.mean, scalars))


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """PQN for a pair of spaces.

    Raises:
        InputError: an action space that is not Discrete.
    """
    net = build(config, observation_space, require_discrete("pqn", action_space).n)
    learner = action_values.epsilon_greedy_algorithm(config, net, update, lambda hp, q: q)
    return learner._replace(init=partial(init_learner, net))


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds PQN to an environment with Discrete actions.

    Raises:
        InputError: another action space, or a rollout that does not split into minibatches.
    """
    minibatches.require_split("num_minibatches", config.num_minibatches, config.num_envs, config.rollout_length)
    return on_policy.make("pqn", env, algorithm(config, env.observation_space, env.action_space), config)
