"""Games under the clock, what learners make of their player axis, and the two games themselves."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import episode, players, spaces, wrappers
from envs.base import Game
from envs.errors import InputError
from envs.games import MatrixGame, Nim
from envs.games.matrix import Params
from envs.games.nim import State

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
jitted = jit(episode.step, static_argnums=0)


def play(game, actions, num_envs=2):
    """Steps by actions [T, B, N]: a list of (before, time step, after)."""
    params = game.default_params()
    state = episode.reset(game, params, jax.random.key(0), num_envs)
    log = []
    for k, action in zip(jax.random.split(jax.random.key(1), len(actions)), actions, strict=True):
        following, ts = jitted(game, params, k, state, jnp.asarray(action, jnp.int32))
        log.append(jax.device_get((state, ts, following)))
        state = following
    return log


# --- the clock


def test_a_game_has_one_clock_and_a_return_for_every_player():
    log = play(MatrixGame(), [[[0, 0], [0, 1]], [[1, 1], [0, 0]]])
    for before, ts, after in log:
        assert before.obs.shape == after.obs.shape == ts.next_obs.shape == (2, 2, 2)
        assert ts.reward.shape == ts.stats.return_sum.shape == after.episode_return.shape == (2, 2)
        assert ts.terminated.shape == ts.truncated.shape == ts.stats.count.shape == after.t.shape == (2,)
        assert ts.terminated.all()
    np.testing.assert_array_equal(log[0][1].stats.return_sum, [[1, -1], [-1, 1]])
    np.testing.assert_array_equal(log[1][1].stats.return_sum, [[1, -1], [1, -1]])
    assert episode.no_episodes(MatrixGame()).return_sum.shape == (2,)


def test_statistics_of_nim_by_hand():
    """Four stones. In game 0 one stone is taken at a time; game 1 ends after two moves and begins anew."""
    actions = [[[0, 9], [1, 9]], [[9, 0], [9, 1]], [[0, 9], [0, 9]], [[9, 0], [9, 0]], [[1, 9], [0, 9]]]
    log = play(Nim(4), actions)
    stones = [before.state.stones.tolist() for before, _, _ in log]
    assert stones == [[4, 4], [3, 2], [2, 4], [1, 3], [4, 2]]
    assert [ts.terminated.tolist() for _, ts, _ in log] == [[0, 0], [0, 1], [0, 0], [1, 0], [0, 0]]
    sums = [ts.stats.return_sum.tolist() for _, ts, _ in log]
    nothing = [0, 0]
    assert sums == [
        [nothing, nothing],
        [nothing, [-1, 1]],
        [nothing, nothing],
        [[-1, 1], nothing],
        [nothing, nothing],
    ]
    assert [ts.stats.length_sum.tolist() for _, ts, _ in log] == [[0, 0], [0, 2], [0, 0], [4, 0], [0, 0]]
    assert [before.t.tolist() for before, _, _ in log] == [[0, 0], [1, 1], [2, 0], [3, 1], [0, 2]]
    # The successor is the end of the old game, while the new one begins.
    np.testing.assert_array_equal(log[1][1].next_obs["heap"][1, :, 0], [1, 1])
    np.testing.assert_array_equal(log[1][2].obs["heap"][1, :, 4], [1, 1])


def test_the_time_limit_cuts_a_game():
    log = play(Nim(4, max_steps=2), [[[0, 0], [1, 1]]] * 3)
    _, ts, after = log[1]
    np.testing.assert_array_equal(ts.terminated, [False, True])
    np.testing.assert_array_equal(ts.truncated, [True, True])
    np.testing.assert_array_equal(ts.stats.return_sum, [[0, 0], [-1, 1]])
    np.testing.assert_array_equal(after.state.stones, [4, 4])


def test_games_are_lanes_too():
    """jit, vmap over tables, starts given or in reserve: each game gets what it gets alone."""
    game, rng = MatrixGame(3), np.random.default_rng(0)
    tables = Params(rng.normal(size=(4, 2, 3, 3)).astype(np.float32))
    actions = rng.integers(3, size=(4, 5, 2)).astype(np.int32)

    def run(table, action):
        state = episode.reset(game, table, jax.random.key(0), 5)
        given = episode.step(game, table, jax.random.key(1), state, action, (state.obs, state.state))
        reserve = episode.initial_reserve(game, table, jax.random.key(2), 5)
        kept = episode.step_with_reserve(game, table, jax.random.key(1), state, action, reserve)
        return given, kept[:2], episode.step(game, table, jax.random.key(1), state, action)

    together = jit(jax.vmap(run))(tables, actions)
    for one in together[1:]:
        jax.tree.map(np.testing.assert_array_equal, one, together[0])
    for i, b in itertools.product(range(4), range(5)):
        expected = tables.payoff[i, :, actions[i, b, 0], actions[i, b, 1]]
        np.testing.assert_array_equal(together[0][1].reward[i, b], expected)


def test_wrappers_refuse_games():
    with pytest.raises(InputError, match="one player"):
        wrappers.SignReward(Nim())


# --- what a game says of itself


def test_defaults_of_a_game():
    game = MatrixGame()
    _, state = game.reset(jax.random.key(0), game.default_params())
    assert game.to_move(state) == -1
    assert game.alive(state).tolist() == [True, True]
    assert game.global_state(state, game.default_params()).tolist() == [1, 0, 0, 1]
    with pytest.raises(NotImplementedError, match="global_state"):
        Game().global_state(state, ())


@pytest.mark.parametrize("game", [MatrixGame(), MatrixGame(3), Nim(), Nim(1)], ids=str)
def test_games_keep_to_their_spaces(game):
    params = game.default_params()
    obs, state = game.reset(jax.random.key(0), params)
    assert hash(game) == hash(game.replace())
    for k in jax.random.split(jax.random.key(1), 8):
        for n in range(game.num_players):
            assert spaces.contains(game.observation_space, jax.tree.map(lambda x, n=n: np.asarray(x[n]), obs))
        assert spaces.contains(game.global_space, np.asarray(game.global_state(state, params)))
        action = jnp.stack([spaces.sample(game.action_space, k)] * game.num_players)
        out = game.step(k, state, action, params)
        assert out.reward.shape == (game.num_players,)
        assert out.reward.dtype == jnp.float32
        assert out.terminated.shape == ()
        assert jax.tree.map(jnp.result_type, out.state) == jax.tree.map(jnp.result_type, state)
        obs, state = out.obs, out.state
        if out.terminated:
            break


# --- matrix games


@pytest.mark.parametrize("actions", [2, 3, 5])
def test_matching_pennies_is_worth_what_it_says(actions):
    game = MatrixGame(actions)
    params, mixed = game.default_params(), np.full(actions, 1 / actions, np.float32)
    value = 2 / actions - 1
    for pure in np.eye(actions, dtype=np.float32):
        # Against the equal mixture every action is as good as another: nobody can gain by leaving it.
        np.testing.assert_allclose(game.expected(params, pure, mixed), [value, -value], atol=1e-6)
        np.testing.assert_allclose(game.expected(params, mixed, pure), [value, -value], atol=1e-6)


def test_a_matrix_game_pays_by_its_table():
    game, state = MatrixGame(2), MatrixGame(2).reset(jax.random.key(0), MatrixGame(2).default_params())[1]
    prisoners = Params(np.float32([[[3, 0], [5, 1]], [[3, 5], [0, 1]]]))
    for a, b in itertools.product(range(2), range(2)):
        out = game.step(jax.random.key(0), state, jnp.array([a, b]), prisoners)
        assert out.terminated
        np.testing.assert_array_equal(out.reward, prisoners.payoff[:, a, b])
        np.testing.assert_array_equal(out.reward, game.expected(prisoners, np.eye(2)[a], np.eye(2)[b]))


# --- Nim


def test_nim_is_solved_by_recursion():
    """Minimax over the game's own steps and masks gives the documented values, from either seat."""
    game = Nim(9)
    step, see = jit(game.step), jit(game.as_observation)

    @functools.cache
    def value(stones, mover):
        state = State(jnp.int32(stones), jnp.int32(mover))
        allowed = np.flatnonzero(see(state, ()).get("action_mask")[mover])
        found = []
        for a in allowed:
            out = step(jax.random.key(0), state, jnp.full(2, a, jnp.int32), ())
            assert int(out.state.mover) == 1 - mover
            assert float(out.reward.sum()) == 0
            later = 0 if out.terminated else -value(int(out.state.stones), 1 - mover)
            found.append(float(out.reward[mover]) + later)
        return max(found)

    for stones, mover in itertools.product(range(1, 10), range(2)):
        assert value(stones, mover) == game.value(stones)


