"""The clock, the flags, the restarts and the statistics of `envs.episode`."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from envs import episode, threefry
from envs.base import Env, Step
from envs.spaces import Box, Discrete


class WalkState(NamedTuple):
    offset: jax.Array  # drawn at the start, kept through the episode
    steps: jax.Array


class WalkParams(NamedTuple):
    end: int = 3  # terminates at this step
    reward: float = 0.5


@dataclasses.dataclass(frozen=True)
class Walk(Env[WalkState, WalkParams]):
    """Counts its steps from a random offset; the reward is the action times a parameter."""

    noisy: bool = False

    @property
    def random_step(self):
        return self.noisy

    @property
    def observation_space(self):
        return Box(0.0, np.inf, (2,))

    @property
    def action_space(self):
        return Discrete(4)

    def default_params(self):
        return WalkParams()

    def reset(self, key, params):
        state = WalkState(jax.random.uniform(key), jnp.int32(0))
        return self.observe(state), state

    def observe(self, state):
        return jnp.stack([state.offset, state.steps.astype(jnp.float32)])

    def step(self, key, state, action, params):
        state = state._replace(steps=state.steps + 1)
        reward = params.reward * action + (jax.random.normal(key) if self.noisy else 0.0)
        return Step(self.observe(state), state, jnp.float32(reward), state.steps >= params.end, {"n": state.steps})


BATCH = 4
# Every program here runs for a few steps: half the time of a compilation is optimisation wasted on that.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
jitted = jit(episode.step, static_argnums=0)


def play(env, params, steps, batch=BATCH, seed=0):
    """Random actions; returns lists of (episode before, action, time step, episode after)."""
    params = envs.registry.as_arrays(params)
    key_reset, key = jax.random.split(jax.random.key(seed))
    state = episode.reset(env, params, key_reset, batch)
    rng = np.random.default_rng(seed)
    log = []
    for k in jax.random.split(key, steps):
        action = rng.integers(env.action_space.n, size=batch).astype(np.int32)
        following, ts = jitted(env, params, k, state, action)
        log.append(jax.device_get((state, action, ts, following)))
        state = following
    return log


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("end", "limit", "terminated", "truncated"),
    [(5, None, False, False), (3, None, True, False), (5, 3, False, True), (3, 3, True, True)],
    ids=["neither", "terminated", "truncated", "both"],
)
def test_flag_matrix(end, limit, terminated, truncated):
    env = Walk(max_steps=limit)
    log = play(env, WalkParams(end=end), 3)
    for state, _, ts, following in log[:2]:
        assert not ts.terminated.any()
        assert not ts.truncated.any()
        assert_same(ts.next_obs, following.obs)
        np.testing.assert_array_equal(following.t, state.t + 1)
        assert ts.stats.count.sum() == 0
    state, _, ts, following = log[2]
    assert (ts.terminated == terminated).all()
    assert (ts.truncated == truncated).all()
    # The successor is the third step of the old episode, whatever has begun since.
    np.testing.assert_array_equal(ts.next_obs[:, 0], state.obs[:, 0])
    np.testing.assert_array_equal(ts.next_obs[:, 1], np.full(BATCH, 3.0))
    np.testing.assert_array_equal(ts.info["n"], np.full(BATCH, 3))
    ended = terminated or truncated
    np.testing.assert_array_equal(ts.stats.count, np.full(BATCH, int(ended)))
    np.testing.assert_array_equal(ts.stats.length_sum, np.full(BATCH, 3 * ended))
    np.testing.assert_array_equal(following.t, np.full(BATCH, 0 if ended else 3))
    np.testing.assert_array_equal(following.obs[:, 1], np.full(BATCH, 0.0 if ended else 3.0))
    assert (following.obs[:, 0] != state.obs[:, 0]).all() == ended


@dataclasses.dataclass(frozen=True)
class Clocked(Walk):
    """Cut by a clock of its own, as environments of other libraries are."""

    def step(self, key, state, action, params):
        out = super().step(key, state, action, params)
        return out._replace(truncated=out.state.steps >= 2)


@pytest.mark.parametrize(
    ("end", "limit", "lengths", "terminated"),
    [(9, None, 2, False), (9, 5, 2, False), (9, 1, 1, False), (2, None, 2, True)],
    ids=["its own clock", "its own first", "ours first", "with a termination"],
)
def test_truncation_by_another_clock(end, limit, lengths, terminated):
    log = play(Clocked(max_steps=limit), WalkParams(end=end), lengths + 1)
    _, _, ts, following = log[lengths - 1]
    assert ts.truncated.all()
    assert (ts.terminated == terminated).all()
    np.testing.assert_array_equal(ts.next_obs[:, 1], np.full(BATCH, lengths))  # the true successor
    np.testing.assert_array_equal(ts.stats.length_sum, np.full(BATCH, lengths))
    np.testing.assert_array_equal(following.obs[:, 1], np.zeros(BATCH))
    np.testing.assert_array_equal(following.t, np.zeros(BATCH))
    for _, _, ts, _ in log[: lengths - 1]:
        assert not ts.truncated.any()
    assert log[lengths][2].truncated.all() == (lengths == 1)


def test_no_limit_never_truncates():
    log = play(Walk(max_steps=None), WalkParams(end=1000), 30)
    assert not any(ts.truncated.any() for _, _, ts, _ in log)


@pytest.mark.parametrize("noisy", [False, True])
def test_against_a_plain_loop(noisy):
    """Bit for bit what a loop over single environments gives, with restarts drawn from the documented keys."""
    env, params = Walk(max_steps=3, noisy=noisy), envs.registry.as_arrays(WalkParams(end=3))
    key_reset, key = jax.random.split(jax.random.key(3))
    following = episode.reset(env, params, key_reset, BATCH)
    single = [env.reset(k, params)[1] for k in threefry.consecutive(key_reset, BATCH)]
    # One environment is a step ahead, so that it terminates one step before the others reach the limit.
    single[1] = single[1]._replace(steps=jnp.int32(1))
    following = following._replace(state=following.state._replace(steps=jnp.array([0, 1, 0, 0], jnp.int32)))
    lengths, returns = [0] * BATCH, [np.float32(0)] * BATCH
    rng = np.random.default_rng(0)
    for k in jax.random.split(key, 8):
        action = rng.integers(4, size=BATCH).astype(np.int32)
        following, ts = jitted(env, params, k, following, action)
        key_step, key_start = jax.random.split(k)
        keys_step, keys_start = threefry.consecutive(key_step, BATCH), threefry.consecutive(key_start, BATCH)
        for b in range(BATCH):
            out = env.step(keys_step[b], single[b], action[b], params)
            lengths[b], returns[b] = lengths[b] + 1, returns[b] + np.float32(out.reward)
            assert_same(ts.next_obs[b], out.obs)
            assert ts.reward[b] == out.reward
            ended = bool(out.terminated) or lengths[b] == 3
            assert ended == (bool(ts.terminated[b]) or bool(ts.truncated[b]))
            assert ts.stats.count[b] == ended
            assert ts.stats.length_sum[b] == (lengths[b] if ended else 0)
            np.testing.assert_allclose(ts.stats.return_sum[b], returns[b] if ended else 0, rtol=1e-6)
            obs, single[b] = env.reset(keys_start[b], params) if ended else (out.obs, out.state)
            if ended:
                lengths[b], returns[b] = 0, np.float32(0)
            assert_same(following.obs[b], obs)
            assert_same(jax.tree.map(lambda leaf, b=b: leaf[b], following.state), single[b])
            assert following.t[b] == lengths[b]


@pytest.fixture(scope="module")
def cartpole_log():
    """Some episodes end by the pole, some by the limit, some by both."""
    env, params = envs.make("CartPole-v1", max_steps=8, theta_limit=0.1)
    return play(env, params, 150, batch=16)


def test_statistics_of_cartpole_against_a_plain_loop(cartpole_log):
    expected, measured = [], []
    for b in range(16):
        length, total = 0, 0.0
        for _, _, ts, _ in cartpole_log:
            length, total = length + 1, total + ts.reward[b]
            if ts.terminated[b] or ts.truncated[b]:
                expected.append((b, length, total))
                length, total = 0, 0.0
        measured += [
            (b, int(ts.stats.length_sum[b]), float(ts.stats.return_sum[b]))
            for _, _, ts, _ in cartpole_log
            if ts.stats.count[b]
        ]
    assert expected == measured
    lengths = [length for _, length, _ in expected]
    assert min(lengths) < max(lengths) == 8
    flags = {
        (bool(t), bool(c)) for _, _, ts, _ in cartpole_log for t, c in zip(ts.terminated, ts.truncated, strict=True)
    }
    assert len(flags) == 4


def test_new_episodes_are_fresh_independent_draws(cartpole_log):
    ended = [ts.terminated | ts.truncated for _, _, ts, _ in cartpole_log]
    starts = np.concatenate([step[3].obs[mask] for step, mask in zip(cartpole_log, ended, strict=True)])
    assert len(starts) > 300
    assert len(np.unique(starts, axis=0)) == len(starts)
    for i in range(4):
        assert stats.kstest(starts[:, i], "uniform", (-0.05, 0.1)).pvalue > 1e-3
    # A start says nothing about the next one, of a neighbour at the same step or of a later step.
    assert np.abs(np.corrcoef(starts[1:].T, starts[:-1].T) - np.eye(8)).max() < 0.2


def test_drawn_beforehand_equals_drawn_when_needed():
    """With the starts that the step itself would draw, the two paths are the same bit for bit."""
    env, params = Walk(max_steps=3), envs.registry.as_arrays(WalkParams(end=2))
    state = episode.reset(env, params, jax.random.key(0), BATCH)
    # Environments at different ages, so that some restart and some do not.
    state = state._replace(state=state.state._replace(steps=jnp.arange(BATCH, dtype=jnp.int32) % 2))
    key, action = jax.random.key(1), jnp.zeros(BATCH, jnp.int32)
    starts = episode.initial(env, params, jax.random.split(key)[1], BATCH)
    drawn, given = jitted(env, params, key, state, action), jitted(env, params, key, state, action, starts)
    assert_same(drawn, given)
    np.testing.assert_array_equal(drawn[1].terminated, [False, True, False, True])


def test_given_starts_are_used_only_where_an_episode_ends():
    env, params = Walk(max_steps=3), envs.registry.as_arrays(WalkParams(end=2))
    state = episode.reset(env, params, jax.random.key(0), BATCH)
    state = state._replace(state=state.state._replace(steps=jnp.arange(BATCH, dtype=jnp.int32) % 2))
    mine = WalkState(10 + jnp.arange(4.0), jnp.zeros(4, jnp.int32))
    starts = (jax.vmap(env.observe)(mine), mine)
    following, _ = jitted(env, params, jax.random.key(1), state, jnp.zeros(BATCH, jnp.int32), starts)
    old = state.state.offset
    np.testing.assert_array_equal(following.state.offset, [old[0], 11.0, old[2], 13.0])
    np.testing.assert_array_equal(following.obs[:, 1], [1.0, 0.0, 1.0, 0.0])


def test_jit_equals_eager():
    env, params = Walk(max_steps=3, noisy=True), envs.registry.as_arrays(WalkParams(end=2))
    state = episode.reset(env, params, jax.random.key(0), BATCH)
    arguments = (jax.random.key(1), state, jnp.arange(BATCH, dtype=jnp.int32))
    eager, compiled = episode.step(env, params, *arguments), jitted(env, params, *arguments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), eager, compiled)


def test_params_and_runs_can_be_vmapped():
    """A batch of runs with different physics gives what each gives alone."""
    env, _ = envs.make("CartPole-v1", max_steps=6)
    many = [envs.make("CartPole-v1", length=length, force=force)[1] for length, force in [(0.5, 10), (0.8, 20)]]
    keys = jax.random.split(jax.random.key(0), (2, 8))
    actions = np.random.default_rng(0).integers(2, size=(8, 3))
    first = episode.reset(env, many[0], jax.random.key(1), 3)
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf] * 8), (first.obs, first.state))

    def run(keys, params):
        def body(state, xs):
            key, action, start = xs
            state, ts = episode.step(env, params, key, state, action, start)
            return state, (ts.next_obs, ts.stats)

        return jax.lax.scan(body, first, (keys, actions, starts))[1]

    single = jit(run)
    together = jit(jax.vmap(run))(keys, jax.tree.map(lambda *leaves: np.stack(leaves), *many))
    for i in range(2):
        alone = single(keys[i], many[i])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5), together, alone)
    assert not np.allclose(together[0][0], together[0][1])


def test_batched_runs_draw_starts_only_when_an_episode_ends():
    """Without given starts: the branch survives vmap, and every run still gets what it gets alone."""
    env, params = Walk(), envs.registry.as_arrays(WalkParams())
    # In run 0 nothing ends, in run 1 everything does, in run 2 a part.
    steps = jnp.array([[0, 0], [2, 2], [0, 2]], jnp.int32)
    offset = jnp.arange(6.0).reshape(3, 2) / 10
    keys = jax.random.split(jax.random.key(0), 3)

    def run(key, offset, steps):
        state = WalkState(offset, steps)
        running = episode.EpisodeState(jax.vmap(env.observe)(state), state, steps, jnp.zeros(2))
        return episode.step(env, params, key, running, jnp.zeros(2, jnp.int32))

    together = jit(jax.vmap(run))(keys, offset, steps)
    for i in range(3):
        alone = run(keys[i], offset[i], steps[i])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6), together, alone)
    primitives = {eqn.primitive.name for eqn in jax.make_jaxpr(jax.vmap(run))(keys, offset, steps).jaxpr.eqns}
    assert "cond" in primitives


def reserved(env, spent, steps, key):
    """One step of two environments at `steps` steps, with starts 10 and 11 in reserve of which some are spent."""
    state, mine = WalkState(jnp.array([1.0, 2.0]), steps), WalkState(jnp.array([10.0, 11.0]), jnp.zeros(2, jnp.int32))
    running = episode.EpisodeState(jax.vmap(env.observe)(state), state, steps, jnp.zeros(2))
    reserve = episode.Reserve(jax.vmap(env.observe)(mine), mine, spent)
    return episode.step_with_reserve(env, WalkParams(), key, running, jnp.zeros(2, jnp.int32), reserve)


def test_a_reserve_is_renewed_when_a_spent_start_is_needed():
    env, key = Walk(), jax.random.key(1)
    drawn = episode.initial(env, WalkParams(), jax.random.split(key)[1], 2)[1].offset
    cases = [  # which end, which are spent -> starts of the two after the step, what is left, which are spent
        ([0, 0], [0, 0], [1, 2], [10, 11], [0, 0]),
        ([1, 0], [0, 0], [10, 2], [10, 11], [1, 0]),
        ([0, 1], [1, 0], [1, 11], [10, 11], [1, 1]),  # the spent one is not needed
        ([1, 0], [1, 0], [drawn[0], 2], [drawn[0], 11], [1, 0]),
        ([1, 0], [1, 1], [drawn[0], 2], [drawn[0], drawn[1]], [1, 0]),  # the other is drawn anew for later
        ([1, 1], [0, 1], [10, drawn[1]], [10, drawn[1]], [1, 1]),
    ]
    for ending, spent, offsets, left, still_spent in cases:
        following, ts, reserve = reserved(env, jnp.array(spent, bool), 2 * jnp.array(ending), key)
        np.testing.assert_array_equal(ts.terminated, np.array(ending, bool))
        np.testing.assert_array_equal(following.state.offset, np.float32(offsets))
        np.testing.assert_array_equal(reserve.state.offset, np.float32(left))
        np.testing.assert_array_equal(reserve.obs[:, 0], np.float32(left))
        np.testing.assert_array_equal(reserve.spent, np.array(still_spent, bool))


def test_a_reserve_belongs_to_its_run():
    """A run that is short of a start changes nothing in the runs beside it, and the branch survives vmap."""
    env, keys = Walk(), jax.random.split(jax.random.key(0), 3)
    steps = jnp.array([[0, 0], [2, 2], [0, 2]], jnp.int32)
    spent = jnp.array([[True, True], [True, True], [True, False]])
    one = functools.partial(reserved, env)
    together = jit(jax.vmap(one))(spent, steps, keys)
    for i in range(3):
        assert_same(jax.tree.map(lambda leaf, i=i: leaf[i], together), jit(one)(spent[i], steps[i], keys[i]))
    primitives = {eqn.primitive.name for eqn in jax.make_jaxpr(jax.vmap(one))(spent, steps, keys).jaxpr.eqns}
    assert "cond" in primitives


def test_random_steps_differ_within_a_batch():
    for _, action, ts, _ in play(Walk(max_steps=3, noisy=True), WalkParams(), 4):
        assert len(np.unique(ts.reward - 0.5 * action)) == BATCH


def test_select_takes_whole_rows():
    mask = jnp.array([True, False])
    a, b = {"x": jnp.ones((2, 3)), "y": jnp.ones(2)}, {"x": jnp.zeros((2, 3)), "y": jnp.zeros(2)}
    chosen = episode.select(mask, a, b)
    np.testing.assert_array_equal(chosen["x"], [[1, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(chosen["y"], [1, 0])
