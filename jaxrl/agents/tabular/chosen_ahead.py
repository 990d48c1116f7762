"""The loop of Sarsa and its kin: a' is chosen before the update, by the table that valued a, and then really taken.

An iteration is a number of steps, each followed by its update. The policy is ε-greedy or softmax in `learner.q`, and ε
may depend on `learner.episodes`: every Learner of these agents has the two.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs import episode
from envs.base import Env
from jaxrl import exploration
from jaxrl.agents.tabular import tables
from jaxrl.loops import clock, entry, keys, on_policy
from jaxrl.rollout import rollout
from jaxrl.types import Agent, Context, Diagnostics, Metrics, Policy, Transition


@dataclass(frozen=True)
class Config(tables.Config, on_policy.OnlineConfig):
    """What is static: a new value means a new compilation."""


class Ahead(NamedTuple):
    """The extras of a step: what follows it, also where the episode ends and nothing does."""

    action: jax.Array  # i32[...] a', the action chosen in next_obs
    probability: Any  # f32[..., A] that it was drawn with; (): not kept


class State(NamedTuple):
    """Everything in which two runs can differ."""

    key: jax.Array
    hp: Any
    env_params: Any
    learner: Any
    episode: episode.EpisodeState  # [num_envs]
    action: jax.Array  # i32[num_envs] chosen already, to be taken next
    iteration: jax.Array  # i32[] updates of the learner so far


def make(
    name: str,
    env: Env,
    config: Config,
    init_learner: Callable[[Any], Any],
    update: Callable[[Any, Context, Any, Transition], tuple[Any, Diagnostics]],
) -> Agent:
    """Binds a learner to an environment with Discrete observations and actions.

    Args:
        name: of the agent.
        env: the environment.
        config: static configuration.
        init_learner: hp -> L, with `q` f32[S, A] and `episodes` i32[].
        update: (hp, context, L, batch [num_envs] with `Ahead` as extras) -> (L, diagnostics).
    """

    def context(state: State, shared: Any) -> Context:
        return Context(shared, state.env_params, clock.progress(state.hp, state.iteration, config.num_envs))

    def probabilities(state: State, epsilon: jax.Array, obs: jax.Array) -> jax.Array:
        q = state.learner.q[obs]
        if config.exploration == "softmax":
            return jax.nn.softmax(q / state.hp.temperature)
        return exploration.epsilon_greedy_probabilities(q, epsilon)

    def epsilon_of(state: State, shared: Any) -> jax.Array:
        return tables.epsilon(config, state.hp, context(state, shared), state.learner.episodes)

    def policy(state: State, shared: Any = ()) -> Policy:
        del shared
        return tables.greedy(state.learner.q)

    def init(key: jax.Array, hp: Any, env_params: Any, shared: Any = ()) -> State:
        key, key_episode, key_action = keys.split(key, True, True, True)
        running = episode.reset(env, env_params, key_episode, config.num_envs)
        state = State(key, hp, env_params, init_learner(hp), running, jnp.int32(0), jnp.int32(0))
        first = probabilities(state, epsilon_of(state, shared), running.obs)
        return state._replace(action=exploration.draw(key_action, first))

    def online_step(state: State, shared: Any) -> tuple[State, Metrics]:
        key, key_rollout, key_next, key_new = keys.spawn(state.key, True, True, True, True)
        taken = Policy(lambda key, obs, memory: (state.action, memory, ()))
        out = rollout(env, state.env_params, taken, state.episode, (), key_rollout, 1)
        batch = jax.tree.map(lambda x: x[0], out.transitions)

        epsilon = epsilon_of(state, shared)
        probability = probabilities(state, epsilon, batch.next_obs)
        ahead = Ahead(exploration.draw(key_next, probability), probability)
        learner, diagnostics = update(state.hp, context(state, shared), state.learner, batch._replace(extras=ahead))

        ended = batch.terminated | batch.truncated
        new = exploration.draw(key_new, probabilities(state, epsilon, out.episode.obs))
        following = state._replace(
            key=key,
            learner=learner,
            episode=out.episode,
            action=jnp.where(ended, new, ahead.action),
            iteration=clock.advance(state.iteration),
        )
        return following, Metrics(out.stats, {**diagnostics.scalars, "epsilon": epsilon})

    def step(state: State, shared: Any = ()) -> tuple[State, Metrics]:
        state, metrics = jax.lax.scan(
            lambda state, _: online_step(state, shared), state, None, length=config.steps_per_iteration
        )
        episodes = jax.tree.map(lambda x: x.sum(axis=0, dtype=x.dtype), metrics.episodes)
        return state, Metrics(episodes, jax.tree.map(jnp.mean, metrics.scalars))

    return entry.agent(Agent(init, step, policy, config.num_envs * config.steps_per_iteration, 0, name, env, config))
