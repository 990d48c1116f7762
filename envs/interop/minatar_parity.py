"""Parity of the MinAtar games with the original package: with random decisions replayed, everything is equal, exactly.

A run of ours is recorded: states, random decisions, results. Then each state is copied into the original's attributes,
its random generator is replaced by one that answers with our decisions (and refuses anything else that it is asked),
`act` is called, and reward, terminal flag, observation and every attribute are compared. The states are scattered over
the game, most of them far from its start. Whole episodes are replayed too, with nothing copied after the reset.

That the random decisions have the right distributions is tested with the games, and shows in the returns of random
policies at the end of each report.
"""

import functools
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env
from envs.interop.foreign import load
from envs.interop.parity import Check, Play, Reference, random_policy
from envs.minatar import asterix, breakout, freeway, seaquest, space_invaders
from envs.minatar.game import DOWN, FIRE, LEFT, NONE, RIGHT, UP, Game

LANES, STRETCH = 8, 4  # of a recorded run; after so many steps it goes on from another scattered state
UPWARD = (0.1, 0.0, 0.8, 0.0, 0.1, 0.0)  # a uniformly random chicken hardly ever arrives

Call = tuple[str, tuple, Any]  # a call of NumPy's RandomState that is expected: name, arguments, the answer


class Refused(Exception):
    """The original asked its random generator for something that our decisions do not answer."""


