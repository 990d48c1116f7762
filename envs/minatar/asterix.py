"""MinAtar Asterix: collect gold and avoid enemies that cross the screen, faster and faster.

Observation: bool[10, 10, 4]: player, enemy, trail (the cell behind each enemy or gold), gold.
Action: 1 to 4 move one cell to the left, up, to the right, down; the others do nothing (minimal set: 0 to 4).
Reward: 1 for each gold touched.
Ends: the player touches an enemy. Time limit: none.
Start: the player at row 5, column 5 of rows 1 to 8; nothing else.
Rules: rows 1 to 8 hold one enemy or gold each. Every `spawn` steps one enters a free row at random, from either side
    (even odds), gold with probability 1/3. All move one cell every `move` steps. Contact counts before and after they
    move. Difficulty: every `ramp_interval` + 2 steps `spawn` falls by one, and `move` every second time, both down to
    1; `ramping=False` turns it off.
Source and deviations: see `envs.minatar.game`; the rules are those of MinAtar 1.0.15 exactly. The free row and gold or
    enemy come from one 32-bit word: each combination is exact to within 10^-6.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.minatar import game
from envs.minatar.game import Mark

_CHOICES = 840  # a multiple of 1 … 8, so that a uniform number below it picks among any number of rows evenly
_ROW = np.arange(game.SIZE)
_LANES = (_ROW >= 1) & (_ROW <= 8)  # the rows that can hold an enemy or gold
_ROW_BIT = np.uint32(1) << np.arange(game.SIZE, dtype=np.uint32)


class State(NamedTuple):
    """The player, what crosses each row, and the clocks."""

    player_x: jax.Array  # i32[]
    player_y: jax.Array  # i32[] 1 … 8
    present: jax.Array  # bool[10] whether the row holds an enemy or gold; the next three mean nothing where not
    x: jax.Array  # i32[10] its column
    rightward: jax.Array  # bool[10] it moves to the right, else to the left
    gold: jax.Array  # bool[10] it is gold, else an enemy
    spawn_timer: jax.Array  # i32[] steps until the next one enters
    spawn_interval: jax.Array  # i32[] steps between two entries
    move_timer: jax.Array  # i32[] steps until all move
    move_interval: jax.Array  # i32[] steps between two moves
    ramp_timer: jax.Array  # i32[] steps until the difficulty rises
    ramp_index: jax.Array  # i32[] how often it rose
    last_action: jax.Array  # i32[] the action executed last


class Params(NamedTuple):
    """What can be set."""

    sticky_prob: float = 0.1  # probability of executing the last action again
    spawn_interval: int = 10  # steps between two entries at the start
    move_interval: int = 5  # steps between two moves at the start
    ramp_interval: int = 100  # steps between two rises of the difficulty


class Draws(NamedTuple):
    """The random decisions of one step; all but the first matter only when something enters."""

    repeat: jax.Array  # bool[] execute the last action again
    rightward: jax.Array  # bool[] enter at the left and move to the right
    gold: jax.Array  # bool[] gold, else an enemy
    place: jax.Array  # u32[] 0 … 839: of n free rows, the (n place // 840)-th from the top is taken


@dataclass(frozen=True)
class Asterix(game.Game[State, Params, Draws]):
    """A player among enemies and gold."""

    ramping: bool = True  # whether the difficulty rises

    used_actions: ClassVar[tuple[int, ...]] = (game.NONE, game.LEFT, game.UP, game.RIGHT, game.DOWN)
    channels: ClassVar[dict[str, Mark]] = {
        "player": Mark("green"),
        "enemy": Mark("red"),
        "trail": Mark("slate", 0.35),
        "gold": Mark("yellow", 0.8, disc=True),
    }

    def default_params(self) -> Params:
        """The original's constants."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """The one initial state; the key is not used."""
        del key
        nothing = jnp.zeros(game.SIZE, jnp.bool_)
        state = State(
            player_x=jnp.int32(5),
            player_y=jnp.int32(5),
            present=nothing,
            x=jnp.zeros(game.SIZE, jnp.int32),
            rightward=nothing,
            gold=nothing,
            spawn_timer=jnp.int32(params.spawn_interval),
            spawn_interval=jnp.int32(params.spawn_interval),
            move_timer=jnp.int32(params.move_interval),
            move_interval=jnp.int32(params.move_interval),
            ramp_timer=jnp.int32(params.ramp_interval),
            ramp_index=jnp.int32(0),
            last_action=jnp.int32(game.NONE),
        )
        return self.observe(state, params), state

    def draw(self, key: jax.Array, params: Params) -> Draws:
        """Draws from two words."""
        first, second = jax.random.bits(key, (2,), jnp.uint32)
        number = second % (3 * _CHOICES)
        return Draws(
            repeat=game.repeats(first, params.sticky_prob),
            rightward=(first & 1) == 1,
            gold=number < _CHOICES,
            place=number % _CHOICES,
        )

    def transition(self, state: State, action: jax.Array, draws: Draws, params: Params) -> Step:
        """Entry, the player's move, contact, the others' move, contact, clocks."""
        action = self.executed(action, draws.repeat, state.last_action)

        # Entry: the chosen one of the free rows.
        entering = state.spawn_timer == 0
        free = jnp.sum(jnp.where(_LANES & ~state.present, _ROW_BIT, jnp.uint32(0)))  # u32[], bit y is row y
        chosen = draws.place * jax.lax.population_count(free) // _CHOICES
        rank = jax.lax.population_count(free & (_ROW_BIT - 1))  # u32[10] free rows above
        enters = entering & _LANES & ~state.present & (rank == chosen)
        present = state.present | enters
        x = jnp.where(enters, jnp.where(draws.rightward, 0, 9), state.x)
        rightward = jnp.where(enters, draws.rightward, state.rightward)
        gold = jnp.where(enters, draws.gold, state.gold)

        player_x = state.player_x + (action == game.RIGHT) - (action == game.LEFT)
        player_x = jnp.clip(player_x, 0, 9)
        player_y = jnp.clip(state.player_y + (action == game.DOWN) - (action == game.UP), 1, 8)
        player_row = player_y == _ROW

        before = present & player_row & (x == player_x)
        present &= ~(before & gold)
        moving = state.move_timer == 0
        x = jnp.where(moving, jnp.where(rightward, x + 1, x - 1), x)
        present &= (x >= 0) & (x <= 9)
        after = moving & present & player_row & (x == player_x)
        present &= ~(after & gold)
        reward = jnp.sum((before | after) & gold, dtype=jnp.float32)
        terminated = jnp.any((before | after) & ~gold)

        spawn_timer = jnp.where(entering, state.spawn_interval, state.spawn_timer) - 1
        move_timer = jnp.where(moving, state.move_interval, state.move_timer) - 1
        spawn_interval, move_interval = state.spawn_interval, state.move_interval
        ramp_timer, ramp_index = state.ramp_timer, state.ramp_index
        if self.ramping:
            open_end = (spawn_interval > 1) | (move_interval > 1)
            rises = open_end & (ramp_timer < 0)
            faster = rises & (move_interval > 1) & (ramp_index % 2 == 1)
            ramp_timer = jnp.where(rises, params.ramp_interval, ramp_timer - open_end)
            spawn_interval -= rises & (spawn_interval > 1)
            move_interval -= faster
            ramp_index += rises
        new = State(
            player_x=player_x,
            player_y=player_y,
            present=present,
            x=x,
            rightward=rightward,
            gold=gold,
            spawn_timer=spawn_timer,
            spawn_interval=spawn_interval,
            move_timer=move_timer,
            move_interval=move_interval,
            ramp_timer=ramp_timer,
            ramp_index=ramp_index,
            last_action=action,
        )
        return Step(self.observe(new, params), new, reward, terminated, {})

    def observe(self, state: State, params: Params) -> jax.Array:
        """The four channels as cells."""
        del params
        place = jnp.where(state.present, game.bit(state.x), 0)
        behind = jnp.where(state.rightward, place >> 1, place << 1) & game.ROW
        enemy, gold = jnp.where(state.gold, 0, place), jnp.where(state.gold, place, 0)
        return game.grid([game.cell(state.player_x, state.player_y), enemy, behind, gold])
