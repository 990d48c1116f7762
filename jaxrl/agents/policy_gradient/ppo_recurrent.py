"""PPO with a recurrent memory, for tasks whose observation is not the state: GRU or LSTM.

    (π(·|o_≤t), V_t, m_t) = net_θ(o_t, m_{t−1}),   L(θ) as in PPO (Schulman et al. 2017, arXiv:1707.06347)

The loss is PPO's: clipped surrogate, squared error of the value, entropy bonus, generalised advantages normalised in
every minibatch. What a memory changes: a minibatch is a set of environments, each with its whole rollout, which the
network replays from the memory m that it had when the rollout began, by backpropagation through all its steps (Mnih et
al. 2016, arXiv:1602.01783, section 4). The memory is set back where an episode ended, in acting and in replaying alike,
so that before the first gradient step both give the same probabilities. Later steps and epochs still begin with the m
of the parameters that acted; nothing flows back beyond the beginning of the rollout.

The value of a true successor o_{t+1} is computed with the memory after step t of the same episode, before it is set
back: a step cut by the time limit is bootstrapped like any other. Where every episode is cut at the same step, that
successor has a past in which the agent never acts, so its value is an extrapolation that nothing corrects.

Policy and value are two heads of one network, so rewards are scaled: the gradient of large values would leave nothing
to the policy under the clipped norm. The units begin with times of forgetting from 1 to `time_scale` steps (chrono
initialisation, Tallec & Ollivier 2018, arXiv:1804.11188, over the logarithms): with gates half open, as they begin
elsewhere, a cue has faded after a few steps, and so has the gradient that should teach the network to keep it.

Deviations from CleanRL's ppo_atari_lstm.py, beside those of `ppo`: a GRU as well, chrono initialisation, scaled
rewards, no clipping of the value.
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
from jaxrl import exploration, losses, minibatches, networks, normalize, policies, returns
from jaxrl.rollout import initial_memory, rollout
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 16
    """Environments that one run steps in parallel."""
    rollout_length: int = 128
    """Steps in each environment between updates; gradients reach back at most so far."""
    num_epochs: int = 4
    """Passes over every rollout."""
    num_minibatches: int = 2
    """Parts of a rollout, one gradient step each; must divide num_envs."""
    torso: networks.Torso = "mlp"
    """What stands between the observation and the memory."""
    hidden: tuple[int, ...] = (32,)
    """Sizes of the dense layers before the memory."""
    activation: networks.Activation = "tanh"
    """After every dense layer."""
    cell: networks.Cell = "gru"
    """The recurrent cell."""
    memory_size: int = 32
    """Units of the memory."""
    time_scale: int = 100
    """The units begin with times of forgetting from 1 to about so many steps."""
    normalize_reward: bool = True
    """Divide rewards by the running standard deviation of the discounted return."""
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over hp.total_steps."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 2e-3
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
    memory: jax.Array  # f32[num_envs, ...] of the policy
    return_scale: Any  # normalize.ReturnScale, or () when rewards are not normalised
    iteration: jax.Array  # i32[]


def build(config: Config, observation_space: Space, action_space: Space) -> policies.MemoryNetworks:
    """Builds policy and value for a pair of spaces; see `policies.with_memory` for what they may be."""
    shape = (config.torso, config.hidden, config.activation, config.memory_size, config.cell, config.time_scale)

    def make_net(space: Space, heads: tuple[tuple[str, int, float], ...]) -> networks.SequenceNetwork:
        return networks.as_sequence_network(networks.recurrent(space, heads, *shape))

    return policies.with_memory("ppo_recurrent", observation_space, action_space, make_net)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam behind a clip of the global gradient norm."""
    return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.adam(hp.learning_rate, eps=1e-5))


