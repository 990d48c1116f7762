"""Quantile regression DQN, QR-DQN (Dabney et al. 2018, arXiv:1710.10044).

    Z_θ(s, a) = 1/M Σ_m δ(θ_m(s, a)),   θ_m at the quantile τ_m = (m − ½)/M,   Q = E[Z]
    L(θ) = E[ Σ_m 1/M Σ_j |τ_m − 1{u_mj < 0}| huber(u_mj)/δ ],   u_mj = y_j − θ_m(s, a)
    y_j = r + γ (1 − terminated) θ⁻_j(s', argmax_a' Q_θ⁻(s', a'))

The quantiles of the return are learnt instead of its mean, so no bounds of the return need be known. The target
parameters θ⁻ are copied every `target_period` updates (`target_rate` 1), or follow softly at every update
(`target_period` 1). A transition cut by the time limit is bootstrapped like any other.
With prioritised replay the loss of each transition is its priority.

Deviations from the paper: the replay is filled by random actions in `init`; number of quantiles (there 200), ε, network
and step size are those of small environments.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env
from envs.spaces import Space
from envs.values import Positive
from jaxrl import exploration, losses, masks, n_step, networks
from jaxrl.actions import require_discrete
from jaxrl.agents.value_based import action_values
from jaxrl.agents.value_based.action_values import Learner
from jaxrl.loops import off_policy
from jaxrl.networks import Network
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Transition


@dataclass(frozen=True)
class Config(action_values.Config):
    """What is static: a new value means a new compilation."""

    num_quantiles: int = 51
    """Quantiles of the return of each action."""


@struct.dataclass
class Hyperparams(action_values.Hyperparams, exploration.EpsilonGreedy):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    huber_delta: Positive = 1.0
    """Size of an error where its loss turns linear; as in the paper, the loss is divided by it."""


optimizer, init_learner = action_values.optimizer, action_values.init_learner


def build(config: Config, observation_space: Space, num_actions: int) -> Network:
    """Builds the network of quantiles: apply(params, obs [..., *obs]) -> f32[..., A, num_quantiles]."""
    shape = (config.torso, config.hidden, config.activation)
    return networks.q_distribution(observation_space, num_actions, config.num_quantiles, *shape)


def update(
    config: Config, net: Network, hp: Hyperparams, context: Context, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, Diagnostics]:
    """One gradient step.

    Args:
        config: static configuration.
        net: from `build`.
        hp: hyper-parameters.
        context: not used.
        learner: parameters, target and optimiser state.
        batch: [batch, ...] transitions, of one step or as `n_step.extend` makes them.
        key: not used.

    Returns:
        (learner, diagnostics with the loss of each transition as priority).
    """
    del config, context, key
    quantiles_t = net.apply(learner.target_params, batch.next_obs)
    a_t = jnp.argmax(masks.choosable(quantiles_t.mean(-1), batch.next_obs), axis=-1)
    discount_t = n_step.discount(batch, hp.gamma)

    def loss(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], jax.Array]]:
        quantiles_tm1 = net.apply(params, batch.obs)
        each = losses.quantile_q_learning(
            quantiles_tm1, batch.action, batch.reward, discount_t, quantiles_t, a_t, hp.huber_delta
        )
        return losses.weighted(each, batch.weight).mean(), ({"q_mean": quantiles_tm1.mean()}, each)

    return action_values.descend(loss, hp, learner)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """QR-DQN for a pair of spaces.

    Raises:
        InputError: an action space that is not Discrete.
    """
    num_actions = require_discrete("qr_dqn", action_space).n
    net = build(config, observation_space, num_actions)
    return action_values.epsilon_greedy_algorithm(config, net, update, lambda hp, quantiles: quantiles.mean(-1))


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds QR-DQN to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    learner = algorithm(config, env.observation_space, env.action_space)
    return off_policy.make("qr_dqn", env, learner, config, together=False)
