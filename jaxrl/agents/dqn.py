"""Deep Q-network (Mnih et al. 2015), with double and dueling variants as branches of the configuration.

    L(θ) = E[ ℓ(r + γ (1 − terminated) max_a' Q_θ⁻(s', a') − Q_θ(s, a)) ]

Double Q-learning (van Hasselt et al. 2016) selects a' with θ and values it with θ⁻; dueling networks (Wang et al.
2016) split Q into a value and advantages. The target parameters θ⁻ are copied every `target_period` updates
(`target_rate` 1), or follow softly at every update (`target_period` 1, `target_rate` τ). A transition cut by the time
limit is bootstrapped like any other.

Deviation from the paper: Adam instead of RMSProp; the replay is filled by random actions in `init`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs import episode, spaces
from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from jaxrl import exploration, losses, networks, replay
from jaxrl.actions import require_discrete
from jaxrl.rollout import rollout
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
    batch_size: int = 128
    """Transitions per gradient step."""
    replay_capacity: int = 10_000
    """Transitions that the replay holds."""
    warmup_steps: int = 1_000
    """Environment steps with random actions before the first update; they count as steps of the run."""
    double: bool = False
    """Double Q-learning."""
    dueling: bool = False
    """Dueling network."""
    huber: bool = False
    """Huber loss (δ = 1) instead of the squared error."""
    torso: networks.Torso = "mlp"
    """What stands between the observation and the heads."""
    hidden: tuple[int, ...] = (120, 84)
    """Sizes of the dense layers."""
    activation: networks.Activation = "relu"
    """After every dense layer."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 1e-3
    """Step size of Adam."""
    gamma: float = 0.99
    """Discount."""
    epsilon_start: float = 1.0
    """Probability of a random action at the start."""
    epsilon_end: float = 0.05
    """Probability of a random action after the decay."""
    epsilon_fraction: float = 0.5
    """Part of hp.total_steps over which ε falls linearly."""
    target_period: int = 50
    """Updates between two moves of the target parameters."""
    target_rate: float = 1.0
    """How far the target parameters move: 1 copies, a small τ follows softly."""
    total_steps: float | None = None
    """Environment steps that the schedule of ε refers to; the length of the run unless given."""


class Learner(NamedTuple):
    """What `update` changes."""

    params: Any
    target_params: Any
    opt_state: Any
    updates: jax.Array  # i32[] gradient steps so far


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    episode: episode.EpisodeState  # [num_envs]
    replay: Any
    env_steps: jax.Array  # i32[]


def build(config: Config, observation_space: Space, num_actions: int) -> networks.Network:
    """Builds the network of action values: apply(params, obs [..., *obs]) -> f32[..., A]."""
    shape = (config.torso, config.hidden, config.activation)
    return networks.q_network(observation_space, num_actions, *shape, dueling=config.dueling)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam. The gradient's norm is not clipped: on CartPole, where values near 100, a clip at 10 slowed learning."""
    return optax.adam(hp.learning_rate)


