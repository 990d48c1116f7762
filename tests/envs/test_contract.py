"""What every registered environment promises, checked over the whole registry on one short recorded rollout each."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import episode, spaces, threefry
from envs.wrappers import Wrapper

LIMIT, STEPS, BATCH = 5, 24, 4

# Every program here runs once on a handful of numbers: half the time of a compilation is optimisation wasted on that.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Record(NamedTuple):
    """A rollout of random actions under a time limit of LIMIT steps; leaves are NumPy arrays [STEPS, BATCH, ...]."""

    name: str
    env: Any  # with the short time limit
    params: Any
    keys: jax.Array  # [STEPS] what episode.step was given
    start_keys: jax.Array  # [STEPS + 1, BATCH] what reset was given
    starts: Any  # (obs, state) that reset returned, [STEPS + 1, BATCH, ...]
    before: episode.EpisodeState
    action: Any
    step: episode.TimeStep
    after: episode.EpisodeState


class Made(NamedTuple):
    """An environment with the short time limit."""

    name: str
    env: Any
    params: Any


@functools.lru_cache(maxsize=1)
def record(name):
    """Few and small programs, since compilation is the cost of this file: random numbers above all."""
    env, params = envs.make(name, max_steps=LIMIT)
    keys = jax.random.split(jax.random.key(7), STEPS)
    start_keys = jax.random.split(jax.random.key(8), (STEPS + 1, BATCH))
    rng = np.random.default_rng(9)
    action = stack([stack([draw(env.action_space, rng) for _ in range(BATCH)]) for _ in range(STEPS)])
    starts = jit(jax.vmap(jax.vmap(env.reset, in_axes=(0, None)), in_axes=(0, None)))(start_keys, params)

    @jit
    def run(params, before, keys, action, starts):
        def body(state, xs):
            key, action, start = xs
            following, ts = episode.step(env, params, key, state, action, start)
            return following, (state, ts, following)

        return jax.lax.scan(body, before, (keys, action, starts))[1]

    obs, state = at(starts, 0)
    first = episode.EpisodeState(obs, state, jnp.zeros(BATCH, jnp.int32), jnp.zeros(BATCH, jnp.float32))
    recorded = run(params, first, keys, action, at(starts, slice(1, None)))
    starts, (before, ts, after) = jax.device_get((starts, recorded))
    return Record(name, env, params, keys, start_keys, starts, before, action, ts, after)


def draw(space, rng):
    """One random element, on the host."""
    if isinstance(space, dict):
        return {name: draw(part, rng) for name, part in space.items()}
    if isinstance(space, tuple):
        return tuple(draw(part, rng) for part in space)
    if isinstance(space, spaces.Box):
        value = rng.uniform(np.maximum(space.lower, -1e3), np.minimum(space.upper, 1e3), space.shape)
        return value.astype(space.dtype)
    return rng.integers(space.n if isinstance(space, spaces.Discrete) else space.nvec, dtype=np.int32)


def stack(elements):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *elements)


def layers(env):
    """The classes of an environment and of what it wraps, from the outside in."""
    return (type(env), *(layers(env.env) if isinstance(env, Wrapper) else ()))


# A class that has several names is run under the first of them; the others are traced.
FIRST = list({layers(envs.make(name)[0]): name for name in reversed(envs.names())}.values())


@pytest.fixture(scope="module", params=FIRST)
def case(request):
    """A recorded run."""
    return record(request.param)


@pytest.fixture(params=envs.names())
def made(request):
    """Every name."""
    return Made(request.param, *envs.make(request.param, max_steps=LIMIT))


@functools.lru_cache(maxsize=2)
def jitted_step(env):
    return jit(env.step)


def at(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def assert_close(a, b, **tolerance):
    """Equal structure and shapes; floats within rounding of another order of summation, everything else exactly."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = plain(x), plain(y)
        assert x.shape == y.shape
        if np.issubdtype(x.dtype, np.floating):
            np.testing.assert_allclose(x, y, **{"rtol": 1e-4, "atol": 1e-4, **tolerance})
        else:
            np.testing.assert_array_equal(x, y)


