"""On-policy Monte Carlo control, first-visit or every-visit (Sutton & Barto 2018, sections 5.3 and 5.4).

    Q(s, a) ← mean of the returns that followed (s, a), or a step of size α towards each of them

An iteration collects a stretch of fixed length with an ε-soft policy and then learns from every step in it. Returns
that the episode's end closes are true returns. Those that are still open at the end of the stretch, or that the time
limit cut, are closed by max_a Q of the true successor: bootstrapping is the price of a fixed length, and small where
the stretch holds many episodes. First-visit counts a pair once for each episode within the stretch.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from envs import episode, threefry
from envs.base import Env
from envs.errors import InputError
from envs.spaces import Discrete
from jaxrl import exploration, returns
from jaxrl.actions import require_discrete
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config:
    """What is static: a new value means a new compilation."""

    num_envs: int = 1
    """Environments stepped in parallel."""
    rollout_length: int = 100
    """Steps in each environment between updates."""
    first_visit: bool = True
    """Learn from the first visit to a pair in an episode only, instead of from every one."""
    sample_average: bool = True
    """Mean of all returns so far, instead of steps of size hp.learning_rate."""
    exploration: Literal["epsilon_greedy", "softmax"] = "epsilon_greedy"
    """The policy that acts and is learnt about."""


class Hyperparams(NamedTuple):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    learning_rate: float = 0.05
    """α, without sample averages."""
    gamma: float = 0.9
    """Discount."""
    epsilon_start: float = 0.1
    """Probability of a random action at the start."""
    epsilon_end: float = 0.1
    """Probability of a random action after the decay."""
    epsilon_fraction: float = 0.5
    """Part of hp.total_steps over which ε falls linearly."""
    temperature: float = 1.0
    """Of the softmax policy, in units of value."""
    initial_value: float = 0.0
    """Q of pairs that were never met."""
    total_steps: float | None = None
    """Environment steps that the schedule of ε refers to; the length of the run unless given."""


class Learner(NamedTuple):
    """What `update` changes."""

    q: jax.Array  # f32[S, A]
    visits: jax.Array  # f32[S, A] returns averaged so far


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
    """Learns from a stretch of successive transitions.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        learner: the table.
        batch: [T, B] transitions with integer obs and actions.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del key
    q, visits = learner
    discount_t, lambda_t = returns.cuts(batch.terminated, batch.truncated, hp.gamma, 1.0)
    target = returns.lambda_returns(batch.reward, discount_t, q[batch.next_obs].max(-1), lambda_t)
    counted = _first_visits(batch) if config.first_visit else jnp.ones_like(batch.reward)
    place = batch.obs, batch.action
    error = counted * (target - q[place])
    if config.sample_average:
        visits = visits.at[place].add(counted)
        q = q + jnp.zeros_like(q).at[place].add(error) / jnp.maximum(visits, 1.0)
    else:
        # As far as n steps of size α would go towards the mean of the n returns: added up they would overshoot.
        count = jnp.zeros_like(q).at[place].add(counted)
        mean = jnp.zeros_like(q).at[place].add(error) / jnp.maximum(count, 1.0)
        q = q + (1.0 - (1.0 - hp.learning_rate) ** count) * mean
    return Learner(q, visits), {"error": jnp.abs(error).sum() / counted.sum()}


def _first_visits(batch: Transition) -> jax.Array:
    """1.0 where a step is the first with its state and action in its episode, f32[T, B]."""
    ended = (batch.terminated | batch.truncated).astype(jnp.int32)
    number = jnp.cumsum(ended, 0) - ended  # of the episode that a step belongs to
    length = len(number)
    earlier = jnp.arange(length)[:, None] > jnp.arange(length)[None, :]
    again = earlier[:, :, None]
    for column in (batch.obs, batch.action, number):
        again = again & (column[:, None] == column[None, :])
    return 1.0 - again.any(1)


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds Monte Carlo control to an environment with Discrete observations and actions.

    Raises:
        InputError: other spaces.
    """
    if not isinstance(env.observation_space, Discrete):
        raise InputError(f"monte_carlo needs a Discrete observation space; it is {env.observation_space}.")
    num_states = env.observation_space.n
    num_actions = require_discrete("monte_carlo", env.action_space).n

    def policy(state: State) -> Policy:
        return Policy(lambda key, obs, memory: (jnp.argmax(state.learner.q[obs], -1), memory, ()))

    def init(key: jax.Array, hp: Hyperparams, env_params: Any) -> State:
        key, key_episode = jax.random.split(key)
        q = jnp.full((num_states, num_actions), hp.initial_value, jnp.float32)
        running = episode.reset(env, env_params, key_episode, config.num_envs)
        return State(key, hp, env_params, Learner(q, jnp.zeros_like(q)), running, jnp.int32(0))

    def step(state: State) -> tuple[State, Metrics]:
        hp, q = state.hp, state.learner.q
        horizon = hp.epsilon_fraction * exploration.horizon(hp.total_steps)
        epsilon = exploration.linear(hp.epsilon_start, hp.epsilon_end, horizon, state.env_steps)

        def act(key: jax.Array, obs: jax.Array, memory: Any) -> tuple[Any, Any, Any]:
            if config.exploration == "softmax":
                return exploration.softmax(key, q[obs], hp.temperature), memory, ()
            return exploration.epsilon_greedy(key, q[obs], epsilon, random_ties=True), memory, ()

        key, key_rollout = threefry.spawn(state.key)
        out = rollout(env, state.env_params, Policy(act), state.episode, (), key_rollout, config.rollout_length)
        learner, scalars = update(config, hp, state.learner, out.transitions)
        env_steps = state.env_steps + config.num_envs * config.rollout_length
        following = state._replace(key=key, learner=learner, episode=out.episode, env_steps=env_steps)
        return following, Metrics(out.stats, {**scalars, "epsilon": epsilon})

    return Agent(init, step, policy, config.num_envs * config.rollout_length, 0, "monte_carlo", env, config)
