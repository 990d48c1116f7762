"""Bootstrapped DQN with randomised prior functions (Osband et al. 2016, arXiv:1602.04621, and 2018, arXiv:1806.03335).

    Q_k(s, a) = f_k(s, a) + β p_k(s, a),   k = 1 … K;   p_k is drawn once and never learnt
    L = E[ Σ_k m_k ½ (r + γ (1 − terminated) max_a' Q⁻_k(s', a') − Q_k(s, a))² ],   m_k ~ Bernoulli(mask_probability)

Deep exploration by sampling: every environment draws one of the K members for a whole episode and follows it greedily.
Members agree where there is much data; where there is little, their different priors make them disagree, and each goes
on trying what it believes in. The masks m are drawn when a transition is taken and stored with it, so that every member
learns from its own bootstrap sample. There is no ε.

The target parameters of f are copied every `target_period` updates (`target_rate` 1), or follow softly at every update
(`target_period` 1). A transition cut by the time limit is bootstrapped like any other.
With prioritised replay a transition's priority is the size of its error, the mean of m_k |…| over the members.

Deviations: the members share no layers (2016: one torso, K heads; 2018: as here); evaluation is greedy for the mean of
the members (2016: they vote); the replay is filled by random actions in `init`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import Env
from envs.spaces import Space
from envs.values import Fraction, NonNegative
from jaxrl import exploration, losses, masks, n_step, networks
from jaxrl.actions import require_discrete
from jaxrl.agents.value_based import action_values
from jaxrl.distributions import at_index
from jaxrl.loops import off_policy
from jaxrl.networks import Network
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Policy, Transition


@dataclass(frozen=True)
class Config(action_values.Config):
    """What is static: a new value means a new compilation."""

    batch_size: int = 64
    num_members: int = 10
    """Members of the ensemble, K."""
    hidden: tuple[int, ...] = (64, 64)


@struct.dataclass
class Hyperparams(action_values.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    prior_scale: NonNegative = 3.0
    """Weight β of the priors; 0 leaves bootstrapped DQN as it was in 2016."""
    mask_probability: Fraction = 0.5
    """Chance of a transition to be learnt from by a member."""


class Learner(NamedTuple):
    """What `update` changes, and the priors."""

    params: Any  # [K, ...]
    target_params: Any  # [K, ...]
    opt_state: Any
    age: jax.Array  # i32[] gradient steps since the target moved
    prior: Any  # [K, ...] never changed


class Masked(NamedTuple):
    """What the policy attaches to its step."""

    mask: Any  # bool[..., K] which members learn from it


def build(config: Config, observation_space: Space, num_actions: int) -> Network:
    """Builds the ensemble: apply(params [K, ...], obs [..., *obs]) -> f32[K, ..., A]; f and p alike."""
    shape = (config.torso, config.hidden, config.activation)
    return networks.ensemble(networks.q_network(observation_space, num_actions, *shape), config.num_members)


def q_values(net: Network, hp: Hyperparams, params: Any, prior: Any, obs: Any) -> jax.Array:
    """Q of every member, f32[K, ..., A]: what is learnt and the prior."""
    return net.apply(params, obs) + hp.prior_scale * net.apply(prior, obs)


# Adam works element by element, so the members stay independent.
optimizer = action_values.optimizer


def init_learner(net: Network, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws parameters and priors; the target starts as a copy."""
    key_params, key_prior = jax.random.split(key)
    return Learner(*action_values.init_learner(net, key_params, hp), prior=net.init(key_prior))


