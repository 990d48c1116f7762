import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.errors import InputError
from jaxrl import n_step
from jaxrl.types import Transition

extend = jax.jit(n_step.extend, static_argnums=3)


def steps(rewards, terminated=(), truncated=(), first=0):
    """One environment: the observation acted on at time t is t, the true successor 100 + t."""
    t = jnp.arange(first, first + len(rewards))
    flags = [jnp.isin(t, jnp.asarray(which, jnp.int32)) for which in (terminated, truncated)]
    column = jax.tree.map(lambda x: x[:, None], (t, jnp.asarray(rewards, jnp.float32), *flags))
    obs, reward, ended, cut = column
    return Transition(obs, obs % 2, reward, ended, cut, 100 + obs, ())


def test_by_hand():
    """γ = ½, n = 3: an episode of six steps whose fourth is cut by the time limit and whose sixth terminates."""
    window, out = extend((), steps([1, 2, 4, 8, 16, 32, 64, 128], [5], [3]), 0.5, 3)
    np.testing.assert_array_equal(out.obs[:, 0], [0, 1, 2, 3, 4, 5])
    # start 0: 1 + 2/2 + 4/4; 1: 2 + 4/2 + 8/4; 2: 4 + 8/2, cut; 3: 8; 4: 16 + 32/2, the end; 5: 32
    np.testing.assert_array_equal(out.reward[:, 0], [3, 6, 8, 8, 32, 32])
    np.testing.assert_array_equal(out.discount[:, 0], [1 / 8, 1 / 8, 1 / 4, 1 / 2, 0, 0])
    np.testing.assert_array_equal(out.next_obs[:, 0], [102, 103, 103, 103, 105, 105])
    np.testing.assert_array_equal(out.terminated[:, 0], [False, False, False, False, True, True])
    np.testing.assert_array_equal(out.truncated[:, 0], [False, True, True, True, False, False])
    np.testing.assert_array_equal(out.action[:, 0], [0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(window.obs[:, 0], [6, 7])
    np.testing.assert_array_equal(n_step.discount(out, 0.9), out.discount)


def test_one_step_is_the_transition_itself():
    given = steps([1.0, 2.0], [1])
    window, out = n_step.extend((), given, 0.9, 1)
    assert window == ()
    assert out is given
    assert n_step.stored(given, 1) is given
    np.testing.assert_allclose(n_step.discount(out, 0.9)[:, 0], [0.9, 0.0])


def brute_force(r, terminated, truncated, gamma, n, t):
    """(reward, discount, index of the last step) of the start t, by the definition."""
    total, factor = 0.0, 1.0
    for i in range(t, t + n):
        total, factor = total + factor * r[i], factor * gamma
        if terminated[i] or truncated[i]:
            break
    return total, factor * (not terminated[i]), i


@pytest.mark.parametrize("length", [1, 3])
def test_a_window_carried_through_rollouts_emits_each_start_once(length):
    n, gamma, num_envs, total = 4, 0.9, 5, 48
    rng = np.random.default_rng(0)
    r = rng.normal(size=(total, num_envs)).astype(np.float32)
    terminated, truncated = rng.random((2, total, num_envs)) < 0.15
    assert (terminated & truncated).any()
    t = np.repeat(np.arange(total)[:, None], num_envs, 1)
    obs = {"a": t, "b": np.stack([t, t], -1).astype(np.float32)}
    every = Transition(obs, t, r, terminated, truncated, jax.tree.map(lambda x: x + 100, obs), ())

    def cut(a, b):
        return jax.tree.map(lambda x: jnp.asarray(x[a:b]), every)

    first = n - 1 + length
    window, out = extend((), cut(0, first), gamma, n)
    emitted = [out]
    for start in range(first, total, length):
        window, out = extend(window, cut(start, start + length), gamma, n)
        assert out.reward.shape == (length, num_envs)
        emitted.append(out)
    out = jax.tree.map(lambda *x: np.concatenate(x), *emitted)
    starts = total - n + 1
    np.testing.assert_array_equal(out.obs["a"], t[:starts])
    for s in range(starts):
        for b in range(num_envs):
            reward, discount, last = brute_force(r[:, b], terminated[:, b], truncated[:, b], gamma, n, s)
            np.testing.assert_allclose(out.reward[s, b], reward, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(out.discount[s, b], discount, rtol=1e-5)
            assert out.next_obs["a"][s, b] == last + 100
            assert (out.next_obs["b"][s, b] == last + 100).all()
            assert out.terminated[s, b] == terminated[last, b]
            assert out.truncated[s, b] == truncated[last, b]


def test_stored_has_the_shapes_of_what_is_emitted():
    given = steps(range(5))
    _, out = jax.eval_shape(lambda steps: n_step.extend((), steps, 0.9, 2), given)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), given)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), out)
    assert n_step.stored(one, 2) == shapes


def test_bad_input():
    with pytest.raises(InputError, match="n_step=0"):
        n_step.extend((), steps([1.0]), 0.9, 0)
    with pytest.raises(InputError, match=r"2 steps are too few .* n_step=3"):
        n_step.extend((), steps([1.0, 1.0]), 0.9, 3)
