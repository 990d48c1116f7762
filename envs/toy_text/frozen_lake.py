"""FrozenLake: cross a frozen lake to the goal without falling into a hole, as Gymnasium's FrozenLake-v1 and 8x8.

Observation: i32[] the cell, row × columns + column; row 0 is at the top.
Action: 0 left, 1 down, 2 right, 3 up. A move off the lake leaves the agent where it is.
Slip: with probability `success_rate` (1/3) the move goes where it should, else to one of the two sides, each as often
    as the other. `is_slippery=False` switches that off.
Reward: `reward_schedule` = (goal, hole, other cells) = (1, 0, 0), of the cell that the step leads to.
Ends: the agent enters the goal or a hole. Time limit: 100 steps (8x8: 200).
Start: uniform over the cells marked S.
Map: `desc`, one string for each row: S start, F frozen, H hole, G goal. `random_map` draws one that can be crossed.
Deviations from Gymnasium: `success_rate` and `reward_schedule` are parameters of the physics and traced, probabilities
    are float32. A step's info does not repeat its probability: `tables` has them all.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import InputError
from envs.spaces import Discrete
from envs.tabular import Finite, Outcome, State
from envs.toy_text.board import board, place_agent

LAKE_4X4 = ("SFFF", "FHFH", "FFFH", "HFFG")
LAKE_8X8 = (
    "SFFFFFFF",
    "FFFFFFFF",
    "FFFHFFFF",
    "FFFFFHFF",
    "FFFHFFFF",
    "FHHFFFHF",
    "FHFFHFHF",
    "FFFHFFFG",
)

_ATTEMPTS = 10_000  # maps that random_map draws before it gives up


class Params(NamedTuple):
    """How slippery the ice is, and what cells are worth."""

    success_rate: float = 1 / 3  # probability that a move goes where it should
    reward_schedule: Any = (1.0, 0.0, 0.0)  # f32[3] for entering the goal, a hole, any other cell


@dataclass(frozen=True)
class FrozenLake(Finite[Params]):
    """A lake of frozen cells and holes."""

    max_steps: int | None = 100
    desc: tuple[str, ...] = LAKE_4X4
    is_slippery: bool = True

    def __post_init__(self) -> None:
        """Raises InputError for a map that is no rectangle of known letters or has no start."""
        if len({len(row) for row in self.desc}) != 1 or not set("".join(self.desc)) <= set("SFHG"):
            raise InputError(f"desc={self.desc!r} must be rows of equal length, of the letters S, F, H and G.")
        if "S" not in "".join(self.desc):
            raise InputError(f"desc={self.desc!r} has no start S.")

    @property
    def num_states(self) -> int:
        """The cells."""
        return len(self.desc) * len(self.desc[0])

    @property
    def num_outcomes(self) -> int:
        """Straight on, or to either side."""
        return 3 if self.is_slippery else 1

    @property
    def starts(self) -> tuple[int, ...]:
        """The cells marked S."""
        return tuple(i for i, letter in enumerate("".join(self.desc)) if letter == "S")

    @property
    def action_space(self) -> Discrete:
        """0: left, 1: down, 2: right, 3: up."""
        return Discrete(4)

    def default_params(self) -> Params:
        """Gymnasium's constants."""
        return Params()

    def probability(self, index: jax.Array, action: jax.Array, params: Params) -> jax.Array:
        """One side, straight on, the other side."""
        if not self.is_slippery:
            return jnp.ones(1, jnp.float32)
        side = (1 - jnp.asarray(params.success_rate, jnp.float32)) / 2
        return jnp.stack([side, params.success_rate, side])

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: Params) -> Outcome:
        """Moves by one cell; who is in the goal or in a hole stays there."""
        rows, cols = len(self.desc), len(self.desc[0])
        direction = (action + k - 1) % 4 if self.is_slippery else action
        row, col = index // cols, index % cols
        row = jnp.clip(row + (direction == 1) - (direction == 3), 0, rows - 1)
        col = jnp.clip(col + (direction == 2) - (direction == 0), 0, cols - 1)
        letters = "".join(self.desc)
        goal = jnp.asarray([letter == "G" for letter in letters])
        hole = jnp.asarray([letter == "H" for letter in letters])
        over = goal[index] | hole[index]
        cell = jnp.where(over, index, row * cols + col)
        of = jnp.asarray(params.reward_schedule, jnp.float32)
        reward = jnp.where(goal[cell], of[0], jnp.where(hole[cell], of[1], of[2]))
        return Outcome(cell, jnp.where(over, 0.0, reward), goal[cell] | hole[cell])

    def render(self, state: State, params: Params) -> np.ndarray:
        """The lake from above: start yellow, holes dark, goal green, agent blue."""
        del params
        color = {"S": "yellow", "F": "ice", "H": "slate", "G": "green"}
        canvas = board([[color[letter] for letter in row] for row in self.desc])
        place_agent(canvas, *divmod(int(state.index), len(self.desc[0])))
        return canvas.pixels


@dataclass(frozen=True)
class FrozenLake8x8(FrozenLake):
    """The larger lake."""

    max_steps: int | None = 200
    desc: tuple[str, ...] = LAKE_8X8


def random_map(size: int = 8, p: float = 0.8, seed: int | None = None) -> tuple[str, ...]:
    """Draws square maps until one has a path from the start (top left) to the goal (bottom right).

    The same seed gives the same map as Gymnasium's generator. Runs on the host.

    Args:
        size: cells on each side.
        p: probability that a cell is frozen rather than a hole, above 0.
        seed: of the maps.

    Raises:
        InputError: a size below 2, p outside 0 … 1, or so small a p that 10,000 maps had no path.
    """
    if size < 2 or not 0 < p <= 1:
        raise InputError(f"size={size} must be at least 2, and p={p} above 0 and at most 1.")
    rng = np.random.default_rng(seed)
    for _ in range(_ATTEMPTS):
        cells = rng.choice(["F", "H"], (size, size), p=[p, 1 - p])
        cells[0, 0], cells[-1, -1] = "S", "G"
        if _crossable(cells != "H"):
            return tuple("".join(row) for row in cells)
    raise InputError(f"none of {_ATTEMPTS} maps with size={size} and p={p} had a path: use a larger p.")


def _crossable(free: np.ndarray) -> bool:
    """Whether the first and the last cell of bool[rows, columns] are connected: spreads from the first to its end."""
    reached = np.zeros_like(free)
    reached[0, 0] = True
    while True:
        wet = np.pad(reached, 1)
        spread = free & (reached | wet[2:, 1:-1] | wet[:-2, 1:-1] | wet[1:-1, 2:] | wet[1:-1, :-2])
        if (spread == reached).all():
            return bool(reached[-1, -1])
        reached = spread
