"""Evolution strategies (Salimans et al. 2017, arXiv:1703.03864): search in the space of a policy's parameters.

    ∇_θ E[F(θ + σε)] ≈ 1 / (2nσ) Σ_{i ≤ n} (u(F(θ + σε_i)) − u(F(θ − σε_i))) ε_i,   ε_i ~ N(0, I)

Every ε_i is tried with both signs (antithetic). F is a return, undiscounted; u puts in its place its rank among all of
the generation, spread evenly over −½ … ½, so that neither scale nor outliers of the returns matter. Adam climbs the
estimate less `weight_decay` · θ. A generation of 2n policies acts in one `vmap`; nothing is differentiated.

F is the return of whole episodes, the mean over `episodes` of them: how an episode ends is then part of what is
compared, and no value stands for a missing rest. Shapes cannot depend on how long an episode takes, so every member
steps its environments `horizon` times, the environment's time limit unless given, and what follows the end of the
first episode counts for nothing. All of these steps are counted as steps of the run. A shorter `horizon` (the paper too
caps episodes, section 2.1) cuts the return of those that last longer.

The policy that acts is deterministic: the most probable action, or the mean. Only its parameters are random.

Deviations from the paper: all members of a generation start from the same states, drawn anew for the next; equal
returns share their mean rank, so that a generation of equals moves nothing; no virtual batch normalisation, but
optionally running statistics of the observations; networks begin orthogonal.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.flatten_util import ravel_pytree

from envs import episode
from envs.base import Env, Game
from envs.episode import EpisodeStats
from envs.errors import InputError
from envs.spaces import Box, Space
from envs.values import NonNegative, Positive
from jaxrl import networks, policies
from jaxrl import signals as signal
from jaxrl.agents.policy_gradient import policy_and_value
from jaxrl.agents.policy_gradient.policy_and_value import Learner
from jaxrl.loops import entry, keys
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Diagnostics, Metrics, Policy


@dataclass(frozen=True)
class Config(policies.Config):
    """What is static: a new value means a new compilation."""

    population: int = 24
    """Policies in a generation, 2n: an even number."""
    episodes: int = 1
    """Episodes that each of them is judged by."""
    horizon: int | None = None
    """Steps that each episode may take; the environment's time limit unless given."""
    hidden: tuple[int, ...] = (32, 32)
    normalize_obs: bool = False
    """Give observations mean 0 and standard deviation 1, by running statistics of the run."""


@struct.dataclass
class Hyperparams:
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: NonNegative = 0.05
    """Step size of Adam."""
    sigma: Positive = 0.1
    """σ, standard deviation of the perturbations."""
    weight_decay: NonNegative = 0.005
    """Pulls the parameters to 0: subtracted, times the parameters, from the estimated gradient."""


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    signals: tuple[Any, ...]  # the state of each


class Generation(NamedTuple):
    """What was tried, and what came of it."""

    noise: jax.Array  # f32[population / 2, parameters] ε
    fitness: jax.Array  # f32[population] F of all θ + σε, then of all θ − σε


