"""Deep Q-network (Mnih et al. 2015), with the variants that keep its scalar values as branches of the configuration.

    L(θ) = E[ ℓ(r + γ (1 − terminated) max_a' Q_θ⁻(s', a') − Q_θ(s, a)) ]

The target parameters θ⁻ are copied every `target_period` updates (`target_rate` 1), or follow softly at every update
(`target_period` 1, `target_rate` τ). A transition cut by the time limit is bootstrapped like any other. Variants:

    double        a' is chosen with θ and valued with θ⁻ (van Hasselt et al. 2016, arXiv:1509.06461)
    dueling       Q is split into a value and advantages (Wang et al. 2016, arXiv:1511.06581)
    n_step        r is the discounted sum of n rewards, γ becomes γ^n (`jaxrl.n_step`)
    prioritized   transitions are drawn by their TD errors (Schaul et al. 2016, arXiv:1511.05952)
    munchausen    a softmax policy whose scaled log-probability joins the reward (Vieillard et al. 2020,
                  arXiv:2007.14430)
    hindsight     every step is stored again under goals that were met later (Andrychowicz et al. 2017,
                  arXiv:1707.01495; `jaxrl.hindsight`)
    exploration   ε-greedy; softmax: actions with probabilities ∝ exp(Q / temperature); noisy: the dense layers have
                  noise of learnt size, of which evaluation uses the mean (Fortunato et al. 2018, arXiv:1706.10295)

Deviations: Adam instead of RMSProp; the replay is filled by random actions in `init`; one noise for all environments of
a step, and for all transitions of a batch, where the noisy paper has one environment.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

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

    double: bool = False
    """Double Q-learning."""
    dueling: bool = False
    """Dueling network."""
    munchausen: bool = False
    """Munchausen targets; not with `double`, which has no part in them, and for one step alone."""
    exploration: Literal["epsilon_greedy", "softmax", "noisy"] = "epsilon_greedy"
    """How the policy that acts departs from the greedy one; hp.epsilon and hp.temperature are of the first two."""
    huber: bool = False
    """Huber loss (δ = 1) instead of the squared error."""
    weights: Literal["orthogonal", "lecun"] = "orthogonal"
    """How kernels are drawn; the DQNs of CleanRL and purejaxrl have `networks.lecun`."""


@struct.dataclass
class Hyperparams(action_values.Hyperparams, exploration.EpsilonGreedy):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    temperature: Positive = 0.1
    """Of softmax exploration, in units of value."""
    munchausen_alpha: float = 0.9
    """How much of the scaled log-policy joins the reward."""
    munchausen_tau: Positive = 0.03
    """Temperature of the softmax policy, in units of value."""
    munchausen_clip: float = -1.0
    """The least that the scaled log-policy may be."""


optimizer, init_learner = action_values.optimizer, action_values.init_learner


def build(config: Config, observation_space: Space, num_actions: int) -> Network:
    """Builds the network of action values: apply(params, obs [..., *obs]) -> f32[..., A]; noisy: see `networks`."""
    shape = (config.torso, config.hidden, config.activation)
    net = networks.q_network(observation_space, num_actions, *shape, dueling=config.dueling)
    net = networks.lecun(net) if config.weights == "lecun" else net
    return networks.noisy(net) if config.exploration == "noisy" else net


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
        (learner, diagnostics with the size of each transition's TD error as priority).
    """
    del context
    discount_t = n_step.discount(batch, hp.gamma)
    key_online, key_target, key_selector = jax.random.split(key, 3)

    def values(params: Any, obs: Any, key: jax.Array) -> jax.Array:
        return net.apply(params, obs, key) if config.exploration == "noisy" else net.apply(params, obs)

    q_t = masks.choosable(values(learner.target_params, batch.next_obs, key_target), batch.next_obs)

    def loss(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], jax.Array]]:
        q_tm1 = values(params, batch.obs, key_online)
        step = (q_tm1, batch.action, batch.reward, discount_t, q_t)
        if config.munchausen:
            target_q_tm1 = masks.choosable(values(learner.target_params, batch.obs, key_target), batch.obs)
            td = losses.munchausen_q_learning(
                *step, target_q_tm1, hp.munchausen_alpha, hp.munchausen_tau, hp.munchausen_clip
            )
        elif config.double:
            selector = masks.choosable(values(params, batch.next_obs, key_selector), batch.next_obs)
            td = losses.double_q_learning(*step, selector)
        else:
            td = losses.q_learning(*step)
        each = losses.huber(td) if config.huber else losses.squared(td)
        size = jnp.abs(td)
        return losses.weighted(each, batch.weight).mean(), ({"q_mean": q_tm1.mean(), "td_error": size.mean()}, size)

    return action_values.descend(loss, hp, learner)


def explore(config: Config, net: Network, hp: Hyperparams, context: Context, learner: Learner) -> Policy:
    """The policy that gathers experience."""
    params = learner.params
    if config.exploration == "epsilon_greedy":
        return action_values.epsilon_greedy(hp, context, partial(net.apply, params))

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        if config.exploration == "noisy":
            return jnp.argmax(masks.choosable(net.apply(params, obs, key), obs), -1), memory, ()
        q = masks.choosable(net.apply(params, obs), obs)
        return exploration.softmax(key, q, hp.temperature), memory, ()

    return Policy(act)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """DQN for a pair of spaces.

    Raises:
        InputError: an action space that is not Discrete, or variants that cannot work together.
    """
    num_actions = require_discrete("dqn", action_space).n
    if config.munchausen and (config.double or config.n_step > 1):
        raise InputError(f"munchausen goes with neither double={config.double} nor n_step={config.n_step} above 1.")
    net = build(config, observation_space, num_actions)
    return Algorithm(
        init=partial(init_learner, net),
        update=partial(update, config, net),
        explore=partial(explore, config, net),
        greedy=lambda hp, context, learner: action_values.greedy(partial(net.apply, learner.params)),
    )


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds DQN to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes or variants that cannot work together.
    """
    learner = algorithm(config, env.observation_space, env.action_space)
    return off_policy.make("dqn", env, learner, config, together=False)
