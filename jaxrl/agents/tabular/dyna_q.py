"""Dyna-Q, Dyna-Q+ and prioritised sweeping (Sutton 1990; Moore & Atkeson 1993; Sutton & Barto 2018, sections 8.2–8.4).

Each real step updates Q as Q-learning does and is remembered in a table of what every state and action led to last;
then `planning_steps` updates follow from remembered steps:

    Dyna-Q                  drawn uniformly among the pairs seen
    Dyna-Q+                 the same, with κ √τ added to the reward of a pair not tried for τ steps; pairs never tried
                            of states that were visited count too, as if they led back to their state for nothing
    prioritised sweeping    the pair of the greatest |δ| above θ; its predecessors are then given theirs

The model is right for deterministic environments. A step cut by the time limit is remembered like any other. With
several environments their real updates are added up and share one model.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from envs import episode
from envs.base import Env
from envs.values import Count, Fraction, NonNegative
from jaxrl import exploration, losses
from jaxrl.agents.tabular import tables
from jaxrl.loops import clock, entry, keys, on_policy
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Context, Diagnostics, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config(on_policy.OnlineConfig):
    """What is static: a new value means a new compilation."""

    planning_steps: Count = 10
    """Updates from the model after every real step; 0 is Q-learning."""
    exploration_bonus: bool = False
    """Dyna-Q+."""
    prioritized: bool = False
    """Prioritised sweeping instead of uniform draws."""


@struct.dataclass
class Hyperparams(tables.Values):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    gamma: Fraction = 0.95
    """Discount."""
    epsilon: Fraction = 0.1
    """Probability of a random action."""
    bonus: NonNegative = 1e-4
    """κ of Dyna-Q+, in units of reward per root of a step."""
    priority_threshold: NonNegative = 1e-4
    """θ of prioritised sweeping, in units of value."""


class Learner(NamedTuple):
    """What `update` changes: the values and the model."""

    q: jax.Array  # f32[S, A]
    next_obs: jax.Array  # i32[S, A] where the last try led
    reward: jax.Array  # f32[S, A]
    terminated: jax.Array  # bool[S, A]
    seen: jax.Array  # bool[S, A] may be planned with
    tried: jax.Array  # i32[S, A] when it was tried last
    priority: jax.Array  # f32[S, A] 0: not in the queue
    steps: jax.Array  # i32[] real steps so far


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    episode: episode.EpisodeState  # [num_envs]


def init_learner(shape: tuple[int, int], hp: Hyperparams) -> Learner:
    """The values at the start, and a model that knows nothing: every step leads back."""
    q, numbers = tables.start(shape, hp), jnp.zeros(shape, jnp.int32)
    own = jnp.broadcast_to(jnp.arange(len(q))[:, None], shape)
    return Learner(q, own, jnp.zeros_like(q), numbers > 0, numbers > 0, numbers, jnp.zeros_like(q), jnp.int32(0))


def update(
    config: Config, hp: Hyperparams, context: Context, learner: Learner, batch: Transition, key: jax.Array
) -> tuple[Learner, Diagnostics]:
    """Learns from real transitions, remembers them, and plans.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        context: not used.
        learner: values and model.
        batch: [B] transitions of one time step with integer obs and actions.
        key: for the draws of planning.

    Returns:
        (learner, scalars).
    """
    del context
    place = batch.obs, batch.action
    steps = clock.advance(learner.steps)
    error = _error(hp, learner.q, *place, batch.reward, batch.terminated, batch.next_obs)
    seen = learner.seen.at[place].set(True)
    if config.exploration_bonus:
        seen = seen.at[batch.obs].set(True)
    learner = learner._replace(
        q=learner.q.at[place].add(hp.learning_rate * error),
        next_obs=learner.next_obs.at[place].set(batch.next_obs),
        reward=learner.reward.at[place].set(batch.reward),
        terminated=learner.terminated.at[place].set(batch.terminated),
        seen=seen,
        tried=learner.tried.at[place].set(steps),
        steps=steps,
    )
    if config.prioritized:
        learner = learner._replace(priority=learner.priority.at[place].max(_priority(hp, error)))
        plan = _sweep
    else:
        plan = _plan
    if config.planning_steps:
        each = jax.random.split(key, config.planning_steps)
        learner = jax.lax.scan(lambda now, k: (plan(config, hp, now, k), None), learner, each)[0]
    return learner, Diagnostics({"td_error": jnp.abs(error).mean()})


def _error(
    hp: Hyperparams, q: jax.Array, obs: jax.Array, action: jax.Array, reward: Any, terminated: Any, next_obs: Any
) -> jax.Array:
    return losses.q_learning(q[obs], action, reward, hp.gamma * (1.0 - terminated), q[next_obs])


def _model_errors(config: Config, hp: Hyperparams, learner: Learner) -> jax.Array:
    """The error of every state and action under the model, f32[S, A]."""
    reward = learner.reward
    if config.exploration_bonus:
        reward = reward + hp.bonus * jnp.sqrt(learner.steps - learner.tried)
    return reward + hp.gamma * (1.0 - learner.terminated) * learner.q[learner.next_obs].max(-1) - learner.q


def _plan(config: Config, hp: Hyperparams, learner: Learner, key: jax.Array) -> Learner:
    """One update of a pair that is drawn uniformly among the seen."""
    count = jnp.cumsum(learner.seen)
    obs, action = jnp.divmod(jnp.sum(count <= jnp.floor(jax.random.uniform(key) * count[-1])), learner.q.shape[1])
    reward = learner.reward[obs, action]
    if config.exploration_bonus:
        reward = reward + hp.bonus * jnp.sqrt(learner.steps - learner.tried[obs, action])
    terminated, next_obs = learner.terminated[obs, action], learner.next_obs[obs, action]
    error = _error(hp, learner.q, obs, action, reward, terminated, next_obs)
    return learner._replace(q=learner.q.at[obs, action].add(hp.learning_rate * error))


def _sweep(config: Config, hp: Hyperparams, learner: Learner, key: jax.Array) -> Learner:
    """One update of the pair of the highest priority, if there is one, and new priorities for what leads to it."""
    del key
    obs, action = jnp.divmod(jnp.argmax(learner.priority), learner.q.shape[1])
    queued = learner.priority[obs, action] > 0
    error = _model_errors(config, hp, learner)[obs, action]
    q = learner.q.at[obs, action].add(jnp.where(queued, hp.learning_rate * error, 0.0))
    learner = learner._replace(q=q, priority=learner.priority.at[obs, action].set(0.0))
    leads_here = learner.seen & ~learner.terminated & (learner.next_obs == obs) & queued
    priority = _priority(hp, _model_errors(config, hp, learner))
    return learner._replace(priority=jnp.where(leads_here, jnp.maximum(learner.priority, priority), learner.priority))


def _priority(hp: Hyperparams, error: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(error) > hp.priority_threshold, jnp.abs(error), 0.0)


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds Dyna to an environment with Discrete observations and actions.

    Raises:
        InputError: other spaces, or several players.
    """
    shape = tables.shape_alone("dyna_q", env)

    def policy(state: State, shared: Any = ()) -> Policy:
        del shared
        return tables.greedy(state.learner.q)

    def explore(state: State, shared: Any = ()) -> Policy:
        del shared

        def act(key: jax.Array, obs: jax.Array, memory: Any) -> tuple[Any, Any, Any]:
            q = state.learner.q[obs]
            return exploration.epsilon_greedy(key, q, state.hp.epsilon, random_ties=True), memory, ()

        return Policy(act)

    def init(key: jax.Array, hp: Hyperparams, env_params: Any, shared: Any = ()) -> State:
        del shared
        key, key_episode = keys.split(key, True, True)
        running = episode.reset(env, env_params, key_episode, config.num_envs)
        return State(key, hp, env_params, init_learner(shape, hp), running)

    def online_step(state: State, _: None) -> tuple[State, Metrics]:
        key, key_rollout, key_update = keys.spawn(state.key, True, True, True)
        out = rollout(env, state.env_params, explore(state), state.episode, (), key_rollout, 1)
        batch = jax.tree.map(lambda x: x[0], out.transitions)
        learner, diagnostics = update(config, state.hp, Context(), state.learner, batch, key_update)
        following = state._replace(key=key, learner=learner, episode=out.episode)
        return following, Metrics(out.stats, diagnostics.scalars)

    def step(state: State, shared: Any = ()) -> tuple[State, Metrics]:
        del shared
        state, metrics = jax.lax.scan(online_step, state, None, length=config.steps_per_iteration)
        episodes = jax.tree.map(lambda x: x.sum(axis=0, dtype=x.dtype), metrics.episodes)
        return state, Metrics(episodes, jax.tree.map(jnp.mean, metrics.scalars))

    steps = config.num_envs * config.steps_per_iteration
    return entry.agent(Agent(init, step, policy, steps, 0, "dyna_q", env, config, explore))
