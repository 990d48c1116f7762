"""Trust region policy optimisation (Schulman et al. 2015, arXiv:1502.05477).

    max_θ E[ π_θ(a|s)/π_old(a|s) A ]   subject to   E[ KL(π_old(·|s) ‖ π_θ(·|s)) ] ≤ δ

To first order in the objective g and second order in the constraint the step is √(2δ / xᵀFx) x with x = F⁻¹g, F the
Fisher information of the policy. x comes from conjugate gradients, which need products F v alone; F itself is never
built. Then the step is shortened until the true objective improves and the true KL is at most δ; if no length does,
the policy stays. The critic is fitted to GAE's returns by epochs of Adam on minibatches (Schulman et al. 2016).

The KL of each update, exact over the states of the rollout, is reported as `kl`; by construction it never exceeds δ.

Deviations from the paper: generalised advantage estimates, normalised, instead of Monte Carlo returns (as in the
authors' later code, which also damps F by 0.1); a step cut by the time limit is bootstrapped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.flatten_util import ravel_pytree

from envs.base import Env
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
    rollout_length: int = 256
    cg_iterations: int = 10
    """Steps of conjugate gradients."""
    line_search_steps: int = 10
    """Lengths of the step that are tried, each 0.8 times the one before."""
    critic_epochs: int = 10
    """Passes of the critic over every rollout."""
    critic_minibatches: int = 16
    """Parts of a rollout, one gradient step of the critic each; must divide num_envs · rollout_length."""


@struct.dataclass
class Hyperparams(on_policy.Hyperparams):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    max_kl: Positive = 0.01
    """δ, how far one update may move the policy, in nats."""
    gae_lambda: Fraction = 0.95
    """λ of the advantage estimate."""
    damping: NonNegative = 0.1
    """Added to the diagonal of F."""
    critic_learning_rate: NonNegative = 1e-3
    """Step size of the critic's Adam."""


class Learner(NamedTuple):
    """What `update` changes."""

    params: Any
    critic_opt_state: Any


def build(config: Config, observation_space: Space, action_space: Space) -> policies.Networks:
    """Builds policy and value for a pair of spaces; see `policies.build` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    return policies.build("trpo", observation_space, action_space, *shape, squash=config.squash)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """The critic's Adam; the policy has none."""
    return optax.adam(hp.critic_learning_rate)