class Script:
    """Stands in for NumPy's RandomState: answers the calls that are expected, in their order."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = deque(calls)

    def rand(self, *shape: int) -> Any:
        """Answers a call for uniform numbers."""
        return self._answer("rand", shape)

    def randint(self, *args: int, **kwargs: int) -> Any:
        """Answers a call for integers."""
        return self._answer("randint", (*args, *kwargs.values()))

    def _answer(self, name: str, args: tuple) -> Any:
        expected, arguments, value = self.calls.popleft() if self.calls else ("nothing", (), None)
        if (name, args) != (expected, arguments):
            raise Refused(f"{name}{args} instead of {expected}{arguments}")
        return value


def chance(happens: bool, p: float = 0.5) -> Call:
    """The call that decides an event of probability `p` by `rand() < p`."""
    return "rand", (), p / 2 if happens else (1 + p) / 2


@dataclass(frozen=True)
class Scatter:
    """Random values, NumPy arrays of one leading shape, for states that are spread over a game."""

    rng: np.random.Generator
    shape: tuple[int, ...]

    def among(self, *values: int) -> Any:
        """One of some values."""
        return self.rng.choice(np.array(values, np.int32), self.shape)

    def upto(self, low: int, high: int, *more: int) -> Any:
        """An integer in low … high; `more` are trailing axes."""
        return self.rng.integers(low, high, (*self.shape, *more), dtype=np.int32, endpoint=True)

    def coin(self, p: float = 0.5, *more: int) -> Any:
        """True with probability p."""
        return self.rng.random((*self.shape, *more)) < p

    def rows(self, p: float, lowest: int = 0, highest: int = 9) -> Any:
        """Bit rows u32[10] with each cell of rows lowest … highest set with probability p."""
        y = np.arange(10)
        cells = self.coin(p, 10, 10) & ((y >= lowest) & (y <= highest))[:, None]
        return (cells << np.arange(10)).sum(-1).astype(np.uint32)


@dataclass(frozen=True)
class Adapter:
    """How states and decisions of one of our games look in the original. Ours come as Python numbers and lists."""

    game: ClassVar[str]  # its name in the package

    def attributes(self, s: Any) -> dict[str, Any]:
        """The attributes that the original has in our state `s`."""
        raise NotImplementedError

    def calls(self, s: Any, action: int, d: Any) -> list[Call]:
        """What the original draws in a step from `s` under the executed `action`, beside the sticky action."""
        del s, action, d
        return []

    def start_calls(self, s: Any) -> list[Call]:
        """What the original draws in the reset that gives `s`."""
        del s
        return []

    def scattered(self, draw: Scatter) -> Any:
        """States of ours, NumPy [*draw.shape, ...], full of what meets or just misses.

        They keep what the rules guarantee: nothing outside the grid, room for whatever can enter in STRETCH steps.
        """
        raise NotImplementedError

    def rule(self, state: Any, action: jax.Array) -> jax.Array:
        """A policy that lives longer or does more than a random one: the random `action`, or another (traced)."""
        del state
        return action


class Asterix(Adapter):
    """Asterix."""

    game = "asterix"

    def attributes(self, s: Any) -> dict[str, Any]:
        """An entity is [x, y, moves right, is gold]; only rows 1 to 8 can have one."""
        entities = [
            [int(s.x[y]), y, bool(s.rightward[y]), bool(s.gold[y])] if s.present[y] else None for y in range(1, 9)
        ]
        if s.present[0] or s.present[9]:
            entities.append(None)  # one more than the original can have: a difference
        return {
            "player_x": s.player_x,
            "player_y": s.player_y,
            "entities": entities,
            "spawn_speed": s.spawn_interval,
            "spawn_timer": s.spawn_timer,
            "move_speed": s.move_interval,
            "move_timer": s.move_timer,
            "ramp_timer": s.ramp_timer,
            "ramp_index": s.ramp_index,
        }

    def calls(self, s: Any, action: int, d: Any) -> list[Call]:
        """Something enters when the timer is 0; of a full grid the original draws no place."""
        if s.spawn_timer != 0:
            return []
        free = 8 - sum(s.present)
        decided = [chance(d.rightward), chance(d.gold, 1 / 3)]
        return decided + ([("randint", (free,), int(d.place) * free // 840)] if free else [])

    def scattered(self, draw: Scatter) -> Any:
        """Crowded rows, short timers."""
        lanes: Any = (np.arange(10) >= 1) & (np.arange(10) <= 8)
        return asterix.State(
            player_x=draw.upto(0, 9),
            player_y=draw.upto(1, 8),
            present=draw.coin(0.8, 10) & lanes,
            x=draw.upto(0, 9, 10),
            rightward=draw.coin(0.5, 10),
            gold=draw.coin(0.5, 10),
            spawn_timer=draw.upto(0, 2),
            spawn_interval=draw.upto(1, 10),
            move_timer=draw.upto(0, 2),
            move_interval=draw.upto(1, 5),
            ramp_timer=draw.upto(-1, 3),
            ramp_index=draw.upto(0, 9),
            last_action=draw.upto(0, 5),
        )


class Breakout(Adapter):
    """Breakout."""

    game = "breakout"

    def attributes(self, s: Any) -> dict[str, Any]:
        """The original counts the ball's four directions."""
        bricks = np.zeros((10, 10))
        bricks[1:4] = [[s.bricks >> (10 * y + x) & 1 for x in range(10)] for y in range(3)]
        directions = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        return {
            "ball_x": s.x,
            "ball_y": s.y,
            "last_x": s.last_x,
            "last_y": s.last_y,
            "ball_dir": directions.index((s.dx, s.dy)),
            "pos": s.paddle,
            "brick_map": bricks.tolist(),
            "strike": bool(s.struck),
        }

    def start_calls(self, s: Any) -> list[Call]:
        """On which side the ball starts."""
        return [("randint", (2,), s.x // 9)]

    def scattered(self, draw: Scatter) -> Any:
        """The ball near bricks, walls or the paddle; often a wall of bricks, sometimes none."""
        x, y = draw.upto(0, 9), draw.among(0, 1, 2, 3, 4, 5, 7, 8, 8, 8)
        bricks = (draw.coin(0.7, 30) << np.arange(30)).sum(-1).astype(np.uint32)
        left: Any = np.where(draw.coin(0.3), np.uint32(0), bricks)
        return breakout.State(
            paddle=np.clip(x + draw.upto(-2, 2), 0, 9),
            x=x,
            y=y,
            dx=draw.among(-1, 1),
            dy=draw.among(-1, 1),
            last_x=draw.upto(0, 9),
            last_y=draw.upto(0, 9),
            bricks=left,
            struck=draw.coin(),
            last_action=draw.upto(0, 5),
        )

    def rule(self, state: Any, action: jax.Array) -> jax.Array:
        """Follows the ball."""
        target = state.x + state.dx * (state.dy > 0)
        return jnp.where(state.paddle < target, RIGHT, jnp.where(state.paddle > target, LEFT, NONE))


class Freeway(Adapter):
    """Freeway."""

    game = "freeway"

    def attributes(self, s: Any) -> dict[str, Any]:
        """A car is [x, y, steps until it moves, signed period]."""
        return {
            "cars": [[int(s.x[y]), y, int(s.timer[y]), int(s.period[y])] for y in range(1, 9)],
            "pos": s.row,
            "move_timer": s.move_timer,
            "terminate_timer": s.countdown,
        }

    def calls(self, s: Any, action: int, d: Any) -> list[Call]:
        """An arrival draws all cars anew."""
        return self._cars(d.period) if s.row == 1 and s.move_timer == 0 and action == UP else []

    def start_calls(self, s: Any) -> list[Call]:
        """The cars."""
        return self._cars(s.period)

    def _cars(self, period: list[int]) -> list[Call]:
        cars = np.array(period[1:9])
        return [("randint", (1, 6, 8), np.abs(cars)), ("rand", (8,), np.where(cars > 0, 0.75, 0.25))]

    def scattered(self, draw: Scatter) -> Any:
        """Cars beside the chicken's column, some about to move; the chicken often just below the top."""
        lanes: Any = (np.arange(10) >= 1) & (np.arange(10) <= 8)
        period = draw.upto(1, 5, 10) * np.where(draw.coin(0.5, 10), 1, -1)
        return freeway.State(
            row=draw.among(1, 1, 2, 3, 4, 5, 6, 7, 8, 9),
            x=np.where(draw.coin(0.5, 10), draw.upto(3, 5, 10), draw.upto(0, 9, 10)),
            period=(period * lanes).astype(np.int32),
            timer=draw.upto(0, 2, 10),
            move_timer=draw.upto(0, 1),
            countdown=draw.among(0, 1, 2, 2500),
            last_action=draw.upto(0, 5),
        )

    def rule(self, state: Any, action: jax.Array) -> jax.Array:
        """Mostly upwards."""
        return jnp.where(action == LEFT, DOWN, UP)


class Seaquest(Adapter):
    """Seaquest."""

    game = "seaquest"

    def attributes(self, s: Any) -> dict[str, Any]:
        """The original's lists are in order of entry, which our ring of enemies keeps."""
        enemies = s.enemies
        ring = [*range(enemies.next, 32), *range(enemies.next)]
        common = {
            i: [enemies.x[i], enemies.y[i], enemies.rightward[i], enemies.timer[i]] for i in ring if enemies.present[i]
        }
        cells = [
            [x, y, rightward]
            for rows, rightward in ((s.left_bullets, False), (s.right_bullets, True))
            for y in range(10)
            if rows[y]
            for x in range(10)
            if rows[y] >> x & 1
        ]
        return {
            "sub_x": s.x,
            "sub_y": s.y,
            "sub_or": bool(s.rightward),
            "oxygen": s.oxygen,
            "diver_count": s.crew,
            "surface": bool(s.surfaced),
            "f_bullets": [[int(b.x), int(b.y), bool(b.rightward)] for b in s.bullets if b.present],
            "divers": [[int(d.x), int(d.y), bool(d.rightward), int(d.timer)] for d in s.divers if d.present],
            "e_fish": [item for i, item in common.items() if not enemies.submarine[i]],
            "e_subs": [[*item, int(enemies.shot_timer[i])] for i, item in common.items() if enemies.submarine[i]],
            "e_bullets": cells,
            "shot_timer": s.shot_timer,
            "d_spawn_timer": s.diver_timer,
            "e_spawn_timer": s.enemy_timer,
            "e_spawn_speed": s.enemy_interval,
            "move_speed": s.enemy_wait,
            "ramp_index": s.ramp_index,
        }

    def calls(self, s: Any, action: int, d: Any) -> list[Call]:
        """Enemies and divers enter by their timers."""
        calls = []
        if s.enemy_timer == 0:
            calls += [
                chance(d.enemy_rightward),
                chance(d.enemy_submarine, 1 / 3),
                ("randint", (1, 9), int(d.enemy_row)),
            ]
        if s.diver_timer == 0:
            calls += [chance(d.diver_rightward), ("randint", (1, 9), int(d.diver_row))]
        return calls

    def scattered(self, draw: Scatter) -> Any:
        """Enemies in the rows around the player, bullets that cross, full and empty crews, little oxygen."""
        x, y = draw.upto(0, 9), draw.among(0, 0, 1, 2, 3, 4, 5, 6, 7, 8)
        near = np.clip(y[..., None] + draw.upto(-1, 1, 32), 1, 8)  # the enemies' rows
        first = draw.upto(0, 31)  # the slot of the next enemy, and empty ones behind it
        behind = (np.arange(32) - first[..., None]) % 32
        directions = draw.coin(0.5, 10)  # one for each row
        two_bullets, two_divers = draw.coin(), draw.coin()
        to_right, leaving, bullet_y = draw.coin(), draw.upto(5, 9), np.clip(y + draw.upto(-1, 1), 1, 8)
        older = np.where(to_right, leaving, 9 - leaving)  # of two bullets: it is gone before a third can be fired
        crossing = draw.coin(0.4) & (leaving <= 7)  # the newer one comes to the same cell

        def diver(present: Any) -> seaquest.Diver:
            beside = np.clip(x + draw.upto(-1, 1), 0, 9)
            return seaquest.Diver(present, beside, np.clip(y, 1, 8), draw.coin(), draw.upto(0, 5))

        facing: Any = np.where(x == 0, False, np.where(x == 9, True, draw.coin()))
        moving: Any = np.take_along_axis(directions, near, -1)
        shot: Any = np.where(two_bullets, 5, draw.upto(0, 3))
        diving: Any = np.where(two_divers, 30, draw.upto(0, 3))
        return seaquest.State(
            x=x,
            y=y,
            rightward=facing,
            oxygen=draw.among(0, 1, 2, 50, 199, 200),
            crew=draw.among(-2, -1, 0, 0, 1, 4, 5, 5, 6, 6),
            surfaced=draw.coin() & (y == 0),
            bullets=(
                seaquest.Bullet(two_bullets, older, bullet_y, to_right),
                seaquest.Bullet(
                    draw.coin(),
                    np.where(crossing, older + np.where(to_right, 2, -2), draw.upto(0, 9)),
                    np.where(crossing, bullet_y, np.clip(y + draw.upto(-1, 1), 0, 8)),
                    np.where(crossing, ~to_right, draw.coin()),
                ),
            ),
            divers=(diver(two_divers), diver(draw.coin())),
            enemies=seaquest.Enemies(
                present=draw.coin(0.6, 32) & (behind > STRETCH),
                submarine=draw.coin(0.5, 32),
                x=draw.upto(0, 9, 32),
                y=near,
                rightward=moving,
                timer=draw.upto(0, 2, 32),
                shot_timer=draw.upto(0, 10, 32),
                next=first,
            ),
            left_bullets=draw.rows(0.03, 1, 8),
            right_bullets=draw.rows(0.03, 1, 8),
            shot_timer=shot,
            diver_timer=diving,
            enemy_timer=draw.upto(0, 2),
            enemy_interval=draw.among(1, 2, 20),
            enemy_wait=draw.upto(2, 5),
            ramp_index=draw.upto(0, 3),
            last_action=draw.upto(0, 5),
        )


class SpaceInvaders(Adapter):
    """Space Invaders."""

    game = "space_invaders"

    def attributes(self, s: Any) -> dict[str, Any]:
        """The original keeps maps of numbers."""

        def cells(rows: list[int]) -> list[list[int]]:
            return [[int(rows[y]) >> x & 1 for x in range(10)] for y in range(10)]

        return {
            "pos": s.cannon,
            "f_bullet_map": cells(s.bullets),
            "e_bullet_map": cells(s.alien_bullets),
            "alien_map": cells(s.aliens),
            "alien_dir": 1 if s.rightward else -1,
            "enemy_move_interval": s.move_interval,
            "alien_move_timer": s.move_timer,
            "alien_shot_timer": s.alien_shot_timer,
            "ramp_index": s.ramp_index,
            "shot_timer": s.shot_timer,
        }

    def scattered(self, draw: Scatter) -> Any:
        """Crowds of aliens and last few ones, many bullets, short timers."""
        crowd, few = draw.rows(0.4, 0, 9), draw.rows(0.02, 5, 8)
        aliens = np.where(draw.coin()[..., None], crowd, few)
        aliens[..., 4] |= np.where(aliens.any(-1), 0, 1 << 5).astype(np.uint32)
        return space_invaders.State(
            cannon=draw.upto(0, 9),
            aliens=aliens,
            bullets=draw.rows(0.3, 0, 8),
            alien_bullets=draw.rows(0.05),
            rightward=draw.coin(),
            move_interval=draw.upto(6, 12),
            move_timer=draw.upto(0, 3),
            alien_shot_timer=draw.upto(0, 3),
            shot_timer=draw.upto(0, 2),
            ramp_index=draw.upto(0, 6),
            last_action=draw.upto(0, 5),
        )

    def rule(self, state: Any, action: jax.Array) -> jax.Array:
        """Mostly fires."""
        return jnp.where(action < 3, FIRE, action)


class Recorded(NamedTuple):
    """One step of one lane of ours, in Python numbers and lists."""

    state: Any  # before
    anew: bool  # it does not follow from the step before
    action: int
    draws: Any
    step: Any  # what `transition` returned; its observation is a NumPy array
    start_obs: np.ndarray  # what `reset` returned, where `anew`


@functools.cache
def _program(env: Game, adapter: Adapter) -> Callable[..., Any]:
    """Returns the compiled run(…, params, wild) whose result `record` describes."""

    def one(carry: tuple, params: Any, wild: Any, t: jax.Array, xs: tuple) -> tuple[tuple, tuple]:
        (state, ended), (key, random, rule, scattered) = carry, xs
        start_obs, fresh = env.reset(key, params)
        # Scattered lanes go on from terminal states, but in Breakout, where the ball would leave the grid.
        stretch_over = (t % STRETCH == 0) | (ended & isinstance(adapter, Breakout))
        anew = (t == 0) | jnp.where(wild, stretch_over, ended)
        state = jax.tree.map(lambda a, b, c: jnp.where(anew, jnp.where(wild, a, b), c), scattered, fresh, state)
        action = jnp.where(rule & ~wild, adapter.rule(state, random), random)
        draws = env.draw(key, params)
        step = env.transition(state, action, draws, params)
        return (step.state, step.terminated), (state, anew, action, draws, step, start_obs)

    def run(keys: jax.Array, random: Any, rule: Any, scattered: Any, params: Any, wild: Any) -> tuple:
        def body(carry: tuple, xs: tuple) -> tuple[tuple, tuple]:
            t, lanes = xs
            return jax.vmap(one, in_axes=(0, None, None, None, 0))(carry, params, wild, t, lanes)

        first = jax.tree.map(lambda leaf: leaf[0], scattered), jnp.zeros(LANES, bool)
        return jax.lax.scan(body, first, (jnp.arange(len(rule)), (keys, random, rule, scattered)))[1]

    # It runs twice on a handful of numbers: optimisation would cost more than it gives.
    return jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})


