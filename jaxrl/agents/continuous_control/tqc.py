"""Truncated quantile critics (Kuznetsov et al. 2020, arXiv:2005.04269): SAC on distributions of returns.

    {z_j} = the atoms of all critics' Z_θi⁻(s', a'), sorted, without the greatest `num_dropped` per critic
    y_j = r + γ (1 − terminated) (z_j − α log π_φ(a'|s')),   a' ~ π_φ(·|s')
    L(θ) = Σ_i E[mean over j and m of ρ_τm(y_j − θ_im(s, a))],   ρ_τ(u) = |τ − 1{u < 0}| huber(u),   τ_m = (m − ½)/M
    L(φ) = E[α log π_φ(a|s) − mean of all atoms at (s, a)],   L(α) = −α E[log π_φ(a|s) + H̄]

Each critic gives M quantiles of the return. Dropping the greatest of the pooled atoms is the remedy for overestimation
that the smaller of two critics is in SAC, but finer. π is a Gaussian squashed by tanh into the unit box, which is
scaled to the environment's Box. The targets θ⁻ follow softly. A transition cut by the time limit is bootstrapped like
any other.

The exploring policy is π itself, or, with `noise_theta` < 1, π with draws that are correlated in time (see `sac`).

Deviations from the paper: two critics of two layers of 256 units instead of five of three layers of 512, as in
Stable-Baselines3's version; orthogonal weights; a step size for each of policy, critics and temperature; the replay is
filled by random actions in `init`.
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
    """Gradient steps per iteration, that is, per num_envs · rollout_length environment steps."""
    batch_size: int = 256
    """Transitions per gradient step."""
    n_step: int = 1
    """Steps of reward in a target (`jaxrl.n_step`)."""
    replay_capacity: int = 100_000
    """Transitions that the replay holds."""
    warmup_steps: int = 1_000
    """Environment steps with random actions before the first update; they count as steps of the run."""
    num_critics: int = 2
    """Distributions of returns that are learnt side by side."""
    num_quantiles: int = 25
    """Quantiles that each of them gives (M)."""
    num_dropped: int = 2
    """How many of the greatest atoms are left out of the target, for each critic."""
    hidden: tuple[int, ...] = (256, 256)
    """Sizes of the dense layers, in all networks."""
    activation: networks.Activation = "relu"
    """After every dense layer."""
    normalize_obs: bool = False
    """Give observations mean 0 and standard deviation 1, by running statistics of the run."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    policy_learning_rate: float = 3e-4
    """Step size of Adam for the policy."""
    critic_learning_rate: float = 1e-3
    """Step size of Adam for the critics."""
    temperature_learning_rate: float = 1e-3
    """Step size of Adam for log α; 0 keeps the temperature as it is."""
    gamma: float = 0.99
    """Discount."""
    target_rate: float = 0.005
    """How far the targets follow at every update."""
    temperature: float = 1.0
    """α at the start."""
    target_entropy: float = -1.0
    """The entropy that α steers to, in nats for each coordinate of the action."""
    noise_theta: float = 1.0
    """Part of the exploring policy's noise that is new at every step; 1: independent draws."""


class Learner(NamedTuple):
    """What `update` changes."""

    actor: Any
    critics: Any  # [num_critics, ...]
    target_critics: Any  # [num_critics, ...]
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
    """Policy and distributions of returns."""

    actor: networks.Network  # apply(params, obs [..., *obs]) -> SquashedNormal over [..., D], in the unit box
    critics: networks.Network  # apply(params, obs, action f32[..., D]) -> f32[num_critics, ..., num_quantiles]


class Optimizers(NamedTuple):
    """One for each part of the learner."""

    actor: optax.GradientTransformation
    critics: optax.GradientTransformation
    alpha: optax.GradientTransformation


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds the networks for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box.
    """
    size = require_bounded_box("tqc", action_space).shape[0]
    shape = (config.hidden, config.activation)
    return Networks(
        networks.squashed_policy(observation_space, size, *shape),
        networks.critics(observation_space, size, config.num_critics, *shape, outputs=config.num_quantiles),
    )


def optimizers(hp: Hyperparams) -> Optimizers:
    """Adam for each."""
    return Optimizers(
        optax.adam(hp.policy_learning_rate),
        optax.adam(hp.critic_learning_rate),
        optax.adam(hp.temperature_learning_rate),
    )


def init_learner(nets: Networks, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters; the targets start as copies."""
    key_actor, key_critics = jax.random.split(key)
    actor, critics = nets.actor.init(key_actor), nets.critics.init(key_critics)
    log_alpha = jnp.log(jnp.asarray(hp.temperature, jnp.float32))
    opt = optimizers(hp)
    return Learner(
        actor=actor,
        critics=critics,
        target_critics=jax.tree.map(jnp.copy, critics),
        log_alpha=log_alpha,
        actor_opt=opt.actor.init(actor),
        critics_opt=opt.critics.init(critics),
        alpha_opt=opt.alpha.init(log_alpha),
    )


