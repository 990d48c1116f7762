"""Analytic policy gradients through the environment, with a short horizon and a value at its end: SHAC.

    J(φ) = 1/(NH) Σ_i [ Σ_{t < H} γ^t r(s_t, a_t) + γ^H V_ψ⁻(s_H) ],   a_t = π_φ(s_t, ξ_t),   s_{t+1} = f(s_t, a_t)

Xu et al. 2022, arXiv:2204.07137. ∇J is `jax.grad` of a whole rollout: rewards and successors are differentiated with
respect to the actions and so to φ, where a likelihood-ratio gradient knows only which actions paid. The rollout is cut
into windows of H steps, because gradients through many steps of a chaotic or stiff system are useless; an iteration
starts where the last one stopped, and no gradient passes from one to the next. V, whose own gradient is used, smooths
what lies beyond. Where an episode ends inside of the window its sum ends too, with γ^k V of the true successor if the
time limit cut it and with nothing if it terminated, and the next episode begins again with γ^0. V is fitted to TD(λ)
returns under its target ψ⁻, which follows softly after each iteration.

It takes an environment whose `step` JAX can differentiate (float states, no integer or boolean between action and
reward). A reward that is paid at a threshold, as that of MountainCarContinuous at the goal, has no derivative: the
gradient knows of it only through V. Nothing can check that; of Discrete actions there is no derivative at all.

π is a Gaussian squashed by tanh into the unit box, which is scaled to the environment's Box; ξ is reparametrised.

Deviations from the authors' code: the spread of π depends on the state; no normalisation of observations (and no layer
norm); orthogonal weights.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from envs import episode
from envs.base import Env, Game
from envs.errors import InputError
from envs.spaces import Space
from envs.values import Checked, Fraction, NonNegative, Positive
from jaxrl import exploration, losses, minibatches, networks, returns
from jaxrl.actions import require_bounded_box, unit_box
from jaxrl.loops import clock, entry, keys, on_policy
from jaxrl.rollout import Rollout, rollout
from jaxrl.types import Agent, Context, Diagnostics, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config(Checked):
    """What is static: a new value means a new compilation."""

    num_envs: int = 16
    """Environments that one run steps in parallel (N)."""
    horizon: int = 32
    """Steps that a gradient passes through (H), one gradient step of the policy each."""
    critic_epochs: int = 8
    """Passes of the critic over every rollout."""
    critic_minibatches: int = 4
    """Parts of a rollout, one gradient step of the critic each; must divide num_envs · horizon."""
    hidden: tuple[int, ...] = (64, 64)
    """Sizes of the dense layers of policy and critic."""
    activation: networks.Activation = "elu"
    """After every dense layer; a smooth one, since the critic's gradient is used."""
    anneal_learning_rate: bool = True
    """Let both learning rates fall linearly to 0 over hp.total_steps."""