def test_only_the_mover_acts_and_masks_are_its_own():
    game = Nim(5)
    for stones, mover in itertools.product((1, 2, 5), (0, 1)):
        state = State(jnp.int32(stones), jnp.int32(mover))
        assert game.to_move(state) == mover
        obs = game.as_observation(state, game.default_params())
        assert obs["action_mask"][mover].tolist() == [True, stones > 1]
        assert obs["action_mask"][1 - mover].tolist() == [True, True]
        assert obs["heap"][mover].tolist() == [*np.eye(6)[stones], 1]
        assert obs["heap"][1 - mover].tolist() == [*np.eye(6)[stones], 0]
        for mine, other in itertools.product(range(2), range(2)):
            action = jnp.array([mine, other] if mover == 0 else [other, mine])
            out = game.step(jax.random.key(0), state, action, game.default_params())
            assert out.state.stones == max(stones - 1 - mine, 0)


# --- the player axis


def test_fold_and_unfold_and_repeat():
    tree = {"obs": jnp.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5), "reward": jnp.arange(24.0).reshape(2, 3, 4)}
    folded = players.fold(tree)
    assert folded["obs"].shape == (2, 12, 5)
    assert folded["reward"].shape == (2, 12)
    for t, b, n in itertools.product(range(2), range(3), range(4)):
        np.testing.assert_array_equal(folded["obs"][t, 4 * b + n], tree["obs"][t, b, n])
    jax.tree.map(np.testing.assert_array_equal, players.unfold(folded, 4), tree)
    flags = jnp.array([[True, False, True], [False, False, True]])
    repeated = players.repeat(flags, 4)
    assert repeated.shape == (2, 12)
    np.testing.assert_array_equal(players.unfold(repeated, 4), np.repeat(flags[:, :, None], 4, axis=2))


