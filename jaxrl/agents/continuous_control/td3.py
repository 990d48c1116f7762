"""Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, arXiv:1802.09477).

    y = r + γ (1 − terminated) min_i Q_θi⁻(s', a'),   a' = clip(μ_φ⁻(s') + clip(ε, ±c), ±1),   ε ~ N(0, σ̃²)
    L(θ) = Σ_i E[½ (y − Q_θi(s, a))²],   L(φ) = −E[Q_θ1(s, μ_φ(s))]

DDPG with three changes: the smaller of two critics in the target, noise on the target's action, and a policy (and
targets, which follow softly) that moves once for `policy_delay` steps of the critics. One call of `update` is such a
round, so nothing is computed to be thrown away. Actions, noise and σ̃, c are in the unit box, which is scaled to the
environment's. A transition cut by the time limit is bootstrapped like any other.

Deviations from the paper: orthogonal weights; the replay is filled by random actions in `init`, `warmup_steps` of them;
Ornstein–Uhlenbeck noise as an option (`noise_theta`).
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
    """Gradient steps of the critics per iteration, that is, per num_envs · rollout_length environment steps."""
    policy_delay: int = 2
    """Gradient steps of the critics for each one of the policy; must divide num_updates."""
    batch_size: int = 256
    """Transitions per gradient step."""
    n_step: int = 1
    """Steps of reward in a target (`jaxrl.n_step`)."""
    replay_capacity: int = 100_000
    """Transitions that the replay holds."""
    warmup_steps: int = 1_000
    """Environment steps with random actions before the first update; they count as steps of the run."""
    hidden: tuple[int, ...] = (256, 256)
    """Sizes of the dense layers, in all networks."""
    activation: networks.Activation = "relu"
    """After every dense layer."""
    normalize_obs: bool = False
    """Give observations mean 0 and standard deviation 1, by running statistics of the run."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 1e-3
    """Step size of Adam, for all networks."""
    gamma: float = 0.99
    """Discount."""
    target_rate: float = 0.005
    """How far the targets follow at every step of the policy (τ)."""
    noise_std: float = 0.1
    """Standard deviation of what is added to the noise at every step, in units of half the range of an action."""
    noise_theta: float = 1.0
    """Part of the noise forgotten at every step: 1 makes it independent and Gaussian, less Ornstein–Uhlenbeck."""
    target_noise_std: float = 0.2
    """Standard deviation of the noise on the target's action (σ̃)."""
    target_noise_clip: float = 0.5
    """Bound of that noise (c)."""


class Learner(NamedTuple):
    """What `update` changes."""

    actor: Any
    critics: Any  # [2, ...]
    target_actor: Any
    target_critics: Any  # [2, ...]
    actor_opt: Any
    critics_opt: Any


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    experience: Experience


class Networks(NamedTuple):
    """Policy and twin action values."""

    actor: networks.Network  # apply(params, obs [..., *obs]) -> f32[..., D] in the unit box
    critics: networks.Network  # apply(params, obs [..., *obs], action f32[..., D]) -> f32[2, ..., 1]


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds the networks for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    size = require_bounded_box("td3", action_space).shape[0]
    shape = (config.hidden, config.activation)
    return Networks(
        networks.deterministic_policy(observation_space, size, *shape),
        networks.critics(observation_space, size, 2, *shape),
    )


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam, one for the policy and one for the critics."""
    return optax.adam(hp.learning_rate)


def init_learner(nets: Networks, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters; the targets start as copies."""
    key_actor, key_critics = jax.random.split(key)
    actor, critics = nets.actor.init(key_actor), nets.critics.init(key_critics)
    target_actor, target_critics = jax.tree.map(jnp.copy, (actor, critics))
    init = optimizer(hp).init
    return Learner(actor, critics, target_actor, target_critics, init(actor), init(critics))


