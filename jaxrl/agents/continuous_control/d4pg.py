"""Distributed distributional deep deterministic policy gradient, D4PG (Barth-Maron et al. 2018, arXiv:1804.08617).

    Y = Σ_{i<n} γ^i r_i + γ^n (1 − terminated) Z_θ⁻(s_n, μ_φ⁻(s_n)),   projected onto the values of Z
    L(θ) = −E[Σ_j P(Y = z_j) log P(Z_θ(s, a) = z_j)],   L(φ) = −E[E[Z_θ(s, μ_φ(s))]]

DDPG whose critic gives the distribution of the return, on `num_atoms` values evenly spaced from `v_min` to `v_max`
(as C51), with n-step targets. The bounds must hold the discounted returns of the task. After every update both targets
follow softly. The policy μ ends in tanh and acts in the unit box, which is scaled to the environment's; noise is added
in the unit box and clipped there. An episode cut by the time limit is bootstrapped at the state really reached.

Deviations from the paper: the parallel actors are `num_envs` environments stepped in turn with the learner, not
asynchronously; the replay is uniform (the paper found prioritised replay of little or no use); no correction for the
policy in the n steps, as there; targets follow softly instead of copies every 100 updates; two layers of 256 units,
orthogonal weights; the replay is filled by random actions in `init`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs import threefry
from envs.base import Env
from envs.errors import InputError
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
    n_step: int = 5
    """Steps of reward in a target (`jaxrl.n_step`)."""
    replay_capacity: int = 100_000
    """Transitions that the replay holds."""
    warmup_steps: int = 1_000
    """Environment steps with random actions before the first update; they count as steps of the run."""
    num_atoms: int = 51
    """Values that the distribution of the return has."""
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
    v_min: float = -100.0
    """The least return that the distribution can hold."""
    v_max: float = 100.0
    """The greatest."""
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
    """Policy and distribution of returns."""

    actor: networks.Network  # apply(params, obs [..., *obs]) -> f32[..., D] in the unit box
    critic: networks.Network  # apply(params, obs [..., *obs], action f32[..., D]) -> logits f32[1, ..., num_atoms]


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds the networks for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    size = require_bounded_box("d4pg", action_space).shape[0]
    shape = (config.hidden, config.activation)
    return Networks(
        networks.deterministic_policy(observation_space, size, *shape),
        networks.critics(observation_space, size, 1, *shape, outputs=config.num_atoms),
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
    del key
    atoms = jnp.linspace(hp.v_min, hp.v_max, config.num_atoms)
    next_action = nets.actor.apply(learner.target_actor, batch.next_obs)
    probs_t = jax.nn.softmax(nets.critic.apply(learner.target_critic, batch.next_obs, next_action)[0])
    support = batch.reward[:, None] + n_step.discount(batch, hp.gamma)[:, None] * atoms
    target = losses.categorical_projection(probs_t, support, hp.v_min, hp.v_max, config.num_atoms)

    def critic_loss(params: Any) -> tuple[jax.Array, jax.Array]:
        logits = nets.critic.apply(params, batch.obs, batch.action)[0]
        cross_entropy = -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)
        return cross_entropy.mean(), (jax.nn.softmax(logits) @ atoms).mean()

    (critic_value, q_mean), grads = jax.value_and_grad(critic_loss, has_aux=True)(learner.critic)
    step, critic_opt = optimizer(hp).update(grads, learner.critic_opt)
    critic = optax.apply_updates(learner.critic, step)

    def actor_loss(params: Any) -> jax.Array:
        logits = nets.critic.apply(critic, batch.obs, nets.actor.apply(params, batch.obs))[0]
        return -(jax.nn.softmax(logits) @ atoms).mean()

    actor_value, grads = jax.value_and_grad(actor_loss)(learner.actor)
    step, actor_opt = optimizer(hp).update(grads, learner.actor_opt)
    actor = optax.apply_updates(learner.actor, step)

    target_actor = optax.incremental_update(actor, learner.target_actor, hp.target_rate)
    target_critic = optax.incremental_update(critic, learner.target_critic, hp.target_rate)
    scalars = {"critic_loss": critic_value, "actor_loss": actor_value, "q_mean": q_mean}
    return Learner(actor, critic, target_actor, target_critic, actor_opt, critic_opt), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds D4PG to an environment with a bounded Box of actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    if config.num_atoms < 2:
        raise InputError(f"num_atoms={config.num_atoms} must be at least 2.")
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

    no_noise = exploration.ou_init(require_bounded_box("d4pg", env.action_space).shape)

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
    return Agent(init, step, policy, steps_per_iteration, source.warmup_steps, "d4pg", env, config)
