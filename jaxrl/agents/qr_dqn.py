"""Quantile regression DQN, QR-DQN (Dabney et al. 2018, arXiv:1710.10044).

    Z_θ(s, a) = 1/M Σ_m δ(θ_m(s, a)),   θ_m at the quantile τ_m = (m − ½)/M,   Q = E[Z]
    L(θ) = E[ Σ_m 1/M Σ_j |τ_m − 1{u_mj < 0}| huber(u_mj)/δ ],   u_mj = y_j − θ_m(s, a)
    y_j = r + γ (1 − terminated) θ⁻_j(s', argmax_a' Q_θ⁻(s', a'))

The quantiles of the return are learnt instead of its mean, so no bounds of the return need be known. The target
parameters θ⁻ are copied every `target_period` updates (`target_rate` 1), or follow softly at every update
(`target_period` 1). A transition cut by the time limit is bootstrapped like any other.

Deviations from the paper: the replay is filled by random actions in `init`; number of quantiles (there 200), ε, network
and step size are those of small environments.
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
from jaxrl import exploration, losses, n_step, networks, replay
from jaxrl.actions import require_discrete
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
    batch_size: int = 128
    """Transitions per gradient step."""
    replay_capacity: int = 10_000
    """Transitions that the replay holds."""
    warmup_steps: int = 1_000
    """Environment steps with random actions before the first update; they count as steps of the run."""
    num_quantiles: int = 51
    """Quantiles of the return of each action."""
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
    huber_delta: float = 1.0
    """Size of an error where its loss turns linear; as in the paper, the loss is divided by it."""
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
    """Builds the network of quantiles: apply(params, obs [..., *obs]) -> f32[..., A, num_quantiles]."""
    shape = (config.torso, config.hidden, config.activation)
    return networks.q_distribution(observation_space, num_actions, config.num_quantiles, *shape)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam."""
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
        batch: [batch, ...] transitions, of one step or as `n_step.extend` makes them.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del config, key
    discount_t = n_step.discount(batch, hp.gamma)
    quantiles_t = net.apply(learner.target_params, batch.next_obs)
    a_t = jnp.argmax(quantiles_t.mean(-1), axis=-1)

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        quantiles_tm1 = net.apply(params, batch.obs)
        each = losses.quantile_q_learning(
            quantiles_tm1, batch.action, batch.reward, discount_t, quantiles_t, a_t, hp.huber_delta
        )
        return each.mean(), quantiles_tm1.mean()

    (value, q_mean), grads = jax.value_and_grad(loss, has_aux=True)(learner.params)
    step, opt_state = optimizer(hp).update(grads, learner.opt_state)
    params = optax.apply_updates(learner.params, step)
    updates = learner.updates + 1
    rate = jnp.where(updates % hp.target_period == 0, hp.target_rate, 0.0)
    target_params = optax.incremental_update(params, learner.target_params, rate)
    scalars = {"loss": value, "q_mean": q_mean, "grad_norm": optax.tree.norm(grads)}
    return Learner(params, target_params, opt_state, updates), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds QR-DQN to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    num_envs, num_actions = config.num_envs, require_discrete("qr_dqn", env.action_space).n
    if config.num_quantiles < 1:
        raise InputError(f"num_quantiles={config.num_quantiles} must be at least 1.")
    warmup_length = replay.warmup_rounds(config.warmup_steps, num_envs, config.batch_size, config.replay_capacity)
    net = build(config, env.observation_space, num_actions)
    buffer = replay.make(config.replay_capacity, config.batch_size, example(env))

    def q_values(state: State, obs: Any) -> jax.Array:
        return net.apply(state.learner.params, obs).mean(-1)

    def policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            return jnp.argmax(q_values(state, obs), -1), memory, ()

        return Policy(act)

    def exploring_policy(state: State) -> Policy:
        hp = state.hp
        horizon = hp.epsilon_fraction * exploration.horizon(hp.total_steps)
        epsilon = exploration.linear(hp.epsilon_start, hp.epsilon_end, horizon, state.env_steps)

        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            return exploration.epsilon_greedy(key, q_values(state, obs), epsilon), memory, ()

        return Policy(act)

    def random_act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        del obs
        return jax.random.randint(key, (num_envs,), 0, num_actions), memory, ()

    def collect(state: State, policy: Policy, key: jax.Array, length: int) -> tuple[State, episode.EpisodeStats]:
        out = rollout(env, state.env_params, policy, state.episode, (), key, length)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out.transitions)
        following = state._replace(
            episode=out.episode,
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
            replay=buffer.init(),
            env_steps=jnp.int32(0),
        )
        return collect(state, Policy(random_act), key_warmup, warmup_length)[0]

    def step(state: State) -> tuple[State, Metrics]:
        key, key_rollout, key_updates = threefry.spawn(state.key, 3)
        state, stats = collect(state, exploring_policy(state), key_rollout, config.rollout_length)

        def learn(learner: Learner, key: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
            key_sample, key_update = jax.random.split(key)
            return update(config, net, state.hp, learner, buffer.sample(state.replay, key_sample), key_update)

        learner, scalars = jax.lax.scan(learn, state.learner, jax.random.split(key_updates, config.num_updates))
        return state._replace(key=key, learner=learner), Metrics(stats, jax.tree.map(jnp.mean, scalars))

    steps_per_iteration = num_envs * config.rollout_length
    return Agent(init, step, policy, steps_per_iteration, warmup_length * num_envs, "qr_dqn", env, config)
