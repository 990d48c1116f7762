"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347): clipped surrogate, or a penalty on the KL.

    L(θ) = E[ −min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) + c_v (V − G)²/2 − c_e H ],   ρ = π(a|s) / π_old(a|s)

or, with surrogate="kl_penalty", −ρ A + β KL(π_old ‖ π) in place of the minimum (the paper's section 4): β is doubled
after an update whose KL was more than 1.5 times the target, halved after one with less than the target / 1.5.

A is the generalised advantage estimate, normalised in every minibatch; G = A + V(s). Details after "The 37
implementation details of PPO" (Huang et al. 2022): orthogonal weights, Adam with ε = 1e-5, clipping of the value
(optional), of the *global* gradient norm, a learning rate that falls linearly to 0. Discrete actions, or a Gaussian
with a state-independent standard deviation over the unit box, clipped or squashed by tanh, and scaled to the
environment's Box. Actions are masked where the observation has an entry "action_mask" (see `jaxrl.policies`).

With `early_stop` an update ends at the first minibatch whose KL is beyond 1.5 times the target (as in OpenAI's Spinning
Up, there epoch by epoch). The remaining gradient steps are computed and thrown away, so the program has no branch.

Deviations from CleanRL's ppo.py: values are computed once from the stored observations rather than while acting, and a
step cut by the time limit is bootstrapped with the value of its true successor, where CleanRL bootstraps nothing.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from envs import episode, threefry
from envs.base import Env
from envs.errors import InputError
from envs.spaces import Box, Space
from jaxrl import exploration, losses, minibatches, networks, normalize, policies, returns
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
    squash: policies.Squash = "clip"
    """How a Gaussian action enters the Box: clipped to it, or through tanh."""
    surrogate: Literal["clip", "kl_penalty"] = "clip"
    """What keeps the policy near the one that acted: the clipped ratio, or a penalty with adaptive weight."""
    early_stop: bool = False
    """End an update once the policy has moved beyond 1.5 · hp.target_kl."""
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
    target_kl: float = 0.01
    """KL(π_old ‖ π) that the penalty aims at or the early stop allows, in nats."""
    kl_coef: float = 1.0
    """Weight β of the penalty at the start."""
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
    kl_coef: jax.Array  # f32[] β; constant with the clipped surrogate


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


def build(config: Config, observation_space: Space, action_space: Space) -> policies.Networks:
    """Builds policy and value for a pair of spaces; see `policies.build` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    return policies.build("ppo", observation_space, action_space, *shape, config.shared_torso, config.squash)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam behind a clip of the global gradient norm, over one flat vector: fewer and larger operations."""
    chain = optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.adam(hp.learning_rate, eps=1e-5))
    return optax.flatten(chain)


