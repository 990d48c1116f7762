"""Rainbow (Hessel et al. 2018, arXiv:1710.02298): six extensions of DQN in one agent, each with a switch.

    L(θ) = E_P[ w KL( Φ(R_n + γ^n (1 − terminated) Z_θ⁻(s_n, argmax_a Q_θ(s_n, a))) ‖ Z_θ(s, a) ) ]

    double          the action in s_n is chosen with θ (off: with θ⁻)
    prioritized     P is in proportion to KL^α, and w takes its bias back (off: uniform, w = 1)
    dueling         logits are a value and centred advantages, atom by atom (off: one head)
    n_step          R_n = Σ_{k<n} γ^k r_k; n = 3 in the paper (off: n = 1)
    distributional  Z is a categorical distribution on values from v_min to v_max (off: Q alone, ½ TD² in place of KL,
                    |TD| as priority)
    noisy           dense layers explore by noise of learnt size (off: ε-greedy); evaluation uses the mean weights

What they are is said in `jaxrl.agents.dqn` and `jaxrl.agents.c51`. A transition cut by the time limit is bootstrapped
like any other.

Deviations from the paper: the replay is filled by random actions in `init`; one noise for all environments of a step;
sizes, step size and v_min, v_max are those of small environments.
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
    num_atoms: int = 101
    """Values that a return is distributed over."""
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
    v_min: float = -100.0
    """The least discounted return that is told apart."""
    v_max: float = 100.0
    """The greatest."""
    epsilon_start: float = 1.0
    """Probability of a random action at the start, without noisy layers."""
    epsilon_end: float = 0.05
    """Probability of a random action after the decay."""
    epsilon_fraction: float = 0.5
    """Part of hp.total_steps over which ε falls linearly."""
    target_period: int = 50
    """Updates between two moves of the target parameters."""
    target_rate: float = 1.0
    """How far the target parameters move: 1 copies, a small τ follows softly."""
    priority_alpha: float = 0.5
    """How much priorities count: 0 not at all, 1 in proportion."""
    priority_beta: float = 0.4
    """How much of the bias of prioritised replay is taken back at the start; all of it (1) at hp.total_steps."""
    total_steps: float | None = None
    """Environment steps that the schedules of ε and β refer to; the length of the run unless given."""


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
    window: Any  # the last n_step − 1 steps, [n_step − 1, num_envs, ...]; () for one-step targets
    replay: Any
    env_steps: jax.Array  # i32[]


def build(config: Config, observation_space: Space, num_actions: int) -> networks.Network:
    """Builds the network: logits f32[..., A, num_atoms], or action values f32[..., A] without distributions."""
    shape = (config.torso, config.hidden, config.activation, config.dueling)
    if config.distributional:
        net = networks.q_distribution(observation_space, num_actions, config.num_atoms, *shape)
    else:
        net = networks.q_network(observation_space, num_actions, *shape)
    return networks.noisy(net) if config.noisy else net


def action_values(config: Config, hp: Hyperparams, outputs: jax.Array) -> jax.Array:
    """The mean returns f32[..., A] of what the network puts out."""
    return losses.categorical_mean(outputs, hp.v_min, hp.v_max) if config.distributional else outputs


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam."""
    return optax.adam(hp.learning_rate)