def record(
    env: Game, params: Any, adapter: Adapter, samples: int, rng: np.random.Generator, *, wild: bool
) -> list[list[Recorded]]:
    """Runs LANES lanes of ours: whole episodes, or short stretches from scattered states if `wild`.

    Returns a list of lanes, each a list of steps; `samples` steps at least in all.
    """
    shape = -(-samples // LANES), LANES
    scattered = adapter.scattered(Scatter(rng, shape))
    actions = rng.integers(0, 6, shape, dtype=np.int32)
    rule = rng.random(shape) < 0.9
    keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), shape)
    run = _program(env, adapter)
    state, anew, action, draws, step, start_obs = jax.device_get(run(keys, actions, rule, scattered, params, wild))
    lanes = []
    for lane in range(LANES):
        leaves, treedef = jax.tree.flatten((state, anew, action, draws, step._replace(obs=())))
        rows = zip(*(leaf[:, lane].tolist() for leaf in leaves), step.obs[:, lane], start_obs[:, lane], strict=True)
        steps = []
        for *numbers, obs, start in rows:
            before, new, chosen, decided, after = treedef.unflatten(numbers)
            steps.append(Recorded(before, new, chosen, decided, after._replace(obs=obs), start))
        lanes.append(steps)
    return lanes


def _inject(original: Any, attributes: dict[str, Any], last_action: int) -> None:
    """Copies our state into the original."""
    for name, value in attributes.items():
        setattr(original.env, name, np.array(value, float) if name.endswith("_map") else value)
    original.env.terminal = False
    original.last_action = last_action