@struct.dataclass
class Hyperparams(on_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    policy_learning_rate: NonNegative = 5e-3
    """Step size of Adam for the policy, at the start."""
    critic_learning_rate: NonNegative = 5e-3
    """Step size of Adam for the critic, at the start."""
    adam_b1: Fraction = 0.7
    """Adam's decay of the mean gradient."""
    adam_b2: Fraction = 0.95
    """Adam's decay of the mean squared gradient."""
    td_lambda: Fraction = 0.95
    """λ of the critic's targets."""
    target_rate: Fraction = 0.6
    """How far the target follows the critic after each iteration."""
    max_grad_norm: Positive = 1.0
    """The gradients of policy and critic are each scaled down to this norm."""


class Learner(NamedTuple):
    """What `update` changes."""

    actor: Any
    critic: Any
    target_critic: Any
    actor_opt: Any
    critic_opt: Any


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    episode: episode.EpisodeState  # [num_envs]
    iteration: jax.Array  # i32[] updates of the learner so far


class Networks(NamedTuple):
    """Policy and value."""

    actor: networks.Network  # apply(params, obs [..., *obs]) -> SquashedNormal over [..., D], in the unit box
    critic: networks.Network  # apply(params, obs [..., *obs]) -> f32[...]


def build(config: Config, observation_space: Space, action_space: Space) -> Networks:
    """Builds the networks for a pair of spaces.

    Raises:
        InputError: an action space other than a bounded vector Box of floats.
    """
    space = require_bounded_box("apg", action_space)
    if not np.issubdtype(space.dtype, np.floating):
        raise InputError(f"apg follows gradients through actions, and integers have none; the environment has {space}.")
    size = space.shape[0]
    value = networks.with_heads(observation_space, [("value", 1, 1.0)], "mlp", config.hidden, config.activation)
    return Networks(
        networks.squashed_policy(observation_space, size, config.hidden, config.activation),
        networks.Network(value.init, lambda params, obs: value.apply(params, obs)[0][..., 0]),
    )


def optimizers(hp: Hyperparams) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Of policy and critic: Adam behind a clip of the gradient's norm."""

    def adam(learning_rate: Any) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(hp.max_grad_norm), optax.adam(learning_rate, b1=hp.adam_b1, b2=hp.adam_b2)
        )

    return adam(hp.policy_learning_rate), adam(hp.critic_learning_rate)


