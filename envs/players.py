"""The player axis of a `Game`'s experience: how learners of one player read [T, B, N, ...].

T steps, B games side by side, N players. `fold` makes every player of every game a lane of its own, [T, B · N, ...],
for agents that know only lanes; what a game has once for all its players is repeated along them (`repeat`).

In a turn-based game a step is somebody's move, and a player's transition is not one step: it reaches from a move of
its own to its next one, or to the end, over what the others do in between. `own_moves` makes those transitions.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class OwnMoves(NamedTuple):
    """For every step and player the transition that begins there; of meaning where `weight` is 1."""

    reward: jax.Array  # f32[T, B, N] the player's rewards from this step to the last before its next own move, added up
    terminated: jax.Array  # bool[T, B, N] the game ended in between
    truncated: jax.Array  # bool[T, B, N] the time limit cut it in between
    discount: jax.Array  # f32[T, B, N] of the successor's value: γ (1 − terminated)
    successor: jax.Array  # i32[T, B, N] the step whose `next_obs` is the successor; see `successors`
    weight: jax.Array  # f32[T, B, N] 1: a whole transition of the player; 0: not its move, or its end is not known


def fold(tree: Any) -> Any:
    """Makes every player a lane: [T, B, N, ...] -> [T, B · N, ...], the players of one game side by side."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:]), tree)


def unfold(tree: Any, num_players: int) -> Any:
    """Undoes `fold`: [T, B · N, ...] -> [T, B, N, ...] with N = `num_players`."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, num_players, *x.shape[2:]), tree)


def repeat(tree: Any, num_players: int) -> Any:
    """Gives every player what the game has once: [T, B, ...] -> [T, B · N, ...], in the order of `fold`."""
    return jax.tree.map(lambda x: jnp.repeat(x, num_players, axis=1), tree)


def seat_weights(to_move: jax.Array, num_players: int) -> jax.Array:
    """Returns f32[T, B, N]: 1 where a step is the player's own move, 0 elsewhere.

    Args:
        to_move: i32[T, B] whose turn it was (`Game.to_move` of the state acted on); −1: all moved at once.
        num_players: N.
    """
    return _own(to_move, num_players).astype(jnp.float32)


def own_moves(
    reward: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    to_move: jax.Array,
    gamma: jax.Array | float,
    following: jax.Array | None = None,
) -> OwnMoves:
    """Returns the transitions from each own move of a player to its next own move, or to the end of the game.

    The discount counts the player's own moves: rewards within a transition are added up as they are, whoever moved, and
    what follows is discounted once. So a player who loses by the opponent's move meets the loss in its own last
    transition. What comes before a player's first move of a game belongs to none of its transitions.

    A transition that the time limit cuts ends at the true successor, where it may be another's turn: its value there is
    that of an observation on which the player never acts. Where `to_move` is −1 throughout, the transitions are the
    steps themselves.

    Args:
        reward: f32[T, B, N].
        terminated: bool[T, B] the game ended.
        truncated: bool[T, B] the time limit cut it.
        to_move: i32[T, B] whose turn it was (`Game.to_move` of the state acted on); −1: all moved at once.
        gamma: γ, a number or one for each game, f32[B, 1].
        following: i32[B] whose turn it is after the last step. None: not known, and a transition that would end there
            lies beyond the stretch as much as one that ends later: both have weight 0.
    """
    num_players = reward.shape[-1]
    steps = jnp.arange(reward.shape[0], dtype=jnp.int32)
    own = _own(to_move, num_players)
    last = jnp.zeros_like(own[:1]) if following is None else _own(following[None], num_players)
    own_next = jnp.concatenate([own[1:], last])

    def back(later: OwnMoves, now: tuple) -> tuple[OwnMoves, OwnMoves]:
        t, reward, terminated, truncated, own_next = now
        terminated, truncated = (jnp.broadcast_to(flag[:, None], own_next.shape) for flag in (terminated, truncated))
        closes = terminated | truncated | own_next  # the transition that this step is in ends with it
        known = closes | (later.weight > 0)
        here = OwnMoves(
            reward=jnp.where(closes, reward, reward + later.reward),
            terminated=jnp.where(closes, terminated, later.terminated),
            truncated=jnp.where(closes, truncated, later.truncated),
            discount=later.discount,
            successor=jnp.where(closes, t, later.successor),
            weight=known.astype(jnp.float32),
        )
        return here, here

    shape = own.shape[1:]
    no = jnp.zeros(shape, jnp.bool_)
    zero = jnp.zeros(shape, jnp.float32)
    beyond = OwnMoves(zero, no, no, zero, jnp.full(shape, reward.shape[0] - 1, jnp.int32), zero)
    _, moves = jax.lax.scan(back, beyond, (steps, reward, terminated, truncated, own_next), reverse=True)
    return moves._replace(discount=gamma * (1.0 - moves.terminated), weight=moves.weight * own)


def successors(next_obs: Any, successor: jax.Array) -> Any:
    """Returns what each transition leads to, [T, B, N, ...].

    Args:
        next_obs: [T, B, N, ...] the true successor of every step.
        successor: i32[T, B, N] of `OwnMoves`.
    """
    return jax.tree.map(
        lambda x: jnp.take_along_axis(x, successor.reshape(successor.shape + (1,) * (x.ndim - 3)), axis=0), next_obs
    )


def _own(to_move: jax.Array, num_players: int) -> jax.Array:
    """Whether each player moves, bool[..., N]."""
    return (to_move[..., None] == jnp.arange(num_players)) | (to_move[..., None] < 0)
