"""The loop of agents that learn from each rollout of their own policy at once, and then forget it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from envs import episode
from envs.base import Env, Game
from envs.episode import EpisodeStats
from envs.errors import InputError
from envs.values import Checked, Fraction, Positive
from jaxrl import players
from jaxrl import signals as signal
from jaxrl.loops import clock, entry, keys
from jaxrl.rollout import initial_memory, rollout
from jaxrl.types import Agent, Algorithm, Context, Metrics, Policy, Signal, Transition


@dataclass(frozen=True)
class Config(Checked):
    """What is static: a new value means a new compilation."""

    num_envs: int = 4
    """Environments that one run steps in parallel."""
    rollout_length: int = 128
    """Steps in each environment between updates."""
    normalize_obs: bool = False
    """Give observations mean 0 and standard deviation 1, by running statistics of the run."""
    normalize_reward: bool = False
    """Divide rewards by the running standard deviation of the discounted return."""
    clip_reward: Positive = 10.0
    """The largest size that a reward divided so may have: after many equal ones the first other can be huge."""


@dataclass(frozen=True)
class OnlineConfig(Checked):
    """For agents that learn after every step: an iteration is a number of steps, each followed by its update."""

    num_envs: int = 1
    """Environments stepped in parallel; 1 is the book's algorithm."""
    steps_per_iteration: int = 100
    """Steps in each environment that one iteration takes, each followed by its update."""


@struct.dataclass
class Hyperparams:
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    gamma: Fraction = 0.99
    """Discount."""
    total_steps: Positive | None = None
    """Environment steps that the schedules run over; the length of the run unless given."""


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Any
    env_params: Any
    learner: Any
    episode: episode.EpisodeState  # [num_envs]
    memory: Any  # [num_envs, ...] of the policy; () where it has none
    signals: tuple[Any, ...]  # the state of each
    iteration: jax.Array  # i32[] updates of the learner so far


