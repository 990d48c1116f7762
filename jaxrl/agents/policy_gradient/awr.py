"""Advantage-weighted regression (Peng et al. 2019, arXiv:1910.00177): two supervised problems on replayed experience.

    V ← argmin_V E_D[½ (R(s, a) − V(s))²],   π ← argmax_π E_D[log π(a|s) w],   w = min(exp(A / β), w_max)
    A = R(s, a) − V(s), given mean 0 and standard deviation 1 over D

D holds the last `num_rollouts` rollouts, of all the policies that acted in them; their mixture is what the policy is
bound to. R is the TD(λ) return of the stored steps under the present V: computed anew over the whole of D before V is
fitted and again before π is. Neither importance weights nor a target network are needed, and any policy with a density
will do. D is a ring of rollouts [num_rollouts, T, B]; rollouts not yet gathered are left out.

Discrete actions, or a Gaussian with a state-independent standard deviation over the unit box, which is scaled to the
environment's Box.

Deviations from the paper: rollouts of a fixed length instead of whole episodes, so what the end of a rollout or the
time limit cuts is bootstrapped with V of the true successor; Adam instead of SGD with momentum; a learnt spread. The
normalisation of A is that of the authors' code.
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
from jaxrl import losses, minibatches, networks, policies, returns
from jaxrl.rollout import Rollout, rollout
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 8
    """Environments that one run steps in parallel."""
    rollout_length: int = 64
    """Steps in each environment between updates."""
    num_rollouts: int = 16
    """Rollouts that are kept."""
    critic_steps: int = 32
    """Gradient steps of the value per iteration."""
    policy_steps: int = 64
    """Gradient steps of the policy per iteration."""
    batch_size: int = 128
    """Steps of experience per gradient step."""
    torso: networks.Torso = "mlp"
    """What stands between the observation and the heads."""
    hidden: tuple[int, ...] = (64, 64)
    """Sizes of the dense layers."""
    activation: networks.Activation = "tanh"
    """After every dense layer."""
    squash: policies.Squash = "clip"
    """How a Gaussian action enters the Box: clipped to it, or through tanh."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    policy_learning_rate: float = 3e-4
    """Step size of Adam for the policy."""
    critic_learning_rate: float = 1e-3
    """Step size of Adam for the value."""
    gamma: float = 0.99
    """Discount."""
    td_lambda: float = 0.95
    """λ of the returns."""
    temperature: float = 1.0
    """β, in standard deviations of the advantage: the smaller, the greedier."""
    max_weight: float = 20.0
    """Weights are cut off here (w_max)."""


class Learner(NamedTuple):
    """What `update` changes."""

    params: Any
    policy_opt: Any
    critic_opt: Any


class Replay(NamedTuple):
    """The rollouts that are kept."""

    steps: Transition  # [num_rollouts, T, B, ...]; extras hold "unit_action" as it was drawn
    gathered: jax.Array  # i32[] rollouts so far; the next is written at gathered mod num_rollouts


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    episode: episode.EpisodeState  # [num_envs]
    replay: Replay


def build(config: Config, observation_space: Space, action_space: Space) -> policies.Networks:
    """Builds policy and value for a pair of spaces; see `policies.build` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    return policies.build("awr", observation_space, action_space, *shape, squash=config.squash)


def init_learner(nets: policies.Networks, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters."""
    params = nets.init(key)
    actor, critic = split(params)
    return Learner(
        params, optax.adam(hp.policy_learning_rate).init(actor), optax.adam(hp.critic_learning_rate).init(critic)
    )


def split(params: Any) -> tuple[Any, Any]:
    """The parameters of the policy and those of the value."""
    return {name: part for name, part in params.items() if name != "critic"}, params["critic"]


