import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import returns


def test_bellman_worked_example():
    """A -5-> B -2-> C -1-> C for ever at γ = 0.9: V(C) = 10, V(B) = 11, V(A) = 14.9."""
    v_c = 1 / (1 - 0.9)
    for lam in (0.0, 0.5, 1.0):
        # With the exact values as bootstrap every λ gives the exact values.
        r, discount = jnp.array([5.0, 2.0, 1.0]), jnp.full(3, 0.9)
        got = returns.lambda_returns(r, discount, jnp.array([11.0, v_c, v_c]), jnp.full(3, lam))
        np.testing.assert_allclose(got, [14.9, 11.0, 10.0], rtol=1e-6)


def test_by_hand():
    r = jnp.array([1.0, 2.0, 3.0])
    discount, v = jnp.full(3, 0.5), jnp.array([10.0, 20.0, 40.0])
    np.testing.assert_allclose(returns.lambda_returns(r, discount, v, jnp.zeros(3)), [6.0, 12.0, 23.0])
    # λ = 1: 3 + 0.5·40 = 23; 2 + 0.5·23 = 13.5; 1 + 0.5·13.5 = 7.75
    np.testing.assert_allclose(returns.lambda_returns(r, discount, v, jnp.ones(3)), [7.75, 13.5, 23.0])
    # λ = 0.5: 23; 2 + 0.5(0.5·20 + 0.5·23) = 12.75; 1 + 0.5(0.5·10 + 0.5·12.75) = 6.6875
    np.testing.assert_allclose(returns.lambda_returns(r, discount, v, jnp.full(3, 0.5)), [6.6875, 12.75, 23.0])


def gae_loop(r, terminated, truncated, v_tm1, v_t, gamma, lam):
    """The textbook sum of discounted TD errors, episode by episode, in plain Python."""
    advantage, running = np.zeros_like(r), 0.0
    for t in reversed(range(len(r))):
        delta = r[t] + gamma * v_t[t] * (not terminated[t]) - v_tm1[t]
        if terminated[t] or truncated[t]:
            running = 0.0
        running = delta + gamma * lam * running
        advantage[t] = running
    return advantage


