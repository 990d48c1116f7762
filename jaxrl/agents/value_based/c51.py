"""Categorical DQN, C51 (Bellemare, Dabney & Munos 2017, arXiv:1707.06887).

    Z_θ(s, a) = Σ_i softmax(θ(s, a))_i δ(z_i),   z_i evenly spaced from v_min to v_max,   Q = E[Z]
    L(θ) = E[ KL( Φ(r + γ (1 − terminated) Z_θ⁻(s', argmax_a' Q_θ⁻(s', a'))) ‖ Z_θ(s, a) ) ]

The distribution of the return is learnt instead of its mean; Φ projects the target's distribution onto the values z
(`losses.categorical_projection`). The target parameters θ⁻ are copied every `target_period` updates (`target_rate` 1),
or follow softly at every update (`target_period` 1). A transition cut by the time limit is bootstrapped like any other.
With prioritised replay the divergence is the priority (Hessel et al. 2018, arXiv:1710.02298).

Returns outside v_min … v_max cannot be told apart: choose them so that no discounted return lies beyond. 101 values
from −100 to 100, as CleanRL has for classic control; the paper has 51 from −10 to 10 for clipped Atari rewards.

Deviations from the paper: the replay is filled by random actions in `init`; ε, network and step size are those of
small environments.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env
from envs.spaces import Space
from envs.values import Bounds
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

    num_atoms: Annotated[int, Bounds(2)] = 101
    """Values that a return is distributed over."""


@struct.dataclass
class Hyperparams(action_values.Hyperparams, exploration.EpsilonGreedy):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    v_min: float = -100.0
    """The least discounted return that is told apart."""
    v_max: float = 100.0
    """The greatest."""


optimizer, init_learner = action_values.optimizer, action_values.init_learner


def build(config: Config, observation_space: Space, num_actions: int) -> Network:
    """Builds the network of distributions: apply(params, obs [..., *obs]) -> logits f32[..., A, num_atoms]."""
    shape = (config.torso, config.hidden, config.activation)
    return networks.q_distribution(observation_space, num_actions, config.num_atoms, *shape)


def q_values(hp: Hyperparams, logits: jax.Array) -> jax.Array:
    """The mean returns f32[..., A] of distributions f32[..., A, num_atoms]."""
    return losses.categorical_mean(logits, hp.v_min, hp.v_max)


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
        (learner, diagnostics with each transition's divergence as priority).
    """
    del config, context, key
    logits_t = net.apply(learner.target_params, batch.next_obs)
    a_t = jnp.argmax(masks.choosable(q_values(hp, logits_t), batch.next_obs), axis=-1)
    discount_t = n_step.discount(batch, hp.gamma)
    target = losses.categorical_target(batch.reward, discount_t, logits_t, a_t, hp.v_min, hp.v_max)

    def loss(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], jax.Array]]:
        logits_tm1 = net.apply(params, batch.obs)
        divergence = losses.categorical_q_learning(logits_tm1, batch.action, target)
        scalars = {"q_mean": q_values(hp, logits_tm1).mean()}
        return losses.weighted(divergence, batch.weight).mean(), (scalars, divergence)

    return action_values.descend(loss, hp, learner)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """C51 for a pair of spaces.

    Raises:
        InputError: an action space that is not Discrete.
    """
    num_actions = require_discrete("c51", action_space).n
    net = build(config, observation_space, num_actions)
    return action_values.epsilon_greedy_algorithm(config, net, update, q_values)


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds C51 to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    learner = algorithm(config, env.observation_space, env.action_space)
    return off_policy.make("c51", env, learner, config, together=False)
