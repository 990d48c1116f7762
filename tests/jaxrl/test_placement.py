import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.errors import InputError
from envs.spaces import Box
from jaxrl import placement


def test_layouts_hold_every_run():
    assert jax.local_device_count() == 2
    for runs in range(1, 40):
        for lanes in (None, 1, 3, 100):
            shards, groups, width = placement.layout(runs, lanes)
            assert shards == min(runs, 2)
            assert width <= (lanes or placement.CPU_LANES + 1)
            assert lanes or shards * groups * width - runs == runs % shards  # only a device's share may be uneven
            assert runs <= shards * groups * width < runs + shards * groups + shards * width


@pytest.mark.parametrize("runs", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("lanes", [None, 1, 2, 100])
def test_map_runs_is_vmap(runs, lanes):
    """Whatever the layout, spare places included, the result is that of a plain vmap."""

    def run(key, tree):
        return {"x": tree["a"] * 2 + jax.random.uniform(key), "y": tree["b"].sum(), "constant": 2.5, "key": key}

    keys = jax.random.split(jax.random.key(0), runs)
    tree = {"a": jnp.arange(runs, dtype=jnp.float32), "b": jnp.ones((runs, 3)) * jnp.arange(runs)[:, None]}
    want = jax.vmap(run)(keys, tree)
    got = jax.jit(placement.map_runs(run, lanes))(*placement.spread((keys, tree)))
    for name in want:
        assert got[name].shape == want[name].shape
        if name == "key":
            got[name], want[name] = jax.random.key_data(got[name]), jax.random.key_data(want[name])
        np.testing.assert_array_equal(got[name], want[name])


def test_runs_are_spread_over_devices():
    spread = placement.spread({"x": jnp.arange(8)})["x"]
    assert len(spread.sharding.device_set) == 2
    assert len(placement.spread(jnp.arange(7)).sharding.device_set) == 1  # does not fill the layout


def test_use_all_cores_after_the_start_changes_nothing():
    assert placement.use_all_cores() == 2


def test_devices_keep_to_their_cores_where_every_core_has_one(monkeypatch):
    apart = {"xla_cpu_multi_thread_eigen": False}
    monkeypatch.setattr(placement, "cores", lambda: 2)
    assert [placement.compiler_options(runs) for runs in (1, 2, 64)] == [{}, apart, apart]
    monkeypatch.setattr(placement, "cores", lambda: 4)
    assert placement.compiler_options(64) == {}  # a core without a device may help
    double = jax.jit(placement.map_runs(lambda x: x * 2))
    assert double.lower(jnp.arange(4)).compile(apart)(jnp.arange(4)).tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize(("size", "threads"), [(4, "1"), (400, None)])
def test_a_single_run_has_one_thread_unless_it_sees_pictures(monkeypatch, size, threads):
    monkeypatch.setattr("os.environ", {})
    placement.use_all_cores(1, Box(0.0, 1.0, (size,)))
    assert placement.os.environ.get("NPROC") == threads


def test_the_jaxlib_that_copies_buffers_is_named(monkeypatch):
    monkeypatch.setattr("jaxlib.version.__version__", "0.11.1")
    with pytest.warns(UserWarning, match="jaxlib 0.11.1 copies"):
        placement.map_runs(lambda x: x)


@pytest.mark.parametrize("args", [(np.zeros(1), np.arange(5.0)), (), (np.zeros(0),), (np.zeros(2), 3.0)])
def test_arguments_without_a_common_axis_of_runs_are_refused(args):
    with pytest.raises(InputError, match="all have the runs as their first axis"):
        placement.map_runs(lambda *args: args)(*args)