@pytest.mark.parametrize("lam", [0.0, 0.7, 0.95, 1.0])
def test_gae_equals_a_loop_with_both_endings_in_mid_rollout(lam):
    rng = np.random.default_rng(0)
    steps, batch = 40, 5
    r, v_tm1, v_t = rng.normal(size=(3, steps, batch)).astype(np.float32)
    terminated = rng.random((steps, batch)) < 0.1
    truncated = rng.random((steps, batch)) < 0.1
    assert (terminated & truncated).any()
    # Where an episode goes on, the successor is the next state acted on.
    v_t[:-1] = np.where((terminated | truncated)[:-1], v_t[:-1], v_tm1[1:])
    discount, lambda_t = returns.cuts(jnp.asarray(terminated), jnp.asarray(truncated), 0.99, lam)
    advantage, target = returns.gae(jnp.asarray(r), discount, jnp.asarray(v_tm1), jnp.asarray(v_t), lambda_t)
    for b in range(batch):
        want = gae_loop(r[:, b], terminated[:, b], truncated[:, b], v_tm1[:, b], v_t[:, b], 0.99, lam)
        np.testing.assert_allclose(advantage[:, b], want, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(target, advantage + v_tm1, rtol=1e-4, atol=1e-5)


def test_truncation_bootstraps_and_termination_does_not():
    r, v_t = jnp.array([1.0, 1.0]), jnp.array([7.0, 50.0])
    flags = jnp.array([True, False])
    no = jnp.zeros(2, bool)
    cut = returns.lambda_returns(r, *interleaved(returns.cuts(no, flags, 0.9, 1.0), v_t))
    np.testing.assert_allclose(cut[0], 1 + 0.9 * 7.0)  # the value of the true successor, nothing beyond it
    end = returns.lambda_returns(r, *interleaved(returns.cuts(flags, no, 0.9, 1.0), v_t))
    np.testing.assert_allclose(end[0], 1.0)
    both = returns.lambda_returns(r, *interleaved(returns.cuts(flags, flags, 0.9, 1.0), v_t))
    np.testing.assert_allclose(both[0], 1.0)


def interleaved(cuts, v_t):
    discount, lam = cuts
    return discount, v_t, lam


def test_equals_rlax(rlax):
    rng = np.random.default_rng(1)
    r, v_t = rng.normal(size=(2, 30)).astype(np.float32)
    discount = np.where(rng.random(30) < 0.2, 0.0, 0.97).astype(np.float32)
    lam = rng.random(30).astype(np.float32)
    want = rlax.lambda_returns(r, discount, v_t, lam)
    np.testing.assert_allclose(returns.lambda_returns(*map(jnp.asarray, (r, discount, v_t, lam))), want, rtol=1e-5)


def test_vtrace_equals_rlax(rlax):
    rng = np.random.default_rng(2)
    r, v = rng.normal(size=(2, 31)).astype(np.float32)
    r, v_tm1, v_t = r[:-1], v[:-1], v[1:]
    discount = np.where(rng.random(30) < 0.2, 0.0, 0.97).astype(np.float32)
    rho = np.exp(rng.normal(size=30)).astype(np.float32)
    for lam, clip, clip_pg in ((1.0, 1.0, 1.0), (0.8, 1.5, 0.7)):
        want = rlax.vtrace_td_error_and_advantage(v_tm1, v_t, r, discount, rho, lam, clip, clip_pg)
        arguments = map(jnp.asarray, (r, discount, v_tm1, v_t, rho, np.full(30, lam, np.float32)))
        advantage, target = returns.vtrace(*arguments, clip, clip_pg)
        np.testing.assert_allclose(target - v_tm1, want.errors, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(advantage, want.pg_advantage, rtol=1e-4, atol=1e-5)


def test_vtrace_on_policy_is_gae_with_lambda_one_and_stops_where_an_episode_is_cut():
    rng = np.random.default_rng(3)
    r, v_tm1, v_t = (jnp.asarray(x) for x in rng.normal(size=(3, 20, 2)).astype(np.float32))
    flags = jnp.asarray(rng.random((2, 20, 2)) < 0.15)
    ended = np.asarray(flags[0] | flags[1])
    v_t = v_t.at[:-1].set(jnp.where(ended[:-1], v_t[:-1], v_tm1[1:]))
    discount, lam = returns.cuts(*flags, 0.9, 1.0)
    advantage, target = returns.vtrace(r, discount, v_tm1, v_t, jnp.ones_like(r), lam)
    want_advantage, want = returns.gae(r, discount, v_tm1, v_t, lam)
    np.testing.assert_allclose(target, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(advantage, want_advantage, rtol=1e-4, atol=1e-5)


def test_successor_values_are_the_critics_wherever_they_count():
    rng = np.random.default_rng(4)
    obs, next_obs = rng.normal(size=(2, 5, 12, 3, 2)).astype(np.float32)  # [runs, T, B, ...]
    terminated, truncated = rng.random((2, 5, 12, 3)) < 0.3
    truncated[0], terminated[1] = True, False  # a run cut at every step, one that never terminates,
    truncated[2] = terminated[2] = False  # one without an ending
    goes_on = ~(terminated | truncated)[:, :-1, :, None]
    next_obs[:, :-1] = np.where(goes_on, obs[:, 1:], next_obs[:, :-1])

    def value(obs):
        return jnp.sin(obs["x"][..., 0]) + obs["x"][..., 1]

    def of_run(obs, next_obs, truncated):
        return returns.successor_values(value, value({"x": obs}), {"x": next_obs}, truncated)

    got = jax.jit(jax.vmap(of_run))(obs, next_obs, truncated)
    counts = ~terminated | truncated
    np.testing.assert_allclose(got[counts], np.asarray(value({"x": next_obs}))[counts], rtol=1e-6)
    assert np.isfinite(got).all()
    for run in range(5):  # the others of a batch change nothing
        np.testing.assert_allclose(of_run(obs[run], next_obs[run], truncated[run]), got[run], rtol=1e-6)


def test_successor_values_ask_for_the_last_and_the_truncated_steps_alone():
    asked = []

    def value(obs):
        jax.debug.callback(lambda x: asked.append(np.asarray(x)), obs, ordered=True)
        return obs * 10.0

    next_obs = np.arange(12, dtype=np.float32).reshape(6, 2)
    truncated = np.zeros((6, 2), bool)
    truncated[1, 0] = truncated[3, 0] = True
    got = returns.successor_values(value, np.full((6, 2), -1.0, np.float32), next_obs, truncated)
    jax.effects_barrier()
    want = np.full((6, 2), -1.0)
    want[1, 0], want[3, 0], want[5] = 20, 60, (100, 110)
    np.testing.assert_array_equal(got, want)
    assert [x[0] for x in asked] == [2, 6, 10]


def test_successor_values_pass_no_gradient():
    def total(w):
        v_tm1 = w * jnp.arange(6.0).reshape(3, 2)
        v_t = returns.successor_values(lambda obs: 2 * obs, v_tm1, jnp.ones((3, 2)), jnp.zeros((3, 2), bool))
        return (v_t + v_tm1).sum()

    assert jax.grad(total)(3.0) == 15.0
