"""Our five games against the original package, with its random draws replayed: everything equal, exactly.

A run of ours is recorded: states, random decisions, results. Then each state is copied into the original's attributes,
its random generator is replaced by one that answers with our decisions (and fails when it is asked anything else, or
less), `act` is called, and reward, terminal flag, observation and every attribute are compared.
"""

import functools
import warnings
from collections import deque
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.minatar import asterix, breakout, freeway, seaquest, space_invaders
from envs.minatar.game import DOWN, FIRE, LEFT, NONE, RIGHT, UP

with warnings.catch_warnings():  # its plotting libraries may warn on import
    warnings.simplefilter("ignore")
    Environment = pytest.importorskip("minatar").Environment

LANES, STEPS, STRETCH = 8, 400, 4  # a run; how often it starts anew from a scattered state


class Script:
    """Stands in for numpy's RandomState: answers the calls that are expected, in their order."""

    def __init__(self, calls):
        self.calls = deque(calls)

    def rand(self, *shape):
        return self.answer("rand", shape)

    def randint(self, *args, **kwargs):
        return self.answer("randint", (*args, *kwargs.values()))

    def answer(self, name, args):
        expected, arguments, value = self.calls.popleft()
        assert (name, args) == (expected, arguments)
        return value


def chance(happens, p=0.5):
    """The call that decides an event of probability `p` by `rand() < p`."""
    return "rand", (), p / 2 if happens else (1 + p) / 2


