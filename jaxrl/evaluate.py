"""Evaluation by whole episodes, each counted once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs import episode, threefry
from envs.base import Env
from jaxrl.loops.entry import in_32_bits
from jaxrl.rollout import initial_memory
from jaxrl.types import Policy

MOST_STEPS = 10_000  # of an episode that neither the environment nor the caller bounds


class Evaluation(NamedTuple):
    """One entry for each episode."""

    returns: jax.Array  # f32[episodes] undiscounted; f32[episodes, N] in a game of N players
    lengths: jax.Array  # i32[episodes]
    finished: jax.Array  # bool[episodes]; False where the bound on the steps came first: the return is of so many
    costs: Any = ()  # f32[episodes, K] undiscounted; () where there are none
    info: Any = ()  # {name: f32[episodes]} mean over the steps of what `Step.info` says in single numbers; (): nothing


@in_32_bits
def evaluate(
    env: Env, params: Any, policy: Policy, key: jax.Array, episodes: int, max_steps: int | None = None
) -> Evaluation:
    """Plays `episodes` episodes side by side, one environment each, until all have ended or reached a bound.

    An environment that finishes early goes on (its later episodes count for nothing), so short episodes are not
    over-represented. The same key gives the same initial states to every policy.

    Args:
        env: the environment.
        params: its parameters.
        policy: acts on [episodes, ...].
        key: consumed.
        episodes: how many.
        max_steps: an upper bound on the steps; by default the environment's own time limit, or without one
            `MOST_STEPS`: an episode might never end.
    """
    limit = max_steps or env.max_steps or MOST_STEPS
    key_reset, key_loop = jax.random.split(threefry.typed(key))
    key_loop = threefry.bulk(key_loop)
    state = episode.reset(env, params, key_reset, episodes)
    # What follows an environment's first episode is not counted, so it may start anywhere: no draws in the loop.
    starts = (state.obs, state.state)

    def one_info(memory: Any) -> dict[str, jax.Array]:
        action = policy.act(key_loop, state.obs, memory)[0]
        return episode.step(env, params, key_loop, state, action, starts)[1].info

    memory = initial_memory(policy, episodes)
    said = jax.eval_shape(one_info, memory)
    numbers = [name for name, shape in said.items() if shape.shape == (episodes,)]
    zero = Evaluation(
        jnp.zeros_like(state.episode_return),
        jnp.zeros(episodes, jnp.int32),
        jnp.zeros(episodes, jnp.bool_),
        jax.tree.map(jnp.zeros_like, state.episode_cost),
        {name: jnp.zeros(episodes) for name in numbers} if numbers else (),
    )

    def unfinished(carry: tuple) -> jax.Array:
        t, _, _, result = carry
        return (t < limit) & ~jnp.all(result.finished)

    def one_step(carry: tuple) -> tuple:
        t, state, memory, result = carry
        key_act, key_env = jax.random.split(jax.random.fold_in(key_loop, t))
        action, memory, _ = policy.act(key_act, state.obs, memory)
        state, ts = episode.step(env, params, key_env, state, action, starts)
        counted = ~result.finished
        info = {name: ts.info[name].astype(jnp.float32) for name in numbers} if numbers else ()
        now = (ts.reward, ts.cost, info)
        more = episode.select(counted, now, jax.tree.map(jnp.zeros_like, now))
        returns, costs, info = jax.tree.map(jnp.add, (result.returns, result.costs, result.info), more)
        finished = result.finished | ts.terminated | ts.truncated
        result = Evaluation(returns, result.lengths + counted, finished, costs, info)
        return t + 1, state, memory, result

    played = jax.lax.while_loop(unfinished, one_step, (jnp.int32(0), state, memory, zero))[-1]
    return played._replace(info=jax.tree.map(lambda total: total / jnp.maximum(played.lengths, 1), played.info))