def update(
    config: Config, nets: policies.Networks, hp: Hyperparams, learner: Learner, batch: Replay, key: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """Fits the value, then the policy, to what the replay holds.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        learner: parameters and optimiser states.
        batch: the replay, with one rollout or more.
        key: for the samples.

    Returns:
        (learner, scalars averaged over the gradient steps).
    """
    steps = batch.steps
    discount, lam = returns.cuts(steps.terminated, steps.truncated, hp.gamma, hp.td_lambda)
    actor, critic = split(learner.params)
    filled = jnp.minimum(batch.gathered, config.num_rollouts)
    flat_obs, flat_action = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[3:]), (steps.obs, steps.extras["unit_action"])
    )
    size = steps.reward[0].size

    def targets(critic: Any) -> tuple[jax.Array, jax.Array]:
        """(V, R) of every step, f32[num_rollouts, T, B]."""
        value = nets.value({"critic": critic}, steps.obs)
        next_value = nets.value({"critic": critic}, steps.next_obs)
        return value, jax.vmap(returns.lambda_returns)(steps.reward, discount, next_value, lam)

    def draw(key: jax.Array, num: int) -> jax.Array:
        """Rows of the flattened replay, i32[num, batch_size], among the rollouts that there are."""
        return jax.random.randint(key, (num, config.batch_size), 0, filled * size)

    key_critic, key_policy = jax.random.split(key)
    _, target = targets(critic)
    flat_target = target.reshape(-1)

    def critic_loss(critic: Any, rows: jax.Array) -> jax.Array:
        value = nets.value({"critic": critic}, minibatches.take(flat_obs, rows))
        return losses.squared(value - flat_target[rows]).mean()

    def critic_step(carry: tuple[Any, Any], rows: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        critic, opt_state = carry
        loss, grads = jax.value_and_grad(critic_loss)(critic, rows)
        step, opt_state = optax.adam(hp.critic_learning_rate).update(grads, opt_state)
        return (optax.apply_updates(critic, step), opt_state), loss

    (critic, critic_opt), value_loss = jax.lax.scan(
        critic_step, (critic, learner.critic_opt), draw(key_critic, config.critic_steps)
    )

    value, target = targets(critic)
    there = (jnp.arange(config.num_rollouts) < filled)[:, None, None]
    advantage = target - value
    mean = jnp.sum(advantage * there) / (filled * size)
    std = jnp.sqrt(jnp.sum(jnp.square(advantage - mean) * there) / (filled * size))
    weight = jnp.minimum(jnp.exp((advantage - mean) / (std + 1e-5) / hp.temperature), hp.max_weight)
    flat_weight = weight.reshape(-1)

    def policy_loss(actor: Any, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        policy = nets.policy(actor, minibatches.take(flat_obs, rows))
        return -(policy.log_prob(flat_action[rows]) * flat_weight[rows]).mean(), policy.entropy().mean()

    def policy_step(carry: tuple[Any, Any], rows: jax.Array) -> tuple[tuple[Any, Any], tuple[jax.Array, jax.Array]]:
        actor, opt_state = carry
        out, grads = jax.value_and_grad(policy_loss, has_aux=True)(actor, rows)
        step, opt_state = optax.adam(hp.policy_learning_rate).update(grads, opt_state)
        return (optax.apply_updates(actor, step), opt_state), out

    (actor, policy_opt), (regression, entropy) = jax.lax.scan(
        policy_step, (actor, learner.policy_opt), draw(key_policy, config.policy_steps)
    )
    scalars = {
        "value_loss": value_loss.mean(),
        "policy_loss": regression.mean(),
        "entropy": entropy.mean(),
        "advantage_std": std,
        "weight_mean": jnp.sum(weight * there) / (filled * size),
    }
    return Learner(actor | {"critic": critic}, policy_opt, critic_opt), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds advantage-weighted regression to an environment.

    Raises:
        InputError: spaces that the policy cannot handle, or no room for a rollout.
    """
    if config.num_rollouts < 1:
        raise InputError(f"num_rollouts={config.num_rollouts} must be at least 1.")
    nets = build(config, env.observation_space, env.action_space)

    def policy(state: State) -> Policy:
        return policies.greedy(nets, state.learner.params)

    def gather(params: Any, env_params: Any, running: episode.EpisodeState, key: jax.Array) -> Rollout:
        acting = policies.old_sampling(nets, params)
        return rollout(env, env_params, acting, running, (), key, config.rollout_length)

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_learner, key_episode = jax.random.split(key, 3)
        running = episode.reset(env, env_params, key_episode, config.num_envs)
        learner = init_learner(nets, hp, key_learner)
        one = jax.eval_shape(gather, learner.params, env_params, running, key).transitions
        empty = jax.tree.map(lambda x: jnp.zeros((config.num_rollouts, *x.shape), x.dtype), one)
        return State(key, hp, env_params, learner, running, Replay(empty, jnp.int32(0)))

    def step(state: State) -> tuple[State, Metrics]:
        key, key_rollout, key_update = threefry.spawn(state.key, 3)
        out = gather(state.learner.params, state.env_params, state.episode, key_rollout)
        slot = state.replay.gathered % config.num_rollouts
        steps = jax.tree.map(lambda ring, new: ring.at[slot].set(new), state.replay.steps, out.transitions)
        replay = Replay(steps, state.replay.gathered + 1)
        learner, scalars = update(config, nets, state.hp, state.learner, replay, key_update)
        return state._replace(key=key, learner=learner, episode=out.episode, replay=replay), Metrics(out.stats, scalars)

    return Agent(init, step, policy, config.num_envs * config.rollout_length, 0, "awr", env, config)
