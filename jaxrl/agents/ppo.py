"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347) with the clipped surrogate.

    L(θ) = E[ −min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) + c_v (V − G)²/2 − c_e H ],   ρ = π(a|s) / π_old(a|s)

A is the generalised advantage estimate, normalised in every minibatch; G = A + V(s). Details after "The 37
implementation details of PPO" (Huang et al. 2022): orthogonal weights, Adam with ε = 1e-5, clipping of the value
(optional), of the *global* gradient norm, a learning rate that falls linearly to 0. Discrete actions, or a Gaussian
with a state-independent standard deviation over the unit box, clipped and scaled to the environment's Box.

Deviations from CleanRL's ppo.py: values are computed once from the stored observations rather than while acting, and a
step cut by the time limit is bootstrapped with the value of its true successor, where CleanRL bootstraps nothing.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs import episode
from envs.base import Env
from envs.errors import InputError
from envs.spaces import Box, Discrete, Space
from jaxrl import exploration, losses, networks, normalize, returns
from jaxrl.actions import unit_box
from jaxrl.distributions import Categorical, Normal
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 4
    """Environments that one run steps in parallel."""
    rollout_length: int = 128
    """Steps in each environment between updates."""
    num_epochs: int = 4
    """Passes over every rollout."""
    num_minibatches: int = 4
    """Parts of a rollout, one gradient step each; must divide num_envs · rollout_length."""
    torso: networks.Torso = "mlp"
    """What stands between the observation and the heads."""
    hidden: tuple[int, ...] = (64, 64)
    """Sizes of the dense layers."""
    activation: networks.Activation = "tanh"
    """After every dense layer."""
    shared_torso: bool = False
    """One torso for policy and value instead of two."""
    clip_value: bool = True
    """Clip the change of the value as that of the policy."""
    normalize_advantage: bool = True
    """Give the advantages of every minibatch mean 0 and standard deviation 1."""
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over hp.total_steps."""
    normalize_obs: bool = False
    """Give observations mean 0 and standard deviation 1, by running statistics of the run."""
    normalize_reward: bool = False
    """Divide rewards by the running standard deviation of the discounted return."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 2.5e-4
    """Step size of Adam, at the start."""
    gamma: float = 0.99
    """Discount."""
    gae_lambda: float = 0.95
    """λ of the advantage estimate."""
    clip_epsilon: float = 0.2
    """How far the probability ratio may move before its gradient is cut."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """The gradient is scaled down to this global norm."""
    total_steps: float | None = None
    """Environment steps over which the learning rate is annealed; the length of the run unless given."""


class Learner(NamedTuple):
    """What `update` changes."""

    params: Any
    opt_state: Any


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    episode: episode.EpisodeState  # [num_envs]
    obs_moments: Any  # normalize.Moments, or () when observations are not normalised
    return_scale: Any  # normalize.ReturnScale, or ()
    iteration: jax.Array  # i32[]


class Networks(NamedTuple):
    """Policy and value function over one tree of parameters."""

    init: Any  # key -> params
    policy: Any  # (params, obs [..., *obs]) -> Categorical or Normal over [...]
    value: Any  # (params, obs [..., *obs]) -> f32[...]
    both: Any  # the two at once


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds the networks for a pair of spaces.

    Raises:
        InputError: an action space that is neither Discrete nor a vector Box.
    """
    if isinstance(action_space, Discrete):
        num_outputs = action_space.n
    elif isinstance(action_space, Box) and len(action_space.shape) == 1:
        num_outputs = action_space.shape[0]
    else:
        raise InputError(
            f"ppo needs a Discrete action space or a Box of shape (n,); the environment has {action_space}."
        )
    policy_head, value_head = ("policy", num_outputs, 0.01), ("value", 1, 1.0)
    shape = (config.torso, config.hidden, config.activation)

    def distribution(params: Any, outputs: jax.Array) -> Categorical | Normal:
        if isinstance(action_space, Discrete):
            return Categorical(outputs)
        return Normal(outputs, jnp.broadcast_to(jnp.exp(params["log_std"]), outputs.shape))

    def with_log_std(params: dict[str, Any]) -> dict[str, Any]:
        return params if isinstance(action_space, Discrete) else params | {"log_std": jnp.zeros(num_outputs)}

    if config.shared_torso:
        net = networks.with_heads(observation_space, (policy_head, value_head), *shape)

        def both(params: Any, obs: Any) -> tuple[Any, jax.Array]:
            outputs, value = net.apply(params["net"], obs)
            return distribution(params, outputs), value[..., 0]

        return Networks(
            init=lambda key: with_log_std({"net": net.init(key)}),
            policy=lambda params, obs: both(params, obs)[0],
            value=lambda params, obs: both(params, obs)[1],
            both=both,
        )

    actor = networks.with_heads(observation_space, (policy_head,), *shape)
    critic = networks.with_heads(observation_space, (value_head,), *shape)

    def init(key: jax.Array) -> Any:
        key_actor, key_critic = jax.random.split(key)
        return with_log_std({"actor": actor.init(key_actor), "critic": critic.init(key_critic)})

    def policy(params: Any, obs: Any) -> Categorical | Normal:
        return distribution(params, actor.apply(params["actor"], obs)[0])

    def value(params: Any, obs: Any) -> jax.Array:
        return critic.apply(params["critic"], obs)[0][..., 0]

    return Networks(init, policy, value, lambda params, obs: (policy(params, obs), value(params, obs)))


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam behind a clip of the global gradient norm."""
    return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.adam(hp.learning_rate, eps=1e-5))


def init_learner(nets: Networks, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters."""
    params = nets.init(key)
    return Learner(params, optimizer(hp).init(params))