def update(
    config: Config, nets: Networks, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """One round: `policy_delay` gradient steps of the critics, one of the policy, then the targets follow.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        learner: parameters, targets and optimiser states.
        batch: [policy_delay · batch, ...] transitions, actions in the unit box (`jaxrl.actions.unit_box`); each step of
            the critics takes its share, in order, and the policy that of the last.
        key: for the noise on the targets' actions.

    Returns:
        (learner, scalars).
    """
    # The targets stand still during a round: one pass values the successors of all its steps.
    action_tm1 = nets.actor.apply(learner.target_actor, batch.next_obs)
    noise = hp.target_noise_std * jax.random.normal(key, action_tm1.shape)
    noise = jnp.clip(noise, -hp.target_noise_clip, hp.target_noise_clip)
    next_action = jnp.clip(action_tm1 + noise, -1.0, 1.0)
    v_t = nets.critics.apply(learner.target_critics, batch.next_obs, next_action)[..., 0].min(0)
    target = batch.reward + n_step.discount(batch, hp.gamma) * v_t

    def critic_loss(params: Any, obs: Any, action: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
        q = nets.critics.apply(params, obs, action)[..., 0]
        return losses.squared(target - q).mean(-1).sum(), q.mean()

    def critic_step(carry: tuple[Any, Any], share: Any) -> tuple[tuple[Any, Any], tuple[jax.Array, jax.Array]]:
        critics, critics_opt = carry
        values, grads = jax.value_and_grad(critic_loss, has_aux=True)(critics, *share)
        step, critics_opt = optimizer(hp).update(grads, critics_opt)
        return (optax.apply_updates(critics, step), critics_opt), values

    shares = jax.tree.map(lambda x: x.reshape(config.policy_delay, -1, *x.shape[1:]), (batch.obs, batch.action, target))
    carry = (learner.critics, learner.critics_opt)
    (critics, critics_opt), (critic_values, q_means) = jax.lax.scan(critic_step, carry, shares)

    obs = jax.tree.map(lambda x: x[-1], shares[0])
    first = jax.tree.map(lambda x: x[:1], critics)

    def actor_loss(params: Any) -> jax.Array:
        return -nets.critics.apply(first, obs, nets.actor.apply(params, obs)).mean()

    actor_value, grads = jax.value_and_grad(actor_loss)(learner.actor)
    step, actor_opt = optimizer(hp).update(grads, learner.actor_opt)
    actor = optax.apply_updates(learner.actor, step)

    target_actor = optax.incremental_update(actor, learner.target_actor, hp.target_rate)
    target_critics = optax.incremental_update(critics, learner.target_critics, hp.target_rate)
    scalars = {"critic_loss": critic_values.mean(), "actor_loss": actor_value, "q_mean": q_means.mean()}
    return Learner(actor, critics, target_actor, target_critics, actor_opt, critics_opt), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds TD3 to an environment with a bounded Box of actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    if config.policy_delay < 1 or config.num_updates % config.policy_delay:
        raise InputError(f"policy_delay={config.policy_delay} does not divide num_updates={config.num_updates}.")
    rounds = config.num_updates // config.policy_delay
    nets = build(config, env.observation_space, env.action_space)
    no_noise = exploration.ou_init(require_bounded_box("td3", env.action_space).shape)
    source = experience.make(
        env,
        num_envs=config.num_envs,
        rollout_length=config.rollout_length,
        warmup_steps=config.warmup_steps,
        capacity=config.replay_capacity,
        batch_size=config.policy_delay * config.batch_size,
        draws=rounds,
        n_step=config.n_step,
        normalize_obs=config.normalize_obs,
    )

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

        xs = (source.sample(gathered, key_sample), jax.random.split(key_updates, rounds))
        learner, scalars = jax.lax.scan(learn, state.learner, xs)
        following = state._replace(key=key, learner=learner, experience=gathered)
        return following, Metrics(stats, jax.tree.map(jnp.mean, scalars))

    steps_per_iteration = config.num_envs * config.rollout_length
    return Agent(init, step, policy, steps_per_iteration, source.warmup_steps, "td3", env, config)
