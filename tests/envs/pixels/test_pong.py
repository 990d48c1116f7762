"""Pong on pixels: its physics frame by frame, its score, its picture, its opponent, two players."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import spaces
from envs.pixels import pong
from envs.pixels.pong import DOWN, STAY, UP, Pong

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
FRAME = Pong(pixels=False, frame_skip=1)


def toward(target, y):
    """The action that brings a paddle nearer to `target` in a step of 12 pixels, or none if it is near."""
    return jnp.where(target - y < -6, UP, jnp.where(target - y > 6, DOWN, STAY))


def tracking(key, state):
    """Waits in the middle, then goes where the ball will arrive, by mirroring its path at the walls."""
    del key
    high, low = pong.HIGHEST, pong.LOWEST
    path = state.y + state.vy * (pong.RIGHT_FACE - state.x) / jnp.maximum(state.vx, 0.1) - high
    path = jnp.mod(path, 2 * (low - high))
    arrival = high + jnp.minimum(path, 2 * (low - high) - path)
    return toward(jnp.where((state.vx > 0) & (state.wait == 0), arrival, pong.MIDDLE), state.right)


def lazy(key, state):
    """Follows the ball every third frame or so, so that both sides score."""
    return jnp.where(jax.random.bernoulli(key, 0.35), toward(state.y, state.right), STAY)


def randomly(key, state):
    del state
    return jax.random.randint(key, (), 0, 3)


@pytest.fixture(scope="module")
def frames(record):
    """Single frames of a game in which both sides score."""
    return record(FRAME, lazy, 24, 2_500, serve_delay=10, opponent_speed=1.5, hit_speed=0.5)


def test_the_ball_stays_in_the_field_and_is_mirrored_at_the_walls(frames):
    _, s, reward, _ = frames
    assert np.all((s.y >= pong.HIGHEST) & (s.y <= pong.LOWEST))
    assert np.all((s.x >= 0) & (s.x <= 160))
    assert np.all((s.left >= pong.TOP + 8) & (s.left <= pong.BOTTOM - 8))
    assert np.all((s.right >= pong.TOP + 8) & (s.right <= pong.BOTTOM - 8))

    flies = (s.wait[:-1] == 0) & (reward == 0) & (s.hits[1:] == s.hits[:-1])
    turned = flies & (s.vy[1:] != s.vy[:-1])
    assert turned.sum() > 100
    np.testing.assert_array_equal(s.vx[1:][flies], s.vx[:-1][flies])
    np.testing.assert_array_equal(s.vy[1:][turned], -s.vy[:-1][turned])
    np.testing.assert_allclose((s.x[1:] - s.x[:-1])[flies], s.vx[:-1][flies], atol=1e-4)
    straight = flies & ~turned
    np.testing.assert_allclose((s.y[1:] - s.y[:-1])[straight], s.vy[:-1][straight], atol=1e-4)
    # The way to the wall and back adds up to the way of one frame.
    wall = np.where(s.vy[:-1] < 0, pong.HIGHEST, pong.LOWEST)
    travelled = np.abs(wall - s.y[:-1]) + np.abs(s.y[1:] - wall)
    np.testing.assert_allclose(travelled[turned], np.abs(s.vy[:-1][turned]), atol=1e-4)


def test_the_place_of_a_hit_sets_the_angle_and_hits_set_the_speed(frames):
    _, s, _, _ = frames
    hit = s.hits[1:] > s.hits[:-1]
    on_right = hit & (s.vx[:-1] > 0)
    on_left = hit & (s.vx[:-1] < 0)
    assert on_right.sum() > 100
    assert on_left.sum() > 100
    for mask, paddle, sign in ((on_right, s.right, -1), (on_left, s.left, 1)):
        offset = (s.y[1:] - paddle[1:])[mask] / 10
        assert np.abs(offset).max() <= 1
        assert np.ptp(offset) > 1  # edges and middle both occur
        speed = np.minimum(1.5 + 0.5 * s.hits[1:][mask], 4)
        np.testing.assert_allclose(s.vx[1:][mask], sign * speed * np.cos(np.pi / 3 * offset), rtol=1e-4)
        np.testing.assert_allclose(s.vy[1:][mask], speed * np.sin(np.pi / 3 * offset), atol=1e-4)
    assert s.hits.max() > 5  # so the limit of the speed was reached
    # A ball that crosses the face of a paddle is met exactly if the paddle reaches it.
    crosses = (s.x[:-1] < pong.RIGHT_FACE) & (s.vx[:-1] > 0) & (s.x[:-1] + s.vx[:-1] >= pong.RIGHT_FACE)
    crosses &= s.wait[:-1] == 0
    reached = np.abs(s.y[1:] - s.right[1:]) <= 10
    np.testing.assert_array_equal(crosses & reached, on_right)
    assert (crosses & ~reached).sum() > 20


def test_points_rewards_and_serves(frames):
    params, s, reward, terminated = frames
    right, left = np.diff(s.right_points, axis=0), np.diff(s.left_points, axis=0)
    np.testing.assert_array_equal(reward, right - left)
    assert set(np.unique(reward)) == {-1, 0, 1}
    np.testing.assert_array_equal(terminated, np.maximum(s.right_points, s.left_points)[1:] >= 21)
    # A point is made where the ball leaves the field, and the loser is served to, after the wait.
    ball = s.x[:-1] + np.where(s.wait[:-1] == 0, s.vx[:-1], 0)
    np.testing.assert_array_equal(left == 1, ball > 160)
    np.testing.assert_array_equal(right == 1, ball < 0)
    for scored, sign in ((left == 1, 1), (right == 1, -1)):
        after = jax.tree.map(lambda leaf, scored=scored: leaf[1:][scored], s)
        np.testing.assert_array_equal(np.sign(after.vx), sign)
        np.testing.assert_allclose(np.abs(after.vx), 1.5 / np.sqrt(2), rtol=1e-5)
        np.testing.assert_allclose(np.abs(after.vy), 1.5 / np.sqrt(2), rtol=1e-5)
        np.testing.assert_array_equal(after.wait, params.serve_delay)
        np.testing.assert_array_equal(after.x, 80)
        assert 0.3 < (after.vy > 0).mean() < 0.7
        assert np.ptp(after.y) > 60
    waits = s.wait[:-1] > 0
    np.testing.assert_array_equal(s.x[1:][waits], s.x[:-1][waits])
    np.testing.assert_array_equal(s.wait[1:][waits], s.wait[:-1][waits] - 1)


def first_game(reward, terminated):
    """Returns and lengths of each lane's first game; a lane that did not finish has length 0."""
    length = np.where(terminated.any(0), terminated.argmax(0) + 1, 0)
    inside = np.arange(len(reward))[:, None] < length
    return (reward * inside).sum(0), length


