"""n-step Sarsa and n-step tree backup (Sutton & Barto 2018, sections 7.2 and 7.5; Precup et al. 2000).

    G = r_1 + γ r_2 + … + γⁿ⁻¹ r_n + γⁿ Q(s_n, a_n)                         Sarsa
    G = r_1 + γ [Σ_{a ≠ a_1} π(a|s_1) Q(s_1, a) + π(a_1|s_1) G_2 ], …       tree backup, π greedy in Q

    Q(s_0, a_0) ← Q(s_0, a_0) + α [G − Q(s_0, a_0)]

A sum is cut at the end of the episode: nothing follows a termination, and after the time limit the value of the true
successor does. Every step updates the state and action of n steps ago, so those of an episode's last steps are updated
while the next one begins (the book does it before); with several environments the updates are added up.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from envs import episode, threefry
from envs.base import Env
from envs.errors import InputError
from envs.spaces import Discrete
from jaxrl import exploration
from jaxrl.actions import require_discrete
from jaxrl.distributions import at_index
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 1
    """Environments stepped in parallel; 1 is the book's algorithm."""
    steps_per_iteration: int = 100
    """Steps in each environment that one iteration takes, each followed by its update."""
    n: int = 4
    """Rewards in a return."""
    tree_backup: bool = False
    """Learn about the greedy policy by tree backup, instead of Sarsa."""
    exploration: Literal["epsilon_greedy", "softmax"] = "epsilon_greedy"
    """The policy that acts."""
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
    window: Transition  # [n, num_envs] the last n transitions
    env_steps: jax.Array  # i32[]
    episodes: jax.Array  # i32[] finished


def update(
    config: Config, hp: Hyperparams, learner: Learner, batch: Transition, key: jax.Array | None = None
) -> tuple[Learner, dict[str, jax.Array]]:
    """Updates the first state and action of each window.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        learner: the table and the step size.
        batch: [n, B] successive transitions of B environments, across ends of episodes, with integer obs and actions;
            extras: i32[n, B] the action chosen in next_obs.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del key
    q, discount_t = learner.q, hp.gamma * (1.0 - batch.terminated)
    q_t = q[batch.next_obs]  # [n, B, A]
    chosen = at_index(q_t, batch.extras)
    if config.tree_backup:
        greedy = exploration.epsilon_greedy_probabilities(q_t, 0.0)
        value, weight = jnp.sum(greedy * q_t, -1), at_index(greedy, batch.extras)
    else:
        value, weight = chosen, jnp.ones_like(chosen)
    # What is known beyond a step replaces the estimate of the action taken there; weight 0 is an end.
    weight = weight * ~(batch.terminated | batch.truncated)
    returns = batch.reward[-1] + discount_t[-1] * value[-1]
    for i in reversed(range(config.n - 1)):
        returns = batch.reward[i] + discount_t[i] * (value[i] + weight[i] * (returns - chosen[i]))

    place = batch.obs[0], batch.action[0]
    error = returns - q[place]
    return learner._replace(q=q.at[place].add(learner.learning_rate * error)), {"td_error": jnp.abs(error).mean()}


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds n-step Sarsa to an environment with Discrete observations and actions.

    Raises:
        InputError: other spaces, or n < 1.
    """
    if config.n < 1:
        raise InputError(f"n={config.n} must be at least 1.")
    if not isinstance(env.observation_space, Discrete):
        raise InputError(
            f"n_step_sarsa needs a Discrete observation space; the environment has {env.observation_space}."
        )
    num_states = env.observation_space.n
    num_actions = require_discrete("n_step_sarsa", env.action_space).n

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
        scalars = jnp.zeros((config.n, config.num_envs))
        numbers, flags = scalars.astype(jnp.int32), scalars.astype(jnp.bool_)
        window = Transition(numbers, numbers, scalars, flags, flags, numbers, numbers)
        state = State(key, hp, env_params, learner, running, action, window, jnp.int32(0), jnp.int32(0))
        return state._replace(action=exploration.draw(key_action, probabilities(state, learner.q[running.obs])))

    def online_step(state: State, _: None) -> tuple[State, Metrics]:
        hp, q = state.hp, state.learner.q
        key, key_rollout, key_next, key_new = threefry.spawn(state.key, 4)
        taken = Policy(lambda key, obs, memory: (state.action, memory, ()))
        out = rollout(env, state.env_params, taken, state.episode, (), key_rollout, 1)
        batch = jax.tree.map(lambda x: x[0], out.transitions)

        action = exploration.draw(key_next, probabilities(state, q[batch.next_obs]))
        now = batch._replace(extras=action)
        window = jax.tree.map(lambda old, new: jnp.concatenate([old[1:], new[None]]), state.window, now)
        horizon = exploration.horizon(hp.total_steps)
        rate = exploration.linear(1.0, 1.0 - hp.learning_rate_decay, horizon, state.env_steps)
        # Until the window is full its first entry is no transition.
        full = state.env_steps >= (config.n - 1) * config.num_envs
        learner = state.learner._replace(learning_rate=hp.learning_rate * rate * full)
        learner, scalars = update(config, hp, learner, window)

        ended = batch.terminated | batch.truncated
        new = exploration.draw(key_new, probabilities(state, q[out.episode.obs]))
        following = state._replace(
            key=key,
            learner=learner,
            episode=out.episode,
            action=jnp.where(ended, new, action),
            window=window,
            env_steps=state.env_steps + config.num_envs,
            episodes=state.episodes + out.stats.count,
        )
        return following, Metrics(out.stats, {**scalars, "epsilon": epsilon_of(state)})

    def step(state: State) -> tuple[State, Metrics]:
        state, metrics = jax.lax.scan(online_step, state, None, length=config.steps_per_iteration)
        episodes = jax.tree.map(lambda x: x.sum(dtype=x.dtype), metrics.episodes)
        return state, Metrics(episodes, jax.tree.map(jnp.mean, metrics.scalars))

    return Agent(init, step, policy, config.num_envs * config.steps_per_iteration, 0, "n_step_sarsa", env, config)
