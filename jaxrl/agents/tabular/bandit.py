"""Bandit algorithms: ε-greedy action values, UCB and the gradient bandit (Sutton & Barto 2018, chapter 2).

    Q(a) ← Q(a) + α [r − Q(a)],          α = 1/N(a) or a constant
    ε-greedy: random with probability ε, else argmax Q;    UCB: argmax Q(a) + c √(ln t / N(a)), untried actions first
    gradient: H(b) ← H(b) + α [r − r̄] [1{b = a} − π(b)] for every b, with π = softmax(H) and r̄ the mean reward so far

A positive `initial_value` with a constant α is the optimistic start. With Discrete observations there is one bandit for
each of them (contextual); what an action does to the next observation is ignored, and so is any discount. With several
environments their updates are added up.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from envs import episode
from envs.base import Env
from envs.values import Fraction, NonNegative
from jaxrl import exploration
from jaxrl.agents.tabular import tables
from jaxrl.loops import entry, keys, on_policy
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Context, Diagnostics, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config(on_policy.OnlineConfig):
    """What is static: a new value means a new compilation."""

    method: Literal["epsilon_greedy", "ucb", "gradient"] = "epsilon_greedy"
    """How actions are chosen and what is learnt."""
    sample_average: bool = True
    """α = 1/N(a) for action values, instead of hp.learning_rate."""
    baseline: bool = True
    """Compare with the mean reward (gradient)."""


@struct.dataclass
class Hyperparams(tables.Values):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    epsilon: Fraction = 0.1
    """Probability of a random action (ε-greedy)."""
    confidence: NonNegative = 2.0
    """c of UCB, in units of reward."""


class Learner(NamedTuple):
    """What `update` changes."""

    q: jax.Array  # f32[S, A] action values, or the preferences H of the gradient bandit
    count: jax.Array  # f32[S, A] times an action was taken
    mean_reward: jax.Array  # f32[S]


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Hyperparams
    env_params: Any
    learner: Learner
    episode: episode.EpisodeState  # [num_envs]


def init_learner(shape: tuple[int, int], hp: Hyperparams) -> Learner:
    """The tables at the start."""
    q = tables.start(shape, hp)
    return Learner(q, jnp.zeros_like(q), jnp.zeros_like(q[:, 0]))


def update(
    config: Config,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array | None = None,
) -> tuple[Learner, Diagnostics]:
    """Learns from rewards.

    Args:
        config: static configuration.
        hp: hyper-parameters.
        context: not used.
        learner: the tables.
        batch: [B] transitions of one time step with integer obs and actions.
        key: not used; here so that every agent's update can be called alike.

    Returns:
        (learner, scalars).
    """
    del context, key
    place = batch.obs, batch.action
    count = learner.count.at[place].add(1.0)
    if config.method == "gradient":
        # The baseline includes the present reward, as in the book's experiments.
        trials = count.sum(-1)[batch.obs]
        change = (batch.reward - learner.mean_reward[batch.obs]) / trials
        mean_reward = learner.mean_reward.at[batch.obs].add(change)
        error = batch.reward - mean_reward[batch.obs] * config.baseline
        chosen = jax.nn.one_hot(batch.action, learner.q.shape[1])
        push = error[:, None] * (chosen - jax.nn.softmax(learner.q[batch.obs]))
        following = Learner(learner.q.at[batch.obs].add(hp.learning_rate * push), count, mean_reward)
    else:
        error = batch.reward - learner.q[place]
        rate = 1.0 / count[place] if config.sample_average else hp.learning_rate
        following = Learner(learner.q.at[place].add(rate * error), count, learner.mean_reward)
    return following, Diagnostics({"error": jnp.abs(error).mean()})


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds a bandit algorithm to an environment with Discrete observations and actions.

    Raises:
        InputError: other spaces, or several players.
    """
    shape = tables.shape_alone("bandit", env)

    def policy(state: State, shared: Any = ()) -> Policy:
        del shared
        return tables.greedy(state.learner.q)

    def explore(state: State, shared: Any = ()) -> Policy:
        del shared
        learner, hp = state.learner, state.hp

        def act(key: jax.Array, obs: jax.Array, memory: Any) -> tuple[Any, Any, Any]:
            q, count = learner.q[obs], learner.count[obs]
            if config.method == "gradient":
                return exploration.softmax(key, q, 1.0), memory, ()
            if config.method == "ucb":
                trials = jnp.maximum(count.sum(-1, keepdims=True), 1.0)
                bonus = hp.confidence * jnp.sqrt(jnp.log(trials) / jnp.maximum(count, 1.0))
                q = jnp.where(count == 0, jnp.inf, q + bonus)
                return exploration.epsilon_greedy(key, q, 0.0, random_ties=True), memory, ()
            return exploration.epsilon_greedy(key, q, hp.epsilon, random_ties=True), memory, ()

        return Policy(act)

    def init(key: jax.Array, hp: Hyperparams, env_params: Any, shared: Any = ()) -> State:
        del shared
        key, key_episode = keys.split(key, True, True)
        running = episode.reset(env, env_params, key_episode, config.num_envs)
        return State(key, hp, env_params, init_learner(shape, hp), running)

    def online_step(state: State, _: None) -> tuple[State, Metrics]:
        key, key_rollout = keys.spawn(state.key, True, True)
        out = rollout(env, state.env_params, explore(state), state.episode, (), key_rollout, 1)
        batch = jax.tree.map(lambda x: x[0], out.transitions)
        learner, diagnostics = update(config, state.hp, Context(), state.learner, batch)
        following = state._replace(key=key, learner=learner, episode=out.episode)
        return following, Metrics(out.stats, diagnostics.scalars)

    def step(state: State, shared: Any = ()) -> tuple[State, Metrics]:
        del shared
        state, metrics = jax.lax.scan(online_step, state, None, length=config.steps_per_iteration)
        episodes = jax.tree.map(lambda x: x.sum(axis=0, dtype=x.dtype), metrics.episodes)
        return state, Metrics(episodes, jax.tree.map(jnp.mean, metrics.scalars))

    steps = config.num_envs * config.steps_per_iteration
    return entry.agent(Agent(init, step, policy, steps, 0, "bandit", env, config, explore))
