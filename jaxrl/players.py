"""Learners of one player in a game of several: between the game's player axis and the learner's lanes.

Every player of every game is a lane of its own, so a learner that knows only lanes learns from all of them with shared
parameters: independent PPO is PPO behind `joint` and `fold`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from envs import players
from envs.base import Game
from jaxrl.types import Policy, Transition


def shared(policy: Policy, num_players: int) -> Policy:
    """Lets one player's policy play all seats: what it does in [B, ...] is done in [B, N, ...]."""

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        def lanes(x: jax.Array) -> jax.Array:
            return jax.lax.collapse(x, 0, 2)

        out = policy.act(key, *jax.tree.map(lanes, (obs, memory)))
        return jax.tree.map(lambda x: x.reshape(-1, num_players, *x.shape[1:]), out)

    return Policy(act, jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * num_players), policy.memory))


def joint(*policies: Policy) -> Policy:
    """One policy for each seat, of whatever kind: a learner against a fixed opponent, for example."""

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        actions, memories = [], []
        keys = jax.random.split(key, len(policies))
        for seat, (policy, own, before) in enumerate(zip(policies, keys, memory, strict=True)):
            action, after, _ = policy.act(own, jax.tree.map(lambda x, seat=seat: x[:, seat], obs), before)
            actions.append(action)
            memories.append(after)
        return jax.tree.map(lambda *parts: jnp.stack(parts, 1), *actions), tuple(memories), ()

    return Policy(act, tuple(policy.memory for policy in policies))


def fold(game: Game, steps: Transition, gamma: jax.Array | float, state: Any) -> Transition:
    """A rollout of a game as a learner of one player reads it: [T, B, N, ...] -> [T, B · N, ...].

    Where players move in turn, a lane's rows are the player's own moves alone, the earliest first, each reaching to its
    own next move (`envs.players.own_moves`); the rows that are left over at the end have weight 0, and the last real
    one is cut like a truncated step, so that no recursion runs on into them.

    Args:
        game: what was played.
        steps: with `seats`.
        gamma: discount of one own move.
        state: [B, ...] the states after the last step.
    """
    num_players = game.num_players
    if type(game).to_move is Game.to_move:
        flags = players.repeat((steps.terminated, steps.truncated), num_players)
        parts = players.fold((steps.obs, steps.action, steps.reward, steps.next_obs, steps.extras, steps.seats.alive))
        obs, action, reward, next_obs, extras, alive = parts
        cost = players.repeat(steps.cost, num_players)
        terminated, truncated = flags
        weight = alive.astype(jnp.float32)
        return Transition(obs, action, reward, terminated, truncated, next_obs, extras, weight=weight, cost=cost)
    moves = players.own_moves(
        steps.reward, steps.terminated, steps.truncated, steps.seats.to_move, gamma, jax.vmap(game.to_move)(state)
    )
    weight = moves.weight * steps.seats.alive
    next_obs = players.successors(steps.next_obs, moves.successor)
    rows = Transition(
        obs=steps.obs,
        action=steps.action,
        reward=moves.reward,
        terminated=moves.terminated,
        truncated=moves.truncated,
        next_obs=next_obs,
        extras=steps.extras,
        weight=weight,
        cost=jax.tree.map(lambda x: jnp.repeat(x[:, :, None], num_players, 2), steps.cost),
    )
    rows = players.fold(rows)
    order = jnp.argsort(rows.weight == 0, axis=0, stable=True)
    rows = jax.tree.map(lambda x: jnp.take_along_axis(x, order.reshape(order.shape + (1,) * (x.ndim - 2)), 0), rows)
    last = jnp.arange(len(order))[:, None] == jnp.sum(rows.weight > 0, axis=0) - 1
    real = rows.weight > 0
    return rows._replace(
        reward=jnp.where(real, rows.reward, 0.0),
        terminated=rows.terminated & real,
        truncated=(rows.truncated & real) | (last & ~rows.terminated),
    )
