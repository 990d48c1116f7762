"""Games in normal form: two players choose at once, and a table says what each gets."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Game, Step
from envs.spaces import Box, Discrete


class State(NamedTuple):
    """Nothing ever changes."""

    over: jax.Array  # bool[] whether the one move has been made


class Params(NamedTuple):
    """What can be vmapped."""

    payoff: Any  # f32[2, A, A] reward of each player by the actions of the first and of the second


@dataclass(frozen=True)
class MatrixGame(Game[State, Params]):
    """Two players choose one of A actions at once, are paid by a table, and the game is over.

    What they should do is known for many tables (J. von Neumann 1928 for zero sums; J. Nash 1950). By default the game
    is matching pennies of A sides: the first player gets 1 where both show the same and −1 otherwise, the second the
    opposite. Both must mix all actions equally, whatever the first player gets then: 2 / A − 1 on average.

    The observation is the player's own seat, one-hot f32[2]: seats differ in what they are paid.
    """

    num_actions: int = 2  # A

    @property
    def num_players(self) -> int:
        """2."""
        return 2

    @property
    def random_step(self) -> bool:
        """False."""
        return False

    @property
    def observation_space(self) -> Box:
        """f32[2]."""
        return Box(0.0, 1.0, (2,))

    @property
    def action_space(self) -> Discrete:
        """A actions."""
        return Discrete(self.num_actions)

    def default_params(self) -> Params:
        """Matching pennies."""
        same = 2 * np.eye(self.num_actions, dtype=np.float32) - 1
        return Params(np.stack([same, -same]))

    def as_observation(self, state: State, params: Params) -> jax.Array:
        """The seats, f32[2, 2]."""
        del state, params
        return jnp.eye(2, dtype=jnp.float32)

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Starts the one round."""
        del key
        state = State(jnp.bool_(False))
        return self.as_observation(state, params), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Pays both; `action` is i32[2]."""
        del key, state
        new = State(jnp.bool_(True))
        reward = jnp.asarray(params.payoff, jnp.float32)[:, action[0], action[1]]
        return Step(self.as_observation(new, params), new, reward, jnp.bool_(True), {})

    def expected(self, params: Params, first: Any, second: Any) -> jax.Array:
        """Returns what each player gets on average, f32[2], if they mix their actions so.

        Args:
            params: the table.
            first: f32[A] probabilities of the first player's actions.
            second: f32[A] of the second's.
        """
        return jnp.einsum(
            "nab,a,b->n", jnp.asarray(params.payoff, jnp.float32), jnp.asarray(first), jnp.asarray(second)
        )