def _different(original: Any, attributes: dict[str, Any], last_action: int) -> list[str]:
    """The names of the original's attributes that are not what our state says."""
    names = []
    for name, expected in attributes.items():
        value = getattr(original.env, name)
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if name == "e_bullets":  # their order and number in a cell mean nothing
            value = [[x, y, rightward] for rightward, y, x in sorted({(b[2], b[1], b[0]) for b in value})]
        if value != expected:
            names.append(name)
    return names + ["last_action"] * (original.last_action != last_action)


def _uncovered(original: Any, attributes: dict[str, Any]) -> set[str]:
    """Attributes of a new original that are not compared, and the other way round."""
    # Fixed, or compared in another way; an idle timer of Asterix is always 0.
    ignored = {"channels", "action_map", "ramping", "random", "terminal"}
    if original.env_name == "asterix":
        ignored.add("shot_timer")
    return (set(vars(original.env)) - ignored) ^ set(attributes)


def _act(original: Any, adapter: Adapter, now: Recorded) -> list[str]:
    """One step of the original with our decisions; returns the quantities that differ."""
    calls = adapter.calls(now.state, now.step.state.last_action, now.draws)
    script = original.random = original.env.random = Script([chance(now.draws.repeat, 0.1), *calls])
    try:
        reward, terminal = original.act(now.action)
    except Refused:
        return ["random decisions"]
    found = ["random decisions"] if script.calls else []
    found += ["reward"] if reward != now.step.reward else []
    found += ["terminated"] if bool(terminal) != now.step.terminated else []
    found += ["observation"] if (original.state() != now.step.obs).any() else []
    after = now.step.state
    return found + ["state"] * bool(_different(original, adapter.attributes(after), after.last_action))


