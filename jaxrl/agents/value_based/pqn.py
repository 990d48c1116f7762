"""Parallelised Q-network, PQN (Gallici et al. 2024, arXiv:2407.04811): Q-learning without replay and target network.

    G_t = r_t + γ (1 − terminated) ((1 − λ) max_a Q_θ(s_{t+1}, a) + λ G_{t+1}),   L(θ) = E[½ (G_t − Q_θ(s_t, a_t))²]

Many environments act ε-greedily for some steps; the λ-returns of this rollout are targets for a few epochs of
minibatches, then it is thrown away. What keeps the values bounded without a target network is layer normalisation
before every activation. The recursion (`returns.lambda_returns`) goes on through exploratory actions without a
correction, which makes it Peng's Q(λ); it ends where an episode ends, by bootstrapping from the last observation if
the time limit cut it.

Deviations from the authors' code: s_{t+1} is the true successor also where an episode was cut (theirs takes both ends
for terminal); the targets are computed from the parameters that acted, in one pass after the rollout.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs import episode, threefry
from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from jaxrl import exploration, losses, minibatches, networks, returns
from jaxrl.actions import require_discrete
from jaxrl.distributions import at_index
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 32
    """Environments that one run steps in parallel."""
    rollout_length: int = 32
    """Steps in each environment between updates."""
    num_epochs: int = 4
    """Passes over a rollout."""
    num_minibatches: int = 8
    """Gradient steps per pass."""
    layer_norm: bool = True
    """Normalise before every activation."""
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over hp.total_steps."""
    torso: networks.Torso = "mlp"
    """What stands between the observation and the values."""
    hidden: tuple[int, ...] = (120, 84)
    """Sizes of the dense layers."""
    activation: networks.Activation = "relu"
    """After every dense layer."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 1e-3
    """Step size of RAdam, at the start."""
    gamma: float = 0.99
    """Discount."""
    q_lambda: float = 0.9
    """λ of the returns: 0 one-step targets, 1 Monte Carlo."""
    epsilon_start: float = 1.0
    """Probability of a random action at the start."""
    epsilon_end: float = 0.05
    """Probability of a random action after the decay."""
    epsilon_fraction: float = 0.2
    """Part of hp.total_steps over which ε falls linearly."""
    max_grad_norm: float = 10.0
    """The gradient is scaled down to this global norm."""
    total_steps: float | None = None
    """Environment steps that the schedules of ε and step size refer to; the length of the run unless given."""


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


def build(config: Config, observation_space: Space, num_actions: int) -> networks.Network:
    """Builds the network of action values: apply(params, obs [..., *obs]) -> f32[..., A]."""
    shape = (config.torso, config.hidden, config.activation)
    return networks.q_network(observation_space, num_actions, *shape, layer_norm=config.layer_norm)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """RAdam (Liu et al. 2020, arXiv:1908.03265) behind a clip of the global gradient norm."""
    return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.radam(hp.learning_rate))


def init_learner(net: networks.Network, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters."""
    params = net.init(key)
    return Learner(params, optimizer(hp).init(params))


def update(
    config: Config, net: networks.Network, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """Several epochs of minibatch gradient steps on one rollout.

    Args:
        config: static configuration.
        net: from `build`.
        hp: hyper-parameters; `learning_rate` is used as it is.
        learner: parameters and optimiser state.
        batch: [T, B, ...] a rollout.
        key: for the permutations.

    Returns:
        (learner, scalars averaged over all gradient steps).
    """
    discount_t, lambda_t = returns.cuts(batch.terminated, batch.truncated, hp.gamma, hp.q_lambda)
    v_t = net.apply(learner.params, batch.next_obs).max(-1)
    target = returns.lambda_returns(batch.reward, discount_t, v_t, lambda_t)
    samples = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (batch.obs, batch.action, target))

    def loss(params: Any, obs: Any, action: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
        q = net.apply(params, obs)
        return losses.squared(target - at_index(q, action)).mean(), q.mean()

    def gradient_step(learner: Learner, rows: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        minibatch = minibatches.take(samples, rows)
        (value, q_mean), grads = jax.value_and_grad(loss, has_aux=True)(learner.params, *minibatch)
        step, opt_state = optimizer(hp).update(grads, learner.opt_state)
        scalars = {"loss": value, "q_mean": q_mean, "grad_norm": optax.tree.norm(grads)}
        return Learner(optax.apply_updates(learner.params, step), opt_state), scalars

    def epoch(learner: Learner, key: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        order = minibatches.split(key, target.size, config.num_minibatches)
        return jax.lax.scan(gradient_step, learner, order)

    learner, scalars = jax.lax.scan(epoch, learner, jax.random.split(key, config.num_epochs))
    return learner, jax.tree.map(jnp.mean, scalars)


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds PQN to an environment with Discrete actions.

    Raises:
        InputError: another action space, or a rollout that does not split into minibatches.
    """
    num_actions = require_discrete("pqn", env.action_space).n
    steps_per_iteration = config.num_envs * config.rollout_length
    if config.num_minibatches < 1 or steps_per_iteration % config.num_minibatches:
        raise InputError(
            f"num_minibatches={config.num_minibatches} does not divide num_envs · rollout_length = "
            f"{config.num_envs} · {config.rollout_length} = {steps_per_iteration}."
        )
    net = build(config, env.observation_space, num_actions)

    def policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            return jnp.argmax(net.apply(state.learner.params, obs), -1), memory, ()

        return Policy(act)

    def exploring_policy(state: State) -> Policy:
        hp = state.hp
        horizon = hp.epsilon_fraction * exploration.horizon(hp.total_steps)
        epsilon = exploration.linear(hp.epsilon_start, hp.epsilon_end, horizon, state.env_steps)

        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            return exploration.epsilon_greedy(key, net.apply(state.learner.params, obs), epsilon), memory, ()

        return Policy(act)

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_learner, key_episode = jax.random.split(key, 3)
        return State(
            key=key,
            hp=hp,
            env_params=env_params,
            learner=init_learner(net, hp, key_learner),
            episode=episode.reset(env, env_params, key_episode, config.num_envs),
            env_steps=jnp.int32(0),
        )

    def step(state: State) -> tuple[State, Metrics]:
        key, key_rollout, key_update = threefry.spawn(state.key, 3)
        policy, hp = exploring_policy(state), state.hp
        out = rollout(env, state.env_params, policy, state.episode, (), key_rollout, config.rollout_length)
        if config.anneal_learning_rate:
            rate = exploration.linear(hp.learning_rate, 0.0, exploration.horizon(hp.total_steps), state.env_steps)
            hp = hp._replace(learning_rate=rate)
        learner, scalars = update(config, net, hp, state.learner, out.transitions, key_update)
        env_steps = state.env_steps + steps_per_iteration
        following = state._replace(key=key, learner=learner, episode=out.episode, env_steps=env_steps)
        return following, Metrics(out.stats, scalars)

    return Agent(init, step, policy, steps_per_iteration, 0, "pqn", env, config)