def init_learner(nets: policies.MemoryNetworks, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters."""
    params = nets.init(key)
    return Learner(params, optimizer(hp).init(params))


class _Sequences(NamedTuple):
    """What a gradient step sees, [T, environments, ...]."""

    obs: Any
    action: jax.Array
    ended: jax.Array  # the memory is set back after this step
    log_prob: jax.Array  # of the action under the policy that took it
    advantage: jax.Array
    target: jax.Array


def update(
    config: Config, nets: policies.MemoryNetworks, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """Several epochs of minibatch gradient steps on one rollout.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters; `learning_rate` is used as it is.
        learner: parameters and optimiser state.
        batch: [T, B, ...]; extras hold "log_prob" f32[T, B], "unit_action" as the policy drew it, and "memory"
            [B, ...], that of the policy before the first step.
        key: for the permutations.

    Returns:
        (learner, scalars averaged over all gradient steps).
    """
    memory, ended = batch.extras["memory"], batch.terminated | batch.truncated
    _, value, next_value = nets.unroll(learner.params, batch.obs, memory, ended, batch.next_obs)
    discount, lam = returns.cuts(batch.terminated, batch.truncated, hp.gamma, hp.gae_lambda)
    advantage, target = returns.gae(batch.reward, discount, value, next_value, lam)
    action, log_prob = batch.extras["unit_action"], batch.extras["log_prob"]
    sequences = _Sequences(batch.obs, action, ended, log_prob, advantage, target)

    def loss(params: Any, memory: Any, mb: _Sequences) -> tuple[jax.Array, dict[str, jax.Array]]:
        policy, value, _ = nets.unroll(params, mb.obs, memory, mb.ended)
        log_prob = policy.log_prob(mb.action)
        advantage = (mb.advantage - mb.advantage.mean()) / (mb.advantage.std() + 1e-8)
        policy_loss = losses.clipped_surrogate(log_prob, mb.log_prob, advantage, hp.clip_epsilon).mean()
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

    def gradient_step(learner: Learner, chosen: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        mb = jax.tree.map(lambda x: jnp.asarray(x)[:, chosen], sequences)
        start = jax.tree.map(lambda x: jnp.asarray(x)[chosen], memory)
        grads, scalars = jax.grad(loss, has_aux=True)(learner.params, start, mb)
        step, opt_state = optimizer(hp).update(grads, learner.opt_state)
        learner = Learner(optax.apply_updates(learner.params, step), opt_state)
        return learner, scalars | {"grad_norm": optax.tree.norm(grads)}

    def epoch(learner: Learner, key: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        order = minibatches.split(key, config.num_envs, config.num_minibatches)
        return jax.lax.scan(gradient_step, learner, order)

    learner, scalars = jax.lax.scan(epoch, learner, jax.random.split(key, config.num_epochs))
    return learner, jax.tree.map(jnp.mean, scalars)


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds recurrent PPO to an environment.

    Raises:
        InputError: environments that do not split into minibatches, or spaces that PPO cannot handle.
    """
    if config.num_minibatches < 1 or config.num_envs % config.num_minibatches:
        raise InputError(
            f"num_minibatches={config.num_minibatches} does not divide num_envs={config.num_envs}: a minibatch is a "
            "set of environments, each with its whole rollout."
        )
    if config.time_scale < 1:
        raise InputError(f"time_scale={config.time_scale} must be at least 1 step.")
    nets = build(config, env.observation_space, env.action_space)
    steps_per_iteration = config.num_envs * config.rollout_length

    def policy(state: State) -> Policy:
        return policies.greedy_with_memory(nets, state.learner.params)

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_learner, key_episode = jax.random.split(key, 3)
        learner = init_learner(nets, hp, key_learner)
        return State(
            key=key,
            hp=hp,
            env_params=env_params,
            learner=learner,
            episode=episode.reset(env, env_params, key_episode, config.num_envs),
            memory=initial_memory(policies.old_sampling_with_memory(nets, learner.params), config.num_envs),
            return_scale=normalize.init_return_scale(config.num_envs) if config.normalize_reward else (),
            iteration=jnp.int32(0),
        )

    def step(state: State) -> tuple[State, Metrics]:
        key, key_rollout, key_update = threefry.spawn(state.key, 3)
        acting = policies.old_sampling_with_memory(nets, state.learner.params)
        out = rollout(env, state.env_params, acting, state.episode, state.memory, key_rollout, config.rollout_length)
        batch = out.transitions._replace(extras=out.transitions.extras | {"memory": state.memory})
        hp, return_scale = state.hp, state.return_scale
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
            memory=out.memory,
            return_scale=return_scale,
            iteration=state.iteration + 1,
        )
        return following, Metrics(out.stats, scalars)

    return Agent(init, step, policy, steps_per_iteration, 0, "ppo_recurrent", env, config)