def _single_steps(original: Any, adapter: Adapter, lanes: list[list[Recorded]]) -> Iterator[Check]:
    """Every recorded step by itself, each from its injected state."""
    counts, samples = Counter(), 0
    for now in (now for lane in lanes for now in lane):
        _inject(original, adapter.attributes(now.state), now.state.last_action)
        counts.update(_act(original, adapter, now))
        samples += 1
    ended = sum(now.step.terminated for lane in lanes for now in lane)
    paid = sum(now.step.reward != 0 for lane in lanes for now in lane)
    notes = {"reward": f"{paid:,} are not 0", "terminated": f"{ended:,} terminate", "state": "every attribute"}
    for quantity in ("random decisions", "reward", "terminated", "observation", "state"):
        yield Check(quantity, "mismatches", counts[quantity], 0, samples, note=notes.get(quantity, ""))


def _whole_episodes(original: Any, adapter: Adapter, lanes: list[list[Recorded]]) -> Iterator[Check]:
    """From its own reset the original does the same on its own."""
    starts = wrong_starts = steps = wrong_steps = ended = 0
    for now in (now for lane in lanes for now in lane):
        if now.anew:
            script = original.random = original.env.random = Script(adapter.start_calls(now.state))
            original.reset()
            original.last_action = 0
            differs = script.calls or _different(original, adapter.attributes(now.state), now.state.last_action)
            starts += 1
            wrong_starts += bool(differs) or bool((original.state() != now.start_obs).any())
        steps += 1
        wrong_steps += bool(_act(original, adapter, now))
        ended += now.step.terminated
    yield Check("whole episodes: starts", "mismatches", wrong_starts, 0, starts, note="state and observation")
    note = f"{ended:,} episodes end; nothing is copied after their starts"
    yield Check("whole episodes: steps", "mismatches", wrong_steps, 0, steps, note=note)