def init_learner(net: networks.Network, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters; the target starts as a copy."""
    params = net.init(key)
    return Learner(params, jax.tree.map(jnp.copy, params), optimizer(hp).init(params), jnp.int32(0))


def update(
    config: Config, net: networks.Network, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """One gradient step.

    Args:
        config: static configuration.
        net: from `build`.
        hp: hyper-parameters.
        learner: parameters, target and optimiser state.
        batch: [batch, ...] transitions.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del key
    discount_t = hp.gamma * (1.0 - batch.terminated)
    q_t = net.apply(learner.target_params, batch.next_obs)

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        q_tm1 = net.apply(params, batch.obs)
        if config.double:
            selector = net.apply(params, batch.next_obs)
            td = losses.double_q_learning(q_tm1, batch.action, batch.reward, discount_t, q_t, selector)
        else:
            td = losses.q_learning(q_tm1, batch.action, batch.reward, discount_t, q_t)
        return (losses.huber(td) if config.huber else losses.squared(td)).mean(), q_tm1.mean()

    (value, q_mean), grads = jax.value_and_grad(loss, has_aux=True)(learner.params)
    step, opt_state = optimizer(hp).update(grads, learner.opt_state)
    params = optax.apply_updates(learner.params, step)
    updates = learner.updates + 1
    rate = jnp.where(updates % hp.target_period == 0, hp.target_rate, 0.0)
    target = optax.incremental_update(params, learner.target_params, rate)
    scalars = {"loss": value, "q_mean": q_mean, "grad_norm": optax.tree.norm(grads)}
    return Learner(params, target, opt_state, updates), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds DQN to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    num_actions = require_discrete("dqn", env.action_space).n
    steps_per_iteration = config.num_envs * config.rollout_length
    warmup_length = -(-config.warmup_steps // config.num_envs)
    if not config.batch_size <= warmup_length * config.num_envs <= config.replay_capacity:
        raise InputError(
            f"warmup_steps={config.warmup_steps} (whole rounds of {config.num_envs} environments) must lie between "
            f"batch_size={config.batch_size} and replay_capacity={config.replay_capacity}."
        )
    net = build(config, env.observation_space, num_actions)
    buffer = replay.make(config.replay_capacity, config.batch_size, _example(env))

    def policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            return jnp.argmax(net.apply(state.learner.params, obs), -1), memory, ()

        return Policy(act)

    def exploring_policy(state: State) -> Policy:
        hp = state.hp
        horizon = hp.epsilon_fraction * exploration.horizon(hp.total_steps)
        epsilon = exploration.linear(hp.epsilon_start, hp.epsilon_end, horizon, state.env_steps)

        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            return exploration.epsilon_greedy(key, net.apply(state.learner.params, obs), epsilon), memory, ()

        return Policy(act)

    def random_act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        del obs
        return jax.random.randint(key, (config.num_envs,), 0, num_actions), memory, ()

    def collect(state: State, policy: Policy, key: jax.Array, length: int) -> tuple[State, episode.EpisodeStats]:
        out = rollout(env, state.env_params, policy, state.episode, (), key, length)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out.transitions)
        following = state._replace(
            episode=out.episode,
            replay=buffer.add(state.replay, rows),
            env_steps=state.env_steps + length * config.num_envs,
        )
        return following, out.stats

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_learner, key_episode, key_warmup = jax.random.split(key, 4)
        state = State(
            key=key,
            hp=hp,
            env_params=env_params,
            learner=init_learner(net, hp, key_learner),
            episode=episode.reset(env, env_params, key_episode, config.num_envs),
            replay=buffer.init(),
            env_steps=jnp.int32(0),
        )
        return collect(state, Policy(random_act), key_warmup, warmup_length)[0]

    def step(state: State) -> tuple[State, Metrics]:
        key, key_rollout, key_updates = jax.random.split(state.key, 3)
        state, stats = collect(state, exploring_policy(state), key_rollout, config.rollout_length)

        def learn(learner: Learner, key: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
            key_sample, key_update = jax.random.split(key)
            return update(config, net, state.hp, learner, buffer.sample(state.replay, key_sample), key_update)

        learner, scalars = jax.lax.scan(learn, state.learner, jax.random.split(key_updates, config.num_updates))
        return state._replace(key=key, learner=learner), Metrics(stats, jax.tree.map(jnp.mean, scalars))

    warmup_steps = warmup_length * config.num_envs
    return Agent(init, step, policy, steps_per_iteration, warmup_steps, "dqn", env, config)


def _example(env: Env) -> Transition:
    """The shapes of one stored transition."""
    scalar: Any = jax.ShapeDtypeStruct((), jnp.float32)
    flag: Any = jax.ShapeDtypeStruct((), jnp.bool_)
    obs = jax.eval_shape(lambda: spaces.sample(env.observation_space, jax.random.key(0)))
    action = jax.ShapeDtypeStruct((), jnp.int32)
    return Transition(obs, action, scalar, flag, flag, obs, ())
