"""Implicit quantile network, IQN (Dabney et al. 2018, arXiv:1806.06923).

    Z_θ(s, a; τ) = f(ψ(s) ⊙ φ(τ))_a,   φ(τ)_j = ReLU(Σ_{i<n} cos(π i τ) w_ij + b_j),   Q(s, a) = 1/K Σ_k Z(s, a; τ_k)
    L(θ) = E[ Σ_i 1/N' Σ_j |τ_i − 1{u_ij < 0}| huber(u_ij)/δ ],   u_ij = y_j − Z_θ(s, a; τ_i),   i = 1 … N
    y_j = r + γ (1 − terminated) Z_θ⁻(s', argmax_a' Q_θ⁻(s', a'); τ'_j),   τ, τ' ~ U(0, 1)

The whole quantile function of the return is one network, learnt at fractions τ drawn anew for every transition. The
target parameters θ⁻ are copied every `target_period` updates (`target_rate` 1), or follow softly at every update
(`target_period` 1). A transition cut by the time limit is bootstrapped like any other.
With prioritised replay the loss of each transition is its priority.

Deviations from the paper: evaluation takes Q at the K midpoints (k − ½)/K instead of random fractions, so that it is
deterministic; N = N' = 16 (there 64) and K = 16 (32); the replay is filled by random actions in `init`; ε, network and
step size are those of small environments.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from envs.values import Positive
from jaxrl import exploration, losses, masks, n_step, networks
from jaxrl.actions import require_discrete
from jaxrl.agents.value_based import action_values
from jaxrl.agents.value_based.action_values import Learner
from jaxrl.loops import off_policy
from jaxrl.networks import Network
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Policy, Transition


@dataclass(frozen=True)
class Config(action_values.Config):
    """What is static: a new value means a new compilation."""

    num_quantiles: int = 16
    """Fractions τ per transition at which the online network is moved, N."""
    num_target_quantiles: int = 16
    """Fractions τ' per transition that sample its target, N'."""
    num_policy_quantiles: int = 16
    """Fractions that an action value is the mean of, K."""
    num_cosines: int = 64
    """Cosines that a fraction is embedded in, n."""
    hidden: tuple[int, ...] = (120, 84)
    """Sizes of the dense layers, two or more for an MLP: the last of them belongs to f, those before to ψ."""


@struct.dataclass
class Hyperparams(action_values.Hyperparams, exploration.EpsilonGreedy):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    huber_delta: Positive = 1.0
    """Size of an error where its loss turns linear; as in the paper, the loss is divided by it."""


optimizer, init_learner = action_values.optimizer, action_values.init_learner


def build(config: Config, observation_space: Space, num_actions: int) -> Network:
    """Builds the network: apply(params, obs [..., *obs], τ f32[..., M]) -> quantiles f32[..., A, M]."""
    shape = (config.torso, config.hidden, config.activation)
    return networks.implicit_quantiles(observation_space, num_actions, config.num_cosines, *shape)


def midpoints(config: Config, batch: tuple[int, ...]) -> jax.Array:
    """The K fractions at which the mean is taken without chance, f32[*batch, K]."""
    num = config.num_policy_quantiles
    return jnp.broadcast_to((jnp.arange(num) + 0.5) / num, (*batch, num))


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
        key: draws the fractions.

    Returns:
        (learner, diagnostics with the loss of each transition as priority).
    """
    del context
    # One call draws every fraction.
    sizes = (config.num_quantiles, config.num_target_quantiles, config.num_policy_quantiles)
    tau = jax.random.uniform(key, (*batch.action.shape, sum(sizes)))
    tau_tm1, later = tau[..., : sizes[0]], tau[..., sizes[0] :]
    both = net.apply(learner.target_params, batch.next_obs, later)
    quantiles_t, selector = both[..., : sizes[1]], both[..., sizes[1] :]
    a_t = jnp.argmax(masks.choosable(selector.mean(-1), batch.next_obs), axis=-1)
    discount_t = n_step.discount(batch, hp.gamma)

    def loss(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], jax.Array]]:
        quantiles_tm1 = net.apply(params, batch.obs, tau_tm1)
        each = losses.quantile_q_learning(
            quantiles_tm1, batch.action, batch.reward, discount_t, quantiles_t, a_t, hp.huber_delta, tau_tm1
        )
        return losses.weighted(each, batch.weight).mean(), ({"q_mean": quantiles_tm1.mean()}, each)

    return action_values.descend(loss, hp, learner)


def explore(config: Config, net: Network, hp: Hyperparams, context: Context, learner: Learner) -> Policy:
    """ε-greedy for action values at K random fractions."""

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        key_tau, key_epsilon = jax.random.split(key)
        tau = jax.random.uniform(key_tau, (len(jax.tree.leaves(obs)[0]), config.num_policy_quantiles))
        q = net.apply(learner.params, obs, tau).mean(-1)
        epsilon = exploration.epsilon(hp, context.progress)
        return exploration.epsilon_greedy(key_epsilon, q, epsilon, allowed=masks.allowed(obs)), memory, ()

    return Policy(act)


def greedy(config: Config, net: Network, hp: Hyperparams, context: Context, learner: Learner) -> Policy:
    """Greedy for action values at the K midpoints."""
    del hp, context

    def q_values(obs: Any) -> jax.Array:
        return net.apply(learner.params, obs, midpoints(config, jax.tree.leaves(obs)[0].shape[:1])).mean(-1)

    return action_values.greedy(q_values)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """IQN for a pair of spaces.

    Raises:
        InputError: an action space that is not Discrete, or too few layers.
    """
    num_actions = require_discrete("iqn", action_space).n
    if len(config.hidden) < 1 + (config.torso == "mlp"):
        raise InputError(f"hidden={config.hidden} has too few layers: an MLP needs two for iqn, a CNN one.")
    net = build(config, observation_space, num_actions)
    return Algorithm(
        init=partial(init_learner, net),
        update=partial(update, config, net),
        explore=partial(explore, config, net),
        greedy=partial(greedy, config, net),
    )


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds IQN to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    learner = algorithm(config, env.observation_space, env.action_space)
    return off_policy.make("iqn", env, learner, config, together=False)
