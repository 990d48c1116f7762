"""Breakout on pixels: its physics frame by frame, bricks and points, lives and ends, its picture."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import spaces
from envs.pixels import breakout
from envs.pixels.breakout import LEFT, RIGHT, STAY, Breakout

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
FRAME = Breakout(pixels=False, frame_skip=1)
POINTS = np.array([7, 7, 4, 4, 1, 1])


def toward(target, x):
    """The action that brings a paddle nearer to `target` in a step of 12 pixels, or none if it is near."""
    return jnp.where(target - x > 6, RIGHT, jnp.where(target - x < -6, LEFT, STAY))


def tracking(key, state):
    """Goes where the ball will arrive, by mirroring its path at the walls; while it rises, under it."""
    del key
    left, right = breakout.LEFTMOST, breakout.RIGHTMOST
    path = state.x + state.vx * (breakout.FACE - state.y) / jnp.maximum(state.vy, 0.1) - left
    path = jnp.mod(path, 2 * (right - left))
    arrival = left + jnp.minimum(path, 2 * (right - left) - path)
    return toward(jnp.where(state.vy > 0, arrival, state.x), state.paddle)


def lazy(key, state):
    """Follows the ball most of the time, so that it loses some."""
    return jnp.where(jax.random.bernoulli(key, 0.9), toward(state.x, state.paddle), STAY)


def randomly(key, state):
    del state
    return jax.random.randint(key, (), 0, 3)


def standing(bricks):
    """bool[..., 6, 18]: whether the brick stands."""
    return (bricks[..., None] >> np.arange(18, dtype=np.uint32)) & 1 == 1


def broken_walls(states):
    """A third of the games start with a full wall, a third without most columns, a third with three bricks."""
    game = jnp.arange(len(states.x))
    columns = jnp.where(game % 3 == 1, jnp.uint32(0b000111000000000110), states.bricks[:, 0])
    few = jnp.where(jnp.arange(6) % 2, jnp.uint32(1) << (game % 18).astype(jnp.uint32)[:, None], 0)
    return states._replace(bricks=jnp.where((game % 3 == 2)[:, None], few, columns[:, None]).astype(jnp.uint32))


@pytest.fixture(scope="module")
def frames(record):
    """Single frames of many balls, with some losses."""
    return record(FRAME, lazy, 24, 6_000, prepare=broken_walls, lives=50, max_angle=1.2)


@pytest.fixture(scope="module")
def games(record):
    """Whole games of the tracking player, [steps, 24]."""
    return record(Breakout(pixels=False), tracking, 24, 6_000)


def lost(s):
    return s.lives[1:] < s.lives[:-1]


def test_the_ball_stays_in_the_field_and_is_mirrored_at_the_walls(frames):
    _, s, _, _ = frames
    assert np.all((s.x >= breakout.LEFTMOST) & (s.x <= breakout.RIGHTMOST))
    assert np.all((s.y >= breakout.HIGHEST) & (s.y <= 210))
    half = np.where(s.narrow, 6, 8)
    assert np.all((s.paddle >= 8 + half - 2) & (s.paddle <= 152 - half + 2))  # 2: it may have grown since its move

    before, after = jax.tree.map(lambda leaf: leaf[:-1], s), jax.tree.map(lambda leaf: leaf[1:], s)
    flies = (before.wait == 0) & ~lost(s) & (after.hits == before.hits) & (after.bricks == before.bricks).all(-1)
    for position, velocity, low, high in (
        (s.x, s.vx, breakout.LEFTMOST, breakout.RIGHTMOST),
        (s.y, s.vy, breakout.HIGHEST, np.inf),
    ):
        turned = flies & (velocity[1:] != velocity[:-1])
        assert turned.sum() > 20
        np.testing.assert_array_equal(velocity[1:][turned], -velocity[:-1][turned])
        wall = np.where(velocity[:-1] < 0, low, high)[turned]
        travelled = np.abs(wall - position[:-1][turned]) + np.abs(position[1:][turned] - wall)
        np.testing.assert_allclose(travelled, np.abs(velocity[:-1][turned]), atol=1e-4)
        straight = flies & ~turned
        np.testing.assert_allclose((position[1:] - position[:-1])[straight], velocity[:-1][straight], atol=1e-4)


def test_the_place_of_a_hit_sets_the_angle(frames):
    params, s, _, _ = frames
    hit = s.hits[1:] > s.hits[:-1]
    assert hit.sum() > 200
    reach = np.where(s.narrow[:-1], 7, 9)[hit]
    offset = (s.x - s.paddle)[1:][hit] / reach
    assert np.abs(offset).max() <= 1
    assert np.ptp(offset) > 1
    speed = np.hypot(s.vx, s.vy)[1:][hit]
    np.testing.assert_allclose(s.vx[1:][hit], speed * np.sin(params.max_angle * offset), atol=1e-4)
    np.testing.assert_allclose(s.vy[1:][hit], -speed * np.cos(params.max_angle * offset), atol=1e-4)
    # A ball that crosses the paddle's height is met exactly if the paddle reaches it; else it is lost.
    crosses = (s.y[:-1] < breakout.FACE) & (s.wait[:-1] == 0) & (s.y[:-1] + s.vy[:-1] >= breakout.FACE)
    met = np.abs(s.x[1:] - s.paddle[1:]) <= np.where(s.narrow[:-1], 7, 9)
    np.testing.assert_array_equal(crosses & met, hit)
    assert lost(s).sum() > 20


def test_speed_by_hits_and_upper_rows(frames):
    _, s, _, _ = frames
    expected = np.where(s.upper, 3.9, np.where(s.hits >= 12, 2.8, np.where(s.hits >= 4, 2.2, 1.8)))
    np.testing.assert_allclose(np.hypot(s.vx, s.vy), expected, rtol=1e-4)
    for value in (1.8, 2.2, 2.8, 3.9):
        assert (expected == value).any()
    broken = standing(s.bricks[:-1]) & ~standing(s.bricks[1:])
    upper_break = broken[..., :4, :].any((-1, -2))
    np.testing.assert_array_equal(s.upper[1:], (s.upper[:-1] | upper_break) & ~lost(s))


def test_bricks_break_one_at_a_time_and_give_their_points(frames):
    _, s, reward, _ = frames
    before, after = standing(s.bricks[:-1]), standing(s.bricks[1:])
    broken = before & ~after
    count = broken.sum((-1, -2))
    assert count.max() == 1
    assert count.sum() > 500
    np.testing.assert_array_equal(reward, (broken.sum(-1) * POINTS).sum(-1))
    assert (broken.any(-1) & (reward > 0)[..., None]).any((0, 1))[2:].all()  # of several rows
    # Nothing comes back but a whole new wall, when the paddle meets the ball.
    back = (after & ~before).any((-1, -2))
    assert back.sum() > 2
    np.testing.assert_array_equal(before[back].any((-1, -2)), False)
    assert after[back].all()
    assert (s.hits[1:] > s.hits[:-1])[back].all()
    # A brick turns the ball up or down, and disarms it until the paddle or the ceiling.
    t, lane = np.nonzero(count)
    assert (np.sign(s.vy[t + 1, lane]) == -np.sign(s.vy[t, lane])).mean() > 0.99  # or it met the ceiling just before
    assert s.armed[t, lane].mean() > 0.99
    assert not s.armed[t + 1, lane].any()
    armed_now = s.armed[1:] & ~s.armed[:-1]
    reason = (s.hits[1:] > s.hits[:-1]) | lost(s) | ((s.vy[:-1] < 0) & (s.vy[1:] > 0) & (s.y[1:] < 40))
    np.testing.assert_array_equal(armed_now & ~reason, False)
    # It breaks at its edge: the leading edge was at most a frame's way inside the brick, or came from its side.
    row, column = broken[t, lane].any(-1).argmax(-1), broken[t, lane].any(-2).argmax(-1)
    x = s.x[t + 1, lane]
    assert np.all((x >= 8 + 8 * column - 1e-3) & (x <= 16 + 8 * column + 1e-3))
    up = s.vy[t, lane] < 0
    face = np.where(up, 57 + 6 * (row + 1), 57 + 6 * row)
    edge_after = s.y[t + 1, lane] + np.where(up, -2, 2)
    assert np.abs(edge_after - face).max() < 6 + 3.9


def test_losses_and_serves(frames):
    params, s, reward, _ = frames
    gone = lost(s)
    np.testing.assert_array_equal(gone, (s.y[:-1] + np.where(s.wait[:-1] == 0, s.vy[:-1], 0)) > 210)
    assert (reward[gone] == 0).all()
    after = jax.tree.map(lambda leaf: leaf[1:][gone], s)
    np.testing.assert_array_equal(after.wait, params.serve_delay)
    np.testing.assert_array_equal(after.y, 122)
    np.testing.assert_array_equal(after.hits, 0)
    assert not after.narrow.any()
    assert after.armed.all()
    # Near a wall the serve goes inwards.
    beside = np.abs(after.x - 80) > 40
    assert 0.2 < beside.mean() < 0.8
    np.testing.assert_array_equal(np.sign(after.vx)[beside], -np.sign(after.x - 80)[beside])
    assert 0.2 < (after.vx > 0).mean() < 0.8
    # Once at the ceiling, the paddle is narrow until the ball is lost.
    ceiling = (s.vy[:-1] < 0) & (s.vy[1:] > 0) & (s.y[1:] < 40)
    assert ceiling.any()
    np.testing.assert_array_equal(s.narrow[1:], (s.narrow[:-1] | ceiling) & ~gone)


def test_random_play(record):
    """It loses its five balls with hardly a point: 0.6 here; 1.7 on Atari by Mnih et al. (2015)."""
    _, s, reward, terminated = record(Breakout(pixels=False), randomly, 64, 400)
    length = terminated.argmax(0) + 1
    assert terminated.any(0).all()
    returns = (reward * (np.arange(len(reward))[:, None] < length)).sum(0)
    assert 0.2 < returns.mean() < 1.2
    assert 5 * 20 < length.mean() < 200
    np.testing.assert_array_equal(s.lives[length, np.arange(64)], 0)
    # A lost life ends nothing but the last one.
    np.testing.assert_array_equal(terminated, (s.lives[1:] <= 0) | (s.cleared[1:] >= 2))


def test_a_player_that_foresees_the_ball_clears_walls(games):
    _, s, reward, terminated = games
    lanes = np.arange(reward.shape[1])
    ended = terminated.any(0)
    length = np.where(ended, terminated.argmax(0) + 1, len(reward))
    returns = (reward * (np.arange(len(reward))[:, None] < length)).sum(0)
    cleared = s.cleared[length, lanes]
    assert (cleared >= 1).mean() > 0.8
    assert (cleared == 2).any()
    # A wall is worth 432 points, two walls 864, and then the game is over with lives left.
    np.testing.assert_array_equal(returns[cleared == 2], 864)
    assert ended[cleared == 2].all()
    assert (s.lives[length, lanes][cleared == 2] > 0).all()
    bricks_left = standing(s.bricks[length, lanes])
    value = (bricks_left.sum(-1) * POINTS).sum(-1)
    np.testing.assert_array_equal(returns + value, np.where(cleared == 2, 864, 432 * (cleared + 1)))


def example(**changes):
    rng = np.random.default_rng(5)
    bricks = rng.integers(0, 1 << 18, 6).astype(np.uint32)
    state = breakout.State(
        np.float32(90), np.float32(150), np.float32(1), np.float32(1), np.float32(60), np.bool_(False), bricks,
        np.bool_(True), np.int32(3), np.bool_(False), np.int32(0), np.int32(3), np.int32(1),
    )  # fmt: skip
    return state._replace(**changes)


def drawn(state):
    """The screen painted box by box at Atari's size; for whole coordinates only."""
    screen = np.zeros((210, 160))
    screen[17:196, :8] = screen[17:196, 152:] = screen[17:32] = 142
    screen[5:13, 8 : 8 + 8 * int(state.cleared)] = 142
    screen[5:13, 152 - 8 * int(state.lives) : 152] = 142
    for row, column in np.argwhere(standing(state.bricks)):
        grey = (110, 129, 131, 148, 124, 85)[row]
        screen[57 + 6 * row : 63 + 6 * row, 8 + 8 * column : 16 + 8 * column] = grey
    half = 6 if state.narrow else 8
    screen[189:193, int(state.paddle) - half : int(state.paddle) + half] = 110
    if state.wait == 0:
        screen[int(state.y) - 2 : int(state.y) + 2, int(state.x) - 1 : int(state.x) + 1] += 110
    return screen


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"x": np.float32(9), "y": np.float32(34), "lives": np.int32(5), "narrow": np.bool_(True)},
        {"bricks": np.zeros(6, np.uint32), "y": np.float32(195), "paddle": np.float32(144)},
        {"wait": np.int32(3), "cleared": np.int32(0)},
    ],
)
def test_the_picture_is_atari_sized_art_scaled_down(changes):
    """Each pixel is the mean of its area: 210 rows are 84 times 5 halves, 160 columns 84 times 40 parts of 21."""
    state = example(**changes)
    seen = np.asarray(jit(Breakout().observe)(state, None))[:, :, 0]
    expected = drawn(state).repeat(2, 0).repeat(21, 1).reshape(84, 5, 84, 40).mean((1, 3))
    assert np.abs(seen - expected).max() <= 0.51