def test_random_play_loses_as_on_atari(record):
    _, s, reward, terminated = record(Pong(pixels=False), randomly, 64, 1_300)
    returns, length = first_game(reward, terminated)
    assert (length > 0).all()
    assert -21 <= returns.mean() <= -20.2  # -20.65 ± 0.01 over 9,600 points; Mnih et al. (2015) report -20.7 on Atari
    assert (s.left_points.max(0) >= 21).all()
    assert 750 < length.mean() < 1_000  # ale-py 0.12.1: 951 over six games


def test_a_player_that_foresees_the_ball_wins_and_loses_no_point(record):
    _, _, reward, terminated = record(Pong(pixels=False), tracking, 32, 4_500)
    returns, length = first_game(reward, terminated)
    assert (length > 0).mean() > 0.9
    assert (returns[length > 0] >= 20).all()


@pytest.mark.parametrize(("harder", "easier"), [({}, {"opponent_speed": 1.0}), ({"opponent_error": 0.0}, {})])
def test_difficulty(record, harder, easier):
    """The same player scores more often against a slower or a less exact opponent."""
    points = [record(Pong(pixels=False), tracking, 24, 700, **params)[2].sum() for params in (harder, easier)]
    assert points[1] > 1.3 * points[0]


def test_two_players(frames):
    """The game seen from the other side is the same game with the actions exchanged and the reward negated."""
    params, s, reward, _ = frames
    env = Pong(pixels=False)
    rng = np.random.default_rng(0)
    lanes = rng.integers(0, s.x.shape[1], 400)
    times = rng.integers(0, s.x.shape[0], 400)
    # Some of the frames just before a point, so that points are made.
    scoring = np.argwhere(reward != 0)[:100]
    times[:100], lanes[:100] = scoring[:, 0], scoring[:, 1]
    states = jax.tree.map(lambda leaf: leaf[times, lanes], s)
    mine, other = rng.integers(0, 3, (2, 400))
    key = jax.random.key(1)
    play = jit(jax.vmap(env.versus, in_axes=(None, 0, 0, 0, None)))
    out = play(key, states, mine, other, params)
    back = play(key, pong.mirrored(states), other, mine, params)
    assert (np.asarray(out.reward) != 0).sum() >= 100
    np.testing.assert_array_equal(out.reward, -back.reward)
    np.testing.assert_array_equal(out.terminated, back.terminated)
    for name, a, b in zip(pong.State._fields, out.state, pong.mirrored(back.state), strict=True):
        if name != "aim":  # the scripted opponent's, which has one side
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)
    # An opponent that stays is the scripted one with no speed.
    still = jit(jax.vmap(env.step, in_axes=(None, 0, 0, None)))(
        key, states, mine, params._replace(opponent_speed=np.float32(0))
    )
    stays = play(key, states, mine, np.zeros_like(mine), params)
    for a, b in zip(jax.tree.leaves(still), jax.tree.leaves(stays), strict=True):
        np.testing.assert_array_equal(a, b)
    # The left paddle obeys the same actions as the right one.
    moved = play(key, states, mine, np.full_like(mine, UP), params).state
    np.testing.assert_allclose(moved.left, np.maximum(states.left - 12, pong.TOP + 8), atol=1e-4)


