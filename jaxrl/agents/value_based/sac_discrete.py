"""Soft actor-critic for discrete actions (Christodoulou 2019, arXiv:1910.07207).

    V(s') = Σ_a π_φ(a|s') (min_i Q_θi⁻(s', a) − α log π_φ(a|s')),   y = r + γ (1 − terminated) V(s')
    L(θ) = Σ_i E[½ (y − Q_θi(s, a))²],   L(φ) = E[Σ_a π_φ(a|s) (α log π_φ(a|s) − min_i Q_θi(s, a))]
    L(α) = α E[H(π_φ(·|s)) − H̄]

Every expectation over actions is a sum, so nothing is sampled but the actions taken. The targets θ⁻ follow softly at
every update. A transition cut by the time limit is bootstrapped like any other.

Deviations from the paper: orthogonal weights; a step size for each of policy, critics and temperature; the target
entropy is a smaller part of log A than the paper's 0.98, which holds a policy on few actions close to uniform; the
replay is filled by random actions in `init`.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs import threefry
from envs.base import Env
from envs.spaces import Space
from jaxrl import experience, losses, n_step, networks
from jaxrl.actions import require_discrete
from jaxrl.distributions import Categorical, at_index
from jaxrl.experience import Experience
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 4
    """Environments that one run steps in parallel."""
    rollout_length: int = 1
    """Steps in each environment between updates."""
    num_updates: int = 1
    """Gradient steps per iteration, that is, per num_envs · rollout_length environment steps."""
    batch_size: int = 128
    """Transitions per gradient step."""
    n_step: int = 1
    """Steps of reward in a target (`jaxrl.n_step`)."""
    replay_capacity: int = 100_000
    """Transitions that the replay holds."""
    warmup_steps: int = 1_000
    """Environment steps with random actions before the first update; they count as steps of the run."""
    torso: networks.Torso = "mlp"
    """What stands between the observation and the heads."""
    hidden: tuple[int, ...] = (120, 84)
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
    """How far the targets follow at every update (τ)."""
    temperature: float = 1.0
    """α at the start."""
    target_entropy: float = 0.5
    """The entropy that α steers to, as a part of log A, the entropy of the uniform policy."""


class Learner(NamedTuple):
    """What `update` changes."""

    actor: Any
    critics: Any  # [2, ...]
    target_critics: Any  # [2, ...]
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
    """Policy and twin action values."""

    actor: networks.Network  # apply(params, obs [..., *obs]) -> (logits f32[..., A],)
    critics: networks.Network  # apply(params, obs [..., *obs]) -> f32[2, ..., A]


class Optimizers(NamedTuple):
    """One for each part of the learner."""

    actor: optax.GradientTransformation
    critics: optax.GradientTransformation
    alpha: optax.GradientTransformation


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds the networks for a pair of spaces.

    Raises:
        InputError: an action space that is not Discrete.
    """
    num_actions = require_discrete("sac_discrete", action_space).n
    shape = (config.torso, config.hidden, config.activation)
    return Networks(
        networks.with_heads(observation_space, [("policy", num_actions, 0.01)], *shape),
        networks.ensemble(networks.q_network(observation_space, num_actions, *shape), 2),
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
        batch: [batch, ...] transitions.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del config, key
    opt = optimizers(hp)
    alpha = jnp.exp(learner.log_alpha)

    next_policy = Categorical(nets.actor.apply(learner.actor, batch.next_obs)[0])
    q_t = nets.critics.apply(learner.target_critics, batch.next_obs).min(0)
    v_t = losses.soft_value(next_policy, q_t, alpha)
    target = batch.reward + n_step.discount(batch, hp.gamma) * v_t

    def critic_loss(params: Any) -> tuple[jax.Array, jax.Array]:
        q = at_index(nets.critics.apply(params, batch.obs), batch.action)
        return losses.squared(target - q).mean(-1).sum(), q.mean()

    (critic_value, q_mean), grads = jax.value_and_grad(critic_loss, has_aux=True)(learner.critics)
    step, critics_opt = opt.critics.update(grads, learner.critics_opt)
    critics = optax.apply_updates(learner.critics, step)
    q = nets.critics.apply(critics, batch.obs).min(0)

    def actor_loss(params: Any) -> tuple[jax.Array, jax.Array]:
        policy = Categorical(nets.actor.apply(params, batch.obs)[0])
        return -losses.soft_value(policy, q, alpha).mean(), policy.entropy().mean()

    (actor_value, entropy), grads = jax.value_and_grad(actor_loss, has_aux=True)(learner.actor)
    step, actor_opt = opt.actor.update(grads, learner.actor_opt)
    actor = optax.apply_updates(learner.actor, step)

    target_entropy = hp.target_entropy * math.log(q.shape[-1])
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
    """Binds SAC to an environment with Discrete actions.

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

    def logits(state: State, obs: Any) -> Categorical:
        return Categorical(nets.actor.apply(state.learner.actor, obs)[0])

    def policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            return logits(state, obs).mode(), memory, ()

        return source.in_env(state.experience, Policy(act))

    def exploring_policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            return logits(state, obs).sample(key), memory, ()

        return Policy(act)

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_learner, key_experience = jax.random.split(key, 3)
        return State(
            key, hp, env_params, init_learner(nets, hp, key_learner), source.init(key_experience, env_params, hp.gamma)
        )

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
    return Agent(init, step, policy, steps_per_iteration, source.warmup_steps, "sac_discrete", env, config)