def test_seat_weights():
    weights = players.seat_weights(jnp.array([[0, 1], [2, -1]]), 3)
    np.testing.assert_array_equal(weights, [[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 1, 1]]])
    assert weights.dtype == jnp.float32


def moves(reward, terminated, truncated, to_move, following=None):
    """`own_moves` of one game, without its batch axis."""
    column = [jnp.asarray(x)[:, None] for x in (np.float32(reward), np.array(terminated, bool))]
    cut, seat = jnp.asarray(np.array(truncated, bool))[:, None], jnp.asarray(np.int32(to_move))[:, None]
    after = None if following is None else jnp.array([following], jnp.int32)
    return jax.tree.map(lambda x: np.asarray(x)[:, 0], jit(players.own_moves)(*column, cut, seat, 0.9, after))


def test_the_loser_sees_the_end_by_the_opponents_move():
    out = moves([[0, 0], [0, 0], [0, 0], [-1, 1]], [0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1])
    np.testing.assert_array_equal(out.weight, [[1, 0], [0, 1], [1, 0], [0, 1]])
    own = out.weight > 0
    assert out.reward[own].tolist() == [0, 0, -1, 1]
    assert out.terminated[own].tolist() == [False, False, True, True]
    np.testing.assert_allclose(out.discount[own], [0.9, 0.9, 0, 0])
    assert out.successor[own].tolist() == [1, 2, 3, 3]
    assert not out.truncated.any()


def test_rewards_in_between_are_added_up_undiscounted():
    """Player 0 moves at 0 and 3, and is paid at every step; player 1 moves twice in a row."""
    out = moves([[1, 10], [2, 20], [4, 40], [8, 80]], [0, 0, 0, 1], [0] * 4, [0, 1, 1, 0])
    np.testing.assert_array_equal(out.weight, [[1, 0], [0, 1], [0, 1], [1, 0]])
    assert out.reward[out.weight > 0].tolist() == [1 + 2 + 4, 20, 40 + 80, 8]
    assert out.successor[out.weight > 0].tolist() == [2, 1, 3, 3]
    assert out.terminated[out.weight > 0].tolist() == [False, False, True, True]


def test_games_do_not_run_into_one_another():
    """The first game ends at step 1; player 1 never moved in the second, which goes on beyond the stretch."""
    out = moves([[0, 0], [-1, 1], [5, 50]], [0, 1, 0], [0, 0, 0], [0, 1, 0])
    np.testing.assert_array_equal(out.weight, [[1, 0], [0, 1], [0, 0]])
    assert out.reward[out.weight > 0].tolist() == [-1, 1]
    # Said whose turn comes, the last transition is whole only for that player.
    for following, weight in [(0, 1), (1, 0)]:
        out = moves([[0, 0], [-1, 1], [5, 50]], [0, 1, 0], [0, 0, 0], [0, 1, 0], following)
        np.testing.assert_array_equal(out.weight, [[1, 0], [0, 1], [weight, 0]])
    out = moves([[0, 0], [-1, 1], [5, 50]], [0, 1, 0], [0, 0, 0], [0, 1, 0], 0)
    assert (out.reward[2, 0], out.successor[2, 0]) == (5, 2)


