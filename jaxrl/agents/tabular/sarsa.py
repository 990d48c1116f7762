"""Sarsa and expected Sarsa (Rummery & Niranjan 1994; van Seijen et al. 2009; Sutton & Barto 2018, sections 6.4, 6.6).

    Q(s, a) ← Q(s, a) + α [r + γ (1 − terminated) Σ_a' p(a') Q(s', a') − Q(s, a)]

For Sarsa p puts everything on the action that is really taken next; for expected Sarsa it is the policy's distribution
in s'. The policy is ε-greedy or softmax in Q and learns about itself. Every environment step is followed at once by its
update; with several environments their updates are added up. Where an episode ends by the time limit, a' is the action
that the policy would have taken in the true successor.
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
    expected: bool = False
    """Expected Sarsa: the mean over the next action instead of the one taken."""
    exploration: Literal["epsilon_greedy", "softmax"] = "epsilon_greedy"
    """The policy that acts and is learnt about."""
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

    q: jax.Array  # f32[S, A]
    learning_rate: jax.Array  # f32[] α now


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    episode: episode.EpisodeState  # [num_envs]
    action: jax.Array  # i32[num_envs] chosen already, to be taken next
    env_steps: jax.Array  # i32[]
    episodes: jax.Array  # i32[] finished


def update(
    config: Config, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array | None = None
) -> tuple[Learner, dict[str, jax.Array]]:
    """One step towards the targets of a batch of transitions.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        learner: the table and the step size.
        batch: [B] transitions with integer obs and actions; extras: f32[B, A] probabilities of the next action.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del config, key
    q, discount_t = learner.q, hp.gamma * (1.0 - batch.terminated)
    q_t = q[batch.next_obs]
    error = losses.expected_sarsa(q[batch.obs], batch.action, batch.reward, discount_t, q_t, batch.extras)
    q = q.at[batch.obs, batch.action].add(learner.learning_rate * error)
    return learner._replace(q=q), {"td_error": jnp.abs(error).mean()}


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds Sarsa to an environment with Discrete observations and actions.

    Raises:
        InputError: other spaces.
    """
    if not isinstance(env.observation_space, Discrete):
        raise InputError(f"sarsa needs a Discrete observation space; the environment has {env.observation_space}.")
    num_states = env.observation_space.n
    num_actions = require_discrete("sarsa", env.action_space).n

    def policy(state: State) -> Policy:
        return Policy(lambda key, obs, memory: (jnp.argmax(state.learner.q[obs], -1), memory, ()))

    def epsilon_of(state: State) -> jax.Array:
        hp = state.hp
        if config.epsilon_schedule == "per_episode":
            return exploration.exponential(hp.epsilon_start, hp.epsilon_end, hp.epsilon_decay, state.episodes)
        horizon = hp.epsilon_fraction * exploration.horizon(hp.total_steps)
        return exploration.linear(hp.epsilon_start, hp.epsilon_end, horizon, state.env_steps)

    def probabilities(state: State, q: jax.Array) -> jax.Array:
        if config.exploration == "softmax":
            return jax.nn.softmax(q / state.hp.temperature)
        return exploration.epsilon_greedy_probabilities(q, epsilon_of(state))

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_episode, key_action = jax.random.split(key, 3)
        learner = Learner(
            jnp.full((num_states, num_actions), hp.initial_value, jnp.float32), jnp.float32(hp.learning_rate)
        )
        running = episode.reset(env, env_params, key_episode, config.num_envs)
        action = jnp.zeros(config.num_envs, jnp.int32)
        state = State(key, hp, env_params, learner, running, action, jnp.int32(0), jnp.int32(0))
        return state._replace(action=exploration.draw(key_action, probabilities(state, learner.q[running.obs])))

    def online_step(state: State, _: None) -> tuple[State, Metrics]:
        hp, q = state.hp, state.learner.q
        key, key_rollout, key_next, key_new = threefry.spawn(state.key, 4)
        taken = Policy(lambda key, obs, memory: (state.action, memory, ()))
        out = rollout(env, state.env_params, taken, state.episode, (), key_rollout, 1)
        batch = jax.tree.map(lambda x: x[0], out.transitions)

        probability = probabilities(state, q[batch.next_obs])
        action = exploration.draw(key_next, probability)
        extras = probability if config.expected else jax.nn.one_hot(action, num_actions)
        horizon = exploration.horizon(hp.total_steps)
        rate = exploration.linear(1.0, 1.0 - hp.learning_rate_decay, horizon, state.env_steps)
        learner = state.learner._replace(learning_rate=hp.learning_rate * rate)
        learner, scalars = update(config, hp, learner, batch._replace(extras=extras))

        ended = batch.terminated | batch.truncated
        new = exploration.draw(key_new, probabilities(state, q[out.episode.obs]))
        following = state._replace(
            key=key,
            learner=learner,
            episode=out.episode,
            action=jnp.where(ended, new, action),
            env_steps=state.env_steps + config.num_envs,
            episodes=state.episodes + out.stats.count,
        )
        return following, Metrics(out.stats, {**scalars, "epsilon": epsilon_of(state)})

    def step(state: State) -> tuple[State, Metrics]:
        state, metrics = jax.lax.scan(online_step, state, None, length=config.steps_per_iteration)
        episodes = jax.tree.map(lambda x: x.sum(dtype=x.dtype), metrics.episodes)
        return state, Metrics(episodes, jax.tree.map(jnp.mean, metrics.scalars))

    return Agent(init, step, policy, config.num_envs * config.steps_per_iteration, 0, "sarsa", env, config)
