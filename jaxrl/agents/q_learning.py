"""Tabular Q-learning and double Q-learning (Watkins 1989; van Hasselt 2010; Sutton & Barto 2018, sections 6.5, 6.7).

    Q(s, a) ← Q(s, a) + α [r + γ (1 − terminated) max_a' Q(s', a') − Q(s, a)]

Double: two tables; a coin says which one learns, and that one chooses a' while the other values it; actions follow the
mean of both. Every environment step is followed at once by its update. With several environments their updates are
added up, so that two of them in the same state and action move the value twice. Actions are ε-greedy with ties broken
at random, or softmax.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from envs import episode, threefry
from envs.base import Env
from envs.errors import InputError
from envs.spaces import Discrete
from jaxrl import exploration, losses
from jaxrl.actions import require_discrete
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 1
    """Environments stepped in parallel; 1 is the book's algorithm."""
    steps_per_iteration: int = 100
    """Steps in each environment that one iteration takes, each followed by its update."""
    double: bool = False
    """Double Q-learning."""
    exploration: Literal["epsilon_greedy", "softmax"] = "epsilon_greedy"
    """How actions are chosen."""
    epsilon_schedule: Literal["linear", "per_episode"] = "linear"
    """Linear in environment steps over a part of the run, or times hp.epsilon_decay after every episode."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 0.1
    """α at the start."""
    learning_rate_decay: float = 0.0
    """Part of α that is taken away, linearly, by the end of hp.total_steps: 1 ends at 0."""
    gamma: float = 0.9
    """Discount."""
    epsilon_start: float = 0.1
    """Probability of a random action at the start."""
    epsilon_end: float = 0.1
    """Probability of a random action after the decay."""
    epsilon_fraction: float = 0.5
    """Part of hp.total_steps over which a linear ε falls."""
    epsilon_decay: float = 0.995
    """Factor of ε after every episode, with epsilon_schedule="per_episode"."""
    temperature: float = 1.0
    """Of the softmax policy, in units of value."""
    initial_value: float = 0.0
    """Q at the start; above the largest return it is optimistic and explores."""
    total_steps: float | None = None
    """Environment steps that the schedules refer to; the length of the run unless given."""


class Learner(NamedTuple):
    """What `update` changes."""

    q: jax.Array  # f32[S, A]; double: f32[2, S, A]
    learning_rate: jax.Array  # f32[] α now


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    episode: episode.EpisodeState  # [num_envs]
    env_steps: jax.Array  # i32[]
    episodes: jax.Array  # i32[] finished


def update(
    config: Config, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array | None = None
) -> tuple[Learner, dict[str, jax.Array]]:
    """One step towards the targets of a batch of transitions.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        learner: the table, or both of them, and the step size.
        batch: [B] transitions with integer obs and actions.
        key: for the coins of double Q-learning.

    Returns:
        (learner, scalars).
    """
    q, discount_t = learner.q, hp.gamma * (1.0 - batch.terminated)
    if config.double:
        assert key is not None
        first = jax.random.bernoulli(key, shape=batch.action.shape).astype(jnp.int32)
        place = first, batch.obs, batch.action
        values = q[1 - first, batch.next_obs], q[first, batch.next_obs]
        error = losses.double_q_learning(q[first, batch.obs], batch.action, batch.reward, discount_t, *values)
    else:
        place = batch.obs, batch.action
        error = losses.q_learning(q[batch.obs], batch.action, batch.reward, discount_t, q[batch.next_obs])
    q = q.at[place].add(learner.learning_rate * error)
    return learner._replace(q=q), {"td_error": jnp.abs(error).mean()}


def table(config: Config, learner: Learner) -> jax.Array:
    """The action values that the policy follows, f32[S, A]."""
    return learner.q.mean(0) if config.double else learner.q


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds Q-learning to an environment with Discrete observations and actions.

    Raises:
        InputError: other spaces.
    """
    if not isinstance(env.observation_space, Discrete):
        raise InputError(f"q_learning needs a Discrete observation space; the environment has {env.observation_space}.")
    num_states = env.observation_space.n
    num_actions = require_discrete("q_learning", env.action_space).n

    def policy(state: State) -> Policy:
        q = table(config, state.learner)
        return Policy(lambda key, obs, memory: (jnp.argmax(q[obs], -1), memory, ()))

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_episode = jax.random.split(key)
        shape = (num_states, num_actions)
        q = jnp.full((2, *shape) if config.double else shape, hp.initial_value, jnp.float32)
        running = episode.reset(env, env_params, key_episode, config.num_envs)
        learner = Learner(q, jnp.float32(hp.learning_rate))
        return State(key, hp, env_params, learner, running, jnp.int32(0), jnp.int32(0))

    def online_step(state: State, _: None) -> tuple[State, Metrics]:
        hp, q = state.hp, table(config, state.learner)
        if config.epsilon_schedule == "per_episode":
            epsilon = exploration.exponential(hp.epsilon_start, hp.epsilon_end, hp.epsilon_decay, state.episodes)
        else:
            horizon = hp.epsilon_fraction * exploration.horizon(hp.total_steps)
            epsilon = exploration.linear(hp.epsilon_start, hp.epsilon_end, horizon, state.env_steps)

        def act(key: jax.Array, obs: jax.Array, memory: Any) -> tuple[Any, Any, Any]:
            if config.exploration == "softmax":
                return exploration.softmax(key, q[obs], hp.temperature), memory, ()
            return exploration.epsilon_greedy(key, q[obs], epsilon, random_ties=True), memory, ()

        key, key_rollout, key_update = threefry.spawn(state.key, 3)
        out = rollout(env, state.env_params, Policy(act), state.episode, (), key_rollout, 1)
        batch = jax.tree.map(lambda x: x[0], out.transitions)
        horizon = exploration.horizon(hp.total_steps)
        rate = exploration.linear(1.0, 1.0 - hp.learning_rate_decay, horizon, state.env_steps)
        learner = state.learner._replace(learning_rate=hp.learning_rate * rate)
        learner, scalars = update(config, hp, learner, batch, key_update)
        following = state._replace(
            key=key,
            learner=learner,
            episode=out.episode,
            env_steps=state.env_steps + config.num_envs,
            episodes=state.episodes + out.stats.count,
        )
        return following, Metrics(out.stats, {**scalars, "epsilon": epsilon})

    def step(state: State) -> tuple[State, Metrics]:
        state, metrics = jax.lax.scan(online_step, state, None, length=config.steps_per_iteration)
        episodes = jax.tree.map(lambda x: x.sum(dtype=x.dtype), metrics.episodes)
        return state, Metrics(episodes, jax.tree.map(jnp.mean, metrics.scalars))

    return Agent(init, step, policy, config.num_envs * config.steps_per_iteration, 0, "q_learning", env, config)