def update(
    config: Config, nets: Networks, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """One gradient step of the critics, one of the policy and one of the temperature; then the targets follow.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        learner: parameters, targets and optimiser states.
        batch: [batch, ...] transitions, actions in the unit box (`jaxrl.actions.unit_box`).
        key: for the actions.

    Returns:
        (learner, scalars).
    """
    opt = optimizers(hp)
    alpha = jnp.exp(learner.log_alpha)
    key_next, key_action = jax.random.split(key)

    next_action, next_log_prob = nets.actor.apply(learner.actor, batch.next_obs).sample_and_log_prob(key_next)
    atoms = nets.critics.apply(learner.target_critics, batch.next_obs, next_action)
    pooled = jnp.sort(jnp.moveaxis(atoms, 0, 1).reshape(batch.reward.shape[0], -1), axis=-1)
    kept = pooled[:, : config.num_critics * (config.num_quantiles - config.num_dropped)]
    discount_t = n_step.discount(batch, hp.gamma)
    target = batch.reward[:, None] + discount_t[:, None] * (kept - alpha * next_log_prob[:, None])

    def critic_loss(params: Any) -> tuple[jax.Array, jax.Array]:
        quantiles = nets.critics.apply(params, batch.obs, batch.action)
        return losses.quantile_regression(quantiles, target).mean((-1, -2)).sum(), quantiles.mean()

    (critic_value, q_mean), grads = jax.value_and_grad(critic_loss, has_aux=True)(learner.critics)
    step, critics_opt = opt.critics.update(grads, learner.critics_opt)
    critics = optax.apply_updates(learner.critics, step)

    def actor_loss(params: Any) -> tuple[jax.Array, jax.Array]:
        action, log_prob = nets.actor.apply(params, batch.obs).sample_and_log_prob(key_action)
        q = nets.critics.apply(critics, batch.obs, action).mean((0, -1))
        return (alpha * log_prob - q).mean(), -log_prob.mean()

    (actor_value, entropy), grads = jax.value_and_grad(actor_loss, has_aux=True)(learner.actor)
    step, actor_opt = opt.actor.update(grads, learner.actor_opt)
    actor = optax.apply_updates(learner.actor, step)

    target_entropy = hp.target_entropy * next_action.shape[-1]
    grad = jax.grad(losses.temperature)(learner.log_alpha, entropy, target_entropy)
    step, alpha_opt = opt.alpha.update(grad, learner.alpha_opt)
    log_alpha: Any = optax.apply_updates(learner.log_alpha, step)

    targets = optax.incremental_update(critics, learner.target_critics, hp.target_rate)
    scalars = {
        "critic_loss": critic_value,
        "actor_loss": actor_value,
        "q_mean": q_mean,
        "entropy": entropy,
        "temperature": alpha,
    }
    return Learner(actor, critics, targets, log_alpha, actor_opt, critics_opt, alpha_opt), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds TQC to an environment with a bounded Box of actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    if not 0 <= config.num_dropped < config.num_quantiles:
        raise InputError(f"num_dropped={config.num_dropped} must be 0 … num_quantiles-1={config.num_quantiles - 1}.")
    nets = build(config, env.observation_space, env.action_space)
    no_noise = exploration.ou_init(require_bounded_box("tqc", env.action_space).shape)
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

    def policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            return nets.actor.apply(state.learner.actor, obs).mode(), memory, ()

        return source.in_env(state.experience, Policy(act))

    def exploring_policy(state: State) -> Policy:
        theta = state.hp.noise_theta
        scale = jnp.sqrt(1.0 - jnp.square(1.0 - theta))  # the noise settles at standard deviation 1

        def act(key: jax.Array, obs: Any, noise: jax.Array) -> tuple[Any, Any, Any]:
            noise = exploration.ou_step(key, noise, theta, scale, 1.0)
            pi = nets.actor.apply(state.learner.actor, obs)
            return jnp.tanh(pi.mean + pi.std * noise), noise, ()

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

        xs = (source.sample(gathered, key_sample), jax.random.split(key_updates, config.num_updates))
        learner, scalars = jax.lax.scan(learn, state.learner, xs)
        following = state._replace(key=key, learner=learner, experience=gathered)
        return following, Metrics(stats, jax.tree.map(jnp.mean, scalars))

    steps_per_iteration = config.num_envs * config.rollout_length
    return Agent(init, step, policy, steps_per_iteration, source.warmup_steps, "tqc", env, config)