def update(
    config: Config, net: Network, hp: Hyperparams, context: Context, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, Diagnostics]:
    """One gradient step of every member.

    Args:
        config: static configuration.
        net: from `build`.
        hp: hyper-parameters.
        context: not used.
        learner: parameters, target, priors and optimiser state.
        batch: [batch, ...] transitions, of one step or as `n_step.extend` makes them; extras are `Masked`.
        key: not used.

    Returns:
        (learner, diagnostics with the size of each transition's TD error, the mean of m_k |…|, as priority).
    """
    del config, context, key
    q_t = masks.choosable(q_values(net, hp, learner.target_params, learner.prior, batch.next_obs), batch.next_obs)
    prior_tm1 = hp.prior_scale * net.apply(learner.prior, batch.obs)
    # One row per member, against which actions, rewards and discounts broadcast.
    action = jnp.broadcast_to(batch.action, q_t.shape[:-1])
    discount_t = n_step.discount(batch, hp.gamma)
    mask = batch.extras.mask.T

    def loss(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], jax.Array]]:
        q_tm1 = net.apply(params, batch.obs) + prior_tm1
        td = losses.q_learning(q_tm1, action, batch.reward, discount_t, q_t)
        value = losses.weighted(mask * losses.squared(td), batch.weight).mean(1).sum()
        spread = at_index(q_tm1, action).std(0).mean()
        return value, ({"q_mean": q_tm1.mean(), "spread": spread}, (mask * jnp.abs(td)).mean(0))

    return action_values.descend(loss, hp, learner)


def with_masks(config: Config, hp: Hyperparams, act: Callable[..., tuple[Any, Any]]) -> Policy:
    """The policy that follows a member for an episode and attaches masks.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        act: (key, obs [B, ...], member i32[B], −1: yet to be drawn) -> (action [B], member i32[B]).
    """

    def masked(key: jax.Array, obs: Any, member: jax.Array) -> tuple[Any, Any, Any]:
        key_act, key_mask = jax.random.split(key)
        action, member = act(key_act, obs, member)
        mask = jax.random.bernoulli(key_mask, hp.mask_probability, (*action.shape, config.num_members))
        return action, member, Masked(mask)

    return Policy(masked, jnp.int32(-1))


def explore(config: Config, net: Network, hp: Hyperparams, context: Context, learner: Learner) -> Policy:
    """Greedy for one member, drawn at the beginning of each episode."""
    del context

    def act(key: jax.Array, obs: Any, member: jax.Array) -> tuple[Any, Any]:
        drawn = jax.random.randint(key, member.shape, 0, config.num_members)
        member = jnp.where(member < 0, drawn, member)
        q = q_values(net, hp, learner.params, learner.prior, obs)[member, jnp.arange(len(member))]
        return jnp.argmax(masks.choosable(q, obs), -1), member

    return with_masks(config, hp, act)


def random(config: Config, num_actions: int, hp: Hyperparams, context: Context, learner: Learner) -> Policy:
    """The policy of the warm-up."""
    del context, learner

    def act(key: jax.Array, obs: Any, member: jax.Array) -> tuple[Any, Any]:
        return exploration.uniform(key, member.shape, num_actions, masks.allowed(obs)), member

    return with_masks(config, hp, act)


def greedy(net: Network, hp: Hyperparams, context: Context, learner: Learner) -> Policy:
    """Greedy for the mean of the members."""
    del context
    return action_values.greedy(lambda obs: q_values(net, hp, learner.params, learner.prior, obs).mean(0))


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """Bootstrapped DQN for a pair of spaces.

    Raises:
        InputError: an action space that is not Discrete.
    """
    num_actions = require_discrete("bootstrapped_dqn", action_space).n
    net = build(config, observation_space, num_actions)
    return Algorithm(
        init=partial(init_learner, net),
        update=partial(update, config, net),
        explore=partial(explore, config, net),
        greedy=partial(greedy, net),
    )


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds bootstrapped DQN to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    learner = algorithm(config, env.observation_space, env.action_space)
    warmup = partial(random, config, require_discrete("bootstrapped_dqn", env.action_space).n)
    masks = Masked(jax.ShapeDtypeStruct((config.num_members,), jnp.bool_))
    return off_policy.make("bootstrapped_dqn", env, learner, config, warmup=warmup, extras=masks, together=False)
