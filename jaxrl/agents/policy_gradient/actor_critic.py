"""One-step actor-critic, learning at every step (Sutton & Barto 2018, section 13.5; Barto, Sutton & Anderson 1983).

    δ = r + γ(1 − terminated) V(s′) − V(s),   w ← w + α_w δ ∇V(s),   θ ← θ + α_θ I δ ∇log π(a|s)

Both updates happen after every step, from that step alone: no rollout is kept and nothing is replayed. I = γ^t counts
the steps since the episode began: with it the update is a sample of the gradient of the discounted return from the
start. Late steps then hardly teach anything, so nearly every implementation takes I = 1, and so does this one unless
`discount_gradient` is set; what is followed then is no gradient of any objective (Nota & Thomas 2020,
arXiv:1906.07073), though it works.

Deviations from the book: steps are scaled by Adam behind a clip of the gradient's norm; several environments take their
step at once and their mean is followed (num_envs=1 is the book's); a step cut by the time limit is bootstrapped.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs import episode, threefry
from envs.base import Env
from envs.spaces import Space
from jaxrl import exploration, losses, networks, policies
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 16
    """Environments that one run steps in parallel."""
    steps_per_iteration: int = 32
    """Steps, an update after each, between two reports of metrics."""
    discount_gradient: bool = False
    """Multiply the policy's step by γ^t, t steps after the episode's start."""
    torso: networks.Torso = "mlp"
    """What stands between the observation and the heads."""
    hidden: tuple[int, ...] = (64, 64)
    """Sizes of the dense layers."""
    activation: networks.Activation = "tanh"
    """After every dense layer."""
    squash: policies.Squash = "clip"
    """How a Gaussian action enters the Box: clipped to it, or through tanh."""
    anneal_learning_rate: bool = True
    """Let both learning rates fall linearly to 0 over hp.total_steps."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 3e-4
    """Step size of the policy's Adam, at the start."""
    value_learning_rate: float = 1e-3
    """Step size of the value's Adam, at the start."""
    gamma: float = 0.99
    """Discount."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""
    max_grad_norm: float = 0.5
    """The gradients of policy and value are each scaled down to this norm."""
    total_steps: float | None = None
    """Environment steps over which the learning rates are annealed; the length of the run unless given."""


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
    env_steps: jax.Array  # i32[]


def build(config: Config, observation_space: Space, action_space: Space) -> policies.Networks:
    """Builds policy and value for a pair of spaces; see `policies.build` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    return policies.build("actor_critic", observation_space, action_space, *shape, squash=config.squash)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam for each of policy and value, behind a clip of the gradient's norm."""

    def adam(learning_rate: Any) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.adam(learning_rate, eps=1e-5))

    return policies.two_optimizers(adam(hp.learning_rate), adam(hp.value_learning_rate))


def init_learner(nets: policies.Networks, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters."""
    params = nets.init(key)
    return Learner(params, optimizer(hp).init(params))


def update(
    config: Config,
    nets: policies.Networks,
    hp: Hyperparams,
    learner: Learner,
    batch: Transition,
    key: jax.Array | None = None,
) -> tuple[Learner, dict[str, jax.Array]]:
    """One gradient step on one step of every environment.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters; the learning rates are used as they are.
        learner: parameters and optimiser state.
        batch: [B, ...]; extras hold "unit_action" as the policy drew it and "t" i32[B], steps since the start.
        key: not used.

    Returns:
        (learner, scalars).
    """
    del key
    next_value = nets.value(learner.params, batch.next_obs)
    target = batch.reward + hp.gamma * (1.0 - batch.terminated) * next_value

    def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        policy, value = nets.both(params, batch.obs)
        advantage = target - value
        if config.discount_gradient:
            advantage *= jnp.power(hp.gamma, batch.extras["t"])
        policy_loss = losses.policy_gradient(policy.log_prob(batch.extras["unit_action"]), advantage).mean()
        value_loss = losses.squared(value - target).mean()
        entropy = policy.entropy().mean()
        total = policy_loss + value_loss - hp.entropy_coef * entropy
        return total, {"loss": total, "policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    grads, scalars = jax.grad(loss, has_aux=True)(learner.params)
    updates, opt_state = optimizer(hp).update(grads, learner.opt_state, learner.params)
    scalars["grad_norm"] = optax.tree.norm(grads)
    return Learner(optax.apply_updates(learner.params, updates), opt_state), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds the actor-critic to an environment.

    Raises:
        InputError: spaces that it cannot handle.
    """
    nets = build(config, env.observation_space, env.action_space)

    def policy(state: State) -> Policy:
        return policies.greedy(nets, state.learner.params)

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_learner, key_episode = jax.random.split(key, 3)
        running = episode.reset(env, env_params, key_episode, config.num_envs)
        return State(key, hp, env_params, init_learner(nets, hp, key_learner), running, jnp.int32(0))

    def online_step(state: State, _: None) -> tuple[State, Metrics]:
        key, key_rollout = threefry.spawn(state.key)
        acting, hp = policies.old_sampling(nets, state.learner.params), state.hp
        out = rollout(env, state.env_params, acting, state.episode, (), key_rollout, 1)
        batch = jax.tree.map(lambda x: x[0], out.transitions)
        batch = batch._replace(extras=batch.extras | {"t": state.episode.t})
        if config.anneal_learning_rate:
            left = exploration.linear(1.0, 0.0, exploration.horizon(hp.total_steps), state.env_steps)
            hp = hp._replace(learning_rate=hp.learning_rate * left, value_learning_rate=hp.value_learning_rate * left)
        learner, scalars = update(config, nets, hp, state.learner, batch)
        following = state._replace(
            key=key, learner=learner, episode=out.episode, env_steps=state.env_steps + config.num_envs
        )
        return following, Metrics(out.stats, scalars)

    def step(state: State) -> tuple[State, Metrics]:
        state, metrics = jax.lax.scan(online_step, state, None, length=config.steps_per_iteration)
        episodes = jax.tree.map(lambda x: x.sum(dtype=x.dtype), metrics.episodes)
        return state, Metrics(episodes, jax.tree.map(jnp.mean, metrics.scalars))

    return Agent(init, step, policy, config.num_envs * config.steps_per_iteration, 0, "actor_critic", env, config)
