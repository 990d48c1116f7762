"""MinAtar Seaquest: a submarine shoots fish and submarines, rescues divers and surfaces for air.

Observation: bool[10, 10, 10]: the submarine's front and back, its bullets, trail (the cell behind each fish, enemy
    submarine and diver), enemy bullets, fish, enemy submarines, and in the bottom row the oxygen gauge (from the
    left) and the number of divers aboard (from the right); then divers.
Action: 1 to 4 move one cell to the left, up, to the right, down; 5 fires to the side that the submarine faces (minimal
    set: all six).
Reward: 1 for each fish or submarine shot; for surfacing with six divers, the cells that the oxygen gauge shows.
Ends: contact with a fish, a submarine or a bullet of theirs; oxygen 0; surfacing with no diver aboard. Time limit:
    none.
Start: at the surface (row 0) in column 5, facing left, 200 steps of oxygen, nothing else.
Rules: every `spawn` steps (20 at first) a fish or, with probability 1/3, a submarine enters in one of rows 1 to 8 from
    either side, unless something in that row moves the other way. They move every sixth step at first; submarines
    fire every eleventh. A diver enters every 30th step and moves every sixth; touching one takes it aboard, six at
    most. The player can fire every fifth step. Bullets move one cell a step. Oxygen falls by one each step below the
    surface. Surfacing with divers costs one and restores the oxygen; with six it costs all. Difficulty: with each
    surfacing `spawn` falls by one down to 1, and with every second one the moves come one step sooner, down to every
    third; `ramping=False` turns it off.
    As in the original, surfacing with six leaves minus one: the next diver makes it zero, and surfacing before that is
    safe and takes one more.
Source and deviations: see `envs.minatar.game`; the rules are those of MinAtar 1.0.15 exactly, the order in which
    objects that share a cell are hit included. The original keeps lists without bound; the intervals bound them, so
    that fixed slots lose nothing: 2 bullets, 2 divers, 30 enemies (when one enters every step, each stays for 30).
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
_SLOTS = 32  # enemies; a power of 2, at least the 30 that there can be
_SLOT = np.arange(_SLOTS)
_ENEMY_INTERVAL = 20  # steps between two enemies at first
_DIVER_INTERVAL = 30  # steps between two divers
_ENEMY_WAIT = 5  # steps between two moves of an enemy at first, less one
_DIVER_WAIT = 5  # … of a diver, less one
_FASTEST_WAIT = 2  # … of an enemy, less one, at which the ramp ends
_ENEMY_SHOT_WAIT = 10  # steps between two shots of a submarine, less one
_SHOT_INTERVAL = 5  # steps between two shots of the player
_CREW = 6  # divers that fit aboard


class Bullet(NamedTuple):
    """One bullet of the player."""

    present: jax.Array  # bool[] the rest means nothing where not
    x: jax.Array  # i32[] column
    y: jax.Array  # i32[] row
    rightward: jax.Array  # bool[] moves to the right, else to the left


class Diver(NamedTuple):
    """One diver in the water."""

    present: jax.Array  # bool[] the rest means nothing where not
    x: jax.Array  # i32[] column
    y: jax.Array  # i32[] row
    rightward: jax.Array  # bool[] moves to the right, else to the left
    timer: jax.Array  # i32[] steps until the next move


class Enemies(NamedTuple):
    """Fish and submarines: a ring, each in a slot of its own."""

    present: jax.Array  # bool[32] the rest means nothing where not
    submarine: jax.Array  # bool[32] a submarine, else a fish
    x: jax.Array  # i32[32] column
    y: jax.Array  # i32[32] row
    rightward: jax.Array  # bool[32] moves to the right, else to the left
    timer: jax.Array  # i32[32] steps until the next move
    shot_timer: jax.Array  # i32[32] steps until a submarine fires
    next: jax.Array  # i32[] the slot that the next one gets: from here on around the ring they are older to newer


class State(NamedTuple):
    """Everything in the water, and the clocks."""

    x: jax.Array  # i32[] column of the player's front
    y: jax.Array  # i32[] its row, 0 … 8
    rightward: jax.Array  # bool[] it faces right
    oxygen: jax.Array  # i32[] steps
    crew: jax.Array  # i32[] divers aboard; negative after surfacing with six
    surfaced: jax.Array  # bool[] it was at the surface after the last step
    bullets: tuple[Bullet, Bullet]  # the older, the newer
    divers: tuple[Diver, Diver]  # the older, the newer
    enemies: Enemies
    left_bullets: jax.Array  # u32[10] enemy bullets that move to the left: bit x of row y is a cell
    right_bullets: jax.Array  # u32[10] … to the right
    shot_timer: jax.Array  # i32[] steps until the player can fire
    diver_timer: jax.Array  # i32[] steps until the next diver
    enemy_timer: jax.Array  # i32[] steps until the next enemy
    enemy_interval: jax.Array  # i32[] steps between two enemies
    enemy_wait: jax.Array  # i32[] steps between two moves of an enemy, less one
    ramp_index: jax.Array  # i32[] how often the difficulty rose
    last_action: jax.Array  # i32[] the action executed last


class Params(NamedTuple):
    """What can be set; the intervals are fixed, for they bound how much there is in the water."""

    sticky_prob: float = 0.1  # probability of executing the last action again
    max_oxygen: int = 200  # steps


class Draws(NamedTuple):
    """The random decisions of one step; all but the first matter only when something enters."""

    repeat: jax.Array  # bool[] execute the last action again
    enemy_rightward: jax.Array  # bool[] the enemy enters at the left and moves to the right
    enemy_submarine: jax.Array  # bool[] it is a submarine, else a fish
    enemy_row: jax.Array  # i32[] its row, 1 … 8
    diver_rightward: jax.Array  # bool[] the diver enters at the left and moves to the right
    diver_row: jax.Array  # i32[] its row, 1 … 8


@dataclass(frozen=True)
class Seaquest(game.Game[State, Params, Draws]):
    """A submarine among fish, enemy submarines and divers."""

    ramping: bool = True  # whether the difficulty rises with each surfacing

    used_actions: ClassVar[tuple[int, ...]] = tuple(range(6))
    channels: ClassVar[dict[str, Mark]] = {
        "sub_front": Mark("green"),
        "sub_back": Mark("green", 0.6),
        "friendly_bullet": Mark("white", 0.35, disc=True),
        "trail": Mark("slate", 0.35),
        "enemy_bullet": Mark((255, 150, 150), 0.35, disc=True),
        "enemy_fish": Mark("red", 0.8, disc=True),
        "enemy_sub": Mark("purple"),
        "oxygen_gauge": Mark("ice", 0.8),
        "diver_gauge": Mark("blue", 0.5),
        "diver": Mark("yellow", 0.6, disc=True),
    }

    def default_params(self) -> Params:
        """The original's constants."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """The one initial state; the key is not used."""
        del key
        no, zero = jnp.bool_(False), jnp.int32(0)
        nowhere, none = jnp.zeros(_SLOTS, jnp.int32), jnp.zeros(_SLOTS, jnp.bool_)
        bullet, diver = Bullet(no, zero, zero, no), Diver(no, zero, zero, no, zero)
        state = State(
            x=jnp.int32(5),
            y=zero,
            rightward=no,
            oxygen=jnp.int32(params.max_oxygen),
            crew=zero,
            surfaced=jnp.bool_(True),
            bullets=(bullet, bullet),
            divers=(diver, diver),
            enemies=Enemies(none, none, nowhere, nowhere, none, nowhere, nowhere, zero),
            left_bullets=jnp.zeros(game.SIZE, jnp.uint32),
            right_bullets=jnp.zeros(game.SIZE, jnp.uint32),
            shot_timer=zero,
            diver_timer=jnp.int32(_DIVER_INTERVAL),
            enemy_timer=jnp.int32(_ENEMY_INTERVAL),
            enemy_interval=jnp.int32(_ENEMY_INTERVAL),
            enemy_wait=jnp.int32(_ENEMY_WAIT),
            ramp_index=zero,
            last_action=jnp.int32(game.NONE),
        )
        return self.observe(state, params), state

    def draw(self, key: jax.Array, params: Params) -> Draws:
        """Draws from two words."""
        first, second = jax.random.bits(key, (2,), jnp.uint32)
        return Draws(
            repeat=game.repeats(first, params.sticky_prob),
            enemy_rightward=(first & 1) == 1,
            enemy_submarine=second % 3 == 0,
            enemy_row=1 + ((first >> 1) & 7).astype(jnp.int32),
            diver_rightward=((first >> 4) & 1) == 1,
            diver_row=1 + ((first >> 5) & 7).astype(jnp.int32),
        )

    def transition(self, state: State, action: jax.Array, draws: Draws, params: Params) -> Step:
        """Entries, the player, its bullets, divers, enemies and their bullets, clocks, the surface."""
        action = self.executed(action, draws.repeat, state.last_action)

        enemy_enters, diver_enters = state.enemy_timer == 0, state.diver_timer == 0
        enemies = _enter(state.enemies, enemy_enters, draws, state.enemy_wait)
        enemy_timer = jnp.maximum(jnp.where(enemy_enters, state.enemy_interval, state.enemy_timer) - 1, 0)
        diver = Diver(
            present=jnp.bool_(True),
            x=jnp.where(draws.diver_rightward, 0, 9),
            y=draws.diver_row,
            rightward=draws.diver_rightward,
            timer=jnp.int32(_DIVER_WAIT),
        )
        divers = _append(state.divers, diver, diver_enters)
        diver_timer = jnp.where(diver_enters, _DIVER_INTERVAL, state.diver_timer) - 1

        fires = (action == game.FIRE) & (state.shot_timer == 0)
        shot = Bullet(jnp.bool_(True), state.x, state.y, state.rightward)
        older, newer = _append(state.bullets, shot, fires)
        shot_timer = jnp.maximum(jnp.where(fires, _SHOT_INTERVAL, state.shot_timer) - 1, 0)
        x = jnp.clip(state.x + (action == game.RIGHT) - (action == game.LEFT), 0, 9)
        y = jnp.clip(state.y + (action == game.DOWN) - (action == game.UP), 0, 8)
        rightward = jnp.where(action == game.RIGHT, True, jnp.where(action == game.LEFT, False, state.rightward))
        here = _place(x, y)

        # The player's bullets fly before anything else moves, the newer first. Each hits the oldest fish in its cell,
        # or without fish the oldest submarine.
        age = (_SLOT - enemies.next) & (_SLOTS - 1)  # i32[32] 0: the oldest
        rank = jnp.where(enemies.submarine, age + _SLOTS, age)
        older, newer = _fly(older), _fly(newer)
        place = _place(enemies.x, enemies.y)
        alive = enemies.present
        newer, alive, hit_1 = _hit(newer, alive, alive, place, rank, latest=False)
        older, alive, hit_2 = _hit(older, alive, alive, place, rank, latest=False)

        crew = state.crew
        newer_diver, crew = _swim(divers[1], crew, x, y)
        older_diver, crew = _swim(divers[0], crew, x, y)

        # Enemies. One that moves into a bullet is hit, submarines before fish and the newest of each first.
        fatal = jnp.any(alive & (place == here))
        moving = alive & (enemies.timer == 0)
        enemy_x = jnp.where(moving, enemies.x + jnp.where(enemies.rightward, 1, -1), enemies.x)
        firing = alive & enemies.submarine & (enemies.shot_timer == 0)
        inside = (enemy_x >= 0) & (enemy_x <= 9)
        alive &= inside
        moving &= inside
        place = _place(enemy_x, enemies.y)
        fatal |= jnp.any(moving & (place == here))
        exposed = moving & (place != here)
        older, alive, hit_3 = _hit(older, exposed, alive, place, rank, latest=True)
        newer, alive, hit_4 = _hit(newer, exposed & alive, alive, place, rank, latest=True)

        # A submarine fires from where it moved to, also when it was hit there.
        shots = jnp.where(firing & inside, game.bit(enemy_x & 15), 0)
        shots = _rows(jnp.where(enemies.rightward, shots << game.SIZE, shots), enemies.y)
        left, right = state.left_bullets | (shots & game.ROW), state.right_bullets | (shots >> game.SIZE)
        cell = game.cell(x, y)
        fatal |= jnp.any(((left | right) & cell) != 0)
        left, right = left >> 1, (right << 1) & game.ROW
        fatal |= jnp.any(((left | right) & cell) != 0)

        enemies = enemies._replace(
            present=alive,
            x=enemy_x,
            timer=jnp.where(enemies.timer == 0, state.enemy_wait, enemies.timer - 1),
            shot_timer=jnp.where(enemies.shot_timer == 0, _ENEMY_SHOT_WAIT, enemies.shot_timer - 1),
        )

        fatal |= state.oxygen <= 0
        under = y > 0
        arrives = ~under & ~state.surfaced
        fatal |= arrives & (crew == 0)
        breathes = arrives & (crew != 0)
        bonus = jnp.where(breathes & (crew == _CREW), state.oxygen * 10 // params.max_oxygen, 0)
        crew = jnp.where(breathes, jnp.where(crew == _CREW, 0, crew) - 1, crew)
        oxygen = jnp.where(breathes, params.max_oxygen, state.oxygen - under)
        enemy_interval, enemy_wait, ramp_index = state.enemy_interval, state.enemy_wait, state.ramp_index
        if self.ramping:
            rises = breathes & ((enemy_interval > 1) | (enemy_wait > _FASTEST_WAIT))
            enemy_wait -= rises & (enemy_wait > _FASTEST_WAIT) & (ramp_index % 2 == 1)
            enemy_interval -= rises & (enemy_interval > 1)
            ramp_index += rises

        hits = hit_1.astype(jnp.int32) + hit_2 + hit_3 + hit_4
        new = State(
            x=x,
            y=y,
            rightward=rightward,
            oxygen=oxygen,
            crew=crew,
            surfaced=jnp.where(under, False, state.surfaced | breathes),
            bullets=(older, newer),
            divers=(older_diver, newer_diver),
            enemies=enemies,
            left_bullets=left,
            right_bullets=right,
            shot_timer=shot_timer,
            diver_timer=diver_timer,
            enemy_timer=enemy_timer,
            enemy_interval=enemy_interval,
            enemy_wait=enemy_wait,
            ramp_index=ramp_index,
            last_action=action,
        )
        return Step(self.observe(new, params), new, (hits + bonus).astype(jnp.float32), fatal, {})

    def observe(self, state: State, params: Params) -> jax.Array:
        """The ten channels as cells."""
        enemies = state.enemies
        word = game.bit(enemies.x & 15)
        word = jnp.where(enemies.submarine, word << game.SIZE, word)
        # Everything in a row moves the same way, so one more bit tells the direction.
        word = jnp.where(enemies.rightward, word | (1 << 2 * game.SIZE), word)
        word = _rows(jnp.where(enemies.present, word, 0), enemies.y)
        fish, subs = word & game.ROW, (word >> game.SIZE) & game.ROW
        behind = jnp.where(word >> 2 * game.SIZE == 1, (fish | subs) >> 1, (fish | subs) << 1)
        divers = jnp.zeros(game.SIZE, jnp.uint32)
        for diver in state.divers:
            cell = jnp.where(diver.present, game.cell(diver.x & 15, diver.y), 0)
            divers |= cell
            behind |= jnp.where(diver.rightward, cell >> 1, cell << 1)
        bullets = jnp.zeros(game.SIZE, jnp.uint32)
        for bullet in state.bullets:
            bullets |= jnp.where(bullet.present, game.cell(bullet.x & 15, bullet.y), 0)
        gauge = game.bit(jnp.maximum(state.oxygen, 0) * 10 // params.max_oxygen) - 1
        aboard = ((1 << 9) - 1) & ~(game.bit(9 - jnp.clip(state.crew, 0, _CREW)) - 1)
        bottom = _ROW == 9
        return game.grid(
            [
                game.cell(state.x, state.y),
                game.cell(jnp.where(state.rightward, state.x - 1, state.x + 1) & 15, state.y),
                bullets,
                behind,
                state.left_bullets | state.right_bullets,
                fish,
                subs,
                jnp.where(bottom, gauge, 0),
                jnp.where(bottom, aboard, 0),
                divers,
            ]
        )


def _place(x: jax.Array, y: jax.Array) -> jax.Array:
    """A number for each cell."""
    return 16 * y + x


def _rows(words: jax.Array, y: jax.Array) -> jax.Array:
    """Joins the `words` u32[32] of the slots in each row `y`: u32[10]."""
    return jax.lax.reduce(jnp.where(y == _ROW[:, None], words, 0), np.uint32(0), jax.lax.bitwise_or, (1,))


def _append(pair: tuple, item: NamedTuple, when: jax.Array) -> tuple:
    """Adds `item` as the newer of a pair that has room, where `when` holds."""
    older, newer = pair
    keep = when & newer.present
    older = jax.tree.map(lambda new, old: jnp.where(keep, new, old), newer, older)
    return older, jax.tree.map(lambda new, old: jnp.where(when, new, old), item, newer)


def _enter(enemies: Enemies, when: jax.Array, draws: Draws, wait: jax.Array) -> Enemies:
    """Adds an enemy where `when` holds, unless something in its row moves the other way."""
    opposed = enemies.present & (enemies.y == draws.enemy_row) & (enemies.rightward != draws.enemy_rightward)
    when = when & ~jnp.any(opposed)
    slot = when & (enemies.next == _SLOT)
    return Enemies(
        present=enemies.present | slot,
        submarine=jnp.where(slot, draws.enemy_submarine, enemies.submarine),
        x=jnp.where(slot, jnp.where(draws.enemy_rightward, 0, 9), enemies.x),
        y=jnp.where(slot, draws.enemy_row, enemies.y),
        rightward=jnp.where(slot, draws.enemy_rightward, enemies.rightward),
        timer=jnp.where(slot, wait, enemies.timer),
        shot_timer=jnp.where(slot, _ENEMY_SHOT_WAIT, enemies.shot_timer),
        next=(enemies.next + when) & (_SLOTS - 1),
    )


def _fly(bullet: Bullet) -> Bullet:
    """Moves a bullet of the player by one cell."""
    x = bullet.x + jnp.where(bullet.rightward, 1, -1)
    return bullet._replace(present=bullet.present & (x >= 0) & (x <= 9), x=x)


def _hit(
    bullet: Bullet, exposed: jax.Array, alive: jax.Array, place: jax.Array, rank: jax.Array, latest: bool
) -> tuple[Bullet, jax.Array, jax.Array]:
    """Lets a bullet hit one of the `exposed` enemies in its cell: that of lowest rank, or of the highest if `latest`.

    Returns:
        (bullet, alive, hit): `alive` bool[32] without the enemy that was hit, `hit` bool[].
    """
    target = exposed & bullet.present & (place == _place(bullet.x, bullet.y))
    best = jnp.max(jnp.where(target, rank, -1)) if latest else jnp.min(jnp.where(target, rank, 2 * _SLOTS))
    hit = (best >= 0) & (best < 2 * _SLOTS)
    return bullet._replace(present=bullet.present & ~hit), alive & ~(target & (rank == best)), hit


def _swim(diver: Diver, crew: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Diver, jax.Array]:
    """Takes a diver that touches the player at (x, y) aboard, before or after its move, if there is room."""
    room = diver.present & (crew < _CREW) & (diver.y == y)
    moving = diver.timer == 0
    moved = jnp.where(moving, diver.x + jnp.where(diver.rightward, 1, -1), diver.x)
    taken = room & ((diver.x == x) | (moved == x))
    present = diver.present & ~taken & (moved >= 0) & (moved <= 9)
    timer = jnp.where(moving, _DIVER_WAIT, diver.timer - 1)
    return diver._replace(present=present, x=moved, timer=timer), crew + taken
