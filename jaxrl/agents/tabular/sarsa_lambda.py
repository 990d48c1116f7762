"""Sarsa(λ) and Watkins's Q(λ) with eligibility traces (Sutton 1988; Watkins 1989; Sutton & Barto 2018, section 12.7).

    δ = r + γ (1 − terminated) Q(s', a') − Q(s, a)
    e ← γ λ e,  then e(s, a) is raised;   Q ← Q + α δ e      (every state and action at once)

Q(λ) learns about the greedy policy: δ has max_a' Q(s', a'), and the traces are cut where the action taken next is not
greedy. Three kinds of trace: accumulating (e + 1), replacing (1; Singh & Sutton 1996) and dutch (e + 1 − α e; van
Seijen & Sutton 2014). Each environment has its own traces; with several of them their updates are added up. Traces end
with the episode; where that is by the time limit, a' is the action that the policy would have taken in the true
successor.
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
    off_policy: bool = False
    """Watkins's Q(λ) instead of Sarsa(λ)."""
    trace: Literal["accumulating", "replacing", "dutch"] = "accumulating"
    """How a visit raises its trace."""
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
    trace_lambda: float = 0.9
    """λ: how fast traces fade."""
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
    trace: jax.Array  # f32[num_envs, S, A] 0 at the start of an episode
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
    """One online step of every environment.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        learner: the table, the traces of each environment, and the step size.
        batch: [num_envs] transitions with integer obs and actions; extras: i32[num_envs] the next actions.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del key
    q, alpha = learner.q, learner.learning_rate
    lanes = jnp.arange(len(batch.action))
    place = lanes, batch.obs, batch.action
    discount_t = hp.gamma * (1.0 - batch.terminated)
    q_tm1, q_t = q[batch.obs], q[batch.next_obs]
    if config.off_policy:
        error = losses.q_learning(q_tm1, batch.action, batch.reward, discount_t, q_t)
    else:
        error = losses.sarsa(q_tm1, batch.action, batch.reward, discount_t, q_t, batch.extras)

    trace = learner.trace
    if config.trace == "replacing":
        trace = trace.at[place].set(1.0)
    elif config.trace == "dutch":
        trace = trace.at[place].add(1.0 - alpha * trace[place])
    else:
        trace = trace.at[place].add(1.0)
    q = q + alpha * jnp.einsum("b,bsa->sa", error, trace)

    goes_on = ~(batch.terminated | batch.truncated)
    if config.off_policy:
        goes_on &= q_t[lanes, batch.extras] == q_t.max(-1)
    trace = trace * (hp.gamma * hp.trace_lambda * goes_on)[:, None, None]
    return learner._replace(q=q, trace=trace), {"td_error": jnp.abs(error).mean()}


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds Sarsa(λ) to an environment with Discrete observations and actions.

    Raises:
        InputError: other spaces.
    """
    if not isinstance(env.observation_space, Discrete):
        raise InputError(
            f"sarsa_lambda needs a Discrete observation space; the environment has {env.observation_space}."
        )
    num_states = env.observation_space.n
    num_actions = require_discrete("sarsa_lambda", env.action_space).n

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
        q = jnp.full((num_states, num_actions), hp.initial_value, jnp.float32)
        learner = Learner(q, jnp.zeros((config.num_envs, *q.shape)), jnp.float32(hp.learning_rate))
        running = episode.reset(env, env_params, key_episode, config.num_envs)
        action = jnp.zeros(config.num_envs, jnp.int32)
        state = State(key, hp, env_params, learner, running, action, jnp.int32(0), jnp.int32(0))
        return state._replace(action=exploration.draw(key_action, probabilities(state, q[running.obs])))

    def online_step(state: State, _: None) -> tuple[State, Metrics]:
        hp, q = state.hp, state.learner.q
        key, key_rollout, key_next, key_new = threefry.spawn(state.key, 4)
        taken = Policy(lambda key, obs, memory: (state.action, memory, ()))
        out = rollout(env, state.env_params, taken, state.episode, (), key_rollout, 1)
        batch = jax.tree.map(lambda x: x[0], out.transitions)

        action = exploration.draw(key_next, probabilities(state, q[batch.next_obs]))
        horizon = exploration.horizon(hp.total_steps)
        rate = exploration.linear(1.0, 1.0 - hp.learning_rate_decay, horizon, state.env_steps)
        learner = state.learner._replace(learning_rate=hp.learning_rate * rate)
        learner, scalars = update(config, hp, learner, batch._replace(extras=action))

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

    return Agent(init, step, policy, config.num_envs * config.steps_per_iteration, 0, "sarsa_lambda", env, config)
