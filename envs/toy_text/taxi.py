"""Taxi: fetch a passenger and bring them to their destination (Dietterich 2000), as Gymnasium's Taxi-v4.

Observation: i32[] ((row × 5 + column) × 5 + passenger) × 4 + destination. Passenger: 0 to 3 waits at landmark red
    (top left), green (top right), yellow (bottom left) or blue (bottom, fourth column); 4 sits in the taxi.
Action: 0 south, 1 north, 2 east, 3 west, 4 pick up, 5 drop off. Walls and borders stop the taxi.
Reward: 20 for dropping off at the destination, −10 for picking up or dropping off where that does nothing, else −1.
    A passenger can be dropped off at any landmark.
Ends: the passenger is at the destination. Time limit: 200 steps.
Start: taxi uniform over the 25 cells, passenger and destination at two different landmarks, uniform: 300 states.
Rain (`is_rainy`): a move succeeds with probability `rainy_probability` (0.8), else the taxi drifts to its left or
    right, if nothing is in the way there. Where the move itself is blocked the taxi stays.
Fickle passenger (`fickle_passenger`): with probability `fickle_probability` (0.3), drawn at the start, the passenger
    chooses one of the three other destinations the first time that they are moved. That they might is hidden: the
    tables then have 1,000 states, of which index ÷ 500 says whether the change is still to come.
Info: action_mask, bool[6], the actions that can change the state reached, as Gymnasium's.
Source: T. G. Dietterich, "Hierarchical Reinforcement Learning with the MAXQ Value Function Decomposition", Journal of
    Artificial Intelligence Research 13, 2000; the map, rain and fickleness are those of Gymnasium 1.4.
Deviations from Gymnasium: the two probabilities are parameters and traced, and float32; a step's info does not repeat
    its probability; the mask of a first state is not in an info but from `action_mask`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.spaces import Discrete
from envs.tabular import Finite, Outcome, State
from envs.toy_text.board import CELL, board, center

SIZE = 5
CODES = 500  # observations
LANDMARKS = (0, 4, 20, 23)  # cells: red, green, yellow, blue
WALLS = (1, 6, 15, 20, 17, 22)  # cells with a wall on their east side
IN_TAXI = 4

_ACTIONS = 6
_SHIFT = (SIZE, -SIZE, 1, -1, 0, 0)  # by which an action changes the cell
_LEFT = (2, 3, 1, 0, 4, 5)  # the heading to the left of each
_RIGHT = (3, 2, 0, 1, 4, 5)


def _open_cells() -> tuple[int, ...]:
    """For each action the cells in which it moves the taxi, as the bits of a word."""
    cells = range(SIZE * SIZE)
    east = [cell for cell in cells if cell % SIZE < SIZE - 1 and cell not in WALLS]
    south = [cell for cell in cells if cell < SIZE * (SIZE - 1)]
    lists = (south, [cell + SIZE for cell in south], east, [cell + 1 for cell in east], [], [])
    return tuple(sum(1 << cell for cell in chosen) for chosen in lists)


_OPEN = _open_cells()


class Params(NamedTuple):
    """How random the world is, where it is."""

    rainy_probability: float = 0.8  # that a move succeeds in the rain
    fickle_probability: float = 0.3  # that a passenger will change the destination once


@dataclass(frozen=True)
class Taxi(Finite[Params]):
    """One taxi, one passenger, four landmarks."""

    max_steps: int | None = 200
    is_rainy: bool = False
    fickle_passenger: bool = False

    @property
    def num_states(self) -> int:
        """The observations, twice where something is hidden."""
        return CODES * (2 if self.fickle_passenger else 1)

    @property
    def num_outcomes(self) -> int:
        """Straight on, left or right, with each of three new destinations."""
        return (3 if self.is_rainy else 1) * (3 if self.fickle_passenger else 1)

    @property
    def starts(self) -> tuple[int, ...]:
        """The passenger waits at a landmark that is not the destination."""
        return tuple(i for i in range(CODES) if i // 4 % 5 not in (IN_TAXI, i % 4))

    @property
    def observation_space(self) -> Discrete:
        """The 500 codes."""
        return Discrete(CODES)

    @property
    def action_space(self) -> Discrete:
        """0: south, 1: north, 2: east, 3: west, 4: pick up, 5: drop off."""
        return Discrete(_ACTIONS)

    def default_params(self) -> Params:
        """Gymnasium's probabilities."""
        return Params()

    def start(self, params: Params) -> jax.Array:
        """Uniform over `starts`; where the passenger may be fickle, each splits in two."""
        calm = jnp.zeros(CODES, jnp.float32).at[jnp.asarray(self.starts)].set(1 / len(self.starts))
        if not self.fickle_passenger:
            return calm
        return jnp.concatenate([calm * (1 - params.fickle_probability), calm * params.fickle_probability])

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws one of `starts`, and whether the passenger is fickle."""
        if not self.fickle_passenger:
            return super().reset(key, params)
        key_place, key_fickle = jax.random.split(key)
        _, state = super().reset(key_place, params)
        fickle = jax.random.uniform(key_fickle) < params.fickle_probability
        index = state.index + jnp.where(fickle, CODES, 0)
        return self.observe(index), State(index)

    def probability(self, index: jax.Array, action: jax.Array, params: Params) -> jax.Array:
        """The same for all states and actions: where a draw does not matter, its outcomes coincide."""
        drift = jnp.ones(1, jnp.float32)
        if self.is_rainy:
            side = (1 - jnp.asarray(params.rainy_probability, jnp.float32)) / 2
            drift = jnp.stack([params.rainy_probability, side, side])
        return jnp.repeat(drift / 3, 3) if self.fickle_passenger else drift

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: Params) -> Outcome:
        """Drives, picks up or drops off."""
        code = index % CODES
        cell, passenger, destination = code // 20, code // 4 % 5, code % 4
        choice = k % 3  # of a new destination
        side = k // 3 if self.fickle_passenger else k

        action = jnp.asarray(action, jnp.int32)
        heading = action
        if self.is_rainy:
            heading = jnp.where(side == 1, jnp.asarray(_LEFT)[action], heading)
            heading = jnp.where(side == 2, jnp.asarray(_RIGHT)[action], heading)
        moves = _is_open(cell, action) & _is_open(cell, heading)
        moved_to = cell + jnp.where(moves, jnp.asarray(_SHIFT)[heading], 0)

        landmark = _landmark(cell)
        rides = passenger == IN_TAXI
        picks = (action == 4) & ~rides & (passenger == landmark)
        drops = (action == 5) & rides & (landmark >= 0)
        delivered = drops & (landmark == destination)
        passenger = jnp.where(picks, IN_TAXI, jnp.where(drops, landmark, passenger))
        in_vain = (action >= 4) & ~picks & ~drops
        reward = jnp.where(delivered, 20.0, jnp.where(in_vain, -10.0, -1.0))

        later = 0
        if self.fickle_passenger:
            pending = index >= CODES
            changes = pending & rides & moves
            destination = jnp.where(changes, (destination + 1 + choice) % 4, destination)
            later = jnp.where(pending & ~changes, CODES, 0)
        return Outcome((moved_to * 5 + passenger) * 4 + destination + later, reward, delivered)

    def observe(self, index: jax.Array) -> jax.Array:
        """The code, without what is hidden."""
        return index % CODES

    def info(self, index: jax.Array) -> dict[str, jax.Array]:
        """The mask."""
        return {"action_mask": self.action_mask(index)}

    def action_mask(self, index: jax.Array) -> jax.Array:
        """Returns bool[6]: the actions that change the state `index`."""
        code = index % CODES
        cell, passenger = code // 20, code // 4 % 5
        landmark = _landmark(cell)
        moves = _is_open(cell, jnp.arange(_ACTIONS))
        picks = (passenger != IN_TAXI) & (passenger == landmark)
        drops = (passenger == IN_TAXI) & (landmark >= 0)
        action = jnp.arange(_ACTIONS)
        return moves | (picks & (action == 4)) | (drops & (action == 5))

    def render(self, state: State, params: Params) -> np.ndarray:
        """The town from above. The taxi is yellow, a passenger a black disc, the destination a frame."""
        del params
        code = int(state.index) % CODES
        cell, passenger, destination = code // 20, code // 4 % 5, code % 4
        pads = ["red", "green", (225, 225, 120), "blue"]
        colors: list[list[Any]] = [["white"] * SIZE for _ in range(SIZE)]
        for pad, place in zip(pads, LANDMARKS, strict=True):
            colors[place // SIZE][place % SIZE] = pad
        canvas = board(colors)
        for place in WALLS:
            x, y = (place % SIZE + 1) * CELL + 1, place // SIZE * CELL
            canvas.line((x, y), (x, y + CELL + 1), 7, "black")
        x, y = center(*divmod(LANDMARKS[destination], SIZE))
        r = 0.42 * CELL
        canvas.curve([(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r), (x - r, y - r)], 4, "purple")
        x, y = center(*divmod(cell, SIZE))
        canvas.rectangle((x - 15, y - 9), (x + 15, y + 11), "yellow")
        canvas.rectangle((x - 8, y - 16), (x + 8, y - 8), "yellow")
        for wheel in (-9, 9):
            canvas.circle((x + wheel, y + 12), 4, "black")
        if passenger == IN_TAXI:
            canvas.circle((x, y), 7, "black")
        else:
            x, y = center(*divmod(LANDMARKS[passenger], SIZE))
            canvas.circle((x - 13, y - 13), 7, "black")
        return canvas.pixels


def _is_open(cell: jax.Array, action: jax.Array) -> jax.Array:
    """Whether `action` moves a taxi in `cell`."""
    return (jnp.asarray(_OPEN, jnp.uint32)[action] >> cell.astype(jnp.uint32)) & 1 == 1


def _landmark(cell: jax.Array) -> jax.Array:
    """The landmark in `cell`, or −1."""
    landmark = jnp.full_like(cell, -1)
    for i, place in enumerate(LANDMARKS):
        landmark = jnp.where(cell == place, i, landmark)
    return landmark
