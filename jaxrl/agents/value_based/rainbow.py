"""Rainbow (Hessel et al. 2018, arXiv:1710.02298): six extensions of DQN in one agent, each with a switch.

    L(θ) = E_P[ w KL( Φ(R_n + γ^n (1 − terminated) Z_θ⁻(s_n, argmax_a Q_θ(s_n, a))) ‖ Z_θ(s, a) ) ]

    double          the action in s_n is chosen with θ (off: with θ⁻)
    prioritized     P is in proportion to KL^α, and w takes its bias back (off: uniform, w = 1)
    dueling         logits are a value and centred advantages, atom by atom (off: one head)
    n_step          R_n = Σ_{k<n} γ^k r_k; n = 3 in the paper (off: n = 1)
    distributional  Z is a categorical distribution on values from v_min to v_max (off: Q alone, ½ TD² in place of KL,
                    |TD| as priority)
    noisy           dense layers explore by noise of learnt size (off: ε-greedy); evaluation uses the mean weights

What they are is said in the files of `dqn` and `c51`. A transition cut by the time limit is bootstrapped
like any other.

Deviations from the paper: the replay is filled by random actions in `init`; one noise for all environments of a step;
sizes, step size and v_min, v_max are those of small environments.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env
from envs.spaces import Space
from envs.values import Bounds, NonNegative
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

    double: bool = True
    """Double Q-learning."""
    prioritized: bool = True
    """Prioritised replay."""
    dueling: bool = True
    """Dueling network."""
    n_step: int = 3
    """Steps of reward in a target; 1 switches the extension off."""
    distributional: bool = True
    """Categorical distributions of the return."""
    noisy: bool = True
    """Noisy dense layers instead of ε."""
    num_atoms: Annotated[int, Bounds(2)] = 101
    """Values that a return is distributed over."""


@struct.dataclass
class Hyperparams(action_values.Hyperparams, exploration.EpsilonGreedy):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    priority_alpha: NonNegative = 0.5
    """How much priorities count: 0 not at all, 1 in proportion."""
    v_min: float = -100.0
    """The least discounted return that is told apart."""
    v_max: float = 100.0
    """The greatest."""


optimizer, init_learner = action_values.optimizer, action_values.init_learner


def build(config: Config, observation_space: Space, num_actions: int) -> Network:
    """Builds the network: logits f32[..., A, num_atoms], or action values f32[..., A] without distributions."""
    shape = (config.torso, config.hidden, config.activation, config.dueling)
    if config.distributional:
        net = networks.q_distribution(observation_space, num_actions, config.num_atoms, *shape)
    else:
        net = networks.q_network(observation_space, num_actions, *shape)
    return networks.noisy(net) if config.noisy else net


def q_values(config: Config, hp: Hyperparams, outputs: jax.Array) -> jax.Array:
    """The mean returns f32[..., A] of what the network puts out."""
    return losses.categorical_mean(outputs, hp.v_min, hp.v_max) if config.distributional else outputs


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
        key: consumed by the noise of noisy layers.

    Returns:
        (learner, diagnostics with each transition's KL divergence or size of TD error as priority).
    """
    del context
    key_online, key_target, key_selector = jax.random.split(key, 3)

    def outputs(params: Any, obs: Any, key: jax.Array) -> jax.Array:
        return net.apply(params, obs, key) if config.noisy else net.apply(params, obs)

    out_t = outputs(learner.target_params, batch.next_obs, key_target)
    selector = outputs(learner.params, batch.next_obs, key_selector) if config.double else out_t
    a_t = jnp.argmax(masks.choosable(q_values(config, hp, selector), batch.next_obs), axis=-1)
    discount_t = n_step.discount(batch, hp.gamma)

    def loss(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], jax.Array]]:
        out_tm1 = outputs(params, batch.obs, key_online)
        if config.distributional:
            target = losses.categorical_target(batch.reward, discount_t, out_t, a_t, hp.v_min, hp.v_max)
            each = error = losses.categorical_q_learning(out_tm1, batch.action, target)
        else:
            error = losses.sarsa(out_tm1, batch.action, batch.reward, discount_t, out_t, a_t)
            each = losses.squared(error)
        size = jnp.abs(error)
        scalars = {"q_mean": q_values(config, hp, out_tm1).mean(), "error": size.mean()}
        return losses.weighted(each, batch.weight).mean(), (scalars, size)

    return action_values.descend(loss, hp, learner)


def explore(config: Config, net: Network, hp: Hyperparams, context: Context, learner: Learner) -> Policy:
    """Greedy under noisy weights, or ε-greedy."""
    if not config.noisy:
        values = partial(q_values, config, hp)
        return action_values.epsilon_greedy(hp, context, lambda obs: values(net.apply(learner.params, obs)))

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        q = q_values(config, hp, net.apply(learner.params, obs, key))
        return jnp.argmax(masks.choosable(q, obs), -1), memory, ()

    return Policy(act)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """Rainbow for a pair of spaces.

    Raises:
        InputError: an action space that is not Discrete.
    """
    num_actions = require_discrete("rainbow", action_space).n
    net = build(config, observation_space, num_actions)
    algorithm = action_values.epsilon_greedy_algorithm(config, net, update, partial(q_values, config))
    return algorithm._replace(explore=partial(explore, config, net))


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds Rainbow to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    learner = algorithm(config, env.observation_space, env.action_space)
    return off_policy.make("rainbow", env, learner, config, together=False)
