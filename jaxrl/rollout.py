"""The one collector: a policy acts in a batch of episodes for a number of steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs import episode, spaces, threefry
from envs.base import Env, Game
from envs.episode import EpisodeState, EpisodeStats
from jaxrl.types import Policy, Seats, Transition


class Rollout(NamedTuple):
    """What a rollout leaves."""

    episode: EpisodeState  # [B, ...] to go on from
    memory: Any  # [B, ...] the policy's memory to go on from
    transitions: Transition  # [T, B, ...]
    stats: EpisodeStats  # scalars, over the episodes that ended


def rollout(
    env: Env,
    params: Any,
    policy: Policy,
    episode_state: EpisodeState,
    memory: Any,
    key: jax.Array,
    length: int,
) -> Rollout:
    """Runs `policy` for `length` steps in every environment of the batch.

    Args:
        env: the environment.
        params: its parameters.
        policy: acts on [B, ...]; its memory is set back to `policy.memory` where an episode ends.
        episode_state: the running episodes, [B, ...].
        memory: the policy's memory now, [B, ...]; see `initial_memory`.
        key: consumed.
        length: number of steps T.
    """
    num_envs = episode_state.t.shape[0]
    key_act, key_env, key_start = jax.random.split(threefry.bulk(key), 3)
    keys = (jax.random.split(key_act, length), jax.random.split(key_env, length))
    starts = episode.prepare_starts(env, params, key_start, num_envs, length)

    def one_step(carry: Any, xs: Any) -> tuple[Any, Transition]:
        state, memory, stats, reserve = carry
        (key_act, key_env), start = xs
        action, memory, extras = policy.act(key_act, state.obs, memory)
        mine = episode.Starts(reserve, start)
        following, ts, reserve = episode.step_from(env, params, key_env, state, action, mine)
        memory = episode.select(ts.terminated | ts.truncated, initial_memory(policy, num_envs), memory)
        stats = jax.tree.map(lambda total, now: total + now.sum(axis=0, dtype=total.dtype), stats, ts.stats)
        transition = Transition(state.obs, action, ts.reward, ts.terminated, ts.truncated, ts.next_obs, extras)
        transition = transition._replace(cost=ts.cost)
        if isinstance(env, Game):
            seats = Seats(jax.vmap(env.to_move)(state.state), jax.vmap(env.alive)(state.state))
            transition = transition._replace(seats=seats)
        return (following, memory, stats, reserve), transition

    carry = (episode_state, memory, episode.no_episodes(env), starts.reserve)
    (episode_state, memory, stats, _), transitions = jax.lax.scan(one_step, carry, (keys, starts.each))
    return Rollout(episode_state, memory, transitions, stats)


def example(env: Env) -> Transition:
    """The shapes and dtypes of one step in one environment of one player, for a replay memory; no extras."""

    def one_step() -> Transition:
        obs = spaces.sample(env.observation_space, jax.random.key(0))
        action = spaces.sample(env.action_space, jax.random.key(0))
        flag = jnp.zeros((), jnp.bool_)
        cost = jnp.zeros(env.num_costs) if env.num_costs else ()
        return Transition(obs, action, jnp.float32(0), flag, flag, obs, cost=cost)

    return jax.eval_shape(one_step)


def initial_memory(policy: Policy, num_envs: int) -> Any:
    """The policy's memory at the start of an episode, for each of `num_envs` environments."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (num_envs, *jnp.shape(x))), policy.memory)