def example(**changes):
    state = pong.State(80.0, 100.0, 1.0, 1.0, 60.0, 150.0, 4, 17, 2, 0, 0.0)._replace(**changes)
    kinds = {"left_points": np.int32, "right_points": np.int32, "hits": np.int32, "wait": np.int32}
    return pong.State(*(kinds.get(n, np.float32)(v) for n, v in zip(pong.State._fields, state, strict=True)))


def drawn(state):
    """The screen painted box by box at Atari's size; for whole coordinates only."""
    screen = np.full((210, 160), 87)
    screen[24:34] = screen[194:] = 236
    screen[8:16, 8 : 8 + 3 * int(state.left_points)] = 147
    screen[8:16, 152 - 3 * int(state.right_points) : 152] = 148
    screen[int(state.left) - 8 : int(state.left) + 8, 16:20] = 147
    screen[int(state.right) - 8 : int(state.right) + 8, 140:144] = 148
    if state.wait == 0:
        screen[int(state.y) - 2 : int(state.y) + 2, int(state.x) - 1 : int(state.x) + 1] = 236
    return screen


def shrunk(screen):
    """The mean over each of 84 × 84 areas: 210 rows are 84 times 5 halves, 160 columns 84 times 40 parts of 21."""
    return screen.repeat(2, 0).repeat(21, 1).reshape(84, 5, 84, 40).mean((1, 3))


@pytest.mark.parametrize(
    "changes",
    [{}, {"x": 30, "y": 36, "right": 42}, {"x": 131, "y": 192, "left": 186, "left_points": 21}, {"wait": 3}],
)
def test_the_picture_is_atari_sized_art_scaled_down(changes):
    state = example(**changes)
    seen = np.asarray(jit(Pong().observe)(state, None))[:, :, 0]
    assert np.abs(seen - shrunk(drawn(state))).max() <= 0.51


def test_the_picture_shows_the_ball_where_it_is(frames):
    _, s, _, _ = frames
    play = (s.wait == 0) & (s.x > 25) & (s.x < 135) & (s.y > 40) & (s.y < 188)
    states = jax.tree.map(lambda leaf: leaf[play][:: play.sum() // 300], s)
    observe = jit(jax.vmap(Pong().observe, in_axes=(0, None)))
    hidden = observe(states._replace(wait=np.ones_like(states.wait)), None)
    light = (np.asarray(observe(states, None)).astype(float) - np.asarray(hidden))[..., 0]
    assert light.min() == 0
    total = light.sum((1, 2))
    np.testing.assert_allclose(total, 149 * 8 * (84 / 160) * (84 / 210), rtol=0.02)
    pixel = np.arange(84) + 0.5
    x, y = (light.sum(1) @ pixel) / total, (light.sum(2) @ pixel) / total
    np.testing.assert_allclose(x, states.x * 84 / 160, atol=0.1)
    np.testing.assert_allclose(y, states.y * 84 / 210, atol=0.1)


def test_observations(frames):
    params, s, _, _ = frames
    env, _ = envs.make("Pong-Pixels-v0")
    assert env.observation_space == spaces.Box(0, 255, (84, 84, 4), np.uint8)
    vector, _ = envs.make("Pong-Vector-v0")
    assert vector.observation_space.shape == (9,)
    observe = jit(jax.vmap(jax.vmap(FRAME.observe, in_axes=(0, None)), in_axes=(0, None)))
    obs = np.asarray(observe(s, params))
    assert np.abs(obs).max() <= 1
    assert np.all(obs[s.wait > 0][:, :4] == 0)  # the coming serve is hidden
    seen = s.wait == 0
    np.testing.assert_allclose((obs[..., 0] + 1)[seen] * 80, s.x[seen], atol=1e-3)
    np.testing.assert_allclose(obs[..., 4] * 80 + 114, s.right, atol=1e-3)
    np.testing.assert_allclose(obs[..., 8] * 21, s.left_points, atol=1e-4)


def test_the_same_keys_give_the_same_game(record):
    first, again, other = (record(Pong(pixels=False), randomly, 64, 1_300, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[1].y, other[1].y)