def _spaces(env: Game, original: Any) -> Check:
    """Observation shape, number of actions, and which of them the game uses."""
    wrong = (
        (env.observation_space.shape != tuple(original.state_shape()))
        + (env.action_space.n != original.num_actions())
        + (list(env.used_actions) != list(original.minimal_action_set()))
    )
    return Check("spaces", "mismatches", int(wrong), 0, 3, note="observation, actions, minimal set of actions")


def _play(original: Any, rng: np.random.Generator) -> Play:
    """Whole episodes of the original with its own random numbers."""
    original.seed(int(rng.integers(2**31)))

    def play(actions: Iterator[Any]) -> tuple[float, int]:
        original.reset()
        total, length, terminal = 0.0, 0, False
        while not terminal:
            reward, terminal = original.act(next(actions))
            total, length = total + float(reward), length + 1
        return total, length

    return play


def replayed(env: Any, params: Any, adapter: Adapter, samples: int, rng: np.random.Generator) -> list[Check]:
    """Compares `samples` single steps from scattered states, half as many steps of whole episodes, and the spaces."""
    original = _new(env, adapter)
    scattered = record(env, params, adapter, samples, rng, wild=True)
    uncovered = _uncovered(original, adapter.attributes(scattered[0][0].state))
    note = "left out, or unknown to the original"
    return [
        Check("attributes", "mismatches", len(uncovered), 0, len(vars(original.env)), note=note),
        *_single_steps(original, adapter, scattered),
        *_whole_episodes(original, adapter, record(env, params, adapter, samples, rng, wild=False)[::2]),
        _spaces(env, original),
    ]


def _new(env: Any, adapter: Adapter) -> Any:
    """The original with the defaults of its own, and our option."""
    return load("minatar", "test").Environment(adapter.game, difficulty_ramping=getattr(env, "ramping", True))


def reference(adapter: Adapter, samples_per_episode: int) -> Reference:
    """Makes the comparing function of a game.

    Args:
        samples_per_episode: samples for each whole random episode of the original (its cost in time decides).
    """

    def compare(env: Env, params: Any, samples: int, episodes: int | None, rng: np.random.Generator) -> list[Check]:
        episodes = episodes or max(1, samples // samples_per_episode)
        checks = replayed(env, params, adapter, samples, rng)
        checks += random_policy(env, params, _play(_new(env, adapter), rng), episodes, rng)
        if isinstance(adapter, Freeway):
            checks += random_policy(env, params, _play(_new(env, adapter), rng), episodes, rng, "upward policy", UPWARD)
        return checks

    return compare


compare_asterix = reference(Asterix(), 2)
compare_breakout = reference(Breakout(), 2)
compare_freeway = reference(Freeway(), 60)
compare_seaquest = reference(Seaquest(), 4)
compare_space_invaders = reference(SpaceInvaders(), 6)
