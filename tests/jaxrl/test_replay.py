import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from envs.errors import InputError
from jaxrl.replay import packing, uniform
from jaxrl.types import Transition

SCALAR = jax.ShapeDtypeStruct((), jnp.int32)


def transition():
    return Transition(
        obs={"pixels": jax.ShapeDtypeStruct((2, 3), jnp.uint8), "position": jax.ShapeDtypeStruct((4,), jnp.float32)},
        action=(jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((2,), jnp.bfloat16)),
        reward=jax.ShapeDtypeStruct((), jnp.float32),
        terminated=jax.ShapeDtypeStruct((), jnp.bool_),
        truncated=jax.ShapeDtypeStruct((), jnp.bool_),
        next_obs={"pixels": jax.ShapeDtypeStruct((2, 3), jnp.int8), "position": jax.ShapeDtypeStruct((4,), jnp.uint32)},
        extras={"none": (), "empty": jax.ShapeDtypeStruct((0,), jnp.float32)},
    )


def random_bits(leaf, lead, rng):
    """Arrays of arbitrary bits, NaNs and denormals included."""
    if leaf.dtype == bool:
        return rng.integers(2, size=(*lead, *leaf.shape)) == 1
    bits = rng.integers(0, 256, size=(*lead, *leaf.shape, leaf.dtype.itemsize), dtype=np.uint8)
    return bits.view(leaf.dtype)[..., 0]


def random_batch(example, *lead, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random_bits(leaf, lead, rng), example)


def assert_bitwise_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_rows_round_trip_bit_for_bit_and_are_one_array_per_width():
    layout = packing.layout_of(transition())
    batch = random_batch(transition(), 5)
    rows = jax.jit(lambda b: packing.pack(layout, b))(batch)
    # words: 4 + 1 + 1 + 4 of four bytes; halves: 2; bytes: 6 + 6 pixels and two flags
    assert {name: (x.shape, x.dtype.name) for name, x in rows.items()} == {
        "uint32": ((5, 10), "uint32"),
        "uint16": ((5, 2), "uint16"),
        "uint8": ((5, 14), "uint8"),
    }
    assert_bitwise_equal(jax.jit(lambda r: packing.unpack(layout, r))(rows), batch)


def test_an_example_of_arrays_or_python_scalars_gives_the_same_layout():
    arrays = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), transition())
    assert packing.layout_of(arrays) == packing.layout_of(transition())
    assert packing.layout_of({"r": 0.0, "t": False}).leaves[0].dtype == jnp.float32


def test_what_is_sampled_is_what_was_added():
    replay = uniform.make(16, 64, transition())
    batch = random_batch(transition(), 16)
    drawn = jax.jit(lambda b, key: replay.sample(replay.add(replay.init(), b), key))(batch, jax.random.key(0))
    # Find each drawn row among the added ones by one field, then compare every leaf of it.
    position = np.asarray(drawn.next_obs["position"])
    index = np.argmax((position[:, None] == batch.next_obs["position"][None]).all(-1), axis=1)
    assert len(set(index.tolist())) > 8
    assert_bitwise_equal(drawn, jax.tree.map(lambda x: x[index], batch))


def held(state):
    """What a memory of SCALAR holds: `add` packs one int32 into one word."""
    return sorted(np.asarray(state.rows["uint32"])[: int(state.filled), 0].tolist())


def test_the_oldest_are_overwritten():
    replay = uniform.make(6, 2, SCALAR)
    add, state = jax.jit(replay.add), replay.init()
    assert int(replay.size(state)) == 0
    sizes = []
    for start in range(0, 10, 2):
        state = add(state, jnp.arange(start, start + 2, dtype=jnp.int32))
        sizes.append(int(replay.size(state)))
    assert sizes == [2, 4, 6, 6, 6]
    assert held(state) == [4, 5, 6, 7, 8, 9]


def test_a_capacity_that_is_no_multiple_of_the_batch_holds_the_newest_whole_batches():
    replay = uniform.make(7, 2, SCALAR)
    add, state = jax.jit(replay.add), replay.init()
    for start in range(0, 30, 3):
        state = add(state, jnp.arange(start, start + 3, dtype=jnp.int32))
        newest = start + 3
        assert held(state) == list(range(max(0, newest - 6), newest))
    assert int(replay.size(state)) == 6


def test_batches_of_any_sizes_agree_with_a_plain_ring():
    capacity, rng = 11, np.random.default_rng(0)
    replay = uniform.make(capacity, 2, SCALAR)
    add, state, ring, cursor, counter = jax.jit(replay.add), replay.init(), [], 0, 0
    for num in [11, 1, 4, 4, 4, *rng.choice([1, 2, 4, 11], size=25).tolist()]:
        values = list(range(counter, counter + num))
        counter += num
        if cursor + num > capacity:
            ring, cursor = ring[:cursor], 0
        ring[cursor : cursor + num] = values
        cursor += num
        state = add(state, np.asarray(values, np.int32))
        assert held(state) == sorted(ring)
        assert int(replay.size(state)) == len(ring)
        assert set(values) <= set(ring)


