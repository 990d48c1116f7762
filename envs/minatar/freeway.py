"""MinAtar Freeway: cross eight lanes of traffic as often as possible.

Observation: bool[10, 10, 7]: chicken, car, and the cell behind a car in one of five channels by its speed (cars that
    move every second step, every third, … every sixth).
Action: 2 moves one cell up, 4 down, at most once every three steps; the others do nothing (minimal set: 0, 2, 4).
Reward: 1 for each arrival in the top row, which puts the chicken back to the bottom.
Ends: after `countdown` + 1 = 2501 steps. It is a terminal state, as in the original, and not a time limit, although the
    observation does not show the count.
Start: the chicken in the bottom row of column 4; one car in each of rows 1 to 8, in column 0, each with a random
    direction and one of five speeds.
Rules: a car that meets the chicken, before or after its own move, puts it back to the bottom. Cars that leave on one
    side come back on the other. An arrival draws all directions and speeds anew. There is no difficulty ramp.
Source and deviations: see `envs.minatar.game`; the rules are those of MinAtar 1.0.15 exactly. The speeds of the eight
    cars come from one 32-bit word: each car's own are exact to within 10^-8, all eight together to within 10^-4.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.minatar import game
from envs.minatar.game import Mark

_COLUMN = 4  # where the chicken walks
_ROW = np.arange(game.SIZE)
_LANE = (_ROW >= 1) & (_ROW <= 8)  # the rows that have a car


class State(NamedTuple):
    """The chicken, the cars and the clocks."""

    row: jax.Array  # i32[] the chicken's
    x: jax.Array  # i32[10] the car's column in each row; rows 0 and 9 have no car
    period: jax.Array  # i32[10] steps between two moves of the car less one, 1 … 5; its sign is the direction
    timer: jax.Array  # i32[10] steps until the car moves
    move_timer: jax.Array  # i32[] steps until the chicken can move
    countdown: jax.Array  # i32[] steps until the end, less one
    last_action: jax.Array  # i32[] the action executed last


class Params(NamedTuple):
    """What can be set."""

    sticky_prob: float = 0.1  # probability of executing the last action again
    move_interval: int = 3  # steps between two moves of the chicken
    countdown: int = 2500  # the episode ends at the step after as many


class Draws(NamedTuple):
    """The random decisions of one step; the second matters only at an arrival."""

    repeat: jax.Array  # bool[] execute the last action again
    period: jax.Array  # i32[10] new periods with sign (0 in rows 0 and 9)


@dataclass(frozen=True)
class Freeway(game.Game[State, Params, Draws]):
    """A chicken and eight cars."""

    used_actions: ClassVar[tuple[int, ...]] = (game.NONE, game.UP, game.DOWN)
    channels: ClassVar[dict[str, Mark]] = {
        "chicken": Mark("white", 0.8, disc=True),
        "car": Mark("red"),
        "speed1": Mark((250, 220, 80), 0.7),
        "speed2": Mark((230, 180, 50), 0.6),
        "speed3": Mark((200, 140, 40), 0.5),
        "speed4": Mark((160, 100, 40), 0.4),
        "speed5": Mark((120, 70, 40), 0.3),
    }

    def default_params(self) -> Params:
        """The original's constants."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws the cars' speeds and directions."""
        signs, speeds = jax.random.bits(key, (2,), jnp.uint32)
        state = self.start(_periods(signs, speeds), params)
        return self.observe(state, params), state

    def start(self, period: jax.Array, params: Params) -> State:
        """The initial state with cars of signed periods i32[10]."""
        return State(
            row=jnp.int32(9),
            x=jnp.zeros(game.SIZE, jnp.int32),
            period=period,
            timer=jnp.abs(period),
            move_timer=jnp.int32(params.move_interval),
            countdown=jnp.int32(params.countdown),
            last_action=jnp.int32(game.NONE),
        )

    def draw(self, key: jax.Array, params: Params) -> Draws:
        """Draws from two words."""
        first, second = jax.random.bits(key, (2,), jnp.uint32)
        return Draws(game.repeats(first, params.sticky_prob), _periods(first, second))

    def transition(self, state: State, action: jax.Array, draws: Draws, params: Params) -> Step:
        """The chicken's move, arrival, the cars' moves, clocks."""
        action = self.executed(action, draws.repeat, state.last_action)
        moves = (state.move_timer == 0) & ((action == game.UP) | (action == game.DOWN))
        row = jnp.where(moves, jnp.clip(state.row + jnp.where(action == game.UP, -1, 1), 0, 9), state.row)
        move_timer = jnp.where(moves, params.move_interval, state.move_timer)

        arrives = row == 0
        row = jnp.where(arrives, 9, row)
        period = jnp.where(arrives, draws.period, state.period)
        timer = jnp.where(arrives, jnp.abs(draws.period), state.timer)

        drives = timer == 0
        timer = jnp.where(drives, jnp.abs(period), timer - 1)
        x = jnp.where(drives, _beside(state.x, jnp.sign(period)), state.x)
        # One car in a row, so at most one can meet the chicken, and none in the bottom row that it is put back to.
        meets = _LANE & (row == _ROW) & ((state.x == _COLUMN) | (x == _COLUMN))
        row = jnp.where(jnp.any(meets), 9, row)

        new = State(
            row=row,
            x=x,
            period=period,
            timer=timer,
            move_timer=jnp.maximum(move_timer - 1, 0),
            countdown=state.countdown - 1,
            last_action=action,
        )
        return Step(self.observe(new, params), new, arrives.astype(jnp.float32), new.countdown < 0, {})

    def observe(self, state: State, params: Params) -> jax.Array:
        """The seven channels as cells."""
        del params
        car = jnp.where(_LANE, game.bit(state.x), 0)
        behind = game.bit(_beside(state.x, -jnp.sign(state.period)))
        speed = jnp.abs(state.period)  # 0 in the rows without a car
        trails = [jnp.where(speed == k, behind, 0) for k in range(1, 6)]
        return game.grid([game.cell(jnp.int32(_COLUMN), state.row), car, *trails])


def _beside(x: jax.Array, step: jax.Array) -> jax.Array:
    """The column next to `x` in direction `step` (-1, 0 or 1), around the edges."""
    x = x + step
    return jnp.where(x < 0, 9, jnp.where(x > 9, 0, x))


def _periods(signs: jax.Array, speeds: jax.Array) -> jax.Array:
    """Draws signed periods i32[10] from the lower 8 bits of one word and all of another.

    A period is a digit of the second word, read as a fraction and expanded to base 5.
    """
    power = (5 ** np.maximum(_ROW - 1, 0)).astype(np.uint32)
    fraction = speeds * power  # modulo 2^32: the fraction that is left after the digits before
    digit = ((fraction >> 16) * 5 + (((fraction & 0xFFFF) * 5) >> 16)) >> 16
    right = (signs >> np.clip(_ROW - 1, 0, 7).astype(np.uint32)) & 1
    period = (digit + 1).astype(jnp.int32)
    return jnp.where(_LANE, jnp.where(right == 1, period, -period), 0)
