import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from envs.errors import InputError
from jaxrl.replay import prioritized, uniform
from jaxrl.types import Transition

SCALAR = jax.ShapeDtypeStruct((), jnp.int32)


def masses(state):
    return np.asarray(state.levels[0])


def filled_with(replay, errors, alpha=1.0):
    """A memory whose row i holds the number i and the given error."""
    num = len(errors)

    @jax.jit
    def fill(errors):
        state = replay.add(replay.init(), jnp.arange(num, dtype=jnp.int32))
        return replay.update_priorities(state, jnp.arange(num), errors, alpha)

    return fill(jnp.asarray(errors, jnp.float32))


class SumTree:
    """The textbook's: one binary heap in double precision, corrected and descended node by node."""

    def __init__(self, capacity):
        self.size = 1 << (capacity - 1).bit_length()
        self.nodes = np.zeros(2 * self.size)

    def set(self, i, mass):
        i += self.size
        self.nodes[i] = mass
        while i > 1:
            i //= 2
            self.nodes[i] = self.nodes[2 * i] + self.nodes[2 * i + 1]

    def find(self, target):
        i = 1
        while i < self.size:
            i *= 2
            if target >= self.nodes[i]:
                target, i = target - self.nodes[i], i + 1
        return i - self.size


@pytest.mark.parametrize("capacity", [1, 7, 8, 9, 100, 513])
def test_tree_agrees_with_a_textbook_sum_tree(capacity):
    """Random updates, then the leaf of targets all over the total: equal masses, sums and leaves."""
    rng = np.random.default_rng(capacity)
    replay, tree = prioritized.make(capacity, 1, SCALAR), SumTree(capacity)
    levels = replay.init().levels
    write, find = jax.jit(prioritized._set), jax.jit(prioritized._find)
    for _ in range(20):
        index = rng.choice(capacity, size=min(5, capacity), replace=False)
        mass = rng.random(len(index)).astype(np.float32)
        mass[0] = 0.0
        levels = write(levels, index, mass)
        for i, m in zip(index, mass, strict=True):
            tree.set(i, float(m))
    np.testing.assert_array_equal(levels[0][:capacity], tree.nodes[tree.size : tree.size + capacity].astype(np.float32))
    for child, parent in itertools.pairwise(levels):
        np.testing.assert_allclose(parent[: child.size // 8], child.reshape(-1, 8).sum(-1), rtol=1e-6)
        assert not parent[child.size // 8 :].any()
    np.testing.assert_allclose(levels[-1].sum(), tree.nodes[1], rtol=1e-6)
    bounds = np.concatenate([[0.0], np.cumsum(tree.nodes[tree.size : tree.size + capacity])])
    targets = rng.random(200).astype(np.float32) * np.float32(tree.nodes[1])
    # next to a bound rounding may choose the neighbour
    targets = targets[np.abs(targets[:, None] - bounds).min(1) > 1e-5 * tree.nodes[1]]
    index, mass = find(levels, targets)
    np.testing.assert_array_equal(index, [tree.find(t) for t in targets])
    np.testing.assert_array_equal(mass, levels[0][index])


def test_the_ends_of_the_range_find_leaves_with_a_mass():
    levels = filled_with(prioritized.make(100, 1, SCALAR), np.ones(100)).levels
    levels = jax.jit(prioritized._set)(levels, jnp.array([0, 1, 50, 98, 99]), jnp.zeros(5))
    total = levels[-1].sum()
    index, mass = jax.jit(prioritized._find)(levels, jnp.array([0.0, total, 2 * total]))
    np.testing.assert_array_equal(index, [2, 97, 97])
    np.testing.assert_allclose(mass, 1.0, rtol=1e-5)


def draw_many(replay, state, num):
    """`num` draws with independent keys, [num, batch_size]."""
    sample = jax.jit(lambda keys: jax.vmap(lambda key: replay.sample(state, key))(keys))
    return sample(jax.random.split(jax.random.key(1), num))


@pytest.mark.parametrize("alpha", [0.6, 1.0])
def test_draws_follow_the_priorities(alpha):
    """Chi-square of 40,000 independent draws against p^α / Σ p^α; what is drawn is its row, P(i) its probability."""
    errors = np.random.default_rng(0).exponential(size=90)
    errors[3] = 0.0
    want = (errors + 1e-6) ** alpha
    want = want / want.sum()
    replay = prioritized.make(120, 1, SCALAR)
    drawn = draw_many(replay, filled_with(replay, -errors, jnp.float32(alpha)), 40_000)  # a negative error counts alike
    index = np.asarray(drawn.index)[:, 0]
    np.testing.assert_array_equal(drawn.transitions[:, 0], index)
    np.testing.assert_allclose(drawn.probability[:, 0], want[index], rtol=1e-4)
    common = want * len(index) > 5
    counts = np.append(np.bincount(index, minlength=90)[common], np.sum(~common[index]))
    expected = len(index) * np.append(want[common], want[~common].sum())
    assert scipy.stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3


def test_a_batch_has_one_draw_from_each_stratum():
    """So no row is met two times more or less often than expected, in any batch; and on average as expected."""
    errors = np.random.default_rng(0).exponential(size=90)
    want = 64 * errors / errors.sum()
    replay = prioritized.make(120, 64, SCALAR)
    index = np.asarray(draw_many(replay, filled_with(replay, errors), 2000).index)
    assert (np.diff(index, axis=1) >= 0).all()
    counts = np.stack([np.bincount(row, minlength=90) for row in index])
    assert (np.abs(counts - want) < 2).all()
    np.testing.assert_allclose(counts.mean(0), want, atol=5 * 0.5 / 2000**0.5)


def test_alpha_zero_is_uniform():
    replay = prioritized.make(32, 32, SCALAR)
    state = filled_with(replay, np.arange(32.0), 0.0)
    drawn = jax.jit(replay.sample)(state, jax.random.key(0))
    np.testing.assert_array_equal(np.sort(drawn.index), np.arange(32))  # one from each stratum, which is one row
    np.testing.assert_allclose(drawn.probability, 1 / 32, rtol=1e-6)


def test_importance_weights_by_hand():
    """P = ½, ⅛: (N P)^−β over the largest is (¼)^β, 1."""
    weights = prioritized.importance_weights(jnp.array([0.5, 0.125]), 0.5)
    np.testing.assert_allclose(weights, [0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(prioritized.importance_weights(jnp.array([0.5, 0.125]), 0.0), 1.0)


def test_weights_take_the_bias_back():
    """At β = 1 the weighted mean over draws, divided by that of the weights, is the mean over rows."""
    errors, value = np.array([0.1, 1.0, 4.0, 0.5]), np.array([3.0, -1.0, 2.0, 7.0])
    replay = prioritized.make(4, 20_000, SCALAR)
    drawn = jax.jit(replay.sample)(filled_with(replay, errors), jax.random.key(0))
    weights = prioritized.importance_weights(drawn.probability, 1.0)
    np.testing.assert_allclose(np.average(value[drawn.index], weights=weights), value.mean(), rtol=0.02)


def test_new_transitions_have_the_highest_priority_ever_set():
    replay = prioritized.make(16, 4, SCALAR)
    add, update = jax.jit(replay.add), jax.jit(replay.update_priorities)
    state = add(replay.init(), jnp.zeros(4, jnp.int32))
    np.testing.assert_array_equal(masses(state)[:5], [1, 1, 1, 1, 0])
    state = update(state, jnp.array([0, 1]), jnp.array([8.0, 0.125]), 2 / 3)
    state = add(state, jnp.zeros(2, jnp.int32))
    np.testing.assert_allclose(masses(state)[:7], [4, 0.25, 1, 1, 4, 4, 0], rtol=1e-4)
    state = add(update(state, jnp.array([0, 4, 5]), jnp.zeros(3), 2 / 3), jnp.zeros(1, jnp.int32))
    np.testing.assert_allclose(masses(state)[[0, 6]], [1e-4, 4], rtol=1e-3)  # (1e-6)^(2/3), and what once was highest


def test_batches_of_any_size_leave_masses_on_the_rows_that_are_held():
    """As in the test of uniform replay: where a batch goes back to the start, what it leaves behind has mass 0."""
    capacity, rng = 43, np.random.default_rng(0)
    replay, plain = prioritized.make(capacity, 2, SCALAR), uniform.make(capacity, 2, SCALAR)
    add, add_plain = jax.jit(replay.add), jax.jit(plain.add)
    state, other = replay.init(), plain.init()
    for num in [1, 43, *rng.choice([1, 4, 19, 30], size=25).tolist()]:
        values = rng.integers(0, 1000, num).astype(np.int32)
        state, other = add(state, values), add_plain(other, values)
        assert int(replay.size(state)) == int(other.filled)
        np.testing.assert_array_equal(state.ring.rows["uint32"], other.rows["uint32"])
        np.testing.assert_array_equal(masses(state) > 0, np.arange(48) < int(other.filled))
        for child, parent in itertools.pairwise(state.levels):
            np.testing.assert_array_equal(parent[: child.size // 8], child.reshape(-1, 8).sum(-1))
        assert float(state.levels[-1].sum()) == int(other.filled)


def test_sums_do_not_drift():
    """100,000 updates over nine orders of magnitude; a tree corrected by differences would be wrong by more."""
    replay = prioritized.make(1000, 32, SCALAR)
    state = filled_with(replay, np.ones(1000))

    @jax.jit
    def churn(state):
        def step(state, key):
            key_index, key_error = jax.random.split(key)
            index = jax.random.randint(key_index, (32,), 0, 1000)
            error = jnp.exp(jax.random.uniform(key_error, (32,), minval=-10.0, maxval=10.0))
            return replay.update_priorities(state, index, error, 1.0), None

        return jax.lax.scan(step, state, jax.random.split(jax.random.key(0), 3000))[0]

    state = churn(state)
    np.testing.assert_allclose(state.levels[-1].sum(), masses(state).astype(np.float64).sum(), rtol=1e-6)
    # Down to small errors everywhere: what is left must be their sum, to the last digits.
    state = jax.jit(lambda s: replay.update_priorities(s, jnp.arange(1000), jnp.full(1000, 1e-3), 1.0))(state)
    np.testing.assert_allclose(state.levels[-1].sum(), 1000 * (1e-3 + 1e-6), rtol=1e-5)


MEMORY = prioritized.make(
    20_000,
    32,
    Transition(
        obs=jax.ShapeDtypeStruct((8,), jnp.float32),
        action=jax.ShapeDtypeStruct((), jnp.int32),
        reward=jax.ShapeDtypeStruct((), jnp.float32),
        terminated=jax.ShapeDtypeStruct((), jnp.bool_),
        truncated=jax.ShapeDtypeStruct((), jnp.bool_),
        next_obs=jax.ShapeDtypeStruct((8,), jnp.float32),
        extras=(),
    ),
)


def cycle(state, key):
    """What an agent does in an iteration: add, then twice draw and correct."""
    flags, obs = jnp.zeros(16, bool), jnp.full((16, 8), state.highest)
    state = MEMORY.add(state, Transition(obs, jnp.ones(16, jnp.int32), obs[:, 0], flags, flags, obs + 1.0, ()))

    def learn(state, key):
        drawn = MEMORY.sample(state, key)
        error = drawn.transitions.next_obs.mean(-1) * prioritized.importance_weights(drawn.probability, 0.4)
        return MEMORY.update_priorities(state, drawn.index, error, 0.6), drawn.index

    return jax.lax.scan(learn, state, jax.random.split(key, 2))


@pytest.mark.parametrize("runs", [1, 4])
def test_a_scanned_loop_keeps_one_copy_of_rows_and_tree(runs):
    def run(state, key):
        return jax.lax.scan(lambda s, i: cycle(s, jax.random.fold_in(key, i)), state, jnp.arange(100))[0]

    state, key = jax.eval_shape(lambda: (MEMORY.init(), jax.random.key(0)))
    if runs > 1:
        state, key = jax.tree.map(lambda x: jax.ShapeDtypeStruct((runs, *x.shape), x.dtype), (state, key))
        run = jax.vmap(run)
    tree = sum(x.size * x.dtype.itemsize for x in state.levels)
    memory = jax.jit(run, donate_argnums=0).lower(state, key).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    assert memory.temp_size_in_bytes < 0.5 * tree  # the tree is a fifteenth of the memory: not even that is copied


def test_vmapped_runs_are_independent():
    def run(key, scale):
        state, index = jax.lax.scan(cycle, MEMORY.init()._replace(highest=scale), jax.random.split(key, 5))
        return state.levels, index

    keys, scales = jax.random.split(jax.random.key(0), 3), jnp.array([1.0, 2.0, 3.0])
    many = jax.jit(jax.vmap(run))(keys, scales)
    alone = jax.jit(run)(keys[1], scales[1])
    np.testing.assert_array_equal(many[1][1], alone[1])
    for a, b in zip(many[0], alone[0], strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-6)


def test_bad_input_is_refused_with_its_value():
    with pytest.raises(InputError, match="capacity is 0"):
        prioritized.make(0, 1, SCALAR)
    with pytest.raises(InputError, match="batch_size is 0"):
        prioritized.make(1, 0, SCALAR)
    replay = prioritized.make(4, 2, SCALAR)
    with pytest.raises(InputError, match=r"5 transitions .* capacity 4"):
        replay.add(replay.init(), jnp.zeros(5, jnp.int32))


def test_an_error_that_is_not_finite_stays_out_of_the_tree():
    """It counts as the highest priority so far; the sums stay finite and the other rows are still drawn."""
    replay = prioritized.make(8, 4, SCALAR)
    state = filled_with(replay, [3.0, np.nan, np.inf, 1.0])
    np.testing.assert_allclose(masses(state)[:4], [3.0, 1.0, 1.0, 1.0], rtol=1e-5)
    assert np.isfinite(np.concatenate(state.levels)).all()
    np.testing.assert_allclose(state.highest, 3.0, rtol=1e-5)
    assert len(set(np.asarray(replay.sample(state, jax.random.key(0)).index).tolist())) > 1