def make(
    name: str,
    env: Env,
    algorithm: Algorithm,
    config: Any,
    *,
    signals: tuple[Signal, ...] | None = None,
    whole_episodes: bool = False,
) -> Agent:
    """Binds an algorithm to an environment.

    Args:
        name: of the agent.
        env: the environment; in a game of several players all of them learn, with shared parameters (`jaxrl.players`).
        algorithm: its update gets [T, B, ...], or [B, ...] with an `OnlineConfig`.
        config: a `Config` or `OnlineConfig`, with the algorithm's own fields.
        signals: what happens to a rollout first; by default the normalisations that `config` asks for.
        whole_episodes: begin every rollout with new episodes, and give weight 0 to those that might not be whole.

    Raises:
        InputError: observations that cannot be normalised, or a game for an agent with a memory or one that learns
            after every step.
    """
    online = isinstance(config, OnlineConfig)
    length = 1 if online else config.rollout_length
    repeats = config.steps_per_iteration if online else 1
    num_envs = config.num_envs
    game = env if isinstance(env, Game) else None
    if game and (online or whole_episodes):
        raise InputError(f"{name} plays alone: {type(env).__name__} has {game.num_players} players.")
    if signals is None:
        signals = () if online else signal.normalisations(env, config, num_envs * (game.num_players if game else 1))

    def context(state: State, shared: Any) -> Context:
        return Context(shared, state.env_params, clock.progress(state.hp, state.iteration, num_envs * length))

    def in_env(state: State, policy: Policy) -> Policy:
        policy = signal.seeing(signals, state.hp, state.signals, policy)
        return players.shared(policy, game.num_players) if game else policy

    def explore(state: State, shared: Any = ()) -> Policy:
        acting = algorithm.explore(state.hp, context(state, shared), state.learner)
        return in_env(state, acting)

    def policy(state: State, shared: Any = ()) -> Policy:
        acting = algorithm.greedy(state.hp, context(state, shared), state.learner)
        return in_env(state, acting)

    def init(key: jax.Array, hp: Any, env_params: Any, shared: Any = ()) -> State:
        wanted = (True, algorithm.init_draws, True, signal.draw(signals))
        key, key_learner, key_episode, key_signals = keys.split(key, *wanted)
        start = State(
            key=key,
            hp=hp,
            env_params=env_params,
            learner=algorithm.init(key_learner, hp),
            episode=episode.reset(env, env_params, key_episode, num_envs),
            memory=(),
            signals=signal.init(signals, key_signals, hp),
            iteration=jnp.int32(0),
        )
        acting = explore(start, shared)
        if game and jax.tree.leaves(acting.memory):
            raise InputError(f"{name} has a memory, which games of several players do not carry yet.")
        return start._replace(memory=initial_memory(acting, num_envs))

    def gather_and_learn(state: State, shared: Any) -> tuple[State, Metrics]:
        wanted = (True, True, whole_episodes, algorithm.update_draws, signal.draw(signals))
        key, key_rollout, key_episode, key_update, key_signals = keys.spawn(state.key, *wanted)
        running, memory, hp = state.episode, state.memory, state.hp
        acting = explore(state, shared)
        if whole_episodes:
            running = episode.reset(env, state.env_params, key_episode, num_envs)
            memory = initial_memory(acting, num_envs)
        out = rollout(env, state.env_params, acting, running, memory, key_rollout, length)
        batch, stats = out.transitions._replace(memory=memory), out.stats
        if whole_episodes:
            stats = of_whole_episodes(out.transitions, env.max_steps)
        if game:
            batch = players.fold(game, batch, hp.gamma, out.episode.state)
        if whole_episodes:
            batch = batch._replace(weight=surely_whole(batch.terminated | batch.truncated, env.max_steps))
        moved, batch, scalars = signal.gathered(signals, hp, state.signals, batch, key_signals)
        if online:
            batch = jax.tree.map(lambda x: x[0], batch._replace(memory=()))
        learner, diagnostics = algorithm.update(hp, context(state, shared), state.learner, batch, key_update)
        following = state._replace(
            key=key,
            learner=learner,
            episode=out.episode,
            memory=out.memory,
            signals=moved,
            iteration=clock.advance(state.iteration),
        )
        return following, Metrics(stats, {**diagnostics.scalars, **scalars})

    def step(state: State, shared: Any = ()) -> tuple[State, Metrics]:
        if not online:
            return gather_and_learn(state, shared)
        state, metrics = jax.lax.scan(lambda state, _: gather_and_learn(state, shared), state, None, length=repeats)
        episodes = jax.tree.map(lambda x: x.sum(axis=0, dtype=x.dtype), metrics.episodes)
        return state, Metrics(episodes, jax.tree.map(jnp.mean, metrics.scalars))

    return entry.agent(Agent(init, step, policy, num_envs * length * repeats, 0, name, env, config, explore))


def surely_whole(ended: jax.Array, max_steps: int | None) -> jax.Array:
    """Weighs the steps of episodes that began so early that any episode would have ended within the rollout.

    Args:
        ended: bool[T, B] terminated or truncated at that step; new episodes begin at t = 0.
        max_steps: the most steps that an episode can have.

    Returns:
        f32[T, B], 1 for these steps and 0 for the others.
    """
    assert max_steps is not None
    steps = jnp.arange(ended.shape[0])[:, None]
    first_of_episode = jnp.concatenate([jnp.ones_like(ended[:1]), ended[:-1]])
    began = jax.lax.cummax(jnp.where(first_of_episode, steps, 0), axis=0)
    return (began <= ended.shape[0] - max_steps).astype(jnp.float32)


def of_whole_episodes(steps: Transition, max_steps: int | None) -> EpisodeStats:
    """The statistics of the episodes whose steps `surely_whole` counts, of a rollout [T, B] that begins with new ones.

    All that ended within the rollout would be too many short ones: of long ones more are cut.
    """
    ended = steps.terminated | steps.truncated
    counted = surely_whole(ended, max_steps)

    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(x * counted.reshape(*counted.shape, *[1] * (x.ndim - 2)), axis=(0, 1))

    length, count = (jnp.sum(x, dtype=jnp.int32) for x in (counted, ended * counted))
    return EpisodeStats(total(steps.reward), length, count, jax.tree.map(total, steps.cost))
