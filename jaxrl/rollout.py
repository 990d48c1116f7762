"""The one collector: a policy acts in a batch of episodes for a number of steps."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs import episode, spaces, threefry
from envs.base import Env, Game
from envs.episode import EpisodeState, EpisodeStats
from jaxrl.types import Policy, Seats, Transition

# Up to this size of one start those of all steps are drawn in one call before the loop: cheaper than a draw in every
# step, most of all under vmap, where "only if some episode ended" becomes "always". Larger ones are drawn when needed.
BULK_START_BYTES = 256
# From this size of a batch of such starts on, one start for each environment is kept in reserve instead: most of
# those drawn for every step are never used. Measured on CPU from 8 to 217 bytes a start and 16 to 8,192 environments.
RESERVE_BYTES = 2048


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
    starts = reserve = None
    size = _start_bytes(env, params)
    if not env.costly_reset and size <= BULK_START_BYTES:
        if length > 1 and size * num_envs >= RESERVE_BYTES and _random_start(env, params):
            reserve = episode.initial_reserve(env, params, key_start, num_envs)
        else:
            flat = episode.initial(env, params, key_start, length * num_envs)
            starts = jax.tree.map(lambda x: x.reshape(length, num_envs, *x.shape[1:]), flat)

    def one_step(carry: Any, xs: Any) -> tuple[Any, Transition]:
        state, memory, stats, reserve = carry
        (key_act, key_env), start = xs
        action, memory, extras = policy.act(key_act, state.obs, memory)
        if reserve is None:
            following, ts = episode.step(env, params, key_env, state, action, start)
        else:
            following, ts, reserve = episode.step_with_reserve(env, params, key_env, state, action, reserve)
        memory = episode.select(ts.terminated | ts.truncated, initial_memory(policy, num_envs), memory)
        stats = jax.tree.map(lambda total, now: total + now.sum(axis=0, dtype=total.dtype), stats, ts.stats)
        transition = Transition(state.obs, action, ts.reward, ts.terminated, ts.truncated, ts.next_obs, extras)
        transition = transition._replace(cost=ts.cost)
        if isinstance(env, Game):
            seats = Seats(jax.vmap(env.to_move)(state.state), jax.vmap(env.alive)(state.state))
            transition = transition._replace(seats=seats)
        return (following, memory, stats, reserve), transition

    carry = (episode_state, memory, episode.no_episodes(env), reserve)
    (episode_state, memory, stats, _), transitions = jax.lax.scan(one_step, carry, (keys, starts))
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


def _start_bytes(env: Env, params: Any) -> int:
    shapes = _, state = jax.eval_shape(env.reset, jax.random.key(0), params)
    if jax.eval_shape(env.as_observation, state, params) is not None:
        shapes = state  # all that is kept
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def _random_start(env: Env, params: Any) -> bool:
    """Whether a start depends on its key: one that does not costs nothing to draw."""
    reset = jax.make_jaxpr(env.reset)(jax.random.key(0), params).jaxpr
    return any(var is reset.invars[0] for equation in reset.eqns for var in equation.invars)
