"""TMaze: a sign at the start of a corridor says which way to turn at its end.

Source: B. Bakker, "Reinforcement Learning with Long Short-Term Memory", NIPS 14 (2001), the T-maze: observations,
    actions and rewards of the variant without noise.

Observation: f32[3] of zeros and ones. At the start 0 1 1 (the goal is north) or 1 1 0 (south), in the corridor 1 0 1,
    at the junction 0 1 0.
Action: 0 north, 1 east, 2 south, 3 west.
Reward: 4 for the turn to the goal, −0.1 for the other turn, −0.1 for a move into a wall, which leaves the agent where
    it is; else 0.
Ends: the agent turns north or south at the junction, which is `corridor_length` moves east of the start. Time limit:
    1000 steps.
Start: the west end of the corridor; the goal is north or south with equal probability.
With memory the best return is 4; without it 1.95, from a turn at chance. The sign is also shown to an agent that comes
back to the start.

Deviations: the time limit (the paper names none). The length is a parameter (10), so lengths can differ between runs of
one compiled program.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.drawing import Canvas
from envs.spaces import Box, Discrete

NORTH, EAST, SOUTH, WEST = range(4)
_SIGNS = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], np.float32)  # south, north
_CORRIDOR = np.array([1.0, 0.0, 1.0], np.float32)
_JUNCTION = np.array([0.0, 1.0, 0.0], np.float32)


class State(NamedTuple):
    """Where the agent is, and where the goal."""

    position: jax.Array  # i32[] moves east of the start
    north: jax.Array  # bool[] the goal is north of the junction
    turned: jax.Array  # i32[] the turn that ended the episode: 1 north, −1 south, 0 none


class Params(NamedTuple):
    """The maze."""

    corridor_length: int = 10  # moves from the start to the junction, at least 1


@dataclass(frozen=True)
class TMaze(Env[State, Params]):
    """A corridor and a junction."""

    max_steps: int | None = 1000

    @property
    def random_step(self) -> bool:
        """False: only the start is random."""
        return False

    @property
    def observation_space(self) -> Box:
        """f32[3]."""
        return Box(0.0, 1.0, (3,))

    @property
    def action_space(self) -> Discrete:
        """0: north, 1: east, 2: south, 3: west."""
        return Discrete(4)

    def default_params(self) -> Params:
        """A corridor of length 10."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws the goal."""
        state = State(jnp.int32(0), jax.random.bits(key, (), jnp.uint32) >> 31 == 1, jnp.int32(0))
        return self._observe(state, params), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Moves, or turns at the junction."""
        del key
        at_junction = state.position == params.corridor_length
        turn = jnp.where(action == NORTH, 1, 0) - jnp.where(action == SOUTH, 1, 0)
        ends = at_junction & (turn != 0)
        move = jnp.where(action == EAST, 1, 0) - jnp.where(action == WEST, 1, 0)
        position = jnp.clip(state.position + move, 0, params.corridor_length).astype(jnp.int32)
        arrived = ends & ((turn == 1) == state.north)
        # A wrong turn costs as much as a move that goes nowhere.
        reward = jnp.where(arrived, 4.0, jnp.where(position == state.position, -0.1, 0.0)).astype(jnp.float32)
        after = State(position, state.north, jnp.where(ends, turn, 0).astype(jnp.int32))
        return Step(self._observe(after, params), after, reward, ends, {})

    def _observe(self, state: State, params: Params) -> jax.Array:
        sign = jnp.where(state.north, _SIGNS[1], _SIGNS[0])
        beyond = jnp.where(state.position == params.corridor_length, _JUNCTION, _CORRIDOR)
        return jnp.where(state.position == 0, sign, beyond)

    def render(self, state: State, params: Params) -> np.ndarray:
        """The maze from above: the sign (an arrow at the start), the goal green, the other end red, a blue agent."""
        length = int(params.corridor_length)
        size = max(400 // (length + 1), 8)
        canvas = Canvas(height=3 * size + 20, width=(length + 1) * size + 20, background="grey")

        def centre(column: float, row: float) -> tuple[float, float]:
            return 10 + (column + 0.5) * size, 10 + (row + 0.5) * size

        def cell(column: int, row: int, color: str) -> None:
            (x, y), half = centre(column, row), size / 2 - 0.5
            canvas.rectangle((x - half, y - half), (x + half, y + half), color)

        north = bool(state.north)
        for column in range(length + 1):
            cell(column, 1, "white")
        cell(length, 0, "green" if north else "red")
        cell(length, 2, "red" if north else "green")
        tip, foot = (0.65, 1.35) if north else (1.35, 0.65)
        across = 0.15 if north else -0.15
        canvas.line(centre(0, foot), centre(0, tip), max(size / 12, 1.5), "black")
        for side in (-0.15, 0.15):
            canvas.line(centre(side, tip + across), centre(0, tip), max(size / 12, 1.5), "black")
        canvas.circle(centre(int(state.position), 1 - int(state.turned)), size * 0.25, "blue")
        return canvas.pixels
