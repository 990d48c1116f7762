"""What runs share: one copy for all of them, on every device, the same in result wherever it lies."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import placement
from jaxrl.checkpoint import fingerprint

SCRIPT = """
import resource, jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from jaxrl.placement import map_runs, replicate

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def run(key, shared):
    rows = jax.random.randint(key, (8,), 0, shared["data"].shape[0])
    return jax.lax.scan(lambda total, row: (total + shared["data"][row].sum(), None), 0.0, rows)[0]

mapped = map_runs(run)
program = jax.jit(lambda keys, shared: mapped(keys, shared=shared))
keys = jax.random.split(jax.random.key(0), 64)
program(keys, replicate({"data": np.ones((10, 1024), np.float32)}, 64)).block_until_ready()
before = peak()
data = np.ones((200 * 256, 1024), np.float32)  # 200 MiB
out = program(keys, replicate({"data": data}, 64))
assert (out == 8 * 1024).all()
print(peak() - before)
"""


def test_many_runs_share_one_copy():
    """64 runs over 200 MiB on two devices: the caller's array, one copy of it, and little more."""
    out = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    assert float(out) < 450


@pytest.mark.parametrize("runs", [1, 2, 5, 8])
def test_sharing_is_closing_over(runs):
    tree = {"x": np.arange(7.0), "y": jnp.arange(3), "key": jax.random.key(5)}

    def run(number, shared):
        drawn = jax.random.uniform(shared["key"])
        return number * shared["x"].sum() + drawn, shared["y"] + number.astype(int)

    mapped = placement.map_runs(run)
    numbers = jnp.arange(runs, dtype=jnp.float32)
    shared = placement.replicate(tree, runs)
    got = jax.jit(lambda numbers, shared: mapped(numbers, shared=shared))(placement.spread(numbers), shared)
    want = jax.vmap(lambda number: run(number, jax.tree.map(jnp.asarray, tree)))(numbers)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_replica_does_not_follow_its_source():
    source = np.zeros(1000, np.float32)
    replica = placement.replicate(source, 2)
    source[:] = 1
    assert not np.asarray(replica).any()


def test_a_shared_loop_length_keeps_the_loop():
    """A number of iterations that all runs share leaves one loop that ends, not one that waits for a mask."""

    def run(x, times):
        return jax.lax.fori_loop(0, times, lambda _, x: x * 2.0, x)

    mapped = placement.map_runs(run)
    program = jax.jit(lambda x, times: mapped(x, shared=times))
    np.testing.assert_array_equal(program(jnp.ones(8), 5), np.full(8, 32.0))
    assert "select" not in program.lower(jnp.ones(8), 5).as_text()


def test_fingerprints_tell_arrays_apart():
    tree = {"a": np.arange(4), "b": np.ones((2, 2), np.float32)}
    same = {"a": jnp.arange(4), "b": jnp.ones((2, 2))}
    assert fingerprint(tree) == fingerprint(same)
    others = [
        same | {"a": jnp.arange(4).at[0].set(1)},
        same | {"b": jnp.ones((4, 1))},
        {"a": same["a"], "c": same["b"]},
        same | {"b": jnp.ones((2, 2), int)},
    ]
    assert len({fingerprint(other) for other in [same, *others]}) == 5