def init_learner(nets: policies.Networks, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters."""
    params = nets.init(key)
    return Learner(params, optimizer(hp).init(params["critic"]))


def fisher_vector_product(policy: Callable[[Any], Any], params: Any, vector: Any, weight: Any = ()) -> Any:
    """F v = Jᵀ M J v, with J the Jacobian of the policy's outputs and M the Hessian of the KL in these outputs.

    Args:
        policy: params -> a batch of distributions (a pytree with a method `kl`); F is the mean over the batch.
        params: where F is taken.
        vector: v, with the structure of `params`.
        weight: how much each of the batch counts, f32 or (); see `losses.mean`.

    Returns:
        F v, with the structure of `params`.
    """
    outputs, transposed = jax.vjp(policy, params)
    # J v as the transpose of the transpose: convolutions here have a reverse mode only (`networks.convolve`).
    _, forward = jax.vjp(lambda cotangent: transposed(cotangent)[0], jax.tree.map(jnp.zeros_like, outputs))
    (moved,) = forward(vector)
    _, metric = jax.jvp(jax.grad(lambda other: losses.mean(outputs.kl(other), weight)), (outputs,), (moved,))
    return transposed(metric)[0]


def conjugate_gradient(
    product: Callable[[jax.Array], jax.Array], target: jax.Array, iterations: int
) -> tuple[jax.Array, jax.Array]:
    """Solves A x = b for positive definite A (Hestenes & Stiefel 1952), from x = 0, in a fixed number of steps.

    Args:
        product: v -> A v.
        target: b, f32[n].
        iterations: steps; after n of them the solution is exact but for rounding.

    Returns:
        (x f32[n], the squared norm of the residual).
    """

    def one_step(carry: tuple[jax.Array, ...], _: None) -> tuple[tuple[jax.Array, ...], None]:
        x, residual, direction, norm = carry
        moved = product(direction)
        curvature = direction @ moved
        # Once solved there is nothing left to divide by: later steps are 0.
        length = jnp.where(curvature > 0, norm / jnp.where(curvature > 0, curvature, 1.0), 0.0)
        x, residual = x + length * direction, residual - length * moved
        new_norm = residual @ residual
        direction = residual + jnp.where(norm > 0, new_norm / jnp.where(norm > 0, norm, 1.0), 0.0) * direction
        return (x, residual, direction, new_norm), None

    start = (jnp.zeros_like(target), target, target, target @ target)
    (x, _, _, norm), _ = jax.lax.scan(one_step, start, None, length=iterations)
    return x, norm


def update(
    config: Config,
    nets: policies.Networks,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array,
) -> tuple[Learner, Diagnostics]:
    """One natural step of the policy and several epochs of the critic on one rollout.

    Args:
        config: static configuration.
        nets: from `build`.
        hp: hyper-parameters.
        context: not used.
        learner: parameters and optimiser state.
        batch: [T, B, ...] from the policy of `learner`; extras are `policies.Sampled`.
        key: for the permutations.

    Returns:
        (learner, scalars; those of the critic averaged over its gradient steps).
    """
    del context

    def mean(x: jax.Array) -> jax.Array:
        return losses.mean(x, batch.weight)

    value = nets.value(learner.params, batch.obs)
    next_value = returns.successor_values(
        lambda obs: nets.value(learner.params, obs), value, batch.next_obs, batch.truncated
    )
    discount, lam = returns.cuts(batch.terminated, batch.truncated, hp.gamma, hp.gae_lambda)
    advantage, target = returns.gae(batch.reward, discount, value, next_value, lam)
    advantage = losses.standardized(advantage, batch.weight)

    critic, actor = learner.params["critic"], {k: v for k, v in learner.params.items() if k != "critic"}
    theta, unravel = ravel_pytree(actor)

    def policy(theta: jax.Array) -> Any:
        return nets.policy(unravel(theta), batch.obs)

    old = policy(theta)
    old_log_prob = old.log_prob(batch.extras.unit_action)

    def objective(theta: jax.Array) -> tuple[jax.Array, Any]:
        new = policy(theta)
        ratio = jnp.exp(new.log_prob(batch.extras.unit_action) - old_log_prob)
        return mean(ratio * advantage), new

    def product(vector: jax.Array) -> jax.Array:
        return fisher_vector_product(policy, theta, vector, batch.weight) + hp.damping * vector

    gradient, _ = jax.grad(objective, has_aux=True)(theta)
    direction, residual = conjugate_gradient(product, gradient, config.cg_iterations)
    curvature = direction @ product(direction)
    full_step = jnp.sqrt(2 * hp.max_kl / jnp.maximum(curvature, 1e-12)) * direction
    before = mean(advantage)  # the objective where the ratio is 1

    def try_length(best: tuple[jax.Array, ...], length: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
        value, new = objective(theta + length * full_step)
        kl, gain = mean(old.kl(new)), value - before
        take = (best[0] == 0) & (kl <= hp.max_kl) & (gain > 0)  # the first, so the longest, that will do
        return jax.tree.map(lambda now, so_far: jnp.where(take, now, so_far), (length, kl, gain), best), None

    lengths = 0.8 ** jnp.arange(config.line_search_steps, dtype=jnp.float32)
    nothing = (jnp.float32(0), jnp.float32(0), jnp.float32(0))
    (length, kl, gain), _ = jax.lax.scan(try_length, nothing, lengths)
    actor = unravel(theta + length * full_step)

    samples = jax.tree.map(lambda x: jax.lax.collapse(jnp.asarray(x), 0, 2), (batch.obs, target, batch.weight))

    def critic_loss(critic: Any, obs: Any, target: jax.Array, weight: Any) -> jax.Array:
        return losses.mean(losses.squared(nets.value({"critic": critic}, obs) - target), weight)

    def critic_step(carry: tuple[Any, Any], rows: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        critic, opt_state = carry
        loss, grads = jax.value_and_grad(critic_loss)(critic, *minibatches.take(samples, rows))
        updates, opt_state = optimizer(hp).update(grads, opt_state)
        return (optax.apply_updates(critic, updates), opt_state), loss

    def epoch(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        order = minibatches.split(key, target.size, config.critic_minibatches)
        return jax.lax.scan(critic_step, carry, order)

    keys = jax.random.split(key, config.critic_epochs)
    (critic, opt_state), value_loss = jax.lax.scan(epoch, (critic, learner.critic_opt_state), keys)
    scalars = {
        "kl": kl,
        "surrogate_gain": gain,
        "step_length": length,
        "cg_residual": residual / jnp.maximum(gradient @ gradient, 1e-12),
        "value_loss": value_loss.mean(),
        "entropy": mean(old.entropy()),
        "grad_norm": jnp.linalg.norm(gradient),
    }
    return Learner(actor | {"critic": critic}, opt_state), Diagnostics(scalars)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """TRPO for a pair of spaces.

    Raises:
        InputError: spaces that TRPO cannot handle.
    """
    nets = build(config, observation_space, action_space)
    return policy_and_value.algorithm(nets, partial(init_learner, nets), partial(update, config, nets))


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds TRPO to an environment.

    Raises:
        InputError: spaces that TRPO cannot handle or normalise, or a rollout that does not split into minibatches.
    """
    minibatches.require_split("critic_minibatches", config.critic_minibatches, config.num_envs, config.rollout_length)
    return on_policy.make("trpo", env, algorithm(config, env.observation_space, env.action_space), config)
