"""The only clock: time limit, auto-reset, batching and episode statistics of any `Env` or `Game`.

Everything here is batched over `num_envs` environments that share one `params`. When an episode ends, by
termination or by the time limit, the returned state already belongs to a new episode that starts from a fresh,
independent draw, while `TimeStep.next_obs` is the successor that the action really led to.

A game's observations, actions and rewards keep their player axis behind the batch: [B, N, ...]. It has one clock and
one end for all its players, so times, flags and counts are [B].
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs import threefry
from envs.base import Env, Game

# Up to this size of one start those of all steps are drawn in one call before the loop: cheaper than a draw in every
# step, most of all under vmap, where "only if some episode ended" becomes "always". Larger ones are drawn when needed.
BULK_START_BYTES = 256
# From this size of a batch of such starts on, one start for each environment is kept in reserve instead: most of
# those drawn for every step are never used. Measured on CPU from 8 to 217 bytes a start and 16 to 8,192 environments.
RESERVE_BYTES = 2048


class EpisodeState(NamedTuple):
    """A batch of running episodes."""

    obs: Any  # [B, ...] the observation to act on
    state: Any  # [B, ...] the environment's own state
    t: jax.Array  # i32[B] steps taken in this episode: the clock, and its length so far
    episode_return: jax.Array  # f32[B] undiscounted return so far; f32[B, N] in a game of N players
    episode_cost: Any = ()  # f32[B, K] undiscounted sum of each cost so far; () where there are none


class EpisodeStats(NamedTuple):
    """Sums over the episodes that ended: add two of them, and divide by `count` only when reading."""

    return_sum: jax.Array  # f32; f32[N] in a game of N players
    length_sum: jax.Array  # i32
    count: jax.Array  # i32
    cost_sum: Any = ()  # f32[K] of each cost; () where there are none


class TimeStep(NamedTuple):
    """What one step of a batch of episodes yields."""

    reward: jax.Array  # f32[B]; f32[B, N] in a game of N players
    terminated: jax.Array  # bool[B] the MDP ended: the value of what follows is 0
    truncated: jax.Array  # bool[B] the time limit was reached: the value of what follows is not 0
    next_obs: Any  # [B, ...] the true successor, never the observation of a new episode
    stats: EpisodeStats  # each [B, ...]: the episodes that ended at this step, zero elsewhere
    info: dict[str, jax.Array]  # each [B, ...]: the environment's diagnostics
    cost: Any = ()  # f32[B, K]; () where there are none


def initial(env: Env, params: Any, key: jax.Array, num_envs: int) -> tuple[Any, Any]:
    """Draws `num_envs` independent starts; returns (obs, state), each [num_envs, ...]."""
    keys = threefry.consecutive(key, num_envs)
    return threefry.default(jax.vmap(env.reset, in_axes=(0, None))(keys, params))


def reset(env: Env, params: Any, key: jax.Array, num_envs: int) -> EpisodeState:
    """Starts `num_envs` episodes."""
    return begin(env, *initial(env, params, key, num_envs))


def begin(env: Env, obs: Any, state: Any) -> EpisodeState:
    """Returns the episodes that start from `obs` and `state`, each [B, ...]: clock, returns and costs at zero."""
    num_envs = jax.tree.leaves(obs)[0].shape[0]
    t = jnp.zeros(num_envs, jnp.int32)
    return EpisodeState(obs, state, t, _no_returns(env, num_envs), _no_costs(env, num_envs))


def no_episodes(env: Env) -> EpisodeStats:
    """Returns the statistics of no episodes, without a batch axis: zeros to which those of each step are added."""
    return EpisodeStats(_no_returns(env), jnp.int32(0), jnp.int32(0), _no_costs(env))


def _no_returns(env: Env, *batch: int) -> jax.Array:
    return jnp.zeros((*batch, env.num_players) if isinstance(env, Game) else batch, jnp.float32)


def _no_costs(env: Env, *batch: int) -> Any:
    return jnp.zeros((*batch, env.num_costs), jnp.float32) if env.num_costs else ()


class Reserve(NamedTuple):
    """One start for each environment, drawn before it is needed; see `step_with_reserve`."""

    obs: Any  # [B, ...]
    state: Any  # [B, ...]
    spent: jax.Array  # bool[B] which have been used


def initial_reserve(env: Env, params: Any, key: jax.Array, num_envs: int) -> Reserve:
    """Draws a start in reserve for each of `num_envs` environments."""
    return Reserve(*initial(env, params, key, num_envs), jnp.zeros(num_envs, jnp.bool_))


class Starts(NamedTuple):
    """Where the next episodes of a loop of steps start from; both None: drawn in the steps where an episode ends."""

    reserve: Reserve | None = None  # carried from step to step
    each: tuple[Any, Any] | None = None  # (obs, state), each [T, B, ...]: one slice for every step


def prepare_starts(env: Env, params: Any, key: jax.Array, num_envs: int, length: int) -> Starts:
    """Draws what `length` steps of `num_envs` environments need beforehand, in the way that costs least.

    Small starts are drawn for all steps in one call, or, in a large batch, one for each environment is kept in
    reserve; large and costly ones are drawn where they are needed.
    """
    size = _start_bytes(env, params)
    if env.costly_reset or size > BULK_START_BYTES:
        return Starts()
    if length > 1 and size * num_envs >= RESERVE_BYTES and _random_start(env, params):
        return Starts(reserve=initial_reserve(env, params, key, num_envs))
    flat = initial(env, params, key, length * num_envs)
    return Starts(each=jax.tree.map(lambda x: x.reshape(length, num_envs, *x.shape[1:]), flat))


def _start_bytes(env: Env, params: Any) -> int:
    shapes = _, state = jax.eval_shape(env.reset, jax.random.key(0), params)
    if jax.eval_shape(env.as_observation, state, params) is not None:
        shapes = state  # all that is kept
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def _random_start(env: Env, params: Any) -> bool:
    """Whether a start depends on its key: one that does not costs nothing to draw."""
    reset = jax.make_jaxpr(env.reset)(jax.random.key(0), params).jaxpr
    return any(var is reset.invars[0] for equation in reset.eqns for var in equation.invars)


def step(
    env: Env,
    params: Any,
    key: jax.Array,
    episode: EpisodeState,
    action: Any,
    starts: tuple[Any, Any] | None = None,
) -> tuple[EpisodeState, TimeStep]:
    """Advances every environment by one step and restarts the ones whose episode ended.

    Args:
        key: one key for the whole batch.
        action: [B, ...] one action for each environment.
        starts: (obs, state), each [B, ...], as `initial` draws them, to be used where an episode ends. They must
            be fresh for every call. None: drawn here, and only in steps in which some episode ends.
    """
    num_envs = episode.t.shape[0]
    key_step, key_start = jax.random.split(key)
    state, ts = advance(env, params, key_step, episode, action)
    ended = ts.terminated | ts.truncated
    if starts is not None:
        return _restart(env, params, ended, episode, state, ts, starts), ts
    carried = (ts.next_obs, state)
    obs, state = jax.lax.cond(
        _anywhere(ended),
        lambda: select(ended, initial(env, params, key_start, num_envs), carried),
        lambda: carried,
    )
    return _following(ended, episode, ts, obs, state), ts


def step_with_reserve(
    env: Env, params: Any, key: jax.Array, episode: EpisodeState, action: Any, reserve: Reserve
) -> tuple[EpisodeState, TimeStep, Reserve]:
    """As `step`, with starts in reserve: all that are spent are drawn anew when an environment needs its second.

    Few episodes end twice within a rollout, so a large batch draws its starts a few times instead of in every step.

    Args:
        key: one key for the whole batch.
        action: [B, ...] one action for each environment.
        reserve: as `initial_reserve` draws it or this function returned it.
    """
    key_step, key_start = jax.random.split(key)
    state, ts = advance(env, params, key_step, episode, action)
    ended = ts.terminated | ts.truncated
    short = ended & reserve.spent
    # The branch is taken for all runs of a batch at once; a run that is not short itself keeps what it has.
    renewed = reserve.spent & jnp.any(short)
    obs, start = jax.lax.cond(
        _anywhere(short),
        lambda: select(renewed, initial(env, params, key_start, episode.t.shape[0]), reserve[:2]),
        lambda: reserve[:2],
    )
    following = _restart(env, params, ended, episode, state, ts, (obs, start))
    return following, ts, Reserve(obs, start, (reserve.spent & ~renewed) | ended)


def step_from(
    env: Env, params: Any, key: jax.Array, episode: EpisodeState, action: Any, starts: Starts
) -> tuple[EpisodeState, TimeStep, Reserve | None]:
    """As `step`, in a loop whose starts `prepare_starts` prepared: the third result is the reserve to carry on with.

    Args:
        key: one key for the whole batch.
        action: [B, ...] one action for each environment.
        starts: the reserve as the step before left it, and this step's slice of `each`.
    """
    if starts.reserve is not None:
        return step_with_reserve(env, params, key, episode, action, starts.reserve)
    return *step(env, params, key, episode, action, starts.each), None


def advance(env: Env, params: Any, key: jax.Array, episode: EpisodeState, action: Any) -> tuple[Any, TimeStep]:
    """One step of every environment and of the clock, without a restart.

    Args:
        key: one key for the whole batch.
        action: [B, ...] one action for each environment.

    Returns:
        (the successor states [B, ...], also where an episode ended; what the step yields).
    """
    if env.random_step:
        keys = threefry.consecutive(key, episode.t.shape[0])
        out = jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, episode.state, action, params)
    else:
        out = jax.vmap(env.step, in_axes=(None, 0, 0, None))(key, episode.state, action, params)
    out = threefry.default(out)  # the keys that some environments keep in their states
    # Learners and replays know one type of rewards; an environment may count them.
    reward, cost = jax.tree.map(lambda x: x.astype(jnp.float32), (out.reward, out.cost))

    t = episode.t + 1
    truncated = jnp.broadcast_to(out.truncated, out.terminated.shape)
    if env.max_steps is not None:
        truncated |= t >= env.max_steps
    ended = out.terminated | truncated
    stats = EpisodeStats(
        return_sum=_where(ended, episode.episode_return + reward, 0.0),
        length_sum=jnp.where(ended, t, 0),
        count=ended.astype(jnp.int32),
        cost_sum=jax.tree.map(lambda total, now: _where(ended, total + now, 0.0), episode.episode_cost, cost),
    )
    return out.state, TimeStep(reward, out.terminated, truncated, out.obs, stats, out.info, cost)


def _restart(
    env: Env, params: Any, ended: jax.Array, episode: EpisodeState, state: Any, ts: TimeStep, starts: tuple[Any, Any]
) -> EpisodeState:
    """Goes on from `starts` where an episode ended."""
    state = select(ended, starts[1], state)
    obs = jax.vmap(env.as_observation, in_axes=(0, None))(state, params)
    if obs is None:
        obs = select(ended, starts[0], ts.next_obs)
    return _following(ended, episode, ts, obs, state)


def _following(ended: jax.Array, episode: EpisodeState, ts: TimeStep, obs: Any, state: Any) -> EpisodeState:
    """The episodes after a step, with the clock and the sums of those that ended back at zero."""
    t, episode_return = episode.t + 1, episode.episode_return + ts.reward
    return EpisodeState(
        obs,
        state,
        jnp.where(ended, 0, t),
        _where(ended, 0.0, episode_return),
        jax.tree.map(lambda total, now: _where(ended, 0.0, total + now), episode.episode_cost, ts.cost),
    )


def _where(mask: jax.Array, on_true: Any, on_false: Any) -> jax.Array:
    """Chooses per environment between an array [B, ...] and a number; `mask` is bool[B]."""
    ndim = max(jnp.ndim(on_true), jnp.ndim(on_false))
    return jnp.where(mask.reshape(mask.shape + (1,) * (ndim - 1)), on_true, on_false)


@jax.custom_batching.custom_vmap
def _anywhere(mask: jax.Array) -> jax.Array:
    """Whether any entry is True, over all runs of a batch too.

    A predicate that differs between the runs of a vmap would turn `cond` into a select that draws starts in every
    step. One predicate for all keeps the branch; a run in which nothing ended gets the same from both sides.
    """
    return jnp.any(mask)


@_anywhere.def_vmap
def _anywhere_of_runs(axis_size: int, in_batched: list[bool], mask: jax.Array) -> tuple[jax.Array, bool]:
    del axis_size, in_batched
    return _anywhere(mask), False


def select(mask: jax.Array, on_true: Any, on_false: Any) -> Any:
    """Chooses per environment between two pytrees of [B, ...] arrays; `mask` is bool[B]."""

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, on_true, on_false)
