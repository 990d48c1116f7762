"""Tabular Q-learning (Watkins 1989; Sutton & Barto 2018, section 6.5), online.

    Q(s, a) ← Q(s, a) + α [r + γ (1 − terminated) max_a' Q(s', a') − Q(s, a)]

Every environment step is followed at once by its update. With several environments their updates are added up, so
that two of them in the same state and action move the value twice. Actions are ε-greedy with ties broken at random.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs import episode
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


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 0.1
    """α."""
    gamma: float = 0.9
    """Discount."""
    epsilon_start: float = 0.1
    """Probability of a random action at the start."""
    epsilon_end: float = 0.1
    """Probability of a random action after the decay."""
    epsilon_fraction: float = 0.5
    """Part of hp.total_steps over which ε falls linearly."""
    initial_value: float = 0.0
    """Q at the start; above the largest return it is optimistic and explores."""
    total_steps: float | None = None
    """Environment steps that the schedule of ε refers to; the length of the run unless given."""


class Learner(NamedTuple):
    """What `update` changes."""

    q: jax.Array  # f32[S, A]


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    episode: episode.EpisodeState  # [num_envs]
    env_steps: jax.Array  # i32[]


def update(
    config: Config, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array | None = None
) -> tuple[Learner, dict[str, jax.Array]]:
    """One step towards the targets of a batch of transitions.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        learner: the table.
        batch: [B] transitions with integer obs and actions.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del config, key
    q, discount_t = learner.q, hp.gamma * (1.0 - batch.terminated)
    td_error = losses.q_learning(q[batch.obs], batch.action, batch.reward, discount_t, q[batch.next_obs])
    q = q.at[batch.obs, batch.action].add(hp.learning_rate * td_error)
    return Learner(q), {"td_error": jnp.abs(td_error).mean()}


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
        return Policy(lambda key, obs, memory: (jnp.argmax(state.learner.q[obs], -1), memory, ()))

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_episode = jax.random.split(key)
        q = jnp.full((num_states, num_actions), hp.initial_value, jnp.float32)
        running = episode.reset(env, env_params, key_episode, config.num_envs)
        return State(key, hp, env_params, Learner(q), running, jnp.int32(0))

    def online_step(state: State, _: None) -> tuple[State, Metrics]:
        hp = state.hp
        horizon = hp.epsilon_fraction * exploration.horizon(hp.total_steps)
        epsilon = exploration.linear(hp.epsilon_start, hp.epsilon_end, horizon, state.env_steps)

        def act(key: jax.Array, obs: jax.Array, memory: Any) -> tuple[Any, Any, Any]:
            return exploration.epsilon_greedy(key, state.learner.q[obs], epsilon, random_ties=True), memory, ()

        key, key_rollout = jax.random.split(state.key)
        out = rollout(env, state.env_params, Policy(act), state.episode, (), key_rollout, 1)
        batch = jax.tree.map(lambda x: x[0], out.transitions)
        learner, scalars = update(config, hp, state.learner, batch)
        following = state._replace(
            key=key, learner=learner, episode=out.episode, env_steps=state.env_steps + config.num_envs
        )
        return following, Metrics(out.stats, {**scalars, "epsilon": epsilon})

    def step(state: State) -> tuple[State, Metrics]:
        state, metrics = jax.lax.scan(online_step, state, None, length=config.steps_per_iteration)
        episodes = jax.tree.map(lambda x: x.sum(dtype=x.dtype), metrics.episodes)
        return state, Metrics(episodes, jax.tree.map(jnp.mean, metrics.scalars))

    return Agent(init, step, policy, config.num_envs * config.steps_per_iteration, 0, "q_learning", env, config)