def init_learner(nets: policies.Networks, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters."""
    params = nets.init(key)
    return Learner(params, optimizer(hp).init(params), jnp.float32(hp.kl_coef))


class _Samples(NamedTuple):
    """What a gradient step sees, [T · B, ...]."""

    obs: Any
    action: jax.Array
    log_prob: jax.Array  # of the action under the policy that took it
    value: jax.Array  # before the update
    advantage: jax.Array
    target: jax.Array
    old_policy: Any  # the distribution of every step before the update, or () where nothing needs it


def update(
    config: Config, nets: policies.Networks, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array
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
    next_value = returns.successor_values(
        lambda obs: nets.value(learner.params, obs), value, batch.next_obs, batch.truncated
    )
    discount, lam = returns.cuts(batch.terminated, batch.truncated, hp.gamma, hp.gae_lambda)
    advantage, target = returns.gae(batch.reward, discount, value, next_value, lam)
    old_policy = nets.policy(learner.params, batch.obs) if config.surrogate == "kl_penalty" else ()
    action, log_prob = batch.extras["unit_action"], batch.extras["log_prob"]
    samples = _Samples(batch.obs, action, log_prob, value, advantage, target, old_policy)
    samples = jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, *x.shape[2:]), samples)
    num_samples = samples.value.shape[0]

    def loss(params: Any, mb: _Samples) -> tuple[jax.Array, dict[str, jax.Array]]:
        policy, value = nets.both(params, mb.obs)
        log_prob = policy.log_prob(mb.action)
        advantage = mb.advantage
        if config.normalize_advantage:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        if config.surrogate == "clip":
            approx_kl = losses.approx_kl(log_prob, mb.log_prob).mean()
            policy_loss = losses.clipped_surrogate(log_prob, mb.log_prob, advantage, hp.clip_epsilon).mean()
        else:
            approx_kl = mb.old_policy.kl(policy).mean()
            policy_loss = losses.importance_weighted(log_prob, mb.log_prob, advantage).mean()
            policy_loss += learner.kl_coef * approx_kl
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
            "approx_kl": approx_kl,
            "clip_fraction": (jnp.abs(jnp.exp(log_prob - mb.log_prob) - 1) > hp.clip_epsilon).mean(),
        }
        return total, scalars

    def gradient_step(carry: tuple[Learner, jax.Array], rows: jax.Array) -> tuple[Any, Any]:
        before, going = carry
        grads, scalars = jax.grad(loss, has_aux=True)(before.params, minibatches.take(samples, rows))
        updates, opt_state = optimizer(hp).update(grads, before.opt_state)
        after = before._replace(params=optax.apply_updates(before.params, updates), opt_state=opt_state)
        scalars["grad_norm"] = jnp.linalg.norm(ravel_pytree(grads)[0])  # a vector that the optimiser makes as well
        if config.early_stop:
            going &= scalars["approx_kl"] <= 1.5 * hp.target_kl
            after = jax.tree.map(lambda new, old: jnp.where(going, new, old), after, before)
        return (after, going), (scalars, going)

    def epoch(carry: tuple[Learner, jax.Array], key: jax.Array) -> tuple[Any, Any]:
        order = minibatches.split(key, num_samples, config.num_minibatches)
        return jax.lax.scan(gradient_step, carry, order)

    keys = jax.random.split(key, config.num_epochs)
    (learner, _), (scalars, applied) = jax.lax.scan(epoch, (learner, jnp.bool_(True)), keys)
    if config.early_stop:
        scalars = jax.tree.map(lambda x: jnp.sum(x * applied) / jnp.maximum(applied.sum(), 1), scalars)
        scalars["applied"] = applied.mean()
    scalars = jax.tree.map(jnp.mean, scalars)
    if config.surrogate == "kl_penalty":
        kl = samples.old_policy.kl(nets.policy(learner.params, samples.obs)).mean()
        factor = jnp.where(kl > 1.5 * hp.target_kl, 2.0, jnp.where(kl < hp.target_kl / 1.5, 0.5, 1.0))
        scalars |= {"kl": kl, "kl_coef": learner.kl_coef}
        learner = learner._replace(kl_coef=learner.kl_coef * factor)
    return learner, scalars


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
    observation_space = env.observation_space
    box = observation_space if isinstance(observation_space, Box) else None
    if config.normalize_obs and box is None:
        raise InputError(f"normalize_obs needs Box observations; the environment has {observation_space}.")
    nets = build(config, observation_space, env.action_space)

    def normalized(state: State, obs: Any) -> Any:
        return normalize.normalize(state.obs_moments, obs) if config.normalize_obs else obs

    def policy(state: State) -> Policy:
        return policies.greedy(nets, state.learner.params, lambda obs: normalized(state, obs))

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
        key, key_rollout, key_update = threefry.spawn(state.key, 3)
        acting = policies.sampling(nets, state.learner.params, lambda obs: normalized(state, obs))
        out = rollout(env, state.env_params, acting, state.episode, (), key_rollout, config.rollout_length)
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
