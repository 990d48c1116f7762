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
from jax.flatten_util import ravel_pytree

from envs import episode, threefry
from envs.base import Env
from envs.episode import EpisodeStats
from envs.errors import InputError
from envs.spaces import Box, Space
from jaxrl import networks, normalize, policies
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Metrics, Policy


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    population: int = 64
    """Policies in a generation, 2n: an even number."""
    episodes: int = 1
    """Episodes that each of them is judged by."""
    horizon: int | None = None
    """Steps that each episode may take; the environment's time limit unless given."""
    torso: networks.Torso = "mlp"
    """What stands between the observation and the actions."""
    hidden: tuple[int, ...] = (32, 32)
    """Sizes of the dense layers."""
    activation: networks.Activation = "tanh"
    """After every dense layer."""
    squash: policies.Squash = "clip"
    """How a continuous action enters the Box: clipped to it, or through tanh."""
    normalize_obs: bool = False
    """Give observations mean 0 and standard deviation 1, by running statistics of the run."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 0.05
    """Step size of Adam."""
    sigma: float = 0.1
    """σ, standard deviation of the perturbations."""
    weight_decay: float = 0.005
    """Pulls the parameters to 0: subtracted, times the parameters, from the estimated gradient."""


class Learner(NamedTuple):
    """What `update` changes."""

    params: Any  # θ
    opt_state: Any


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    obs_moments: Any  # normalize.Moments, or () when observations are not normalised


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


def init_learner(net: networks.Network, hp: Hyperparams, key: jax.Array) -> Learner:
    """Draws the parameters."""
    params = net.init(key)
    return Learner(params, optimizer(hp).init(params))


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


def update(hp: Hyperparams, learner: Learner, batch: Generation) -> tuple[Learner, dict[str, jax.Array]]:
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
    updates, opt_state = optimizer(hp).update(unravel(-estimate), learner.opt_state, learner.params)
    scalars = {
        "fitness_mean": batch.fitness.mean(),
        "fitness_std": batch.fitness.std(),
        "fitness_max": batch.fitness.max(),
        "grad_norm": jnp.linalg.norm(estimate),
        "param_norm": jnp.linalg.norm(flat),
    }
    return Learner(optax.apply_updates(learner.params, updates), opt_state), scalars


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds evolution strategies to an environment.

    Raises:
        InputError: an odd population, an environment without time limit and no `horizon`, or spaces that the policy
            cannot handle.
    """
    if config.population < 2 or config.population % 2:
        raise InputError(f"population={config.population} must be even and at least 2: perturbations come in pairs.")
    horizon = config.horizon or env.max_steps
    if horizon is None:
        raise InputError(f"{type(env).__name__} has no time limit: give a horizon, an episode might never end.")
    space = env.observation_space
    box = space if isinstance(space, Box) else None
    if config.normalize_obs and box is None:
        raise InputError(f"normalize_obs needs Box observations; the environment has {space}.")
    net = build(config, space, env.action_space)
    num_envs = config.population * config.episodes

    def normalized(state: State, obs: Any) -> Any:
        return normalize.normalize(state.obs_moments, obs) if config.normalize_obs else obs

    def policy(state: State) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            return net.apply(state.learner.params, normalized(state, obs)), memory, ()

        return Policy(act)

    def population_policy(state: State, members: Any) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            del key
            split = jax.tree.map(lambda x: x.reshape(config.population, -1, *x.shape[1:]), normalized(state, obs))
            action = jax.vmap(net.apply)(members, split)
            return action.reshape(num_envs, *action.shape[2:]), memory, ()

        return Policy(act)

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_learner = jax.random.split(key)
        moments = normalize.init(jnp.zeros(box.shape)) if box and config.normalize_obs else ()
        return State(key, hp, env_params, init_learner(net, hp, key_learner), moments)

    def step(state: State) -> tuple[State, Metrics]:
        key, key_noise, key_start, key_rollout = threefry.spawn(state.key, 4)
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
        stats = EpisodeStats(
            jnp.sum(result * finished), jnp.sum(first.sum(axis=0) * finished), finished.sum(dtype=jnp.int32)
        )
        fitness = result.reshape(config.population, config.episodes).mean(axis=1)
        learner, scalars = update(state.hp, state.learner, Generation(noise, fitness))
        moments = normalize.update(state.obs_moments, steps.obs) if config.normalize_obs else ()
        return state._replace(key=key, learner=learner, obs_moments=moments), Metrics(stats, scalars)

    return Agent(init, step, policy, num_envs * horizon, 0, "es", env, config)