def plain(leaf):
    """A NumPy array, also of a typed key."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def space_types(space):
    """The shapes and dtypes of a space's elements, as a pytree."""
    if isinstance(space, dict):
        return {name: space_types(part) for name, part in space.items()}
    if isinstance(space, tuple):
        return tuple(map(space_types, space))
    return jax.ShapeDtypeStruct(space.shape, space.dtype)


def types(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def abstract(case):
    """Types of (obs, state) after a reset, and of a Step."""
    key = jax.random.key(0)
    obs, state = jax.eval_shape(case.env.reset, key, case.params)
    action = space_types(case.env.action_space)
    return obs, state, jax.eval_shape(case.env.step, key, state, action, case.params)


def uses_key(function, *arguments):
    """Whether a function of (key, ...) reads its key."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    key = jaxpr.invars[0]
    return any(v is key for eqn in jaxpr.eqns for v in eqn.invars) or any(v is key for v in jaxpr.outvars)


def test_instances_are_static_and_equal_by_value(made):
    again, _ = envs.make(made.name, max_steps=LIMIT)
    assert made.env == again
    assert hash(made.env) == hash(again)
    assert made.env.max_steps == LIMIT
    assert dataclasses.is_dataclass(made.env)


def test_params_are_arrays_of_a_fixed_dtype(made):
    for leaf in jax.tree.leaves(made.params):
        assert isinstance(leaf, np.ndarray)
        assert leaf.dtype in (np.float32, np.int32, np.bool_, np.uint8, np.uint32), leaf.dtype


def test_shapes_and_dtypes(made):
    obs, state, step = abstract(made)
    expected = types(space_types(made.env.observation_space))
    assert types(obs) == expected
    assert types(step.obs) == expected
    assert types(step.state) == types(state)
    assert types(step.reward) == ((), np.dtype(np.float32))
    assert types(step.terminated) == ((), np.dtype(np.bool_))
    assert isinstance(step.info, dict)


def test_an_observation_made_of_the_state_is_that_of_reset_and_step(case):
    arrange = jax.vmap(jax.vmap(case.env.as_observation, (0, None)), (0, None))
    obs, state = case.starts
    made = arrange(state, case.params)
    if made is None:
        pytest.skip("observations are not made of states alone")
    assert_close(made, obs)
    goes_on = ~(case.step.terminated | case.step.truncated)
    after = arrange(case.after.state, case.params)
    np.testing.assert_allclose(
        np.asarray(after)[goes_on], np.asarray(case.step.next_obs)[goes_on], rtol=1e-5, atol=1e-6
    )


def test_params_can_be_vmapped(made):
    """Shapes do not depend on params, and no Python branch reads them."""
    obs, state, step = abstract(made)
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), made.params)
    if not jax.tree.leaves(params):
        pytest.skip("no parameters")
    key = jax.random.key(0)
    batched = jax.eval_shape(jax.vmap(made.env.reset, in_axes=(None, 0), axis_size=2), key, params)
    assert [leaf.shape for leaf in jax.tree.leaves(batched)] == [
        (2, *leaf.shape) for leaf in jax.tree.leaves((obs, state))
    ]
    action = space_types(made.env.action_space)
    batched = jax.eval_shape(jax.vmap(made.env.step, in_axes=(None, None, None, 0)), key, state, action, params)
    assert [leaf.shape for leaf in jax.tree.leaves(batched)] == [(2, *leaf.shape) for leaf in jax.tree.leaves(step)]


def test_observations_are_in_the_space(case):
    for t in range(STEPS):
        for b in range(BATCH):
            for obs in (at(case.before.obs, t, b), at(case.step.next_obs, t, b)):
                assert spaces.contains(case.env.observation_space, obs), (t, b, obs)


def test_clock_and_flags(case):
    """Both flags, the clock and the statistics agree with a plain loop over what was recorded."""
    ts = case.step
    t, total = np.zeros(BATCH, int), np.zeros(BATCH)
    for i in range(STEPS):
        t, total = t + 1, total + ts.reward[i]
        np.testing.assert_array_equal(ts.truncated[i], t >= LIMIT)
        ended = ts.terminated[i] | ts.truncated[i]
        np.testing.assert_array_equal(ts.stats.count[i], ended)
        np.testing.assert_array_equal(ts.stats.length_sum[i], np.where(ended, t, 0))
        np.testing.assert_allclose(ts.stats.return_sum[i], np.where(ended, total, 0), rtol=1e-5, atol=1e-5)
        t, total = np.where(ended, 0, t), np.where(ended, 0, total)
        np.testing.assert_array_equal(case.after.t[i], t)
    # Some environments always end sooner: a bandit after one step.
    assert ts.truncated.any() or ts.terminated.any(0).all(), "the short limit was never reached"


def test_next_obs_is_the_true_successor_and_vmap_equals_a_loop(case):
    """Each step alone, unbatched and from the recorded state, gives what the batch gave: also where episodes end."""
    step = jitted_step(case.env)
    ended = case.step.terminated | case.step.truncated
    checked = [t for t in range(STEPS) if t < 2 or ended[t].any()][:8]
    for t in checked:
        key_step, _ = jax.random.split(case.keys[t])
        keys = threefry.consecutive(key_step, BATCH) if case.env.random_step else [key_step] * BATCH
        for b in range(BATCH):
            out = step(keys[b], at(case.before.state, t, b), at(case.action, t, b), case.params)
            assert_close(out.obs, at(case.step.next_obs, t, b))
            assert_close(out.reward, case.step.reward[t, b])
            assert_close(out.terminated, case.step.terminated[t, b])
            if not ended[t, b]:
                assert_close(out.state, at(case.after.state, t, b))
                assert_close(out.obs, at(case.after.obs, t, b))
    assert ended[checked].any()


def test_jit_equals_eager(case):
    key, state, action = jax.random.key(3), at(case.before.state, 1, 0), at(case.action, 1, 0)
    eager = case.env.step(key, state, action, case.params)
    assert_close(eager, jitted_step(case.env)(key, state, action, case.params))


def test_random_step_says_whether_the_key_is_used(case):
    """A False that is not true would give all environments of a batch the same noise; a needless True costs splits."""
    state, action = at(case.before.state, 1, 0), at(case.action, 1, 0)
    used = uses_key(case.env.step, jax.random.key(0), state, action, case.params)
    if case.env.random_step:
        assert used
        return
    if not used:
        return  # the traced program proves it
    # Handed on but perhaps without effect: compare results.
    step = jitted_step(case.env)
    for t in range(4):
        state, action = at(case.before.state, t, 0), at(case.action, t, 0)
        a, b = (step(jax.random.key(seed), state, action, case.params) for seed in (1, 2))
        assert_close(a, b, rtol=0, atol=0)


def test_starts_vary_if_reset_uses_its_key(case):
    if not uses_key(case.env.reset, jax.random.key(0), case.params):
        pytest.skip("one fixed start")
    leaves = [plain(leaf).reshape((STEPS + 1) * BATCH, -1) for leaf in jax.tree.leaves(case.starts)]
    assert any(len(np.unique(leaf, axis=0)) > 1 for leaf in leaves)


def test_a_new_episode_starts_where_the_old_one_ended(case):
    ended = case.step.terminated | case.step.truncated
    for t, b in zip(*np.nonzero(ended), strict=True):
        assert_close((at(case.after.obs, t, b), at(case.after.state, t, b)), at(case.starts, t + 1, b), rtol=0, atol=0)


def test_render(case):
    state = at(case.before.state, 1, 0)
    picture = case.env.render(state, case.params)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.min() < picture.max()
    np.testing.assert_array_equal(picture, case.env.render(state, case.params))