class Asterix(NamedTuple):
    """How our state and decisions look in the original."""

    name: str = "asterix"
    ramps: bool = True

    @staticmethod
    def attributes(s):
        entities = [
            [int(s.x[y]), y, bool(s.rightward[y]), bool(s.gold[y])] if s.present[y] else None for y in range(1, 9)
        ]
        assert not s.present[0]
        assert not s.present[9]
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

    @staticmethod
    def start_calls(s):
        return []

    @staticmethod
    def calls(s, action, d):
        if s.spawn_timer != 0:
            return []
        free = 8 - sum(s.present)
        decided = [chance(d.rightward), chance(d.gold, 1 / 3)]
        return decided + ([("randint", (free,), int(d.place) * free // 840)] if free else [])


class Breakout(NamedTuple):
    name: str = "breakout"
    ramps: bool = False

    @staticmethod
    def attributes(s):
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

    @staticmethod
    def calls(s, action, d):
        return []

    @staticmethod
    def start_calls(s):
        return [("randint", (2,), s.x // 9)]


class Freeway(NamedTuple):
    name: str = "freeway"
    ramps: bool = False

    @staticmethod
    def attributes(s):
        cars = [[int(s.x[y]), y, int(s.timer[y]), int(s.period[y])] for y in range(1, 9)]
        return {
            "cars": cars,
            "pos": s.row,
            "move_timer": s.move_timer,
            "terminate_timer": s.countdown,
        }

    @staticmethod
    def calls(s, action, d):
        arrives = s.row == 1 and s.move_timer == 0 and action == UP
        return Freeway.speeds(d.period) if arrives else []

    @staticmethod
    def speeds(period):
        period = np.array(period[1:9])
        return [("randint", (1, 6, 8), np.abs(period)), ("rand", (8,), np.where(period > 0, 0.75, 0.25))]

    @staticmethod
    def start_calls(s):
        return Freeway.speeds(s.period)


class Seaquest(NamedTuple):
    name: str = "seaquest"
    ramps: bool = True

    @staticmethod
    def attributes(s):
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

    @staticmethod
    def start_calls(s):
        return []

    @staticmethod
    def calls(s, action, d):
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


class SpaceInvaders(NamedTuple):
    name: str = "space_invaders"
    ramps: bool = True

    @staticmethod
    def attributes(s):
        def cells(rows):
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

    @staticmethod
    def start_calls(s):
        return []

    @staticmethod
    def calls(s, action, d):
        return []


def scattered(name, rng, *shape):
    """States of the game [*shape, ...], most of them far from its start and full of what meets or just misses.

    They keep what the rules guarantee: nothing outside the grid, room for whatever can enter in STRETCH steps.
    """

    def among(*values):
        return rng.choice(np.array(values, np.int32), shape)

    def upto(low, high, *more):
        return rng.integers(low, high, (*shape, *more), dtype=np.int32, endpoint=True)

    def coin(p=0.5, *more):
        return rng.random((*shape, *more)) < p

    def rows(p, lowest=0, highest=9):
        cells = coin(p, 10, 10) & (np.arange(10) >= lowest)[:, None] & (np.arange(10) <= highest)[:, None]
        return (cells << np.arange(10)).sum(-1).astype(np.uint32)

    last_action = upto(0, 5)
    if name == "Asterix-MinAtar":
        lanes = (np.arange(10) >= 1) & (np.arange(10) <= 8)
        return asterix.State(
            player_x=upto(0, 9),
            player_y=upto(1, 8),
            present=coin(0.8, 10) & lanes,
            x=upto(0, 9, 10),
            rightward=coin(0.5, 10),
            gold=coin(0.5, 10),
            spawn_timer=upto(0, 2),
            spawn_interval=upto(1, 10),
            move_timer=upto(0, 2),
            move_interval=upto(1, 5),
            ramp_timer=upto(-1, 3),
            ramp_index=upto(0, 9),
            last_action=last_action,
        )
    if name == "Breakout-MinAtar":
        x, y = upto(0, 9), among(0, 1, 2, 3, 4, 5, 7, 8, 8, 8)
        bricks = (coin(0.7, 30) << np.arange(30)).sum(-1).astype(np.uint32)
        return breakout.State(
            paddle=np.clip(x + upto(-2, 2), 0, 9),
            x=x,
            y=y,
            dx=among(-1, 1),
            dy=among(-1, 1),
            last_x=upto(0, 9),
            last_y=upto(0, 9),
            bricks=np.where(coin(0.3), np.uint32(0), bricks),
            struck=coin(),
            last_action=last_action,
        )
    if name == "Freeway-MinAtar":
        lanes = (np.arange(10) >= 1) & (np.arange(10) <= 8)
        period = upto(1, 5, 10) * np.where(coin(0.5, 10), 1, -1)
        return freeway.State(
            row=among(1, 1, 2, 3, 4, 5, 6, 7, 8, 9),
            x=np.where(coin(0.5, 10), upto(3, 5, 10), upto(0, 9, 10)),
            period=(period * lanes).astype(np.int32),
            timer=upto(0, 2, 10),
            move_timer=upto(0, 1),
            countdown=among(0, 1, 2, 2500),
            last_action=last_action,
        )
    if name == "SpaceInvaders-MinAtar":
        crowd, few = rows(0.4, 0, 9), rows(0.02, 5, 8)
        aliens = np.where(coin()[..., None], crowd, few)
        aliens[..., 4] |= np.where(aliens.any(-1), 0, 1 << 5).astype(np.uint32)
        return space_invaders.State(
            cannon=upto(0, 9),
            aliens=aliens,
            bullets=rows(0.3, 0, 8),
            alien_bullets=rows(0.05),
            rightward=coin(),
            move_interval=upto(6, 12),
            move_timer=upto(0, 3),
            alien_shot_timer=upto(0, 3),
            shot_timer=upto(0, 2),
            ramp_index=upto(0, 6),
            last_action=last_action,
        )
    x, y = upto(0, 9), among(0, 0, 1, 2, 3, 4, 5, 6, 7, 8)
    near = np.clip(y[..., None] + upto(-1, 1, 32), 1, 8)  # the enemies' rows
    first = upto(0, 31)  # the slot of the next enemy, and empty ones behind it
    behind = (np.arange(32) - first[..., None]) % 32
    directions = coin(0.5, 10)  # one for each row
    two_bullets, two_divers = coin(), coin()
    to_right, leaving, bullet_y = coin(), upto(5, 9), np.clip(y + upto(-1, 1), 1, 8)
    older = np.where(to_right, leaving, 9 - leaving)  # of two bullets: it is gone before a third can be fired
    crossing = coin(0.4) & (leaving <= 7)  # the newer one comes to the same cell
    return seaquest.State(
        x=x,
        y=y,
        rightward=np.where(x == 0, False, np.where(x == 9, True, coin())),
        oxygen=among(0, 1, 2, 50, 199, 200),
        crew=among(-2, -1, 0, 0, 1, 4, 5, 5, 6, 6),
        surfaced=coin() & (y == 0),
        bullets=(
            seaquest.Bullet(two_bullets, older, bullet_y, to_right),
            seaquest.Bullet(
                coin(),
                np.where(crossing, older + np.where(to_right, 2, -2), upto(0, 9)),
                np.where(crossing, bullet_y, np.clip(y + upto(-1, 1), 0, 8)),
                np.where(crossing, ~to_right, coin()),
            ),
        ),
        divers=(
            seaquest.Diver(two_divers, np.clip(x + upto(-1, 1), 0, 9), np.clip(y, 1, 8), coin(), upto(0, 5)),
            seaquest.Diver(coin(), np.clip(x + upto(-1, 1), 0, 9), np.clip(y, 1, 8), coin(), upto(0, 5)),
        ),
        enemies=seaquest.Enemies(
            present=coin(0.6, 32) & (behind > STRETCH),
            submarine=coin(0.5, 32),
            x=upto(0, 9, 32),
            y=near,
            rightward=np.take_along_axis(directions, near, -1),
            timer=upto(0, 2, 32),
            shot_timer=upto(0, 10, 32),
            next=first,
        ),
        left_bullets=rows(0.03, 1, 8),
        right_bullets=rows(0.03, 1, 8),
        shot_timer=np.where(two_bullets, 5, upto(0, 3)),
        diver_timer=np.where(two_divers, 30, upto(0, 3)),
        enemy_timer=upto(0, 2),
        enemy_interval=among(1, 2, 20),
        enemy_wait=upto(2, 5),
        ramp_index=upto(0, 3),
        last_action=last_action,
    )


def clever(name, state, action):
    """A policy that lives longer or does more than a random one: the random `action`, or a rule's."""
    if name == "Breakout-MinAtar":
        target = state.x + state.dx * (state.dy > 0)
        return jnp.where(state.paddle < target, RIGHT, jnp.where(state.paddle > target, LEFT, NONE))
    if name == "Freeway-MinAtar":
        return jnp.where(action == LEFT, DOWN, UP)
    if name == "SpaceInvaders-MinAtar":
        return jnp.where(action < 3, FIRE, action)
    return action


@functools.cache
def program(name, **options):
    """Returns the compiled run(…, wild) whose result `record` describes."""
    env, params = envs.make(name, **options)

    def one(carry, key, random, rule, wild_state, t, wild):
        state, ended = carry
        _, fresh = env.reset(key, params)
        # In a wild run the game goes on from terminal states, but in Breakout, where the ball would leave the grid.
        anew = (t == 0) | jnp.where(wild, (t % STRETCH == 0) | (ended & (name == "Breakout-MinAtar")), ended)
        state = jax.tree.map(lambda a, b, c: jnp.where(anew, jnp.where(wild, a, b), c), wild_state, fresh, state)
        action = jnp.where(rule & ~wild, clever(name, state, random), random)
        draws = env.draw(key, params)
        step = env.transition(state, action, draws, params)
        return (step.state, step.terminated), (state, anew, action, draws, step)

    def run(keys, random, rule, wild_states, wild):
        def body(carry, xs):
            return jax.vmap(one, in_axes=(0, 0, 0, 0, 0, None, None))(carry, *xs, wild)

        first = jax.tree.map(lambda leaf: leaf[0], wild_states), jnp.zeros(LANES, bool)
        return jax.lax.scan(body, first, (keys, random, rule, wild_states, jnp.arange(STEPS)))[1]

    # It runs a few times on a handful of numbers: optimisation would cost more than it gives.
    return jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})


class Record(NamedTuple):
    """One step of one lane, in Python numbers and lists."""

    state: Any  # before
    anew: bool  # it does not follow from the step before
    action: int
    draws: Any
    step: Any  # what `transition` returned, without the observation
    obs: np.ndarray


def record(name, wild, seed=11, **options):
    """Runs LANES lanes of ours for STEPS steps: whole episodes, or short stretches from scattered states if `wild`.

    Returns a list of lanes, each a list of Records.
    """
    rng = np.random.default_rng(seed)
    states = scattered(name, rng, STEPS, LANES)
    actions = rng.integers(0, 6, (STEPS, LANES), dtype=np.int32)
    rule = rng.random((STEPS, LANES)) < 0.9
    keys = jax.random.split(jax.random.key(seed), (STEPS, LANES))
    run = program(name, **options)
    state, anew, action, draws, step = jax.device_get(run(keys, actions, rule, states, wild))
    lanes = []
    for lane in range(LANES):
        tree = (state, anew, action, draws, step._replace(obs=()))
        leaves, treedef = jax.tree.flatten(tree)
        rows = zip(*(leaf[:, lane].tolist() for leaf in leaves), strict=True)
        lanes.append([Record(*treedef.unflatten(row), obs) for row, obs in zip(rows, step.obs[:, lane], strict=True)])
    return lanes


def original_of(adapter, ramping):
    return Environment(adapter.name, difficulty_ramping=ramping)


def inject(original, adapter, state):
    """Copies our state into the original."""
    for name, value in adapter.attributes(state).items():
        assert hasattr(original.env, name)
        setattr(original.env, name, np.array(value, float) if name.endswith("_map") else value)
    original.env.terminal = False
    original.last_action = int(state.last_action)


def assert_same(original, adapter, state):
    """Every attribute of the original is what our state says."""
    expected = adapter.attributes(state)
    actual = {name: getattr(original.env, name) for name in expected}
    for name, value in actual.items():
        if isinstance(value, np.ndarray):
            actual[name] = value.tolist()
    if "e_bullets" in actual:  # their order and number in a cell mean nothing
        actual["e_bullets"] = [list(cell) for cell in sorted({(b[2], b[1], b[0]) for b in actual["e_bullets"]})]
        actual["e_bullets"] = [[x, y, rightward] for rightward, y, x in actual["e_bullets"]]
    unknown = set(vars(original.env)) - set(actual)
    assert unknown <= {"channels", "action_map", "ramping", "random", "terminal", "shot_timer"}
    assert actual == expected
    assert original.last_action == int(state.last_action)


def act(original, adapter, now):
    """One step of the original with our decisions; returns (reward, terminal)."""
    calls = adapter.calls(now.state, now.step.state.last_action, now.draws)
    script = Script([chance(now.draws.repeat, 0.1), *calls])
    original.random = original.env.random = script
    result = original.act(now.action)
    assert not script.calls, "the original drew less"
    return result


CASES = [
    ("Asterix-MinAtar", Asterix(), True),
    ("Breakout-MinAtar", Breakout(), True),
    ("Freeway-MinAtar", Freeway(), True),
    ("Seaquest-MinAtar", Seaquest(), True),
    ("SpaceInvaders-MinAtar", SpaceInvaders(), True),
    ("Asterix-MinAtar", Asterix(), False),
    ("Seaquest-MinAtar", Seaquest(), False),
    ("SpaceInvaders-MinAtar", SpaceInvaders(), False),
]
IDS = [f"{name}{'' if ramping else '-constant'}" for name, _, ramping in CASES]


@pytest.mark.parametrize(("name", "adapter", "ramping"), CASES, ids=IDS)
def test_every_step_from_injected_states(name, adapter, ramping):
    """LANES × STEPS single steps: reward, terminal flag, observation and every attribute afterwards."""
    original = original_of(adapter, ramping)
    options = {"ramping": ramping} if adapter.ramps else {}
    for lane in record(name, True, **options):
        for t, now in enumerate(lane):
            inject(original, adapter, now.state)
            assert act(original, adapter, now) == (now.step.reward, now.step.terminated), t
            assert (original.state() == now.obs).all()
            assert_same(original, adapter, now.step.state)


@pytest.mark.parametrize(("name", "adapter", "ramping"), CASES, ids=IDS)
def test_whole_episodes(name, adapter, ramping):
    """From its own reset to the end the original does the same on its own, with nothing copied in between."""
    original = original_of(adapter, ramping)
    options = {"ramping": ramping} if adapter.ramps else {}
    episodes = 0
    for lane in record(name, False, seed=12, **options)[::2]:
        for t, now in enumerate(lane):
            if now.anew:
                script = Script(adapter.start_calls(now.state))
                original.random = original.env.random = script
                original.reset()
                assert not script.calls
                original.last_action = 0
                assert_same(original, adapter, now.state)
            assert act(original, adapter, now) == (now.step.reward, now.step.terminated), t
            assert (original.state() == now.obs).all()
            if now.step.terminated:
                episodes += 1
                assert_same(original, adapter, now.step.state)
        assert_same(original, adapter, lane[-1].step.state)
    assert episodes > 3 or name == "Freeway-MinAtar"


def test_end_of_freeway():
    """The countdown lets 2501 steps pass in both."""
    env, params = envs.make("Freeway-MinAtar")
    original = original_of(Freeway(), True)
    for _ in range(2500):
        assert not original.act(NONE)[1]
    assert original.act(NONE)[1]

    @jax.jit
    def run(key):
        def body(state, key):
            step = env.step(key, state, NONE, params)
            return step.state, step.terminated

        return jax.lax.scan(body, env.reset(key, params)[1], jax.random.split(key, 2502))[1]

    assert np.flatnonzero(run(jax.random.key(0)))[0] == 2500


@pytest.mark.parametrize(("name", "adapter", "ramping"), CASES[:5], ids=IDS[:5])
def test_first_observation(name, adapter, ramping):
    env, params = envs.make(name)
    obs, state = jax.device_get(jax.jit(jax.vmap(env.reset, (0, None)))(jax.random.split(jax.random.key(0), 4), params))
    original = original_of(adapter, ramping)
    for i in range(4):
        inject(original, adapter, jax.tree.map(lambda leaf, i=i: leaf[i], state))
        np.testing.assert_array_equal(original.state(), obs[i])
