"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv:1509.02971).

    y = r + γ (1 − terminated) Q_θ⁻(s', μ_φ⁻(s'))
    L(θ) = E[½ (y − Q_θ(s, a))²],   L(φ) = −E[Q_θ(s, μ_φ(s))]

After every update both targets follow softly, θ⁻ ← (1 − τ) θ⁻ + τ θ. The policy μ ends in tanh and acts in the unit
box, which is scaled to the environment's; noise is added in the unit box and clipped there. A transition cut by the
time limit is bootstrapped like any other.

Deviations from the paper: orthogonal weights, the action enters the critic's first layer, no weight decay, no batch
normalisation; two layers of 256 units and one step size for both networks, as in TD3's authors' version; Gaussian noise
by default (the paper's is `noise_theta` 0.15 with `noise_std` 0.2); the replay is filled by random actions in `init`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs import threefry
from envs.base import Env
from envs.spaces import Space
from jaxrl import experience, exploration, losses, n_step, networks
from jaxrl.actions import require_bounded_box
from jaxrl.experience import Experience
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 4
    """Environments that one run steps in parallel."""
    rollout_length: int = 1
    """Steps in each environment between updates."""
    num_updates: int = 4
    """Gradient steps of critic and policy per iteration, that is, per num_envs · rollout_length environment steps."""
    batch_size: int = 256
    """Transitions per gradient step."""
    n_step: int = 1
    """Steps of reward in a target (`jaxrl.n_step`)."""
    replay_capacity: int = 100_000
    """Transitions that the replay holds."""
    warmup_steps: int = 1_000
    """Environment steps with random actions before the first update; they count as steps of the run."""
    hidden: tuple[int, ...] = (256, 256)
    """Sizes of the dense layers, in both networks."""
    activation: networks.Activation = "relu"
    """After every dense layer."""
    normalize_obs: bool = False
    """Give observations mean 0 and standard deviation 1, by running statistics of the run."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 1e-3
    """Step size of Adam, for both networks."""
    gamma: float = 0.99
    """Discount."""
    target_rate: float = 0.005
    """How far the targets follow at every update (τ)."""
    noise_std: float = 0.1
    """Standard deviation of what is added to the noise at every step, in units of half the range of an action."""
    noise_theta: float = 1.0
    """Part of the noise forgotten at every step: 1 makes it independent and Gaussian, less Ornstein–Uhlenbeck."""


class Learner(NamedTuple):
    """What `update` changes."""

    actor: Any
    critic: Any
    target_actor: Any
    target_critic: Any
    actor_opt: Any
    critic_opt: Any


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    experience: Experience


class Networks(NamedTuple):
    """Policy and action value."""

    actor: networks.Network  # apply(params, obs [..., *obs]) -> f32[..., D] in the unit box
    critic: networks.Network  # apply(params, obs [..., *obs], action f32[..., D]) -> f32[1, ..., 1]


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds the networks for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    size = require_bounded_box("ddpg", action_space).shape[0]
    shape = (config.hidden, config.activation)
    return Networks(
        networks.deterministic_policy(observation_space, size, *shape),
        networks.critics(observation_space, size, 1, *shape),
    )


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam, one for each network."""
    return optax.adam(hp.learning_rate)


def init_learner(nets: Networks, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters; the targets start as copies."""
    key_actor, key_critic = jax.random.split(key)
    actor, critic = nets.actor.init(key_actor), nets.critic.init(key_critic)
    target_actor, target_critic = jax.tree.map(jnp.copy, (actor, critic))
    init = optimizer(hp).init
    return Learner(actor, critic, target_actor, target_critic, init(actor), init(critic))


def update(
    config: Config, nets: Networks, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """One gradient step of the critic, then one of the policy, then the targets follow.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        learner: parameters, targets and optimiser states.
        batch: [batch, ...] transitions, actions in the unit box (`jaxrl.actions.unit_box`).
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del config, key
    next_action = nets.actor.apply(learner.target_actor, batch.next_obs)
    v_t = nets.critic.apply(learner.target_critic, batch.next_obs, next_action)[0, :, 0]
    target = batch.reward + n_step.discount(batch, hp.gamma) * v_t

    def critic_loss(params: Any) -> tuple[jax.Array, jax.Array]:
        q = nets.critic.apply(params, batch.obs, batch.action)[0, :, 0]
        return losses.squared(target - q).mean(), q.mean()

    (critic_value, q_mean), grads = jax.value_and_grad(critic_loss, has_aux=True)(learner.critic)
    step, critic_opt = optimizer(hp).update(grads, learner.critic_opt)
    critic = optax.apply_updates(learner.critic, step)

    def actor_loss(params: Any) -> jax.Array:
        return -nets.critic.apply(critic, batch.obs, nets.actor.apply(params, batch.obs)).mean()

    actor_value, grads = jax.value_and_grad(actor_loss)(learner.actor)
    step, actor_opt = optimizer(hp).update(grads, learner.actor_opt)
    actor = optax.apply_updates(learner.actor, step)

    target_actor = optax.incremental_update(actor, learner.target_actor, hp.target_rate)
    target_critic = optax.incremental_update(critic, learner.target_critic, hp.target_rate)
    scalars = {"critic_loss": critic_value, "actor_loss": actor_value, "q_mean": q_mean}
    return Learner(actor, critic, target_actor, target_critic, actor_opt, critic_opt), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds DDPG to an environment with a bounded Box of actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    nets = build(config, env.observation_space, env.action_space)
    source = experience.make(
        env,
        num_envs=config.num_envs,
        rollout_length=config.rollout_length,
        warmup_steps=config.warmup_steps,
        capacity=config.replay_capacity,
        batch_size=config.batch_size,
        draws=config.num_updates,
        n_step=config.n_step,
        normalize_obs=config.normalize_obs,
    )

    no_noise = exploration.ou_init(require_bounded_box("ddpg", env.action_space).shape)

    def policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            return nets.actor.apply(state.learner.actor, obs), memory, ()

        return source.in_env(state.experience, Policy(act))

    def exploring_policy(state: State) -> Policy:
        hp = state.hp

        def act(key: jax.Array, obs: Any, noise: jax.Array) -> tuple[Any, Any, Any]:
            noise = exploration.ou_step(key, noise, hp.noise_theta, hp.noise_std, 1.0)
            return jnp.clip(nets.actor.apply(state.learner.actor, obs) + noise, -1.0, 1.0), noise, ()

        return Policy(act, no_noise)

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_learner, key_experience = jax.random.split(key, 3)
        gathered = source.init(key_experience, env_params, hp.gamma, no_noise)
        return State(key, hp, env_params, init_learner(nets, hp, key_learner), gathered)

    def step(state: State) -> tuple[State, Metrics]:
        key, key_rollout, key_sample, key_updates = threefry.spawn(state.key, 4)
        exploring = exploring_policy(state)
        gathered, stats = source.collect(state.experience, state.env_params, state.hp.gamma, exploring, key_rollout)

        def learn(learner: Learner, xs: tuple[Transition, jax.Array]) -> tuple[Learner, dict[str, jax.Array]]:
            return update(config, nets, state.hp, learner, *xs)

        keys = jax.random.split(key_updates, config.num_updates)
        learner, scalars = jax.lax.scan(learn, state.learner, (source.sample(gathered, key_sample), keys))
        following = state._replace(key=key, learner=learner, experience=gathered)
        return following, Metrics(stats, jax.tree.map(jnp.mean, scalars))

    steps_per_iteration = config.num_envs * config.rollout_length
    return Agent(init, step, policy, steps_per_iteration, source.warmup_steps, "ddpg", env, config)
