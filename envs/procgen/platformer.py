"""Platformer: run and jump to the coin at the end of a strip of land that is different in every level.

Observation: bool[9, 11, 5] the part of the world from 3 columns behind the agent to 7 ahead of it, row 0 at the top:
    ground, spikes, coin, agent, and the agent again while it rises.
Action: 0 stand, 1 left, 2 right, 3 jump, 4 jump to the left, 5 jump to the right.
Reward: `coin_reward` (1) for the step to the coin, else 0.
Ends: the agent reaches the coin, falls into a pit or lands on spikes. Time limit: 200 steps.
Rules: in one step the agent moves by at most one column, if the ground there is not higher than its feet; then by one
    row: up in the two steps that a jump from the ground lasts, else down until it stands. So it can jump over three
    columns and onto ground that is two rows higher.
Level: pieces of land of 4 columns, the first and the last one flat, between them uniformly 1 … `max_pieces` with an
    obstacle each: nothing, a pit or spikes one or two columns wide, a block one or two rows high, or a broad block. The
    land rises or falls by up to one row from piece to piece. The coin lies at the end of the last one.
Source: after the game CoinRun of `envs.procgen.levels`' source (and K. Cobbe et al., "Quantifying Generalization in
    Reinforcement Learning", ICML 2019): run to the right, survive, take the coin.
Deviations from it: cells and bits instead of pictures, no moving enemies, no platforms above one another, six actions
    of its fifteen, reward 1 instead of 10, 200 steps instead of 1,000.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.drawing import Canvas
from envs.errors import InputError
from envs.procgen.levels import Leveled, level_key
from envs.spaces import Box, Discrete

ROWS, BEHIND, AHEAD = 9, 3, 7  # of what is seen
_COLUMNS = BEHIND + 1 + AHEAD
_PIECE = 4  # columns of a piece of land
_LOWEST, _HIGHEST = 1, 4  # rows of ground, without blocks
_JUMP = 2  # steps up
# What each obstacle adds to the ground in the columns of its piece; a pit goes below everything. And where spikes are.
_PIT = -_HIGHEST
_RAISED = np.array(
    [
        [0, 0, 0, 0],
        [0, _PIT, 0, 0],
        [0, _PIT, _PIT, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 2, 0, 0],
        [0, 1, 1, 0],
    ]
)
_SPIKES = np.zeros((8, _PIECE), np.bool_)
_SPIKES[3, 1] = _SPIKES[4, 1:3] = True


class State(NamedTuple):
    """A world and the agent in it. Rows are counted from the bottom."""

    ground: jax.Array  # i32[W] rows of ground in each column; 0: a pit
    spikes: jax.Array  # bool[W] whether spikes stand on it
    coin: jax.Array  # i32[] the coin's column
    x: jax.Array  # i32[] the agent's column
    y: jax.Array  # i32[] its row, at least the ground's height
    rise: jax.Array  # i32[] steps that it still goes up
    level: jax.Array  # i32[] its number


class Params(NamedTuple):
    """The levels to play, and what the coin is worth."""

    start_level: int = 0  # number of the first level
    num_levels: int = 0  # how many levels; 0: all from the first on
    coin_reward: float = 1.0


@dataclass(frozen=True)
class Platformer(Leveled[State, Params]):
    """A strip of land with obstacles, and a coin at its end."""

    max_steps: int | None = 200
    max_pieces: int = 8  # with obstacles, in the longest levels

    def __post_init__(self) -> None:
        """Raises InputError for a world without obstacles."""
        if self.max_pieces < 1:
            raise InputError(f"Platformer: max_pieces={self.max_pieces} must be at least 1.")

    @property
    def observation_space(self) -> Box:
        """See the module."""
        return Box(0, 1, (ROWS, _COLUMNS, 5), np.bool_)

    @property
    def action_space(self) -> Discrete:
        """0: stand, 1: left, 2: right; 3 … 5: the same with a jump."""
        return Discrete(6)

    def default_params(self) -> Params:
        """All levels."""
        return Params()

    def level(self, number: jax.Array) -> State:
        """Builds the land."""
        n = self.max_pieces
        words = jax.random.bits(level_key(number), (2 * n + 3,), jnp.uint32)
        pieces = 1 + (words[0] % n).astype(jnp.int32)
        obstacle = jnp.where(np.arange(n) < pieces, (words[1 : n + 1] % len(_RAISED)).astype(jnp.int32), 0)
        change = (words[n + 1 : 2 * n + 2] % 3).astype(jnp.int32) - 1
        height = [1 + (words[-1] % 3).astype(jnp.int32)]
        for i in range(n + 1):
            height.append(jnp.clip(height[-1] + change[i], _LOWEST, _HIGHEST))
        obstacle = jnp.pad(obstacle, 1)
        ground = jnp.maximum(jnp.stack(height)[:, None] + jnp.asarray(_RAISED)[obstacle], 0).reshape(-1)
        return State(
            ground=ground.astype(jnp.int32),
            spikes=jnp.asarray(_SPIKES)[obstacle].reshape(-1),
            coin=(pieces + 2) * _PIECE - 1,
            x=jnp.int32(1),
            y=height[0],
            rise=jnp.int32(0),
            level=number,
        )

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Moves the agent sideways, then up or down."""
        del key
        sideways = action % 3
        x = state.x + (sideways == 2) - (sideways == 1)
        x = jnp.clip(x, 0, state.coin)
        x = jnp.where(state.ground[x] > state.y, state.x, x).astype(jnp.int32)
        jumps = (action >= 3) & (state.y == state.ground[state.x])
        rise = jnp.where(jumps, _JUMP, state.rise)
        floor = state.ground[x]
        y = jnp.where(rise > 0, state.y + 1, jnp.maximum(state.y - 1, floor))
        new = state._replace(x=x, y=y, rise=jnp.maximum(rise - 1, 0))
        stands = y == floor
        won = stands & (x == state.coin)
        lost = stands & ((floor == 0) | state.spikes[x])
        reward = jnp.where(won, params.coin_reward, 0).astype(jnp.float32)
        return Step(self.observe(new), new, reward, won | lost, {})

    def observe(self, state: State) -> jax.Array:
        """Shows the part of the world around the agent; beyond its ends there is a pit."""
        column = state.x + np.arange(-BEHIND, AHEAD + 1)
        inside = (column >= 0) & (column <= state.coin)
        place = jnp.clip(column, 0, state.ground.shape[0] - 1)
        ground = jnp.where(inside, state.ground[place], 0)
        row = np.arange(ROWS)[::-1, None]
        top = row == ground
        here = (row == state.y) & (np.arange(_COLUMNS) == BEHIND)
        parts = [row < ground, top & state.spikes[place] & inside, top & (column == state.coin), here]
        parts.append(here & (state.rise > 0))
        shown, channel = parts[-1][..., None], np.arange(len(parts))
        for i, part in enumerate(parts[:-1]):
            shown = jnp.where(channel == i, part[..., None], shown)
        return shown

    def render(self, state: State, params: Params) -> np.ndarray:
        """The whole world from the side, 24 pixels per cell: the agent is blue, what it sees has a lighter sky."""
        del params
        size = 24
        columns = len(np.asarray(state.ground))
        canvas = Canvas(ROWS * size, columns * size, (120, 130, 150))
        x = int(state.x)
        canvas.rectangle(((x - BEHIND) * size, 0), ((x + AHEAD + 1) * size, ROWS * size), (205, 220, 240))
        for column in range(int(state.coin) + 1):
            top = (ROWS - int(state.ground[column])) * size
            left, right = column * size, (column + 1) * size
            canvas.rectangle((left, top), (right, ROWS * size), (120, 90, 60))
            canvas.rectangle((left, top), (right, min(top + 5, ROWS * size)), "green")
            if state.spikes[column]:
                for i in range(3):
                    start = left + i * size / 3
                    canvas.polygon([(start, top), (start + size / 6, top - 0.7 * size), (start + size / 3, top)], "red")
        coin = int(state.coin)
        canvas.circle(((coin + 0.5) * size, (ROWS - int(state.ground[coin]) - 0.5) * size), 0.35 * size, "yellow")
        feet = (ROWS - int(state.y)) * size
        canvas.rectangle(((x + 0.2) * size, feet - 0.9 * size), ((x + 0.8) * size, feet), "blue")
        return canvas.pixels
