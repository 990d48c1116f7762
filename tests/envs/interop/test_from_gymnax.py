"""gymnax's environments behind our interface: terminations and time limits told apart; our CartPole and gymnax's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import episode, spaces
from envs.classic_control import cartpole
from envs.interop.from_gymnax import from_gymnax

gymnax = pytest.importorskip("gymnax")

# What gymnax 0.0.9 asks of JAX that it does not have by default, or not for much longer.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64"),
    pytest.mark.filterwarnings("ignore:scatter inputs have incompatible types"),
]

LIMIT, BATCH = 5, 4
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def play(env, params, length):
    """Random actions; returns (episode states before, actions, time steps), each [length, BATCH, ...]."""

    @jit
    def run(key):
        key_reset, key_act, key = jax.random.split(key, 3)
        actions = jax.vmap(jax.vmap(lambda key: spaces.sample(env.action_space, key)))(
            jax.random.split(key_act, (length, BATCH))
        )

        def body(state, xs):
            action, key = xs
            following, ts = episode.step(env, params, key, state, action)
            return following, (state, action, ts)

        state = episode.reset(env, params, key_reset, BATCH)
        return jax.lax.scan(body, state, (actions, jax.random.split(key, length)))[1]

    return jax.device_get(run(jax.random.key(0)))


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "MountainCar-v0", "Breakout-MinAtar"])
def test_the_time_limit_is_no_termination(name):
    theirs, their_params = gymnax.make(name)
    their_params = their_params.replace(max_steps_in_episode=LIMIT)
    env, params = from_gymnax(theirs, their_params)
    assert env.max_steps == LIMIT
    assert "max_steps_in_episode" not in params._fields
    before, actions, ts = play(env, params, 4 * LIMIT)
    np.testing.assert_array_equal(ts.truncated, before.t + 1 == LIMIT)
    assert ts.truncated.sum() >= BATCH
    assert not (ts.terminated & ts.truncated).any()  # nothing ends so early by itself, except in Breakout
    for t in range(4 * LIMIT):
        for b in range(BATCH):
            assert spaces.contains(env.observation_space, jax.tree.map(lambda leaf: leaf[t, b], ts.next_obs))  # noqa: B023
    if hasattr(theirs, "is_truncated"):
        return  # gymnax 1.0 tells them apart itself
    # gymnax's own flag is raised by both.
    at = jax.tree.map(lambda leaf: jnp.asarray(leaf).reshape(-1, *leaf.shape[2:]), (before.state, actions))
    keys = jax.random.split(jax.random.key(0), 4 * LIMIT * BATCH)
    done = jit(jax.vmap(theirs.step_env, in_axes=(0, 0, 0, None)))(keys, *at, their_params)[3]
    assert np.asarray(done).reshape(ts.truncated.shape)[ts.truncated].all()


def test_terminations_of_the_mdp_remain():
    """Thrown off the rail at the limit: both flags; away from it: the termination alone; and the limit can be moved."""
    theirs, their_params = gymnax.make("CartPole-v1")
    env, params = from_gymnax(theirs, their_params.replace(max_steps_in_episode=LIMIT))
    state = env.reset(jax.random.key(0), params)[1]
    step = jit(env.step)
    lost, safe = state.replace(x=jnp.float32(2.39), x_dot=jnp.float32(3.0)), state
    for time in (0, LIMIT - 1, LIMIT + 7):
        for start, expected in ((lost, True), (safe, False)):
            out = step(jax.random.key(0), start.replace(time=jnp.int32(time)), jnp.int32(1), params)
            assert out.terminated == expected
            assert not out.truncated  # by our clock alone
            assert out.reward == 1.0
    longer = env.replace(max_steps=3 * LIMIT)
    ts = play(longer, params, 4 * LIMIT)[2]
    assert not (ts.truncated[: 3 * LIMIT - 1]).any()


def test_ours_against_gymnax_step_for_step():
    """Random states put into both CartPoles; whole episodes from the same start."""
    env, params = from_gymnax("CartPole-v1")
    ours, our_params = envs.make("CartPole-v1", x_limit=params.x_threshold, theta_limit=params.theta_threshold_radians)
    rng = np.random.default_rng(0)
    rows = rng.uniform([-2.5, -4, -0.25, -4], [2.5, 4, 0.25, 4], (5000, 4)).astype(np.float32)
    actions = rng.integers(2, size=5000).astype(np.int32)
    state = env.reset(jax.random.key(0), params)[1]
    theirs = jax.vmap(lambda row: state.replace(x=row[0], x_dot=row[1], theta=row[2], theta_dot=row[3]))(rows)
    a = jit(jax.vmap(env.step, in_axes=(None, 0, 0, None)))(jax.random.key(0), theirs, actions, params)
    b = jit(jax.vmap(ours.step, in_axes=(None, 0, 0, None)))(
        jax.random.key(0), cartpole.State(*rows.T), actions, our_params
    )
    np.testing.assert_allclose(a.obs, b.obs, rtol=1e-5, atol=2e-6)
    edge = np.minimum(np.abs(np.abs(a.obs[:, 0]) - 2.4), np.abs(np.abs(a.obs[:, 2]) - our_params.theta_limit)) < 1e-5
    np.testing.assert_array_equal(a.terminated[~edge], b.terminated[~edge])
    assert a.terminated.sum() > 500
    # gymnax pays nothing for steps out of states that are over already; no episode has any.
    inside = (np.abs(rows[:, 0]) <= 2.4) & (np.abs(rows[:, 2]) <= our_params.theta_limit)
    np.testing.assert_array_equal(a.reward[inside], b.reward[inside])
    assert env.action_space == ours.action_space
    assert env.max_steps == ours.max_steps == 500


def test_observed_time_keeps_its_scale():
    env, params = from_gymnax("DiscountingChain-bsuite")
    assert env.max_steps == 100
    before, _, ts = play(env, params, 110)
    np.testing.assert_allclose(ts.next_obs[..., 1], (before.t + 1) / 100)
    assert not ts.terminated.any()
    np.testing.assert_array_equal(ts.truncated, before.t == 99)


def test_parameters_are_ours_to_change():
    env, params = from_gymnax("Pendulum-v1", max_steps=50)
    assert env.max_steps == 50
    _, state = env.reset(jax.random.key(0), params)
    step = jit(jax.vmap(env.step, in_axes=(None, None, None, 0)))
    many = jax.tree.map(lambda leaf: np.repeat(leaf[None], 2, 0), params)._replace(g=np.array([10.0, 0.0], np.float32))
    out = step(jax.random.key(0), state, jnp.zeros(1), many)
    theta, speed = out.state.theta, out.state.theta_dot
    assert speed[0] != speed[1]
    np.testing.assert_allclose(speed[1], state.theta_dot, rtol=1e-6)
    assert theta.shape == (2,)


def test_bad_input():
    with pytest.raises(envs.InputError, match=r"unknown gymnax environment 'CartPol-v1'. Did you mean 'CartPole-v1'"):
        from_gymnax("CartPol-v1")
    env, params = from_gymnax("CartPole-v1")
    with pytest.raises(envs.InputError, match="Visualizer"):
        env.render(env.reset(jax.random.key(0), params)[1], params)
