"""The values that the probes promise, recomputed from their own dynamics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import episode, probes, spaces
from envs.errors import InputError

GAMMA = 0.9

# Programs that run for a few steps are not worth optimising.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
step = jit(episode.step, static_argnums=0)
TABLES = [probe for probe in probes.ALL if probe is not probes.Recall]


def model(probe):
    """Tables of a discrete probe by trying everything: mean reward f64[S, A], successor i64[S, A], ends bool[S, A]."""
    env, params = probe(tabular=True), probes.Params()
    reward, successor, ends = (np.zeros((env.num_states, 2)) for _ in range(3))
    keys = jax.random.split(jax.random.key(0), 400 if env.random_step else 1)
    many = jit(jax.vmap(env.step, in_axes=(0, None, None, None)))
    for s in range(env.num_states):
        for a in range(2):
            out = many(keys, probes.State(jnp.int32(s), jnp.float32(0)), jnp.int32(a), params)
            reward[s, a] = out.reward.mean()
            successor[s, a], ends[s, a] = out.obs[0], out.terminated[0]
    return reward, successor.astype(int), ends


@pytest.mark.parametrize("probe", TABLES, ids=lambda probe: probe.__name__)
def test_values_solve_the_bellman_equation(probe):
    reward, successor, ends = model(probe)
    q = np.zeros_like(reward)
    for _ in range(300):
        q = reward + GAMMA * (1 - ends) * q.max(-1)[successor]
    tolerance = 0.15 if probe is probes.RandomReward else 1e-5
    np.testing.assert_allclose(probe().action_values(GAMMA), q, atol=tolerance)
    np.testing.assert_allclose(probe().values(GAMMA), q.max(-1), atol=tolerance)


def start_states(env):
    """The state of every possible start, in order."""
    found = {}
    for seed in range(20):
        obs, state = env.reset(jax.random.key(seed), env.default_params())
        found[int(obs.argmax())] = state
    return [found[s] for s in range(env.num_starts)]


def returns(env, act):
    """Discounted return from each start under act(start, obs, t) -> action."""
    result = []
    for start, state in enumerate(start_states(env)):
        total, obs, terminated, t = 0.0, env.observe(state), False, 0
        while not terminated:
            out = env.step(None, state, act(start, obs, t), env.default_params())
            state, terminated = out.state, out.terminated
            total, obs, t = total + GAMMA**t * float(out.reward), env.observe(state), t + 1
        result.append(total)
    return result


@pytest.mark.parametrize("continuous", [False, True])
def test_recall_needs_memory(continuous):
    env = probes.Recall(continuous=continuous)

    def remember(start, obs, t):
        return jnp.array([start - 0.5]) if continuous else jnp.int32(start)

    def forget(start, obs, t):
        return jnp.zeros(1) if continuous else jnp.int32(0)

    np.testing.assert_allclose(returns(env, remember), env.values(GAMMA)[:2], atol=1e-6)
    expected = [-0.25 * GAMMA] * 2 if continuous else [GAMMA, -GAMMA]
    np.testing.assert_allclose(returns(env, forget), expected, atol=1e-6)


def test_recall_hides_the_cue():
    env = probes.Recall()
    _, state = env.reset(jax.random.key(0), probes.Params())
    for cue in (0.0, 1.0):
        out = env.step(jax.random.key(0), state._replace(memory=jnp.float32(cue)), 0, probes.Params())
        np.testing.assert_array_equal(out.obs, [0, 0, 1])


@pytest.mark.parametrize("probe", [probes.ActionReward, probes.ActionObservation])
def test_continuous_optima(probe):
    env = probe(continuous=True)

    def best(start, obs, t):
        return obs[1:2] - 0.5 if env.num_states == 2 else jnp.array([0.5])

    np.testing.assert_allclose(returns(env, best), env.values(GAMMA), atol=1e-7)
    np.testing.assert_allclose(returns(env, lambda *x: best(*x) + 0.25), -0.0625, atol=1e-6)


def test_value_of_the_uniform_continuous_policy():
    env = probes.ActionReward(continuous=True)
    actions = np.linspace(-1, 1, 2001)[:, None]
    state = probes.State(jnp.int32(0), jnp.float32(0))
    out = jax.vmap(lambda a: env.step(jax.random.key(0), state, a, probes.Params()))(actions)
    np.testing.assert_allclose(out.reward.mean(), -7 / 12, atol=1e-3)


def test_delayed_action_is_remembered_and_shown():
    env = probes.DelayedActionReward(continuous=True)
    obs, state = env.reset(jax.random.key(0), probes.Params())
    np.testing.assert_array_equal(obs, [1, 0, 0])
    one = env.step(jax.random.key(0), state, jnp.array([-0.25]), probes.Params())
    np.testing.assert_array_equal(one.obs, [0, 1, -0.25])
    assert float(one.reward) == 0
    assert not one.terminated
    two = env.step(jax.random.key(0), one.state, jnp.array([0.9]), probes.Params())
    np.testing.assert_allclose(two.reward, -(0.75**2))
    assert two.terminated
    assert spaces.contains(
        env.observation_space, np.asarray(env.step(None, state, jnp.array([7.0]), probes.Params()).obs)
    )


def play(env, steps, batch=2):
    params = env.default_params()
    state = episode.reset(env, params, jax.random.key(0), batch)
    for k in jax.random.split(jax.random.key(1), steps):
        following, ts = step(env, params, k, state, jnp.zeros(batch, jnp.int32))
        yield state, ts, following
        state = following


def test_time_limit_separates_every_treatment():
    """TD(0) in a table on real episodes converges to the documented value of each treatment."""
    data = [
        (int(s), float(r), int(n), int(f), bool(c))
        for before, ts, after in play(probes.TimeLimit(tabular=True), 6)
        for s, r, n, f, c in zip(before.obs, ts.reward, ts.next_obs, after.obs, ts.truncated, strict=True)
    ]
    assert {(s, n, f) for s, _, n, f, cut in data if cut} == {(2, 1, 0)}
    treatments = probes.Treatment.__args__
    for treatment in treatments:
        v = np.zeros(3)
        for _ in range(500):
            for s, r, n, f, cut in data:
                if cut and treatment == "masked":
                    continue
                following = {"bootstrapped": v[n], "masked": v[n], "terminal": 0.0, "reset": v[f], "stale": v[s]}
                target = r + GAMMA * (following[treatment] if cut else v[n])
                v[s] += 0.2 * (target - v[s])
        np.testing.assert_allclose(v, probes.TimeLimit().values(GAMMA, treatment), atol=1e-3)
    last = sorted(probes.TimeLimit().values(GAMMA, treatment)[2] for treatment in treatments)
    assert np.diff(last).min() > 0.9


def test_time_limit_documented_numbers():
    last = {t: probes.TimeLimit().values(0.9, t)[2] for t in probes.Treatment.__args__}
    expected = {"bootstrapped": 5.26, "terminal": 1, "reset": 3.69, "stale": 10, "masked": 0}
    assert {t: round(v, 2) for t, v in last.items()} == expected


@pytest.mark.parametrize(("limit", "flags"), [(None, (True, False)), (2, (True, True)), (1, (False, True))])
def test_delayed_reward_raises_each_flag(limit, flags):
    for _, ts, _ in play(probes.DelayedReward(max_steps=limit), 4):
        for terminated, truncated in zip(ts.terminated, ts.truncated, strict=True):
            if terminated or truncated:
                assert (bool(terminated), bool(truncated)) == flags


@pytest.mark.parametrize("probe", probes.ALL, ids=lambda probe: probe.__name__)
@pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
@pytest.mark.parametrize("tabular", [False, True], ids=["vector", "tabular"])
def test_every_version_runs_within_its_spaces(probe, tabular, continuous):
    if probe is probes.DelayedActionReward and tabular and continuous:
        with pytest.raises(InputError, match="tabular"):
            probe(tabular=True, continuous=True)
        return
    env = probe(tabular=tabular, continuous=continuous)
    params = env.default_params()
    key = jax.random.key(2)
    obs, state = env.reset(key, params)
    assert spaces.contains(env.observation_space, np.asarray(obs))
    action = spaces.sample(env.action_space, key)
    double = probes.Params(scale=2.0)
    for _ in range(2):
        out, twice = env.step(key, state, action, params), env.step(key, state, action, double)
        assert spaces.contains(env.observation_space, np.asarray(out.obs))
        assert out.obs.dtype == obs.dtype
        assert out.reward.dtype == jnp.float32
        assert out.terminated.dtype == jnp.bool_
        assert jax.tree.map(jnp.result_type, out.state) == jax.tree.map(jnp.result_type, state)
        assert float(twice.reward) == 2 * float(out.reward)
        state = out.state
    assert hash(env) == hash(probe(tabular=tabular, continuous=continuous))
    if continuous or probe is probes.Recall:
        with pytest.raises(InputError):
            env.action_values(GAMMA)


def test_starts_cover_both_states():
    keys = jax.random.split(jax.random.key(0), 64)
    for probe in (probes.ObservedReward, probes.ActionObservation, probes.Recall):
        obs, _ = jit(jax.vmap(probe(tabular=True).reset, in_axes=(0, None)))(keys, probes.Params())
        assert 16 < int(obs.sum()) < 48


@pytest.mark.parametrize("switches", [{}, {"tabular": True}, {"continuous": True}])
def test_the_chosen_probe_is_that_probe(switches):
    """Steps, starts and observations (where it has fewer states, the others' coordinates are 0)."""
    kinds = [kind for kind in probes.ALL if kind is not probes.Recall]
    if switches.get("tabular"):
        assert not any(probe.continuous for probe in probes.Chosen(**switches).probes)
    chosen = probes.Chosen(**switches)
    assert [type(probe) for probe in chosen.probes] == kinds
    for which, kind in enumerate(kinds):
        env, params = kind(**switches), probes.ChosenParams(scale=2.0, which=which)
        assert env.max_steps in (None, chosen.max_steps)
        np.testing.assert_array_equal(chosen.values(GAMMA)[which][: len(env.values(GAMMA))], env.values(GAMMA))
        _, state = env.reset(jax.random.key(3), probes.Params())
        found = {int(chosen.reset(jax.random.key(i), params)[1].index) for i in range(20)}
        assert found == set(range(env.num_starts))
        for t in range(4):
            action = jnp.array([0.3 * t]) if env.continuous else jnp.int32(t % 2)
            out, same = (
                one.step(jax.random.key(t), state, action, p)
                for one, p in ((env, probes.Params(2.0)), (chosen, params))
            )
            obs = np.zeros(3) if not env.tabular else same.obs
            if not env.tabular:
                obs[: env.num_states] = out.obs
            np.testing.assert_array_equal(same.obs, obs if not env.tabular else out.obs)
            for name in ("state", "reward", "terminated"):
                jax.tree.map(np.testing.assert_array_equal, getattr(same, name), getattr(out, name))
            state = out.state
