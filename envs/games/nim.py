"""Nim with one heap: two players take stones in turn, and whoever takes the last one wins."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Game, Step
from envs.spaces import Box, Discrete, Space


class State(NamedTuple):
    """A position."""

    stones: jax.Array  # i32[] left in the heap
    mover: jax.Array  # i32[] whose turn it is, 0 or 1


class Params(NamedTuple):
    """None."""


@dataclass(frozen=True)
class Nim(Game[State, Params]):
    """A heap of `stones`; the players take one (action 0) or two (action 1) in turn, and who takes the last one wins.

    The winner gets 1, the loser −1, both at the last move. Bouton ("Nim, a game with a complete mathematical theory",
    1901) solved the game of several heaps. With one heap and two stones at most, the player whose turn it is loses
    against perfect play exactly where the number of stones is divisible by 3, and otherwise wins by making it so.

    A player's observation is {"heap": f32[stones + 2], "action_mask": bool[2]}: the number of stones left, one-hot from
    0 to `stones`, then 1 if it is the player's own turn and 0 otherwise; which of its actions are allowed. The second
    is not where one stone is left (taken nevertheless, it takes that one). Nothing is masked for the player who waits,
    or when the game is over.
    """

    stones: int = 7  # at the start

    @property
    def num_players(self) -> int:
        """2; player 0 begins."""
        return 2

    @property
    def random_step(self) -> bool:
        """False."""
        return False

    @property
    def observation_space(self) -> dict[str, Space]:
        """The heap and the mask of one player."""
        return {"heap": Box(0.0, 1.0, (self.stones + 2,)), "action_mask": Box(0, 1, (2,), np.bool_)}

    @property
    def action_space(self) -> Discrete:
        """One stone or two."""
        return Discrete(2)

    def default_params(self) -> Params:
        """None."""
        return Params()

    def to_move(self, state: State) -> jax.Array:
        """Whose turn it is, i32[]."""
        return state.mover

    def value(self, stones: int) -> int:
        """Returns what perfect play gives the player whose turn it is, 1 or −1; with no stones left it has lost."""
        return 1 if stones % 3 else -1

    def as_observation(self, state: State, params: Params) -> dict[str, jax.Array]:
        """What both players see, [2, ...]."""
        del params
        own = jnp.arange(2) == state.mover
        left = jax.nn.one_hot(state.stones, self.stones + 1, dtype=jnp.float32)
        heap = jnp.concatenate([jnp.tile(left, (2, 1)), own[:, None].astype(jnp.float32)], axis=-1)
        two = ~own | (state.stones != 1)
        return {"heap": heap, "action_mask": jnp.stack([jnp.ones_like(two), two], axis=-1)}

    def reset(self, key: jax.Array, params: Params) -> tuple[dict[str, jax.Array], State]:
        """Heaps up the stones."""
        del key
        state = State(jnp.int32(self.stones), jnp.int32(0))
        return self.as_observation(state, params), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Takes stones by the action of the player whose turn it is; `action` is i32[2]."""
        del key
        stones = jnp.maximum(state.stones - 1 - action[state.mover], 0).astype(jnp.int32)
        new = State(stones, 1 - state.mover)
        over = stones == 0
        won = jnp.where(jnp.arange(2) == state.mover, 1.0, -1.0)
        reward = jnp.where(over, won, 0.0).astype(jnp.float32)
        return Step(self.as_observation(new, params), new, reward, over, {})
