"""Bootstrapped DQN with randomised prior functions (Osband et al. 2016, arXiv:1602.04621, and 2018, arXiv:1806.03335).

    Q_k(s, a) = f_k(s, a) + β p_k(s, a),   k = 1 … K;   p_k is drawn once and never learnt
    L = E[ Σ_k m_k ½ (r + γ (1 − terminated) max_a' Q⁻_k(s', a') − Q_k(s, a))² ],   m_k ~ Bernoulli(mask_probability)

Deep exploration by sampling: every environment draws one of the K members for a whole episode and follows it greedily.
Members agree where there is much data; where there is little, their different priors make them disagree, and each goes
on trying what it believes in. The masks m are drawn when a transition is taken and stored with it, so that every member
learns from its own bootstrap sample. There is no ε.

The target parameters of f are copied every `target_period` updates (`target_rate` 1), or follow softly at every update
(`target_period` 1). A transition cut by the time limit is bootstrapped like any other.

Deviations: the members share no layers (2016: one torso, K heads; 2018: as here); evaluation is greedy for the mean of
the members (2016: they vote); the replay is filled by random actions in `init`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs import episode, threefry
from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from jaxrl import losses, networks, replay
from jaxrl.actions import require_discrete
from jaxrl.distributions import at_index
from jaxrl.rollout import example, rollout
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 10
    """Environments that one run steps in parallel."""
    rollout_length: int = 1
    """Steps in each environment between updates."""
    num_updates: int = 1
    """Gradient steps per iteration, that is, per num_envs · rollout_length environment steps."""
    batch_size: int = 64
    """Transitions per gradient step."""
    replay_capacity: int = 10_000
    """Transitions that the replay holds."""
    warmup_steps: int = 1_000
    """Environment steps with random actions before the first update; they count as steps of the run."""
    num_members: int = 10
    """Members of the ensemble, K."""
    torso: networks.Torso = "mlp"
    """What stands between the observation and the values of each member."""
    hidden: tuple[int, ...] = (64, 64)
    """Sizes of the dense layers."""
    activation: networks.Activation = "relu"
    """After every dense layer."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 1e-3
    """Step size of Adam."""
    gamma: float = 0.99
    """Discount."""
    prior_scale: float = 3.0
    """Weight β of the priors; 0 leaves bootstrapped DQN as it was in 2016."""
    mask_probability: float = 0.5
    """Chance of a transition to be learnt from by a member."""
    target_period: int = 50
    """Updates between two moves of the target parameters."""
    target_rate: float = 1.0
    """How far the target parameters move: 1 copies, a small τ follows softly."""


class Learner(NamedTuple):
    """What `update` changes, and the priors."""

    params: Any  # [K, ...]
    target_params: Any  # [K, ...]
    prior: Any  # [K, ...] never changed
    opt_state: Any
    updates: jax.Array  # i32[] gradient steps so far


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    episode: episode.EpisodeState  # [num_envs]
    member: jax.Array  # i32[num_envs] followed in this episode; −1: yet to be drawn
    replay: Any
    env_steps: jax.Array  # i32[]


def build(config: Config, observation_space: Space, num_actions: int) -> networks.Network:
    """Builds the ensemble: apply(params [K, ...], obs [..., *obs]) -> f32[K, ..., A]; f and p alike."""
    shape = (config.torso, config.hidden, config.activation)
    return networks.ensemble(networks.q_network(observation_space, num_actions, *shape), config.num_members)


def action_values(net: networks.Network, hp: Hyperparams, params: Any, prior: Any, obs: Any) -> jax.Array:
    """Q of every member, f32[K, ..., A]: what is learnt and the prior."""
    return net.apply(params, obs) + hp.prior_scale * net.apply(prior, obs)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam; it works element by element, so the members stay independent."""
    return optax.adam(hp.learning_rate)


def init_learner(net: networks.Network, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws parameters and priors; the target starts as a copy."""
    key_params, key_prior = jax.random.split(key)
    params = net.init(key_params)
    target_params = jax.tree.map(jnp.copy, params)
    return Learner(params, target_params, net.init(key_prior), optimizer(hp).init(params), jnp.int32(0))