def test_a_cut_is_no_end():
    out = moves([[1, 0], [2, 3]], [0, 0], [0, 1], [0, 1])
    np.testing.assert_array_equal(out.weight, [[1, 0], [0, 1]])
    assert out.truncated[out.weight > 0].tolist() == [True, True]
    assert not out.terminated.any()
    np.testing.assert_allclose(out.discount[out.weight > 0], [0.9, 0.9])
    assert out.reward[out.weight > 0].tolist() == [3, 3]
    assert out.successor[out.weight > 0].tolist() == [1, 1]


def test_at_once_every_step_is_a_transition():
    reward = np.arange(6).reshape(3, 2)
    out = moves(reward, [0, 1, 0], [0, 0, 0], [-1, -1, -1], following=-1)
    np.testing.assert_array_equal(out.reward, reward)
    np.testing.assert_array_equal(out.weight, np.ones((3, 2)))
    np.testing.assert_array_equal(out.successor, [[0, 0], [1, 1], [2, 2]])
    np.testing.assert_array_equal(out.terminated, [[0, 0], [1, 1], [0, 0]])
    assert moves(reward, [0, 1, 0], [0, 0, 0], [-1, -1, -1]).weight[:, 0].tolist() == [1, 1, 0]


def test_own_moves_against_a_plain_loop():
    rng = np.random.default_rng(0)
    length, batch, seats = 40, 6, 3
    reward = rng.normal(size=(length, batch, seats)).astype(np.float32)
    terminated, truncated = rng.random((2, length, batch)) < 0.1
    to_move = rng.integers(-1, seats, size=(length, batch)).astype(np.int32)
    following = rng.integers(-1, seats, size=batch).astype(np.int32)
    out = jax.device_get(players.own_moves(*map(jnp.asarray, (reward, terminated, truncated, to_move)), 0.9, following))
    turn = np.concatenate([to_move, following[None]])
    next_obs = np.arange(length * batch * seats).reshape(length, batch, seats, 1)
    found = players.successors(jnp.asarray(next_obs), jnp.asarray(out.successor))
    for t, b, n in itertools.product(range(length), range(batch), range(seats)):
        if turn[t, b] not in (-1, n):
            assert out.weight[t, b, n] == 0
            continue
        total, s = 0.0, t
        while s < length:
            total += reward[s, b, n]
            if terminated[s, b] or truncated[s, b] or turn[s + 1, b] in (-1, n):
                break
            s += 1
        assert out.weight[t, b, n] == (s < length)
        if s == length:
            continue
        np.testing.assert_allclose(out.reward[t, b, n], total, rtol=1e-5, atol=1e-5)
        assert out.terminated[t, b, n] == terminated[s, b]
        assert out.truncated[t, b, n] == truncated[s, b]
        assert out.successor[t, b, n] == s
        np.testing.assert_allclose(out.discount[t, b, n], 0.0 if terminated[s, b] else 0.9)
        assert found[t, b, n, 0] == next_obs[s, b, n, 0]


def test_td_on_own_moves_learns_perfect_play_in_nim():
    """A table for both seats, from random games: no sign is ever turned round, the losses come with the own moves."""
    game, rng = Nim(7), np.random.default_rng(0)
    actions = rng.integers(2, size=(60, 8, 2))
    log = play(game, actions, num_envs=8)
    before, ts, after = jax.tree.map(lambda *x: np.stack(x), *log)
    turn = before.state.mover
    out = players.own_moves(
        *map(jnp.asarray, (ts.reward, ts.terminated, ts.truncated, turn)), 0.99, jnp.asarray(after.state.mover[-1])
    )
    later = jax.device_get(players.successors(jnp.asarray(ts.next_obs["heap"]), out.successor)[..., :-1].argmax(-1))
    out = jax.device_get(out)
    # A table over (stones, action) from the mover's point of view, shared by the seats.
    q, rows = np.zeros((8, 2)), np.argwhere(out.weight > 0)
    for _ in range(30):
        for t, b, n in rows:
            stones, after_stones = before.state.stones[t, b], later[t, b, n]
            best = q[after_stones].max() if after_stones > 1 else q[after_stones, 0]
            target = out.reward[t, b, n] + out.discount[t, b, n] * best
            q[stones, actions[t, b, n]] += 0.1 * (target - q[stones, actions[t, b, n]])
    # The last move wins, and leaving a multiple of 3 is best.
    assert q[1, 0] == pytest.approx(1, abs=0.05)
    assert q[2, 1] == pytest.approx(1, abs=0.05)
    assert [int(q[s].argmax()) for s in (2, 4, 5)] == [1, 0, 1]
