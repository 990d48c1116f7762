"""Options, random decisions, bounds and pictures of the MinAtar games; the rules themselves are in test_parity.py."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from envs import InputError, spaces
from envs.minatar import asterix, freeway, seaquest
from envs.minatar.game import DOWN, FIRE, LEFT, NONE, RIGHT, UP

CHANNELS = {"Asterix": 4, "Breakout": 4, "Freeway": 7, "Seaquest": 10, "SpaceInvaders": 6}
USED = {
    "Asterix": (NONE, LEFT, UP, RIGHT, DOWN),
    "Breakout": (NONE, LEFT, RIGHT),
    "Freeway": (NONE, UP, DOWN),
    "Seaquest": (NONE, LEFT, UP, RIGHT, DOWN, FIRE),
    "SpaceInvaders": (NONE, LEFT, RIGHT, FIRE),
}
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.mark.parametrize("game", CHANNELS)
def test_spaces_and_options(game):
    env, params = envs.make(f"{game}-MinAtar")
    assert env.observation_space == spaces.Box(0, 1, (10, 10, CHANNELS[game]), np.bool_)
    assert env.action_space == spaces.Discrete(6)
    assert env.max_steps is None
    assert float(params.sticky_prob) == pytest.approx(0.1)
    minimal, _ = envs.make(f"{game}-MinAtar", minimal_actions=True)
    assert minimal.action_space == spaces.Discrete(len(USED[game]))
    executed = [int(minimal.executed(jnp.int32(i), jnp.bool_(False), jnp.int32(0))) for i in range(len(USED[game]))]
    assert tuple(executed) == USED[game]
    with pytest.raises(InputError, match="sticky_prob"):
        envs.make(f"{game}-MinAtar", sticky=0.1)


@pytest.mark.parametrize("game", CHANNELS)
def test_minimal_actions_are_those_of_the_original(game):
    with warnings.catch_warnings():  # its plotting libraries may warn on import
        warnings.simplefilter("ignore")
        original = pytest.importorskip("minatar").Environment(game.lower().replace("spacei", "space_i"))
    assert tuple(original.minimal_action_set()) == USED[game]


def test_sticky_action_executes_the_last_one():
    env, params = envs.make("Breakout-MinAtar", sticky_prob=1.0)
    _, state = env.reset(jax.random.key(0), params)
    state = state._replace(last_action=jnp.int32(LEFT))
    step = jit(env.step)
    after = step(jax.random.key(1), state, RIGHT, params).state
    assert (int(after.paddle), int(after.last_action)) == (3, LEFT)
    after = step(jax.random.key(1), state, RIGHT, params._replace(sticky_prob=np.float32(0))).state
    assert (int(after.paddle), int(after.last_action)) == (5, RIGHT)


def drawn(game, count, **options):
    env, params = envs.make(f"{game}-MinAtar", **options)
    keys = jax.random.split(jax.random.key(4), count)
    return jax.device_get(jit(jax.vmap(env.draw, in_axes=(0, None)))(keys, params))


def uniform(values, options):
    """The p-value that whole numbers are uniform on `options`."""
    counts = np.array([np.sum(values == option) for option in options])
    assert counts.sum() == np.size(values)
    return stats.chisquare(counts).pvalue


def test_draws_have_the_right_distributions():
    count = 40_000
    d = drawn("Asterix", count)
    assert stats.binomtest(int(d.repeat.sum()), count, 0.1).pvalue > 0.01
    assert stats.binomtest(int(d.rightward.sum()), count, 0.5).pvalue > 0.01
    assert stats.binomtest(int(d.gold.sum()), count, 1 / 3).pvalue > 0.01
    for free in range(2, 9):
        assert uniform(d.place * free // 840, range(free)) > 0.01
    combined = d.repeat * 4 + d.rightward * 2 + d.gold
    expected = count * np.kron(np.kron([0.9, 0.1], [0.5, 0.5]), [2 / 3, 1 / 3])  # independent
    assert stats.chisquare(np.bincount(combined, minlength=8), expected).pvalue > 0.01

    d = drawn("Freeway", count)
    assert (d.period[:, [0, 9]] == 0).all()
    values = [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]
    for row in range(1, 9):
        assert uniform(d.period[:, row], values) > 1e-3
        pairs = 100 * d.period[:, row] + d.period[:, row % 8 + 1]
        assert uniform(pairs, [100 * a + b for a in values for b in values]) > 1e-3

    d = drawn("Seaquest", count)
    joint = (d.enemy_row - 1) + 8 * (d.diver_row - 1) + 64 * d.enemy_rightward + 128 * d.diver_rightward
    assert uniform(joint, range(256)) > 0.01
    assert stats.binomtest(int(d.enemy_submarine.sum()), count, 1 / 3).pvalue > 0.01


def test_starts_are_random_where_the_original_s_are():
    env, params = envs.make("Breakout-MinAtar")
    keys = jax.random.split(jax.random.key(2), 4000)
    _, state = jit(jax.vmap(env.reset, in_axes=(0, None)))(keys, params)
    assert set(zip(state.x.tolist(), state.dx.tolist(), strict=True)) == {(0, 1), (9, -1)}
    assert stats.binomtest(int((state.x == 0).sum()), 4000, 0.5).pvalue > 0.01
    env, params = envs.make("Freeway-MinAtar")
    _, state = jit(jax.vmap(env.reset, in_axes=(0, None)))(keys, params)
    assert uniform(np.asarray(state.period[:, 3]), [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]) > 0.01


def test_slots_hold_all_enemies_there_can_be():
    """The densest stream, one enemy each step at the end of the ramp, fills 30 of the 32 slots and overwrites none."""
    env, params = envs.make("Seaquest-MinAtar", sticky_prob=0.0)
    _, state = env.reset(jax.random.key(0), params)
    state = state._replace(
        enemy_interval=jnp.int32(1), enemy_timer=jnp.int32(0), enemy_wait=jnp.int32(2), diver_timer=jnp.int32(10**6)
    )
    no, yes = jnp.bool_(False), jnp.bool_(True)
    draws = seaquest.Draws(no, yes, no, jnp.int32(5), yes, jnp.int32(5))

    def body(state, _):
        new = env.transition(state, NONE, draws, params).state
        overwritten = state.enemies.present[state.enemies.next]
        return new, (new.enemies.present.sum(), overwritten)

    _, (count, overwritten) = jit(lambda s: jax.lax.scan(body, s, length=100))(state)
    assert int(count[-1]) == 29  # after the step in which the 30th has left
    assert int(count.max()) <= 30
    assert not overwritten.any()


def test_difficulty_rises_or_stays():
    for ramping, expected in ((True, (1, 1)), (False, (10, 5))):
        env, params = envs.make("Asterix-MinAtar", ramping=ramping)
        _, state = env.reset(jax.random.key(0), params)
        draws = asterix.Draws(jnp.bool_(False), jnp.bool_(True), jnp.bool_(True), jnp.uint32(0))

        def body(state, _, env=env, params=params, draws=draws):
            return env.transition(state, NONE, draws, params).state, None

        state, _ = jit(lambda s, body=body: jax.lax.scan(body, s, length=1200))(state)
        assert (int(state.spawn_interval), int(state.move_interval)) == expected


def test_intervals_are_parameters():
    env, params = envs.make("Freeway-MinAtar", countdown=2, move_interval=1)
    _, state = env.reset(jax.random.key(0), params)
    draws = freeway.Draws(jnp.bool_(False), state.period)
    ended = []
    for _ in range(3):
        step = env.transition(state, jnp.int32(UP), draws, params)
        state = step.state
        ended.append(bool(step.terminated))
    assert ended == [False, False, True]


@pytest.mark.parametrize("game", CHANNELS)
def test_every_channel_shows_in_the_picture(game):
    """Setting one more cell of any channel changes the picture in that cell and nowhere else."""
    env, params = envs.make(f"{game}-MinAtar")

    class Painted(type(env)):
        def observe(self, state, params):
            return state

    painted = Painted()
    empty = np.zeros((10, 10, CHANNELS[game]), bool)
    background = painted.render(empty, params)
    assert background.shape == (400, 400, 3)
    pictures = []
    for channel in range(CHANNELS[game]):
        cells = empty.copy()
        cells[2, 7, channel] = True
        changed = (painted.render(cells, params) != background).any(-1)
        assert changed[80:120, 280:320].any()
        assert changed.sum() == changed[80:120, 280:320].sum()
        pictures.append(painted.render(cells, params).tobytes())
    assert len(set(pictures)) == CHANNELS[game]
