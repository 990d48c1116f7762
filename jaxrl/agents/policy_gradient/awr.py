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
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs import spaces
from envs.base import Env, Game
from envs.errors import InputError
from envs.spaces import Space
from envs.values import Fraction, NonNegative, Positive
from jaxrl import losses, minibatches, policies, returns
from jaxrl.agents.policy_gradient import policy_and_value
from jaxrl.loops import on_policy
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Transition


@dataclass(frozen=True)
class Config(on_policy.Config, policies.Config):
    """What is static: a new value means a new compilation."""

    num_envs: int = 8
    rollout_length: int = 64
    num_rollouts: int = 16
    """Rollouts that are kept."""
    critic_steps: int = 32
    """Gradient steps of the value per iteration."""
    policy_steps: int = 64
    """Gradient steps of the policy per iteration."""
    batch_size: int = 128
    """Steps of experience per gradient step."""


@struct.dataclass
class Hyperparams(on_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    policy_learning_rate: NonNegative = 3e-4
    """Step size of Adam for the policy."""
    critic_learning_rate: NonNegative = 1e-3
    """Step size of Adam for the value."""
    td_lambda: Fraction = 0.95
    """λ of the returns."""
    temperature: Positive = 1.0
    """β, in standard deviations of the advantage: the smaller, the greedier."""
    max_weight: Positive = 20.0
    """Weights are cut off here (w_max)."""


class Steps(NamedTuple):
    """What is kept of a rollout, [num_rollouts, T, B, ...]."""

    obs: Any
    action: jax.Array  # as it was drawn, before the map into the action space
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_obs: Any


class Learner(NamedTuple):
    """What `update` changes."""

    params: Any
    policy_opt: Any
    critic_opt: Any
    replay: Steps
    gathered: jax.Array  # i32[] rollouts so far; of many more than num_rollouts only how many mod num_rollouts


def build(config: Config, observation_space: Space, action_space: Space) -> policies.Networks:
    """Builds policy and value for a pair of spaces; see `policies.build` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    return policies.build("awr", observation_space, action_space, *shape, squash=config.squash)


def empty(config: Config, nets: policies.Networks, observation_space: Space) -> Steps:
    """A replay without rollouts, of zeros."""

    def one_step(key: jax.Array) -> Steps:
        obs = spaces.sample(observation_space, key)
        if config.normalize_obs:
            obs = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), obs)
        action = nets.policy(nets.init(key), obs).sample_and_log_prob(key)[0]
        return Steps(obs, action, jnp.float32(0), jnp.bool_(False), jnp.bool_(False), obs)

    lead = (config.num_rollouts, config.rollout_length, config.num_envs)
    one = jax.eval_shape(one_step, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.zeros((*lead, *x.shape), x.dtype), one)


def init_learner(
    config: Config, nets: policies.Networks, observation_space: Space, key: jax.Array, hp: Hyperparams
) -> Learner:
    """Draws the parameters."""
    params = nets.init(key)
    actor, critic = split(params)
    policy_opt = optax.adam(hp.policy_learning_rate).init(actor)
    critic_opt = optax.adam(hp.critic_learning_rate).init(critic)
    return Learner(params, policy_opt, critic_opt, empty(config, nets, observation_space), jnp.int32(0))


def split(params: Any) -> tuple[Any, Any]:
    """The parameters of the policy and those of the value."""
    return {name: part for name, part in params.items() if name != "critic"}, params["critic"]


def add(learner: Learner, batch: Transition) -> Learner:
    """Writes a rollout [T, B, ...] in the place of the oldest; its weights are not kept."""
    num_rollouts = learner.replay.reward.shape[0]
    new = Steps(batch.obs, batch.extras.unit_action, batch.reward, batch.terminated, batch.truncated, batch.next_obs)
    slot = learner.gathered % num_rollouts
    replay = jax.tree.map(lambda ring, steps: ring.at[slot].set(steps), learner.replay, new)
    gathered = learner.gathered + 1
    # Once the ring is full only the place counts: no run is so long that the number wraps.
    gathered = jnp.where(gathered == 2 * num_rollouts, num_rollouts, gathered)
    return learner._replace(replay=replay, gathered=gathered)


def update(
    config: Config,
    nets: policies.Networks,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array,
) -> tuple[Learner, Diagnostics]:
    """Keeps a rollout, and fits the value, then the policy, to what the replay holds.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        context: not used.
        learner: parameters, optimiser states and replay.
        batch: [T, B, ...]; extras are `policies.Sampled`.
        key: for the samples.

    Returns:
        (learner, scalars averaged over the gradient steps).
    """
    del context
    learner = add(learner, batch)
    steps = learner.replay
    num_rollouts = steps.reward.shape[0]
    discount, lam = returns.cuts(steps.terminated, steps.truncated, hp.gamma, hp.td_lambda)
    actor, critic = split(learner.params)
    filled = jnp.minimum(learner.gathered, num_rollouts)
    flat_obs, flat_action = jax.tree.map(lambda x: jax.lax.collapse(x, 0, 3), (steps.obs, steps.action))
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
    there = (jnp.arange(num_rollouts) < filled)[:, None, None]
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
    learner = learner._replace(params=actor | {"critic": critic}, policy_opt=policy_opt, critic_opt=critic_opt)
    return learner, Diagnostics(scalars)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """Advantage-weighted regression for a pair of spaces.

    Raises:
        InputError: spaces that the policy cannot handle.
    """
    nets = build(config, observation_space, action_space)
    init = partial(init_learner, config, nets, observation_space)
    return policy_and_value.algorithm(nets, init, partial(update, config, nets))


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds advantage-weighted regression to an environment.

    Raises:
        InputError: spaces that the policy cannot handle or normalise, no room for a rollout, or a game.
    """
    if isinstance(env, Game):
        raise InputError(f"awr plays alone: {type(env).__name__} has {env.num_players} players.")
    return on_policy.make("awr", env, algorithm(config, env.observation_space, env.action_space), config)
