"""Recurrent replay distributed DQN, R2D2 (Kapturowski et al., ICLR 2019), without the distribution: one learner.

    (Q_t, m_t) = net_θ(o_t, m_{t−1}),   G_t = h(Σ_{i<n} γ^i r_{t+i} + γ^n (1 − terminated) h⁻¹(Q_θ⁻(o_{t+n}, a*)))
    a* = argmax_a Q_θ(o_{t+n}, a),   L(θ) = E[½ (G_t − Q_θ(o_t, a_t))²]

For tasks whose observation is not the state: a gated recurrent unit carries a memory m through the episode. The replay
holds overlapping sequences [burn_in | rollout_length | n_step − 1]. The network is unrolled from the memory that the
actor had at the beginning of the sequence (`stored_memory`), which was made by older parameters; so the first `burn_in`
steps only bring it up to date and are not learnt from. The middle is; the last part completes its n-step targets.
h(x) = sign(x) (√(|x| + 1) − 1) + x/1000 squeezes large values (`value_rescaling`); without it h is the identity.

A sequence may hold the end of one episode and the beginning of another: the memory is set back between them, and
o_{t+n} is the true successor, valued with the memory of its own episode, so that a cut by the time limit is
bootstrapped like any other step.

DRQN (Hausknecht & Stone 2015, arXiv:1507.06527, with random updates) is the configuration without both remedies:
stored_memory=False, burn_in=0, n_step=1, double=False.

Deviations from R2D2: a GRU for the LSTM, fed with observations alone (there the last action and reward too); uniform
replay (there by priority); sequences that cross the ends of episodes (there they stop); Adam; one ε for all
environments, falling; the replay is filled by random actions in `init`.
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
from jaxrl.distributions import at_index
from jaxrl.rollout import example, rollout
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 10
    """Environments that one run steps in parallel."""
    rollout_length: int = 10
    """Steps in each environment between updates, and steps of a sequence that are learnt from."""
    burn_in: int = 10
    """Steps of a sequence that only bring the memory up to date."""
    stored_memory: bool = True
    """Unroll from the actor's memory instead of from that at the start of an episode."""
    num_updates: int = 4
    """Gradient steps per iteration, that is, per num_envs · rollout_length environment steps."""
    batch_size: int = 32
    """Sequences per gradient step."""
    replay_capacity: int = 2_000
    """Sequences that the replay holds."""
    warmup_steps: int = 1_000
    """Environment steps with random actions before the first update, at least; they count as steps of the run."""
    n_step: int = 3
    """Steps of reward in a target."""
    double: bool = True
    """Double Q-learning."""
    value_rescaling: bool = False
    """Learn h(Q) instead of Q."""
    torso: networks.Torso = "mlp"
    """What stands between the observation and the memory."""
    hidden: tuple[int, ...] = (64,)
    """Sizes of the dense layers before the memory."""
    memory_size: int = 64
    """Units of the memory."""
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
    max_grad_norm: float = 10.0
    """The gradient is scaled down to this global norm."""
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
    memory: jax.Array  # f32[num_envs, memory_size] of the policy
    window: Any  # the last burn_in + n_step − 1 steps, [.., num_envs, ...]; extras: the memory before each
    replay: Any
    env_steps: jax.Array  # i32[]


def build(config: Config, observation_space: Space, num_actions: int) -> networks.Recurrent:
    """Builds the recurrent network of action values; its outputs are (f32[..., A],)."""
    shape = (config.torso, config.hidden, config.activation, config.memory_size)
    return networks.recurrent(observation_space, [("q", num_actions, 1.0)], *shape)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam behind a clip of the global gradient norm."""
    return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.adam(hp.learning_rate))


def init_learner(net: networks.Recurrent, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters; the target starts as a copy."""
    params = net.init(key)
    return Learner(params, jax.tree.map(jnp.copy, params), optimizer(hp).init(params), jnp.int32(0))


