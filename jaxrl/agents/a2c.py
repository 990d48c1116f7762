"""Advantage actor-critic, A2C: the synchronous form of A3C (Mnih et al. 2016, arXiv:1602.01783).

    L(θ) = E[ −log π(a|s) A + c_v (V(s) − G)²/2 − c_e H ],   G_t = r_{t+1} + γ r_{t+2} + … + γⁿ V(s_{t+n}),   A = G − V

Many actors take n steps each, every step bootstrapped with the value at the end of the rollout (λ = 1; less λ gives
generalised advantage estimates), then one RMSProp step is taken on all of it.

What became of A3C's asynchrony: its actors were threads, each with a copy of the parameters, whose gradients went into
shared memory without locks (Hogwild), since one environment at a time kept a thread waiting. What that gave was
decorrelated samples, and the many environments of one batch give them as well; what it cost were gradients of stale
parameters, and runs that no seed repeats. Here the environments are an axis of an array, all actors use the newest
parameters, and waiting does not arise. (Synchronous actors learn as well: "OpenAI Baselines: ACKTR & A2C", 2017.)

Deviations from the paper: a step cut by the time limit is bootstrapped with the value of its true successor; policy
and value share no layer unless asked to; the mean of the batch stands in the loss, not the sum.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs import episode, threefry
from envs.base import Env
from envs.errors import InputError
from envs.spaces import Box, Space
from jaxrl import exploration, losses, networks, normalize, policies, returns
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 16
    """Actors: environments that one run steps in parallel."""
    rollout_length: int = 8
    """Steps n of each actor between updates."""
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
    normalize_advantage: bool = False
    """Give the advantages of every update mean 0 and standard deviation 1."""
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over hp.total_steps."""
    epsilon_in_root: bool = True
    """Add RMSProp's ε = 1e-5 under the root, as in the paper, or to the root, as in PyTorch: a far smaller floor."""
    normalize_obs: bool = False
    """Give observations mean 0 and standard deviation 1, by running statistics of the run."""
    normalize_reward: bool = False
    """Divide rewards by the running standard deviation of the discounted return."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 2e-3
    """Step size of RMSProp, at the start."""
    gamma: float = 0.99
    """Discount."""
    gae_lambda: float = 1.0
    """λ of the advantage estimate; 1 is the paper's n-step return."""
    entropy_coef: float = 0.0
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


def build(config: Config, observation_space: Space, action_space: Space) -> policies.Networks:
    """Builds policy and value for a pair of spaces; see `policies.build` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    return policies.build("a2c", observation_space, action_space, *shape, config.shared_torso, config.squash)


def optimizer(hp: Hyperparams, epsilon_in_root: bool = True) -> optax.GradientTransformation:
    """RMSProp behind a clip of the global gradient norm; ε inside the root keeps first steps from being huge."""
    rmsprop = optax.rmsprop(hp.learning_rate, decay=0.99, eps=1e-5, eps_in_sqrt=epsilon_in_root)
    return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), rmsprop)


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
    """One gradient step on one rollout.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters; `learning_rate` is used as it is.
        learner: parameters and optimiser state.
        batch: [T, B, ...]; extras hold "unit_action" as the policy drew it.
        key: not used.

    Returns:
        (learner, scalars).
    """
    del key
    discount, lam = returns.cuts(batch.terminated, batch.truncated, hp.gamma, hp.gae_lambda)

    def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        policy, value = nets.both(params, batch.obs)
        # Of the true successor, also where the episode was cut.
        next_value = returns.successor_values(
            lambda obs: nets.value(learner.params, obs), value, batch.next_obs, batch.truncated
        )
        advantage, target = returns.gae(batch.reward, discount, jax.lax.stop_gradient(value), next_value, lam)
        if config.normalize_advantage:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        policy_loss = losses.policy_gradient(policy.log_prob(batch.extras["unit_action"]), advantage).mean()
        value_loss = losses.squared(value - target).mean()
        entropy = policy.entropy().mean()
        total = policy_loss + hp.value_coef * value_loss - hp.entropy_coef * entropy
        return total, {"loss": total, "policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    grads, scalars = jax.grad(loss, has_aux=True)(learner.params)
    updates, opt_state = optimizer(hp, config.epsilon_in_root).update(grads, learner.opt_state)
    scalars["grad_norm"] = optax.tree.norm(grads)
    return Learner(optax.apply_updates(learner.params, updates), opt_state), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds A2C to an environment.

    Raises:
        InputError: spaces that A2C cannot handle or normalise.
    """
    steps_per_iteration = config.num_envs * config.rollout_length
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
        key, key_rollout = threefry.spawn(state.key)
        acting = policies.old_sampling(nets, state.learner.params, lambda obs: normalized(state, obs))
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
        learner, scalars = update(config, nets, hp, state.learner, batch)
        following = state._replace(
            key=key,
            learner=learner,
            episode=out.episode,
            obs_moments=obs_moments,
            return_scale=return_scale,
            iteration=state.iteration + 1,
        )
        return following, Metrics(out.stats, scalars)

    return Agent(init, step, policy, steps_per_iteration, 0, "a2c", env, config)
