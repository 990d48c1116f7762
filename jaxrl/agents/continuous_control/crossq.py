"""CrossQ (Bhatt et al. 2024, arXiv:1902.05605): soft actor-critic with batch normalisation and no target networks.

    (Q_θi(s, a), Q_θi(s', a')) = one pass over the joint batch,   a' ~ π_φ(·|s')
    y = r + γ (1 − terminated) (min_i Q_θi(s', a') − α log π_φ(a'|s'))
    L(θ) = Σ_i E[½ (y − Q_θi(s, a))²],   L(φ) = E[α log π_φ(a|s) − min_i Q_θi(s, a)],   L(α) = −α E[log π_φ(a|s) + H̄]

Both halves of the joint batch are normalised by its common statistics, which is what makes target networks needless; no
gradient goes through y. All networks normalise their input and every layer by batch renormalisation. The policy moves
once for `policy_delay` steps of the critics; acting and judging actions use the running statistics. π is a Gaussian
squashed by tanh into the unit box, which is scaled to the environment's Box. A transition cut by the time limit is
bootstrapped like any other.

Deviations from the paper: critics of two layers of 256 units instead of 2,048 (`critic_hidden`); orthogonal weights;
the replay is filled by random actions in `init`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs import spaces, threefry
from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from jaxrl import experience, losses, networks
from jaxrl.actions import require_bounded_box
from jaxrl.distributions import SquashedNormal
from jaxrl.experience import Experience
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 3
    """Environments that one run steps in parallel."""
    rollout_length: int = 1
    """Steps in each environment between updates."""
    num_updates: int = 3
    """Gradient steps of the critics per iteration, that is, per num_envs · rollout_length environment steps."""
    policy_delay: int = 3
    """Gradient steps of the critics for each one of policy and temperature; must divide num_updates."""
    batch_size: int = 256
    """Transitions per gradient step."""
    replay_capacity: int = 100_000
    """Transitions that the replay holds."""
    warmup_steps: int = 1_000
    """Environment steps with random actions before the first update; they count as steps of the run."""
    hidden: tuple[int, ...] = (256, 256)
    """Sizes of the dense layers of the policy."""
    critic_hidden: tuple[int, ...] = (256, 256)
    """Sizes of the dense layers of the critics."""
    activation: networks.Activation = "relu"
    """After every dense layer."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 1e-3
    """Step size of Adam, for policy, critics and log α."""
    adam_b1: float = 0.5
    """Adam's decay of the mean gradient."""
    gamma: float = 0.99
    """Discount."""
    temperature: float = 1.0
    """α at the start."""
    target_entropy: float = -1.0
    """The entropy that α steers to, in nats for each coordinate of the action."""


class Learner(NamedTuple):
    """What `update` changes; statistics are those of batch renormalisation."""

    actor: Any
    actor_statistics: Any
    critics: Any  # [2, ...]
    critics_statistics: Any  # [2, ...]
    log_alpha: jax.Array  # f32[]
    actor_opt: Any
    critics_opt: Any
    alpha_opt: Any


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    experience: Experience


class Networks(NamedTuple):
    """Policy and twin action values, on encoded observations."""

    encode: Any  # obs [..., *obs] -> f32[..., n]
    actor: networks.Renormed  # f32[..., n] -> mean and log of the standard deviation, f32[..., 2 D]
    critic: networks.Renormed  # observation and action f32[..., n + D] -> f32[..., 1]


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds the networks for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    actions = require_bounded_box("crossq", action_space).shape[0]
    size = spaces.flat_size(observation_space)
    return Networks(
        lambda obs: networks.encode(observation_space, "mlp", obs),
        networks.batch_renormed(size, 2 * actions, config.hidden, config.activation, 0.01),
        networks.batch_renormed(size + actions, 1, config.critic_hidden, config.activation),
    )


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam, one for each part of the learner."""
    return optax.adam(hp.learning_rate, b1=hp.adam_b1)


def init_learner(nets: Networks, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters."""
    key_actor, key_critics = jax.random.split(key)
    actor, actor_statistics = nets.actor.init(key_actor)
    critics, critics_statistics = jax.vmap(nets.critic.init)(jax.random.split(key_critics))
    log_alpha = jnp.log(jnp.asarray(hp.temperature, jnp.float32))
    opt = optimizer(hp).init
    states = opt(actor), opt(critics), opt(log_alpha)
    return Learner(actor, actor_statistics, critics, critics_statistics, log_alpha, *states)


def policy_of(outputs: jax.Array) -> SquashedNormal:
    """The distribution that the policy's outputs f32[..., 2 D] stand for."""
    mean, log_std = jnp.split(outputs, 2, axis=-1)
    return SquashedNormal(mean, jnp.exp(jnp.clip(log_std, -20.0, 2.0)), -1.0, 1.0)