def update(
    config: Config, net: networks.Recurrent, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """One gradient step.

    Args:
        config: static configuration.
        net: from `build`.
        hp: hyper-parameters.
        learner: parameters, target and optimiser state.
        batch: [batch, burn_in + T + n_step − 1, ...] sequences; extras f32[batch, memory_size] are the memories
            before their first steps.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del key
    burn_in = config.burn_in
    memory, steps = batch.extras, batch._replace(extras=())
    steps = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), steps)  # time first
    ended = steps.terminated | steps.truncated
    if not config.stored_memory:
        memory = jnp.broadcast_to(net.memory, memory.shape)
    early, late = jax.tree.map(lambda x: x[:burn_in], steps), jax.tree.map(lambda x: x[burn_in:], steps)

    def unroll(params: Any) -> tuple[jax.Array, jax.Array]:
        """Values of the observations after the burn-in, and of their true successors, f32[T + n − 1, batch, A]."""
        start = memory
        if burn_in:
            _, memories = net.unroll(params, early.obs, memory, ended[:burn_in])
            start = jax.lax.stop_gradient(jnp.where(ended[burn_in - 1][:, None], net.memory, memories[-1]))
        (q,), memories = net.unroll(params, late.obs, start, ended[burn_in:])
        (q_next,), _ = net.step(params, late.next_obs, memories)
        return q, q_next

    _, q_t = unroll(learner.target_params)

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        q_tm1, selector = unroll(params)
        a_t = jnp.argmax(selector if config.double else q_t, -1)
        v_t = at_index(q_t, a_t)
        if config.value_rescaling:
            v_t = losses.signed_parabolic(v_t)
        # The value of the successor travels in the place of its observation.
        _, ahead = n_step.extend((), late._replace(obs=(), next_obs=v_t), hp.gamma, config.n_step)
        target = ahead.reward + n_step.discount(ahead, hp.gamma) * ahead.next_obs
        if config.value_rescaling:
            target = losses.signed_hyperbolic(target)
        q = at_index(q_tm1, late.action)[: target.shape[0]]
        return losses.squared(jax.lax.stop_gradient(target) - q).mean(), q.mean()

    (value, q_mean), grads = jax.value_and_grad(loss, has_aux=True)(learner.params)
    step, opt_state = optimizer(hp).update(grads, learner.opt_state)
    params = optax.apply_updates(learner.params, step)
    updates = learner.updates + 1
    rate = jnp.where(updates % hp.target_period == 0, hp.target_rate, 0.0)
    target_params = optax.incremental_update(params, learner.target_params, rate)
    scalars = {"loss": value, "q_mean": q_mean, "grad_norm": optax.tree.norm(grads)}
    return Learner(params, target_params, opt_state, updates), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds R2D2 to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    num_envs, stride = config.num_envs, config.rollout_length
    num_actions = require_discrete("r2d2", env.action_space).n
    if config.burn_in < 0 or config.n_step < 1:
        raise InputError(f"burn_in={config.burn_in} must be at least 0 and n_step={config.n_step} at least 1.")
    overlap = config.burn_in + config.n_step - 1
    rounds = max(-(-config.warmup_steps // (num_envs * stride)), -(-config.batch_size // num_envs))
    if rounds * num_envs > config.replay_capacity:
        raise InputError(
            f"replay_capacity={config.replay_capacity} must be at least {rounds * num_envs}, the sequences of the "
            f"warm-up (warmup_steps={config.warmup_steps}, batch_size={config.batch_size})."
        )
    warmup_length = overlap + rounds * stride
    net = build(config, env.observation_space, num_actions)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((overlap + stride, *x.shape), x.dtype), example(env))
    sequence = one._replace(extras=jax.ShapeDtypeStruct(net.memory.shape, jnp.float32))
    buffer = replay.make(config.replay_capacity, config.batch_size, sequence)

    def policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: jax.Array) -> tuple[Any, Any, Any]:
            del key
            (q,), memory = net.step(state.learner.params, obs, memory)
            return jnp.argmax(q, -1), memory, ()

        return Policy(act, net.memory)

    def exploring_policy(state: State, epsilon: jax.Array | float) -> Policy:
        def act(key: jax.Array, obs: Any, memory: jax.Array) -> tuple[Any, Any, Any]:
            (q,), following = net.step(state.learner.params, obs, memory)
            return exploration.epsilon_greedy(key, q, epsilon), following, memory

        return Policy(act, net.memory)

    def collect(
        state: State, epsilon: jax.Array | float, key: jax.Array, length: int
    ) -> tuple[State, episode.EpisodeStats]:
        policy = exploring_policy(state, epsilon)
        out = rollout(env, state.env_params, policy, state.episode, state.memory, key, length)
        steps = out.transitions
        if state.window != ():
            steps = jax.tree.map(lambda old, new: jnp.concatenate([old, new]), state.window, steps)
        num = (steps.reward.shape[0] - overlap) // stride
        at = stride * jnp.arange(num)[:, None] + jnp.arange(overlap + stride)  # [num, length of a sequence]
        sequences = jax.tree.map(lambda x: jnp.swapaxes(x[at], 1, 2).reshape(-1, *at.shape[1:], *x.shape[2:]), steps)
        following = state._replace(
            episode=out.episode,
            memory=out.memory,
            window=jax.tree.map(lambda x: x[num * stride :], steps),
            replay=buffer.add(state.replay, sequences._replace(extras=sequences.extras[:, 0])),
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
            memory=jnp.broadcast_to(net.memory, (num_envs, config.memory_size)),
            window=(),
            replay=buffer.init(),
            env_steps=jnp.int32(0),
        )
        return collect(state, 1.0, key_warmup, warmup_length)[0]

    def step(state: State) -> tuple[State, Metrics]:
        key, key_rollout, key_updates = threefry.spawn(state.key, 3)
        hp = state.hp
        horizon = hp.epsilon_fraction * exploration.horizon(hp.total_steps)
        epsilon = exploration.linear(hp.epsilon_start, hp.epsilon_end, horizon, state.env_steps)
        state, stats = collect(state, epsilon, key_rollout, stride)

        def learn(learner: Learner, key: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
            key_sample, key_update = jax.random.split(key)
            return update(config, net, hp, learner, buffer.sample(state.replay, key_sample), key_update)

        learner, scalars = jax.lax.scan(learn, state.learner, jax.random.split(key_updates, config.num_updates))
        return state._replace(key=key, learner=learner), Metrics(stats, jax.tree.map(jnp.mean, scalars))

    return Agent(init, step, policy, num_envs * stride, warmup_length * num_envs, "r2d2", env, config)