def init_learner(net: networks.Network, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters; the target starts as a copy."""
    params = net.init(key)
    return Learner(params, jax.tree.map(jnp.copy, params), optimizer(hp).init(params), jnp.int32(0))


def update(
    config: Config,
    net: networks.Network,
    hp: Hyperparams,
    learner: Learner,
    batch: Transition,
    key: jax.Array,
    weight: jax.Array | float = 1.0,
) -> tuple[Learner, dict[str, jax.Array]]:
    """One gradient step.

    Args:
        config: static configuration.
        net: from `build`.
        hp: hyper-parameters.
        learner: parameters, target and optimiser state.
        batch: [batch, ...] transitions, of one step or as `n_step.extend` makes them.
        key: consumed by the noise of noisy layers.
        weight: f32[batch] of each transition in the loss.

    Returns:
        (learner, diagnostics): scalars, and "error" f32[batch], each transition's KL divergence or size of TD error.
    """
    discount_t = n_step.discount(batch, hp.gamma)
    key_online, key_target, key_selector = jax.random.split(key, 3)

    def outputs(params: Any, obs: Any, key: jax.Array) -> jax.Array:
        return net.apply(params, obs, key) if config.noisy else net.apply(params, obs)

    out_t = outputs(learner.target_params, batch.next_obs, key_target)
    selector = outputs(learner.params, batch.next_obs, key_selector) if config.double else out_t
    a_t = jnp.argmax(action_values(config, hp, selector), axis=-1)

    def loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        out_tm1 = outputs(params, batch.obs, key_online)
        if config.distributional:
            target = losses.categorical_target(batch.reward, discount_t, out_t, a_t, hp.v_min, hp.v_max)
            each = error = losses.categorical_q_learning(out_tm1, batch.action, target)
        else:
            error = losses.sarsa(out_tm1, batch.action, batch.reward, discount_t, out_t, a_t)
            each = losses.squared(error)
        return (weight * each).mean(), (action_values(config, hp, out_tm1).mean(), jnp.abs(error))

    (value, (q_mean, error)), grads = jax.value_and_grad(loss, has_aux=True)(learner.params)
    step, opt_state = optimizer(hp).update(grads, learner.opt_state)
    params = optax.apply_updates(learner.params, step)
    updates = learner.updates + 1
    rate = jnp.where(updates % hp.target_period == 0, hp.target_rate, 0.0)
    target_params = optax.incremental_update(params, learner.target_params, rate)
    diagnostics = {"loss": value, "q_mean": q_mean, "error": error, "grad_norm": optax.tree.norm(grads)}
    return Learner(params, target_params, opt_state, updates), diagnostics


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds Rainbow to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    num_envs, num_actions = config.num_envs, require_discrete("rainbow", env.action_space).n
    if config.num_atoms < 2:
        raise InputError(f"num_atoms={config.num_atoms} must be at least 2.")
    rounds = replay.warmup_rounds(config.warmup_steps, num_envs, config.batch_size, config.replay_capacity)
    # The last n − 1 steps of the warm-up complete no transition yet.
    warmup_length = rounds + config.n_step - 1
    net = build(config, env.observation_space, num_actions)
    make_replay = replay.prioritized.make if config.prioritized else replay.make
    stored = n_step.stored(example(env), config.n_step)
    buffer: Any = make_replay(config.replay_capacity, config.batch_size, stored)

    def policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            outputs = net.apply(state.learner.params, obs)
            return jnp.argmax(action_values(config, state.hp, outputs), -1), memory, ()

        return Policy(act)

    def exploring_policy(state: State) -> Policy:
        params, hp = state.learner.params, state.hp
        horizon = hp.epsilon_fraction * exploration.horizon(hp.total_steps)
        epsilon = exploration.linear(hp.epsilon_start, hp.epsilon_end, horizon, state.env_steps)

        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            if config.noisy:
                return jnp.argmax(action_values(config, hp, net.apply(params, obs, key)), -1), memory, ()
            q = action_values(config, hp, net.apply(params, obs))
            return exploration.epsilon_greedy(key, q, epsilon), memory, ()

        return Policy(act)

    def random_act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        del obs
        return jax.random.randint(key, (num_envs,), 0, num_actions), memory, ()

    def collect(state: State, policy: Policy, key: jax.Array, length: int) -> tuple[State, episode.EpisodeStats]:
        out = rollout(env, state.env_params, policy, state.episode, (), key, length)
        window, transitions = n_step.extend(state.window, out.transitions, state.hp.gamma, config.n_step)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), transitions)
        following = state._replace(
            episode=out.episode,
            window=window,
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
            window=(),
            replay=buffer.init(),
            env_steps=jnp.int32(0),
        )
        return collect(state, Policy(random_act), key_warmup, warmup_length)[0]

    def step(state: State) -> tuple[State, Metrics]:
        key, key_rollout, key_updates = threefry.spawn(state.key, 3)
        state, stats = collect(state, exploring_policy(state), key_rollout, config.rollout_length)
        hp = state.hp

        def learn(carry: tuple[Learner, Any], key: jax.Array) -> tuple[tuple[Learner, Any], dict[str, jax.Array]]:
            learner, memory = carry
            key_sample, key_update = jax.random.split(key)
            drawn = buffer.sample(memory, key_sample)
            if not config.prioritized:
                learner, diagnostics = update(config, net, hp, learner, drawn, key_update)
                return (learner, memory), diagnostics
            beta = exploration.linear(hp.priority_beta, 1.0, exploration.horizon(hp.total_steps), state.env_steps)
            weight = replay.prioritized.importance_weights(drawn.probability, beta)
            learner, diagnostics = update(config, net, hp, learner, drawn.transitions, key_update, weight)
            memory = buffer.update_priorities(memory, drawn.index, diagnostics["error"], hp.priority_alpha)
            return (learner, memory), diagnostics

        keys = jax.random.split(key_updates, config.num_updates)
        (learner, memory), diagnostics = jax.lax.scan(learn, (state.learner, state.replay), keys)
        following = state._replace(key=key, learner=learner, replay=memory)
        return following, Metrics(stats, jax.tree.map(jnp.mean, diagnostics))

    steps_per_iteration = num_envs * config.rollout_length
    return Agent(init, step, policy, steps_per_iteration, warmup_length * num_envs, "rainbow", env, config)