def update(
    config: Config, nets: Networks, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """One round: `policy_delay` gradient steps of the critics, then one of the policy and one of the temperature.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        learner: parameters, statistics and optimiser states.
        batch: [policy_delay · batch, ...] transitions, actions in the unit box (`jaxrl.actions.unit_box`); each step of
            the critics takes its share, in order, and the policy that of the last.
        key: for the actions.

    Returns:
        (learner, scalars).
    """
    opt = optimizer(hp)
    alpha = jnp.exp(learner.log_alpha)
    key_next, key_action = jax.random.split(key)
    obs, next_obs = nets.encode(batch.obs), nets.encode(batch.next_obs)
    # The policy stands still until the critics have moved: one pass draws the next actions of all their steps.
    outputs = nets.actor.apply(learner.actor, learner.actor_statistics, next_obs)
    next_action, next_log_prob = policy_of(outputs).sample_and_log_prob(key_next)
    discount_t = hp.gamma * (1.0 - batch.terminated)

    def critic_step(carry: tuple[Any, Any, Any], share: Any) -> tuple[tuple[Any, Any, Any], Any]:
        critics, statistics, critics_opt = carry
        reward, discount_t, next_log_prob, now, then = share
        joint = jnp.concatenate([now, then])

        def critic_loss(params: Any) -> tuple[jax.Array, Any]:
            values, changed = jax.vmap(nets.critic.train, (0, 0, None))(params, statistics, joint)
            q, q_t = jnp.split(values[..., 0], 2, axis=1)
            target = reward + discount_t * (q_t.min(0) - alpha * next_log_prob)
            return losses.squared(jax.lax.stop_gradient(target) - q).mean(-1).sum(), (changed, q.mean())

        (value, (statistics, q_mean)), grads = jax.value_and_grad(critic_loss, has_aux=True)(critics)
        step, critics_opt = opt.update(grads, critics_opt)
        return (optax.apply_updates(critics, step), statistics, critics_opt), (value, q_mean)

    now, then = jnp.concatenate([obs, batch.action], -1), jnp.concatenate([next_obs, next_action], -1)
    shares = jax.tree.map(
        lambda x: x.reshape(config.policy_delay, -1, *x.shape[1:]),
        (batch.reward, discount_t, next_log_prob, now, then),
    )
    carry = (learner.critics, learner.critics_statistics, learner.critics_opt)
    (critics, critics_statistics, critics_opt), (critic_values, q_means) = jax.lax.scan(critic_step, carry, shares)
    obs = obs.reshape(config.policy_delay, -1, *obs.shape[1:])[-1]

    def actor_loss(params: Any) -> tuple[jax.Array, Any]:
        outputs, changed = nets.actor.train(params, learner.actor_statistics, obs)
        action, log_prob = policy_of(outputs).sample_and_log_prob(key_action)
        x = jnp.concatenate([obs, action], -1)
        q = jax.vmap(nets.critic.apply, (0, 0, None))(critics, critics_statistics, x)[..., 0].min(0)
        return (alpha * log_prob - q).mean(), (changed, -log_prob.mean())

    (actor_value, (actor_statistics, entropy)), grads = jax.value_and_grad(actor_loss, has_aux=True)(learner.actor)
    step, actor_opt = opt.update(grads, learner.actor_opt)
    actor = optax.apply_updates(learner.actor, step)

    target_entropy = hp.target_entropy * next_action.shape[-1]
    grad = jax.grad(losses.temperature)(learner.log_alpha, entropy, target_entropy)
    step, alpha_opt = opt.update(grad, learner.alpha_opt)
    log_alpha: Any = optax.apply_updates(learner.log_alpha, step)

    scalars = {
        "critic_loss": critic_values.mean(),
        "actor_loss": actor_value,
        "q_mean": q_means.mean(),
        "entropy": entropy,
        "temperature": alpha,
    }
    states = actor_opt, critics_opt, alpha_opt
    return Learner(actor, actor_statistics, critics, critics_statistics, log_alpha, *states), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds CrossQ to an environment with a bounded Box of actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    if config.policy_delay < 1 or config.num_updates % config.policy_delay:
        raise InputError(f"policy_delay={config.policy_delay} does not divide num_updates={config.num_updates}.")
    rounds = config.num_updates // config.policy_delay
    nets = build(config, env.observation_space, env.action_space)
    source = experience.make(
        env,
        num_envs=config.num_envs,
        rollout_length=config.rollout_length,
        warmup_steps=config.warmup_steps,
        capacity=config.replay_capacity,
        batch_size=config.policy_delay * config.batch_size,
        draws=rounds,
    )

    def distribution(learner: Learner, obs: Any) -> SquashedNormal:
        return policy_of(nets.actor.apply(learner.actor, learner.actor_statistics, nets.encode(obs)))

    def policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            return distribution(state.learner, obs).mode(), memory, ()

        return source.in_env(state.experience, Policy(act))

    def exploring_policy(learner: Learner) -> Policy:
        return Policy(lambda key, obs, memory: (distribution(learner, obs).sample(key), memory, ()))

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_learner, key_experience = jax.random.split(key, 3)
        gathered = source.init(key_experience, env_params, hp.gamma)
        return State(key, hp, env_params, init_learner(nets, hp, key_learner), gathered)

    def step(state: State) -> tuple[State, Metrics]:
        key, key_rollout, key_sample, key_updates = threefry.spawn(state.key, 4)
        exploring = exploring_policy(state.learner)
        gathered, stats = source.collect(state.experience, state.env_params, state.hp.gamma, exploring, key_rollout)

        def learn(learner: Learner, xs: tuple[Transition, jax.Array]) -> tuple[Learner, dict[str, jax.Array]]:
            return update(config, nets, state.hp, learner, *xs)

        xs = (source.sample(gathered, key_sample), jax.random.split(key_updates, rounds))
        learner, scalars = jax.lax.scan(learn, state.learner, xs)
        following = state._replace(key=key, learner=learner, experience=gathered)
        return following, Metrics(stats, jax.tree.map(jnp.mean, scalars))

    steps_per_iteration = config.num_envs * config.rollout_length
    return Agent(init, step, policy, steps_per_iteration, source.warmup_steps, "crossq", env, config)
