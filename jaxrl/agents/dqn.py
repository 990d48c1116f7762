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
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs import episode, threefry
from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from jaxrl import exploration, hindsight, losses, n_step, networks, replay
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
    double: bool = False
    """Double Q-learning."""
    dueling: bool = False
    """Dueling network."""
    n_step: int = 1
    """Steps of reward in a target."""
    prioritized: bool = False
    """Prioritised replay."""
    munchausen: bool = False
    """Munchausen targets; not with `double`, which has no part in them, and for one step alone."""
    hindsight: int = 0
    """Goals met later in the episode under which every step is stored as well; for environments with goals, one-step
    targets, and rollouts about as long as an episode."""
    exploration: Literal["epsilon_greedy", "softmax", "noisy"] = "epsilon_greedy"
    """How the policy that acts departs from the greedy one; hp.epsilon and hp.temperature are of the first two."""
    huber: bool = False
    """Huber loss (δ = 1) instead of the squared error."""
    torso: networks.Torso = "mlp"
    """What stands between the observation and the heads."""
    hidden: tuple[int, ...] = (120, 84)
    """Sizes of the dense layers."""
    activation: networks.Activation = "relu"
    """After every dense layer."""
    weights: Literal["orthogonal", "lecun"] = "orthogonal"
    """How kernels are drawn; the DQNs of CleanRL and purejaxrl have `networks.lecun`."""


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
    temperature: float = 0.1
    """Of softmax exploration, in units of value."""
    target_period: int = 50
    """Updates between two moves of the target parameters."""
    target_rate: float = 1.0
    """How far the target parameters move: 1 copies, a small τ follows softly."""
    priority_alpha: float = 0.6
    """How much priorities count in prioritised replay: 0 not at all, 1 in proportion."""
    priority_beta: float = 0.4
    """How much of the bias of prioritised replay is taken back at the start; all of it (1) at hp.total_steps."""
    munchausen_alpha: float = 0.9
    """How much of the scaled log-policy joins the reward."""
    munchausen_tau: float = 0.03
    """Temperature of the softmax policy, in units of value."""
    munchausen_clip: float = -1.0
    """The least that the scaled log-policy may be."""
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
    """Builds the network of action values: apply(params, obs [..., *obs]) -> f32[..., A]; noisy: see `networks`."""
    shape = (config.torso, config.hidden, config.activation)
    net = networks.q_network(observation_space, num_actions, *shape, dueling=config.dueling)
    net = networks.lecun(net) if config.weights == "lecun" else net
    return networks.noisy(net) if config.exploration == "noisy" else net


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam. The gradient's norm is not clipped: on CartPole, where values near 100, a clip at 10 slowed learning."""
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
        (learner, diagnostics): scalars, and "td_error" f32[batch], the size of each transition's error.
    """
    discount_t = n_step.discount(batch, hp.gamma)
    key_online, key_target, key_selector = jax.random.split(key, 3)

    def values(params: Any, obs: Any, key: jax.Array) -> jax.Array:
        return net.apply(params, obs, key) if config.exploration == "noisy" else net.apply(params, obs)

    q_t = values(learner.target_params, batch.next_obs, key_target)

    def loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        q_tm1 = values(params, batch.obs, key_online)
        step = (q_tm1, batch.action, batch.reward, discount_t, q_t)
        if config.munchausen:
            target_q_tm1 = values(learner.target_params, batch.obs, key_target)
            td = losses.munchausen_q_learning(
                *step, target_q_tm1, hp.munchausen_alpha, hp.munchausen_tau, hp.munchausen_clip
            )
        elif config.double:
            td = losses.double_q_learning(*step, values(params, batch.next_obs, key_selector))
        else:
            td = losses.q_learning(*step)
        each = losses.huber(td) if config.huber else losses.squared(td)
        return (weight * each).mean(), (q_tm1.mean(), jnp.abs(td))

    (value, (q_mean, td_error)), grads = jax.value_and_grad(loss, has_aux=True)(learner.params)
    step, opt_state = optimizer(hp).update(grads, learner.opt_state)
    params = optax.apply_updates(learner.params, step)
    updates = learner.updates + 1
    rate = jnp.where(updates % hp.target_period == 0, hp.target_rate, 0.0)
    target = optax.incremental_update(params, learner.target_params, rate)
    diagnostics = {"loss": value, "q_mean": q_mean, "td_error": td_error, "grad_norm": optax.tree.norm(grads)}
    return Learner(params, target, opt_state, updates), diagnostics


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds DQN to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes or variants that cannot work together.
    """
    num_envs, num_actions = config.num_envs, require_discrete("dqn", env.action_space).n
    if config.munchausen and (config.double or config.n_step > 1):
        raise InputError(f"munchausen goes with neither double={config.double} nor n_step={config.n_step} above 1.")
    if config.hindsight < 0:
        raise InputError(f"hindsight={config.hindsight} must be at least 0.")
    goals = hindsight.require_goals("dqn", env) if config.hindsight else None
    if goals and config.n_step > 1:
        raise InputError(f"hindsight judges single steps: n_step={config.n_step} must be 1.")
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
            return jnp.argmax(net.apply(state.learner.params, obs), -1), memory, ()

        return Policy(act)

    def exploring_policy(state: State) -> Policy:
        params, hp = state.learner.params, state.hp
        horizon = hp.epsilon_fraction * exploration.horizon(hp.total_steps)
        epsilon = exploration.linear(hp.epsilon_start, hp.epsilon_end, horizon, state.env_steps)

        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            if config.exploration == "noisy":
                return jnp.argmax(net.apply(params, obs, key), -1), memory, ()
            if config.exploration == "softmax":
                return exploration.softmax(key, net.apply(params, obs), hp.temperature), memory, ()
            return exploration.epsilon_greedy(key, net.apply(params, obs), epsilon), memory, ()

        return Policy(act)

    def random_act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        del obs
        return jax.random.randint(key, (num_envs,), 0, num_actions), memory, ()

    def collect(state: State, policy: Policy, key: jax.Array, length: int) -> tuple[State, episode.EpisodeStats]:
        key, key_goals = jax.random.split(key) if goals else (key, key)
        out = rollout(env, state.env_params, policy, state.episode, (), key, length)
        window, transitions = n_step.extend(state.window, out.transitions, state.hp.gamma, config.n_step)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), transitions)
        if goals:
            again = hindsight.relabel(goals, state.env_params, transitions, key_goals, config.hindsight)
            more = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), again)
            rows = jax.tree.map(lambda *parts: jnp.concatenate(parts), rows, more)
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
            memory = buffer.update_priorities(memory, drawn.index, diagnostics["td_error"], hp.priority_alpha)
            return (learner, memory), diagnostics

        keys = jax.random.split(key_updates, config.num_updates)
        (learner, memory), diagnostics = jax.lax.scan(learn, (state.learner, state.replay), keys)
        following = state._replace(key=key, learner=learner, replay=memory)
        return following, Metrics(stats, jax.tree.map(jnp.mean, diagnostics))

    steps_per_iteration = num_envs * config.rollout_length
    return Agent(init, step, policy, steps_per_iteration, warmup_length * num_envs, "dqn", env, config)