def test_draws_are_uniform_over_filled_rows():
    replay = uniform.make(64, 20_000, SCALAR)
    add, sample = jax.jit(replay.add), jax.jit(replay.sample)
    state = replay.init()
    for filled in (24, 48, 48):  # the third batch does not fit behind the second and goes to the start
        state = add(state, np.arange(24, dtype=np.int32) + int(state.cursor) % 48)
        counts = np.bincount(np.asarray(sample(state, jax.random.key(0))), minlength=filled)
        assert len(counts) == filled
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_vmapped_runs_are_independent():
    replay = uniform.make(8, 16, SCALAR)

    def run(offset, key):
        def step(state, i):
            state = replay.add(state, offset + 3 * i + jnp.arange(3, dtype=jnp.int32))
            return state, replay.sample(state, jax.random.fold_in(key, i))

        return jax.lax.scan(step, replay.init(), jnp.arange(5, dtype=jnp.int32))

    offsets, keys = jnp.array([0, 1000, 2000], jnp.int32), jax.random.split(jax.random.key(0), 3)
    states, drawn = jax.jit(jax.vmap(run))(offsets, keys)
    for i in range(3):
        state, alone = jax.jit(run)(offsets[i], keys[i])
        np.testing.assert_array_equal(drawn[i], alone)
        assert_bitwise_equal(jax.tree.map(lambda x, i=i: x[i], states), state)


MEMORY = uniform.make(
    20_000,
    32,
    Transition(
        obs=jax.ShapeDtypeStruct((8,), jnp.float32),
        action=jax.ShapeDtypeStruct((), jnp.int32),
        reward=jax.ShapeDtypeStruct((), jnp.float32),
        terminated=jax.ShapeDtypeStruct((), jnp.bool_),
        truncated=jax.ShapeDtypeStruct((), jnp.bool_),
        next_obs=jax.ShapeDtypeStruct((8,), jnp.float32),
        extras=jax.ShapeDtypeStruct((6, 6), jnp.uint8),
    ),
)


def collect(state, weight, num):
    flags = jnp.zeros(num, bool)
    obs, extras = jnp.full((num, 8), weight), jnp.full((num, 6, 6), weight).astype(jnp.uint8)
    return MEMORY.add(state, Transition(obs, jnp.ones(num, jnp.int32), obs[:, 0], flags, flags, obs + 1.0, extras))


def learn(state, weight, key):
    drawn = MEMORY.sample(state, key)
    return weight + drawn.next_obs.mean() + drawn.extras.mean()


def collect_then_learn(state, weight, key):
    state = collect(state, weight, 16)
    return state, learn(state, weight, key)


def learn_then_act(state, weight, key):
    weight = learn(state, weight, key)
    return collect(state, weight, 1), weight


def collect_in_a_scan_then_learn_in_a_scan(state, weight, key):
    state, _ = jax.lax.scan(lambda state, _: (collect(state, weight, 4), None), state, length=3)
    weight, _ = jax.lax.scan(lambda w, k: (learn(state, w, k), None), weight, jax.random.split(key, 2))
    return state, weight


@pytest.mark.parametrize("runs", [1, 8])
@pytest.mark.parametrize("body", [collect_then_learn, learn_then_act, collect_in_a_scan_then_learn_in_a_scan])
def test_a_scanned_loop_keeps_one_copy_of_the_storage(body, runs):
    def run(state, key):
        def step(carry, i):
            return body(*carry, jax.random.fold_in(key, i)), None

        return jax.lax.scan(step, (state, jnp.float32(0)), jnp.arange(100))[0]

    state, key = jax.eval_shape(lambda: (MEMORY.init(), jax.random.key(0)))
    if runs > 1:
        state, key = jax.tree.map(lambda x: jax.ShapeDtypeStruct((runs, *x.shape), x.dtype), (state, key))
        run = jax.vmap(run)
    stored = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    memory = jax.jit(run, donate_argnums=0).lower(state, key).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= stored  # the result lies where the argument lay
    assert memory.temp_size_in_bytes < 0.1 * stored  # and no second copy is made on the way
    assert memory.argument_size_in_bytes + memory.temp_size_in_bytes < 1.2 * stored


def test_the_state_is_arrays_only():
    state = uniform.make(4, 2, transition()).init()
    assert all(isinstance(leaf, jax.Array) and leaf.size > 0 for leaf in jax.tree.leaves(state))


def test_the_empty_memory_yields_zeros_of_the_right_shape():
    replay = uniform.make(4, 2, SCALAR)
    np.testing.assert_array_equal(replay.sample(replay.init(), jax.random.key(0)), [0, 0])


def test_bad_input_is_refused_with_its_value():
    with pytest.raises(InputError, match="capacity is 0"):
        uniform.make(0, 1, SCALAR)
    with pytest.raises(InputError, match="batch_size is -1"):
        uniform.make(1, -1, SCALAR)
    with pytest.raises(InputError, match="at least one array"):
        uniform.make(1, 1, ())
    for example in (jax.random.key(0), jnp.complex64(0), jnp.zeros(2, jnp.int4)):
        with pytest.raises(InputError, match="cannot store"):
            uniform.make(1, 1, example)
    replay = uniform.make(4, 2, {"x": jax.ShapeDtypeStruct((2,), jnp.float32)})
    for batch, message in [
        ({"x": jnp.zeros((5, 2))}, "5 transitions .* capacity 4"),
        ({"x": jnp.zeros((2, 3))}, r"float32\[2, 3\]"),
        ({"x": jnp.zeros((2, 2), jnp.int32)}, r"int32\[2, 2\]"),
        ({"x": jnp.zeros(2)}, r"float32\[2\]"),
        ({"y": jnp.zeros((2, 2))}, "structure"),
    ]:
        with pytest.raises(InputError, match=message):
            replay.add(replay.init(), batch)