def test_the_picture_shows_ball_and_bricks_where_they_are(frames):
    _, s, _, _ = frames
    play = (s.wait == 0) & (s.y < 180)
    states = jax.tree.map(lambda leaf: leaf[play][:: play.sum() // 200], s)
    observe = jit(jax.vmap(Breakout().observe, in_axes=(0, None)))
    hidden = np.asarray(observe(states._replace(wait=np.ones_like(states.wait)), None))[..., 0].astype(float)
    light = np.asarray(observe(states, None))[..., 0] - hidden
    total = light.sum((1, 2))
    np.testing.assert_allclose(total, 110 * 8 * (84 / 160) * (84 / 210), rtol=0.03)
    pixel = np.arange(84) + 0.5
    np.testing.assert_allclose((light.sum(1) @ pixel) / total, states.x * 84 / 160, atol=0.1)
    np.testing.assert_allclose((light.sum(2) @ pixel) / total, states.y * 84 / 210, atol=0.1)
    # The light of the wall counts its bricks: 8 × 6 Atari pixels of their grey each, to less than half a brick.
    bare = observe(states._replace(wait=np.ones_like(states.wait), bricks=np.zeros_like(states.bricks)), None)
    wall = (hidden - np.asarray(bare)[..., 0]).sum((1, 2))
    bricks = (standing(states.bricks).sum(-1) * (110, 129, 131, 148, 124, 85)).sum(-1)
    assert len(np.unique(bricks)) > 20
    np.testing.assert_allclose(wall, bricks * 48 * (84 * 84) / (160 * 210), atol=85 * 10.08 / 2)


def test_observations(frames):
    params, s, _, _ = frames
    env, _ = envs.make("Breakout-Pixels-v0")
    assert env.observation_space == spaces.Box(0, 255, (84, 84, 4), np.uint8)
    vector, _ = envs.make("Breakout-Vector-v0")
    assert vector.observation_space.shape == (120,)
    some = jax.tree.map(lambda leaf: leaf[::10], s)
    obs = np.asarray(jit(jax.vmap(jax.vmap(FRAME.observe, in_axes=(0, None)), in_axes=(0, None)))(some, params))
    assert np.abs(obs).max() <= 1
    assert np.all(obs[some.wait > 0][:, :4] == 0)  # the coming serve is hidden
    seen = some.wait == 0
    np.testing.assert_allclose(obs[..., 0][seen] * 72 + 80, some.x[seen], atol=1e-3)
    np.testing.assert_allclose(obs[..., 4] * 72 + 80, some.paddle, atol=1e-3)
    np.testing.assert_array_equal(obs[..., 12:].reshape(*some.x.shape, 6, 18), standing(some.bricks))