def init_learner(nets: Networks, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters; the target starts as a copy."""
    key_actor, key_critic = jax.random.split(key)
    actor, critic = nets.actor.init(key_actor), nets.critic.init(key_critic)
    actor_opt, critic_opt = optimizers(hp)
    return Learner(actor, critic, jax.tree.map(jnp.copy, critic), actor_opt.init(actor), critic_opt.init(critic))


def objective(
    env: Env,
    nets: Networks,
    hp: Hyperparams,
    actor: Any,
    target_critic: Any,
    env_params: Any,
    running: episode.EpisodeState,
    key: jax.Array,
    horizon: int,
) -> tuple[jax.Array, Rollout]:
    """J of the policy over one window, a differentiable function of `actor`.

    Args:
        env: the environment.
        nets: from `build`.
        hp: hyper-parameters.
        actor: parameters φ of the policy.
        target_critic: ψ⁻ of the value that stands for what follows.
        env_params: parameters of the environment.
        running: [num_envs] where the window starts.
        key: consumed.
        horizon: H.

    Returns:
        (J f32[], the rollout).
    """
    box = unit_box(require_bounded_box("apg", env.action_space))

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        return box.to_env(nets.actor.apply(actor, obs).sample(key)), memory, ()

    out = rollout(env, env_params, Policy(act), running, (), key, horizon)
    steps = out.transitions
    discount, going = returns.cuts(steps.terminated, steps.truncated, hp.gamma, 1.0)
    to_come = returns.lambda_returns(steps.reward, discount, nets.critic.apply(target_critic, steps.next_obs), going)
    # The sums from the first step of the window, and from the first of each episode that begins in it.
    first = jnp.concatenate([jnp.ones_like(going[:1]), 1.0 - going[:-1]])
    return jnp.sum(first * to_come) / first.size, out


def update(
    config: Config,
    nets: Networks,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    gradient: Any,
    batch: Transition,
    key: jax.Array,
) -> tuple[Learner, Diagnostics]:
    """One gradient step of the policy, several epochs of the critic.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        context: how far the run is.
        learner: parameters, target and optimiser states.
        gradient: ∇J with respect to the policy's parameters, which only the environment can tell.
        batch: [H, N, ...] the steps that it was computed on.
        key: for the permutations.

    Returns:
        (learner, scalars; those of the critic averaged over its gradient steps).
    """
    if config.anneal_learning_rate:
        left = exploration.anneal(1.0, 0.0, context.progress)
        rates = hp.policy_learning_rate * left, hp.critic_learning_rate * left
        hp = replace(hp, policy_learning_rate=rates[0], critic_learning_rate=rates[1])
    actor_opt, critic_opt = optimizers(hp)
    step, actor_state = actor_opt.update(jax.tree.map(jnp.negative, gradient), learner.actor_opt)
    actor = optax.apply_updates(learner.actor, step)

    discount, lam = returns.cuts(batch.terminated, batch.truncated, hp.gamma, hp.td_lambda)
    next_value = nets.critic.apply(learner.target_critic, batch.next_obs)
    target = returns.lambda_returns(batch.reward, discount, next_value, lam)
    samples = jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2), (batch.obs, target))

    def critic_loss(critic: Any, obs: Any, target: jax.Array) -> jax.Array:
        return losses.squared(nets.critic.apply(critic, obs) - target).mean()

    def critic_step(carry: tuple[Any, Any], rows: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        critic, opt_state = carry
        loss, grads = jax.value_and_grad(critic_loss)(critic, *minibatches.take(samples, rows))
        step, opt_state = critic_opt.update(grads, opt_state)
        return (optax.apply_updates(critic, step), opt_state), loss

    def epoch(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        order = minibatches.split(key, target.size, config.critic_minibatches)
        return jax.lax.scan(critic_step, carry, order)

    keys = jax.random.split(key, config.critic_epochs)
    (critic, critic_state), value_loss = jax.lax.scan(epoch, (learner.critic, learner.critic_opt), keys)
    target_critic = optax.incremental_update(critic, learner.target_critic, hp.target_rate)
    scalars = {
        "value_loss": value_loss.mean(),
        "value_mean": target.mean(),
        "policy_std": nets.actor.apply(actor, batch.obs).std.mean(),
        "grad_norm": optax.tree.norm(gradient),
    }
    return Learner(actor, critic, target_critic, actor_state, critic_state), Diagnostics(scalars)


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds analytic policy gradients to an environment with a bounded Box of actions.

    Raises:
        InputError: another action space, a rollout that does not split into minibatches, or a game.
    """
    if isinstance(env, Game):
        raise InputError(f"apg plays alone: {type(env).__name__} has {env.num_players} players.")
    minibatches.require_split(
        "critic_minibatches", config.critic_minibatches, config.num_envs, config.horizon, "horizon"
    )
    steps_per_iteration = config.num_envs * config.horizon
    nets = build(config, env.observation_space, env.action_space)
    box = unit_box(require_bounded_box("apg", env.action_space))

    def policy(state: State, shared: Any = ()) -> Policy:
        del shared

        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            return box.to_env(nets.actor.apply(state.learner.actor, obs).mode()), memory, ()

        return Policy(act)

    def init(key: jax.Array, hp: Hyperparams, env_params: Any, shared: Any = ()) -> State:
        del shared
        key, key_learner, key_episode = keys.split(key, True, True, True)
        running = episode.reset(env, env_params, key_episode, config.num_envs)
        return State(key, hp, env_params, init_learner(nets, key_learner, hp), running, jnp.int32(0))

    def step(state: State, shared: Any = ()) -> tuple[State, Metrics]:
        key, key_rollout, key_update = keys.spawn(state.key, True, True, True)
        hp, learner = state.hp, state.learner
        progress = clock.progress(hp, state.iteration, steps_per_iteration)

        def window(actor: Any) -> tuple[jax.Array, Rollout]:
            fixed = (learner.target_critic, state.env_params, state.episode, key_rollout, config.horizon)
            return objective(env, nets, hp, actor, *fixed)

        gradient, out = jax.grad(window, has_aux=True)(learner.actor)
        context = Context(shared, state.env_params, progress)
        learner, (scalars, _) = update(config, nets, hp, context, learner, gradient, out.transitions, key_update)
        following = state._replace(
            key=key, learner=learner, episode=out.episode, iteration=clock.advance(state.iteration)
        )
        return following, Metrics(out.stats, scalars)

    return entry.agent(Agent(init, step, policy, steps_per_iteration, 0, "apg", env, config))
