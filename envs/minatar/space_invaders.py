"""MinAtar SpaceInvaders: shoot a block of aliens before it lands.

Observation: bool[10, 10, 6]: cannon, alien, aliens that move to the left, aliens that move to the right (the alien
    channel again, one of them empty), the player's bullets, the aliens' bullets.
Action: 1 moves the cannon to the left, 3 to the right, 5 fires; the others do nothing (minimal set: 0, 1, 3, 5).
Reward: 1 for each alien shot.
Ends: an alien or a bullet of theirs reaches the cannon, or an alien in the bottom row is due to move down. Time limit:
    none.
Start: the cannon in column 5, 24 aliens in rows 0 to 3 of columns 2 to 7 moving to the left, no bullets.
Rules: the player can fire every five steps. Bullets move one cell a step. The aliens move every 12th step at first, and
    every n-th when only n < 12 are left; at a wall they turn and move down instead. Every tenth step the alien nearest
    to the cannon's column fires (of two the left one, of a column the lowest). When all are shot the next 24 appear.
    Difficulty: each wave's interval is one shorter, down to 6; `ramping=False` turns it off.
Source and deviations: see `envs.minatar.game`; the rules are those of MinAtar 1.0.15 exactly.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.minatar import game
from envs.minatar.game import Mark

_ROW = np.arange(game.SIZE)
_WAVE = np.where(_ROW < 4, 0b0011111100, 0).astype(np.uint32)  # bit rows of a new wave
_FASTEST = 6  # the interval between moves at which the ramp ends


class State(NamedTuple):
    """Cannon, aliens, bullets and clocks. Bit x of row y of a map is the cell in that column and row."""

    cannon: jax.Array  # i32[] column
    aliens: jax.Array  # u32[10]
    bullets: jax.Array  # u32[10] the player's
    alien_bullets: jax.Array  # u32[10]
    rightward: jax.Array  # bool[] the aliens move to the right
    move_interval: jax.Array  # i32[] steps between two moves of the aliens when 12 or more are left
    move_timer: jax.Array  # i32[] steps until they move
    alien_shot_timer: jax.Array  # i32[] steps until one fires
    shot_timer: jax.Array  # i32[] steps until the player can fire
    ramp_index: jax.Array  # i32[] how often the difficulty rose
    last_action: jax.Array  # i32[] the action executed last


class Params(NamedTuple):
    """What can be set."""

    sticky_prob: float = 0.1  # probability of executing the last action again
    shot_interval: int = 5  # steps between two shots of the player
    move_interval: int = 12  # steps between two moves of the first wave
    alien_shot_interval: int = 10  # steps between two shots of the aliens


class Draws(NamedTuple):
    """The random decision of one step."""

    repeat: jax.Array  # bool[] execute the last action again


@dataclass(frozen=True)
class SpaceInvaders(game.Game[State, Params, Draws]):
    """A cannon below a block of aliens."""

    ramping: bool = True  # whether the difficulty rises with each wave

    used_actions: ClassVar[tuple[int, ...]] = (game.NONE, game.LEFT, game.RIGHT, game.FIRE)
    channels: ClassVar[dict[str, Mark]] = {
        "cannon": Mark("green"),
        "alien": Mark("purple"),
        "alien_left": Mark("blue", 0.35),
        "alien_right": Mark("yellow", 0.35),
        "friendly_bullet": Mark("white", 0.35, disc=True),
        "enemy_bullet": Mark("red", 0.35, disc=True),
    }

    def default_params(self) -> Params:
        """The original's constants."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """The one initial state; the key is not used."""
        del key
        state = State(
            cannon=jnp.int32(5),
            aliens=jnp.asarray(_WAVE),
            bullets=jnp.zeros(game.SIZE, jnp.uint32),
            alien_bullets=jnp.zeros(game.SIZE, jnp.uint32),
            rightward=jnp.bool_(False),
            move_interval=jnp.int32(params.move_interval),
            move_timer=jnp.int32(params.move_interval),
            alien_shot_timer=jnp.int32(params.alien_shot_interval),
            shot_timer=jnp.int32(0),
            ramp_index=jnp.int32(0),
            last_action=jnp.int32(game.NONE),
        )
        return self.observe(state, params), state

    def draw(self, key: jax.Array, params: Params) -> Draws:
        """Draws from one word."""
        return Draws(game.repeats(jax.random.bits(key, (), jnp.uint32), params.sticky_prob))

    def transition(self, state: State, action: jax.Array, draws: Draws, params: Params) -> Step:
        """The player, bullets, the aliens' move and shot, hits, clocks, the next wave."""
        action = self.executed(action, draws.repeat, state.last_action)
        fires = (action == game.FIRE) & (state.shot_timer == 0)
        cannon = jnp.clip(state.cannon + (action == game.RIGHT) - (action == game.LEFT), 0, 9)
        shot_timer = jnp.maximum(jnp.where(fires, params.shot_interval, state.shot_timer) - 1, 0)

        # A shot leaves the cannon's row at once: it appears in row 8.
        bullets = jnp.roll(state.bullets, -1)
        bullets = jnp.where(_ROW == 9, 0, bullets)
        bullets = jnp.where((_ROW == 8) & fires, bullets | game.bit(cannon), bullets)
        alien_bullets = jnp.where(_ROW == 0, 0, jnp.roll(state.alien_bullets, 1))

        # The aliens' move. The bottom row can wrap to the top, but only in the terminal state.
        moves = state.move_timer == 0
        columns = _union(state.aliens)
        count = jnp.sum(jax.lax.population_count(state.aliens)).astype(jnp.int32)
        edge = jnp.where(state.rightward, columns >> 9, columns) & 1
        turns = moves & (edge == 1)
        sideways = jnp.where(state.rightward, state.aliens << 1, state.aliens >> 1)
        aliens = jnp.where(turns, jnp.roll(state.aliens, 1), jnp.where(moves, sideways, state.aliens))
        columns = jnp.where(
            moves & ~turns, jnp.where(state.rightward, columns << 1, columns >> 1), columns
        )  # which columns have an alien
        rightward = state.rightward ^ turns
        move_timer = jnp.where(moves, jnp.minimum(count, state.move_interval), state.move_timer) - 1

        at_cannon = game.bit(cannon)
        terminated = ((alien_bullets[9] | aliens[9] | state.aliens[9]) & at_cannon) != 0
        terminated |= turns & (state.aliens[9] != 0)

        # The nearest column that has an alien: of two at the same distance the left one.
        shoots = state.alien_shot_timer == 0
        left = columns & (2 * at_cannon - 1)
        right = columns & ~(at_cannon - 1)
        nearest_left = 31 - jax.lax.clz(left).astype(jnp.int32)
        nearest_right = jax.lax.population_count((right & -right) - 1).astype(jnp.int32)
        prefer_left = (left != 0) & ((right == 0) | (cannon - nearest_left <= nearest_right - cannon))
        shooting = game.bit(jnp.where(prefer_left, nearest_left, nearest_right))
        lowest = jnp.max(jnp.where((aliens & shooting) != 0, _ROW, -1))
        alien_bullets = jnp.where(shoots & (lowest == _ROW), alien_bullets | shooting, alien_bullets)
        alien_shot_timer = jnp.where(shoots, params.alien_shot_interval, state.alien_shot_timer) - 1

        hits = aliens & bullets
        aliens ^= hits
        bullets ^= hits
        reward = jnp.sum(jax.lax.population_count(hits)).astype(jnp.float32)

        cleared = _union(aliens) == 0
        aliens = jnp.where(cleared, _WAVE, aliens)
        move_interval, ramp_index = state.move_interval, state.ramp_index
        if self.ramping:
            rises = cleared & (move_interval > _FASTEST)
            move_interval -= rises
            ramp_index += rises
        new = State(
            cannon=cannon,
            aliens=aliens,
            bullets=bullets,
            alien_bullets=alien_bullets,
            rightward=rightward,
            move_interval=move_interval,
            move_timer=move_timer,
            alien_shot_timer=alien_shot_timer,
            shot_timer=shot_timer,
            ramp_index=ramp_index,
            last_action=action,
        )
        return Step(self.observe(new, params), new, reward, terminated, {})

    def observe(self, state: State, params: Params) -> jax.Array:
        """The six channels as cells."""
        del params
        left = jnp.where(state.rightward, 0, state.aliens)
        right = jnp.where(state.rightward, state.aliens, 0)
        cannon = game.cell(state.cannon, jnp.int32(9))
        return game.grid([cannon, state.aliens, left, right, state.bullets, state.alien_bullets])


def _union(rows: jax.Array) -> jax.Array:
    """The columns that are set in any of the bit rows u32[10]: u32[]."""
    return jax.lax.reduce(rows, np.uint32(0), jax.lax.bitwise_or, (0,))