class _Samples(NamedTuple):
    """What a gradient step sees, [T · B, ...]."""

    obs: Any
    action: jax.Array
    log_prob: jax.Array  # of the action under the policy that took it
    value: jax.Array  # before the update
    advantage: jax.Array
    target: jax.Array


def update(
    config: Config, nets: Networks, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """Several epochs of minibatch gradient steps on one rollout.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters; `learning_rate` is used as it is.
        learner: parameters and optimiser state.
        batch: [T, B, ...]; extras hold "log_prob" f32[T, B] and "unit_action" as the policy drew it.
        key: for the permutations.

    Returns:
        (learner, scalars averaged over all gradient steps).
    """
    # One pass of the critic over the rollout; V(next_obs) of the true successor, also where the episode was cut.
    value = nets.value(learner.params, batch.obs)
    next_value = nets.value(learner.params, batch.next_obs)
    discount, lam = returns.cuts(batch.terminated, batch.truncated, hp.gamma, hp.gae_lambda)
    advantage, target = returns.gae(batch.reward, discount, value, next_value, lam)
    samples = _Samples(batch.obs, batch.extras["unit_action"], batch.extras["log_prob"], value, advantage, target)
    samples = jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, *x.shape[2:]), samples)
    num_samples = samples.value.shape[0]

    def loss(params: Any, mb: _Samples) -> tuple[jax.Array, dict[str, jax.Array]]:
        policy, value = nets.both(params, mb.obs)
        log_prob = policy.log_prob(mb.action)
        advantage = mb.advantage
        if config.normalize_advantage:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        policy_loss = losses.clipped_surrogate(log_prob, mb.log_prob, advantage, hp.clip_epsilon).mean()
        if config.clip_value:
            value_loss = losses.clipped_value(value, mb.value, mb.target, hp.clip_epsilon).mean()
        else:
            value_loss = losses.squared(value - mb.target).mean()
        entropy = policy.entropy().mean()
        total = policy_loss + hp.value_coef * value_loss - hp.entropy_coef * entropy
        scalars = {
            "loss": total,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approx_kl": losses.approx_kl(log_prob, mb.log_prob).mean(),
            "clip_fraction": (jnp.abs(jnp.exp(log_prob - mb.log_prob) - 1) > hp.clip_epsilon).mean(),
        }
        return total, scalars

    def gradient_step(learner: Learner, mb: _Samples) -> tuple[Learner, dict[str, jax.Array]]:
        grads, scalars = jax.grad(loss, has_aux=True)(learner.params, mb)
        updates, opt_state = optimizer(hp).update(grads, learner.opt_state)
        scalars["grad_norm"] = optax.tree.norm(grads)
        return Learner(optax.apply_updates(learner.params, updates), opt_state), scalars

    def epoch(learner: Learner, key: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        order = jax.random.permutation(key, num_samples).reshape(config.num_minibatches, -1)
        return jax.lax.scan(
            lambda learner, rows: gradient_step(learner, jax.tree.map(lambda x: x[rows], samples)), learner, order
        )

    learner, scalars = jax.lax.scan(epoch, learner, jax.random.split(key, config.num_epochs))
    return learner, jax.tree.map(jnp.mean, scalars)


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds PPO to an environment.

    Raises:
        InputError: a rollout that does not split into minibatches, or spaces that PPO cannot handle.
    """
    steps_per_iteration = config.num_envs * config.rollout_length
    if config.num_minibatches < 1 or steps_per_iteration % config.num_minibatches:
        raise InputError(
            f"num_minibatches={config.num_minibatches} does not divide num_envs · rollout_length = "
            f"{config.num_envs} · {config.rollout_length} = {steps_per_iteration}."
        )
    observation_space, action_space = env.observation_space, env.action_space
    box = observation_space if isinstance(observation_space, Box) else None
    if config.normalize_obs and box is None:
        raise InputError(f"normalize_obs needs Box observations; the environment has {observation_space}.")
    nets = build(config, observation_space, action_space)

    def to_env(unit_action: jax.Array) -> jax.Array:
        return unit_box(action_space).to_env(unit_action) if isinstance(action_space, Box) else unit_action

    def normalized(state: State, obs: Any) -> Any:
        return normalize.normalize(state.obs_moments, obs) if config.normalize_obs else obs

    def acting_policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            unit_action, log_prob = nets.policy(state.learner.params, normalized(state, obs)).sample_and_log_prob(key)
            return to_env(unit_action), memory, {"unit_action": unit_action, "log_prob": log_prob}

        return Policy(act)

    def policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            return to_env(nets.policy(state.learner.params, normalized(state, obs)).mode()), memory, ()

        return Policy(act)

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_learner, key_episode = jax.random.split(key, 3)
        return State(
            key=key,
            hp=hp,
            env_params=env_params,
            learner=init_learner(nets, hp, key_learner),
            episode=episode.reset(env, env_params, key_episode, config.num_envs),
            obs_moments=normalize.init(jnp.zeros(box.shape)) if box and config.normalize_obs else (),
            return_scale=normalize.init_return_scale(config.num_envs) if config.normalize_reward else (),
            iteration=jnp.int32(0),
        )

    def step(state: State) -> tuple[State, Metrics]:
        key, key_rollout, key_update = jax.random.split(state.key, 3)
        out = rollout(
            env, state.env_params, acting_policy(state), state.episode, (), key_rollout, config.rollout_length
        )
        batch, obs_moments, return_scale, hp = out.transitions, state.obs_moments, state.return_scale, state.hp
        if config.normalize_obs:
            # The update sees what the policy saw; the statistics move afterwards.
            obs_moments = normalize.update(obs_moments, batch.obs)
            batch = batch._replace(obs=normalized(state, batch.obs), next_obs=normalized(state, batch.next_obs))
        if config.normalize_reward:
            ended = batch.terminated | batch.truncated
            return_scale, reward = normalize.scale_rewards(return_scale, batch.reward, ended, hp.gamma)
            batch = batch._replace(reward=reward)
        if config.anneal_learning_rate:
            taken = state.iteration * steps_per_iteration
            rate = exploration.linear(hp.learning_rate, 0.0, exploration.horizon(hp.total_steps), taken)
            hp = hp._replace(learning_rate=rate)
        learner, scalars = update(config, nets, hp, state.learner, batch, key_update)
        following = state._replace(
            key=key,
            learner=learner,
            episode=out.episode,
            obs_moments=obs_moments,
            return_scale=return_scale,
            iteration=state.iteration + 1,
        )
        return following, Metrics(out.stats, scalars)

    return Agent(init, step, policy, steps_per_iteration, 0, "ppo", env, config)
