"""Actor-critic whose actors lag behind the learner, corrected by V-trace.

IMPALA (Espeholt et al. 2018, arXiv:1802.01561):

    L(θ) = E[ −log π(a|s) A + c_v (V(s) − G)²/2 − c_e H ]

with G and A from V-trace (`returns.vtrace`): importance weights π/μ, truncated, of the learner's policy π over the
policy μ that acted. One RMSProp step is taken on every rollout.

IMPALA's actors are processes that fetch parameters when they can. Here actors and learner share one program and the
lag is a number: a rollout is taken with the parameters of `lag` updates ago, so that the effect of staleness, and of
what corrects it, can be measured and repeated. With lag=0 all weights are 1 (but for rounding): an A2C.

Deviations from the paper: every actor has the same lag; a step cut by the time limit is bootstrapped with the value of
its true successor; the mean of the batch stands in the loss, not the sum; no recurrent network.
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
from jaxrl import exploration, losses, networks, policies, returns
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 16
    """Actors: environments that one run steps in parallel."""
    rollout_length: int = 16
    """Steps of each actor between updates."""
    lag: int = 2
    """Updates by which the actors' parameters are older than the learner's."""
    correct: bool = True
    """Weight by π/μ; without, the stale rollouts are taken for the learner's own."""
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
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over hp.total_steps."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 2e-3
    """Step size of RMSProp, at the start."""
    gamma: float = 0.99
    """Discount."""
    trace_lambda: float = 1.0
    """λ of the traces; 1 is the paper's."""
    clip_rho: float = 1.0
    """Bound of the weights in the value targets."""
    clip_pg_rho: float = 1.0
    """Bound of the weights in the policy gradient."""
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
    earlier: Any  # parameters before each of the last `lag` updates, oldest first: leaves [lag, ...]
    episode: episode.EpisodeState  # [num_envs]
    iteration: jax.Array  # i32[]


def build(config: Config, observation_space: Space, action_space: Space) -> policies.Networks:
    """Builds policy and value for a pair of spaces; see `policies.build` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    return policies.build("impala", observation_space, action_space, *shape, config.shared_torso, config.squash)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """RMSProp behind a clip of the global gradient norm."""
    rmsprop = optax.rmsprop(hp.learning_rate, decay=0.99, eps=1e-5, eps_in_sqrt=True)
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
    """One gradient step on one rollout, of whatever policy.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters; `learning_rate` is used as it is.
        learner: parameters and optimiser state.
        batch: [T, B, ...]; extras hold "unit_action" as it was drawn and its "log_prob" f32[T, B] under the policy that
            acted.
        key: not used.

    Returns:
        (learner, scalars).
    """
    del key
    discount, lam = returns.cuts(batch.terminated, batch.truncated, hp.gamma, hp.trace_lambda)

    def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        policy, value = nets.both(params, batch.obs)
        log_prob = policy.log_prob(batch.extras["unit_action"])
        old_value, new_log_prob = jax.lax.stop_gradient((value, log_prob))
        next_value = returns.successor_values(
            lambda obs: nets.value(learner.params, obs), old_value, batch.next_obs, batch.truncated
        )
        weight = jnp.exp(new_log_prob - batch.extras["log_prob"]) if config.correct else jnp.ones_like(log_prob)
        clips = (hp.clip_rho, hp.clip_pg_rho)
        advantage, target = returns.vtrace(batch.reward, discount, old_value, next_value, weight, lam, *clips)
        policy_loss = losses.policy_gradient(log_prob, advantage).mean()
        value_loss = losses.squared(value - target).mean()
        entropy = policy.entropy().mean()
        total = policy_loss + hp.value_coef * value_loss - hp.entropy_coef * entropy
        scalars = {
            "loss": total,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "weight": weight.mean(),
            "lag_kl": losses.approx_kl(new_log_prob, batch.extras["log_prob"]).mean(),
        }
        return total, scalars

    grads, scalars = jax.grad(loss, has_aux=True)(learner.params)
    updates, opt_state = optimizer(hp).update(grads, learner.opt_state)
    scalars["grad_norm"] = optax.tree.norm(grads)
    return Learner(optax.apply_updates(learner.params, updates), opt_state), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds the agent to an environment.

    Raises:
        InputError: a negative lag, or spaces that it cannot handle.
    """
    if config.lag < 0:
        raise InputError(f"lag={config.lag} must be at least 0.")
    steps_per_iteration = config.num_envs * config.rollout_length
    nets = build(config, env.observation_space, env.action_space)

    def policy(state: State) -> Policy:
        return policies.greedy(nets, state.learner.params)

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_learner, key_episode = jax.random.split(key, 3)
        learner = init_learner(nets, hp, key_learner)
        return State(
            key=key,
            hp=hp,
            env_params=env_params,
            learner=learner,
            earlier=jax.tree.map(lambda x: jnp.repeat(x[None], config.lag, 0), learner.params),
            episode=episode.reset(env, env_params, key_episode, config.num_envs),
            iteration=jnp.int32(0),
        )

    def step(state: State) -> tuple[State, Metrics]:
        key, key_rollout = threefry.spawn(state.key)
        hp, params, earlier = state.hp, state.learner.params, state.earlier
        acting = jax.tree.map(lambda x: x[0], earlier) if config.lag else params
        if config.lag:
            earlier = jax.tree.map(lambda old, new: jnp.concatenate([old[1:], new[None]]), earlier, params)
        running = state.episode
        sampling = policies.old_sampling(nets, acting)
        out = rollout(env, state.env_params, sampling, running, (), key_rollout, config.rollout_length)
        if config.anneal_learning_rate:
            taken = state.iteration * steps_per_iteration
            rate = exploration.linear(hp.learning_rate, 0.0, exploration.horizon(hp.total_steps), taken)
            hp = hp._replace(learning_rate=rate)
        learner, scalars = update(config, nets, hp, state.learner, out.transitions)
        following = state._replace(
            key=key, learner=learner, earlier=earlier, episode=out.episode, iteration=state.iteration + 1
        )
        return following, Metrics(out.stats, scalars)

    return Agent(init, step, policy, steps_per_iteration, 0, "impala", env, config)