def update(
    config: Config, net: networks.Network, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """One gradient step of every member.

    Args:
        config: static configuration.
        net: from `build`.
        hp: hyper-parameters.
        learner: parameters, target, priors and optimiser state.
        batch: [batch, ...] transitions of one step; extras are the masks bool[batch, K].
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del config, key
    discount_t = hp.gamma * (1.0 - batch.terminated)
    q_t = action_values(net, hp, learner.target_params, learner.prior, batch.next_obs)
    prior_tm1 = hp.prior_scale * net.apply(learner.prior, batch.obs)
    # One row per member, against which actions, rewards and discounts broadcast.
    action = jnp.broadcast_to(batch.action, q_t.shape[:-1])

    def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        q_tm1 = net.apply(params, batch.obs) + prior_tm1
        td = losses.q_learning(q_tm1, action, batch.reward, discount_t, q_t)
        value = (batch.extras.T * losses.squared(td)).mean(1).sum()
        spread = at_index(q_tm1, action).std(0).mean()
        return value, {"loss": value, "q_mean": q_tm1.mean(), "spread": spread}

    grads, scalars = jax.grad(loss, has_aux=True)(learner.params)
    step, opt_state = optimizer(hp).update(grads, learner.opt_state)
    params = optax.apply_updates(learner.params, step)
    updates = learner.updates + 1
    rate = jnp.where(updates % hp.target_period == 0, hp.target_rate, 0.0)
    target_params = optax.incremental_update(params, learner.target_params, rate)
    scalars["grad_norm"] = optax.tree.norm(grads)
    return Learner(params, target_params, learner.prior, opt_state, updates), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds bootstrapped DQN to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    num_envs, num_actions = config.num_envs, require_discrete("bootstrapped_dqn", env.action_space).n
    if config.num_members < 1:
        raise InputError(f"num_members={config.num_members} must be at least 1.")
    warmup_length = replay.warmup_rounds(config.warmup_steps, num_envs, config.batch_size, config.replay_capacity)
    net = build(config, env.observation_space, num_actions)
    masks: Any = jax.ShapeDtypeStruct((config.num_members,), jnp.bool_)
    buffer = replay.make(config.replay_capacity, config.batch_size, example(env)._replace(extras=masks))

    def q_values(state: State, obs: Any) -> jax.Array:
        return action_values(net, state.hp, state.learner.params, state.learner.prior, obs)

    def policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            return jnp.argmax(q_values(state, obs).mean(0), -1), memory, ()

        return Policy(act)

    def draw_masks(state: State, key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key, state.hp.mask_probability, (num_envs, config.num_members))

    def exploring_policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: jax.Array) -> tuple[Any, Any, Any]:
            key_member, key_mask = jax.random.split(key)
            drawn = jax.random.randint(key_member, (num_envs,), 0, config.num_members)
            member = jnp.where(memory < 0, drawn, memory)
            q = q_values(state, obs)[member, jnp.arange(num_envs)]
            return jnp.argmax(q, -1), member, draw_masks(state, key_mask)

        return Policy(act, jnp.int32(-1))

    def random_policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del obs
            key_action, key_mask = jax.random.split(key)
            action = jax.random.randint(key_action, (num_envs,), 0, num_actions)
            return action, memory, draw_masks(state, key_mask)

        return Policy(act, jnp.int32(-1))

    def collect(state: State, policy: Policy, key: jax.Array, length: int) -> tuple[State, episode.EpisodeStats]:
        out = rollout(env, state.env_params, policy, state.episode, state.member, key, length)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out.transitions)
        following = state._replace(
            episode=out.episode,
            member=out.memory,
            replay=buffer.add(state.replay, rows),
            env_steps=state.env_steps + length * num_envs,
        )
        return following, out.stats

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_learner, key_episode, key_warmup = jax.random.split(key, 4)
        state = State(
            key=key,
            hp=hp,
            env_params=env_params,
            learner=init_learner(net, hp, key_learner),
            episode=episode.reset(env, env_params, key_episode, num_envs),
            member=jnp.full(num_envs, -1, jnp.int32),
            replay=buffer.init(),
            env_steps=jnp.int32(0),
        )
        return collect(state, random_policy(state), key_warmup, warmup_length)[0]

    def step(state: State) -> tuple[State, Metrics]:
        key, key_rollout, key_updates = threefry.spawn(state.key, 3)
        state, stats = collect(state, exploring_policy(state), key_rollout, config.rollout_length)

        def learn(learner: Learner, key: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
            key_sample, key_update = jax.random.split(key)
            return update(config, net, state.hp, learner, buffer.sample(state.replay, key_sample), key_update)

        learner, scalars = jax.lax.scan(learn, state.learner, jax.random.split(key_updates, config.num_updates))
        return state._replace(key=key, learner=learner), Metrics(stats, jax.tree.map(jnp.mean, scalars))

    steps_per_iteration = num_envs * config.rollout_length
    return Agent(init, step, policy, steps_per_iteration, warmup_length * num_envs, "bootstrapped_dqn", env, config)