def build(config: Config, observation_space: Space, action_space: Space) -> networks.Network:
    """Builds the policy for a pair of spaces; `apply` gives the action itself. See `policies.build` for the spaces."""
    shape = (config.torso, config.hidden, config.activation)
    nets = policies.build("es", observation_space, action_space, *shape, squash=config.squash)
    spread = {"log_std": jnp.zeros(action_space.shape)} if isinstance(action_space, Box) else {}  # never drawn from

    def apply(params: Any, obs: Any) -> jax.Array:
        return nets.to_env(nets.policy(params | spread, obs).mode())

    return networks.Network(lambda key: {"actor": nets.init(key)["actor"]}, apply)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam on the estimate less the decay."""
    return optax.chain(optax.add_decayed_weights(hp.weight_decay), optax.adam(hp.learning_rate))


def init_learner(net: networks.Network, key: jax.Array, hp: Hyperparams) -> Learner:
    """Draws the parameters θ."""
    return policy_and_value.init_learner(net.init(key), optimizer(hp))


def centred_ranks(fitness: jax.Array) -> jax.Array:
    """The place of each among all, f32[n] -> f32[n]: −½ for the least to ½ for the greatest; equals share theirs."""
    below = jnp.sum(fitness[:, None] > fitness, axis=1)
    equal = jnp.sum(fitness[:, None] == fitness, axis=1) - 1
    return (below + 0.5 * equal) / (fitness.size - 1) - 0.5


def perturbed(hp: Hyperparams, params: Any, noise: jax.Array) -> Any:
    """The population around `params`: every leaf [population, ...], all θ + σε and then all θ − σε.

    Args:
        hp: hyper-parameters.
        params: θ.
        noise: f32[population / 2, parameters] ε.
    """
    flat, unravel = ravel_pytree(params)
    return jax.vmap(unravel)(flat + hp.sigma * jnp.concatenate([noise, -noise]))


def update(hp: Hyperparams, learner: Learner, batch: Generation) -> tuple[Learner, Diagnostics]:
    """One step along the estimated gradient.

    Args:
        hp: hyper-parameters.
        learner: parameters and optimiser state.
        batch: the perturbations of `learner.params` and their returns.

    Returns:
        (learner, scalars).
    """
    flat, unravel = ravel_pytree(learner.params)
    up, down = jnp.split(centred_ranks(batch.fitness), 2)
    estimate = (up - down) @ batch.noise / (batch.fitness.size * hp.sigma)
    scalars = {
        "fitness_mean": batch.fitness.mean(),
        "fitness_std": batch.fitness.std(),
        "fitness_max": batch.fitness.max(),
        "grad_norm": jnp.linalg.norm(estimate),
        "param_norm": jnp.linalg.norm(flat),
    }
    return policy_and_value.descend(learner, unravel(-estimate), optimizer(hp)), Diagnostics(scalars)


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds evolution strategies to an environment.

    Raises:
        InputError: an odd population, an environment without time limit and no `horizon`, spaces that the policy
            cannot handle, or a game.
    """
    if isinstance(env, Game):
        raise InputError(f"es plays alone: {type(env).__name__} has {env.num_players} players.")
    if config.population % 2:
        raise InputError(f"population={config.population} must be even: perturbations come in pairs.")
    horizon = config.horizon or env.max_steps
    if horizon is None:
        raise InputError(f"{type(env).__name__} has no time limit: give a horizon, an episode might never end.")
    net = build(config, env.observation_space, env.action_space)
    num_envs = config.population * config.episodes
    signals = signal.normalisations(env, config, num_envs)

    def policy(state: State, shared: Any = ()) -> Policy:
        del shared

        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            return net.apply(state.learner.params, obs), memory, ()

        return signal.seeing(signals, state.hp, state.signals, Policy(act))

    def population_policy(state: State, members: Any) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            of_each = jax.tree.map(
                lambda x: x.reshape(config.population, len(x) // config.population, *x.shape[1:]), obs
            )
            action = jax.vmap(net.apply)(members, of_each)
            return action.reshape(num_envs, *action.shape[2:]), memory, ()

        return signal.seeing(signals, state.hp, state.signals, Policy(act))

    def init(key: jax.Array, hp: Hyperparams, env_params: Any, shared: Any = ()) -> State:
        del shared
        key, key_learner = keys.split(key, True, True)
        return State(key, hp, env_params, init_learner(net, key_learner, hp), signal.init(signals, key, hp))

    def step(state: State, shared: Any = ()) -> tuple[State, Metrics]:
        del shared
        key, key_noise, key_start, key_rollout = keys.spawn(state.key, True, True, True, True)
        params = state.learner.params
        noise = jax.random.normal(key_noise, (config.population // 2, ravel_pytree(params)[0].size))
        acting = population_policy(state, perturbed(state.hp, params, noise))
        start = episode.reset(env, state.env_params, key_start, config.episodes)
        start = jax.tree.map(lambda x: jnp.tile(x, (config.population, *[1] * (x.ndim - 1))), start)
        steps = rollout(env, state.env_params, acting, start, (), key_rollout, horizon).transitions

        ended = steps.terminated | steps.truncated
        first = jnp.cumsum(ended, axis=0) - ended == 0  # [horizon, num_envs] whether a step is of the first episode
        result = jnp.sum(steps.reward * first, axis=0)
        finished = ended.any(axis=0)
        whole = first * finished
        stats = EpisodeStats(
            return_sum=jnp.sum(result * finished),
            length_sum=jnp.sum(whole, dtype=jnp.int32),
            count=finished.sum(dtype=jnp.int32),
            cost_sum=jax.tree.map(lambda cost: jnp.sum(cost * whole[..., None], axis=(0, 1)), steps.cost),
        )
        fitness = result.reshape(config.population, config.episodes).mean(axis=1)
        learner, (scalars, _) = update(state.hp, state.learner, Generation(noise, fitness))
        # Only the statistics of what was seen are wanted; they draw nothing.
        moved, _, _ = signal.gathered(signals, state.hp, state.signals, steps, key_rollout)
        return state._replace(key=key, learner=learner, signals=moved), Metrics(stats, scalars)

    return entry.agent(Agent(init, step, policy, num_envs * horizon, 0, "es", env, config))
