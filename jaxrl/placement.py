"""Where the run axis lives: one program for a batch of runs, laid out for the backend, the same in result.

On a GPU the batch is one vmap. On a CPU small operations gain nothing from a second thread and large vmaps fall out
of the cache, so the runs are sharded over one host device per core (`use_all_cores`, before JAX starts its backend)
and each device maps serially over vmaps of a few runs.
"""

import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from envs.errors import InputError
from envs.spaces import Box, Space, flat_size
from jaxrl.memory import cores

CPU_LANES = 4  # runs in one vmap on a CPU; measured on PPO: 1 and 2 are 5–15 % slower, 16 more


_ALIGNMENT = 64  # bytes
WIDE = 256  # numbers in an observation from which a single run gains by a second thread; 4 and 400 were measured


def use_all_cores(num_runs: int | None = None, observation_space: "Space | None" = None) -> int:
    """Makes JAX offer one CPU device for each core that the process may use, for the run axis to be sharded over.

    A number of devices that the user chose, by JAX_NUM_CPU_DEVICES or XLA_FLAGS, stays as it is. Call it before the
    first array is made; on another backend it changes nothing that matters. A single run gets one device and one
    thread: XLA hands every few operations of a program to another thread where it has one, which costs small ones more
    than they gain (on CartPole DQN is 1.1 times, PPO up to twice as fast; more on a busy machine). It keeps all threads
    where it sees pictures, whose products are large (PPO on MinAtar: 1.1 to 1.6 times as fast). NPROC, set by the
    caller, overrides that.

    Args:
        num_runs: how many runs there will be, where that is known.
        observation_space: what they see, where that is known.

    Returns:
        The number of local devices of the default backend.
    """
    wanted = cores() if num_runs is None else min(cores(), num_runs)
    wide = isinstance(observation_space, Box) and flat_size(observation_space) >= WIDE
    if num_runs == 1 and not wide:
        os.environ.setdefault("NPROC", "1")  # XLA reads it when the backend starts
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    try:
        if not chosen and jax.config.jax_num_cpu_devices < 1:  # pyright: ignore[reportAttributeAccessIssue]
            jax.config.update("jax_num_cpu_devices", wanted)
    except RuntimeError:
        if jax.default_backend() == "cpu" and jax.local_device_count() < wanted:
            warnings.warn(
                f"JAX has started with {jax.local_device_count()} CPU device(s) for {wanted} cores: "
                "call jaxrl.use_all_cores() before anything else uses JAX.",
                stacklevel=2,
            )
    return jax.local_device_count()


class Layout(NamedTuple):
    """How a batch of runs is laid out: shards · groups · lanes places, the last of them perhaps spare."""

    shards: int  # devices
    groups: int  # taken one after the other on each device
    lanes: int  # runs in one vmap


def layout(num_runs: int, lanes: int | None = None) -> Layout:
    """Chooses the layout of `num_runs` runs for the default backend.

    On a CPU the runs of a device make groups without a spare place, of `CPU_LANES` or what is next to it: a group that
    is not full costs the time of a full one, and cutting its spare results off copies all the others.

    Args:
        num_runs: at least 1.
        lanes: most runs in one vmap; by default `CPU_LANES` or one more on a CPU, no limit elsewhere.
    """
    shards = min(num_runs, jax.local_device_count())
    per_shard = -(-num_runs // shards)
    if lanes is None and jax.default_backend() == "cpu":
        width = next(w for w in (CPU_LANES, CPU_LANES + 1, *range(CPU_LANES - 1, 0, -1)) if per_shard % w == 0)
        return Layout(shards, per_shard // width, width)
    groups = -(-per_shard // (lanes or per_shard))
    return Layout(shards, groups, -(-per_shard // groups))


def compiler_options(num_runs: int) -> dict[str, Any]:
    """What to compile a program of `map_runs` with: each device keeps to its own core where every core has a device.

    XLA otherwise hands products of one device to the thread of another, which has its own to do: PPO with 64 runs on
    two cores is 1.1 times as fast without.

    Args:
        num_runs: that the program maps over.
    """
    busy = jax.default_backend() == "cpu" and layout(num_runs).shards >= max(cores(), 2)
    return {"xla_cpu_multi_thread_eigen": False} if busy else {}


def full(num_runs: int) -> int:
    """Returns the number of runs, `num_runs` or a few more, that fills the devices: what `map_runs` needs no spare for.

    A batch of that size stays where it is and is updated in place, where another is copied at every call.
    """
    shards = layout(num_runs).shards
    return -(-num_runs // shards) * shards


def spread(tree: Any) -> Any:
    """Puts the leading run axis of every leaf where `map_runs` wants it, if the runs fill the layout exactly.

    Of a tree of `jax.ShapeDtypeStruct` it returns those that lie there.
    """
    num_runs = jax.tree.leaves(tree)[0].shape[0]
    shards = layout(num_runs).shards
    if shards == 1 or num_runs % shards:
        return tree
    place = NamedSharding(_mesh(shards), PartitionSpec("runs"))
    if isinstance(jax.tree.leaves(tree)[0], jax.ShapeDtypeStruct):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)
    return jax.device_put(tree, place)


def replicate(tree: Any, num_runs: int) -> Any:
    """Puts every leaf where each device that `num_runs` runs are spread over can read it.

    Devices of a CPU read one copy in common, which nobody writes to.
    """
    shards = layout(num_runs).shards
    if shards == 1 or not jax.tree.leaves(tree):
        return tree
    mesh = _mesh(shards)
    everywhere = NamedSharding(mesh, PartitionSpec())

    def place(leaf: Any) -> jax.Array:
        if jax.default_backend() != "cpu" or jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.extended):
            return jax.device_put(leaf, everywhere)
        host = np.asarray(leaf) if isinstance(leaf, jax.Array) else _aligned(np.asarray(leaf))
        parts = [jax.device_put(host, device, may_alias=True) for device in mesh.devices.flat]
        return jax.make_array_from_single_device_arrays(host.shape, everywhere, parts)

    return jax.tree.map(place, tree)


def _aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins where XLA takes a buffer as it is, and that its maker cannot change behind XLA's back."""
    array = np.asarray(array, jax.dtypes.canonicalize_dtype(array.dtype))
    raw = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def map_runs(run: Callable[..., Any], lanes: int | None = None) -> Callable[..., Any]:
    """Maps a function of one run over a leading run axis of its arguments and of every result, placed for the backend.

    The result, `mapped(*args, shared=...)`, is to be jitted. Runs do not see one another: the layout changes nothing
    but rounding. What is `shared` has no run axis; one copy on each device serves all its runs, and `run` gets it as
    its last argument. It may decide how long a loop is without making every run of a vmap wait for it.

    Args:
        run: function of one run; pytrees in, pytrees out.
        lanes: most runs in one vmap; see `layout`.
    """
    _warn_of_copies()

    def mapped(*args: Any, shared: Any = None) -> Any:
        num_runs = _num_runs(args)
        shards, groups, width = layout(num_runs, lanes)

        def on_one_device(shared: Any, *shard: Any) -> Any:
            def one(*args: Any) -> Any:
                return run(*args) if shared is None else run(*args, shared)

            if width == 1:
                return _one_by_one(one, shard)
            if groups == 1:
                return jax.vmap(one)(*shard)
            grouped = jax.tree.map(lambda x: x.reshape(groups, width, *x.shape[1:]), shard)
            out = jax.lax.map(lambda group: jax.vmap(one)(*group), grouped)
            return jax.tree.map(lambda x: x.reshape(groups * width, *x.shape[2:]), out)

        # A batch that does not fill the layout is filled up with copies of its last run.
        spare = shards * groups * width - num_runs
        filled = jax.tree.map(lambda x: jnp.concatenate([x, *[x[-1:]] * spare]), args) if spare else args
        if shards == 1:
            out = on_one_device(shared, *filled)
        else:
            spec = PartitionSpec("runs")
            specs = (PartitionSpec(), *[spec] * len(filled))
            out = jax.shard_map(on_one_device, mesh=_mesh(shards), in_specs=specs, out_specs=spec, check_vma=False)(
                shared, *filled
            )
        return jax.tree.map(lambda x: x[:num_runs], out) if spare else out

    return mapped


def _num_runs(args: Any) -> int:
    """The length of the run axis, which all arguments must have.

    Raises:
        InputError: no argument, one without the axis, no runs, or axes that differ.
    """
    lengths = {np.shape(x)[0] if np.ndim(x) else None for x in jax.tree.leaves(args)}
    if len(lengths) != 1 or lengths <= {0, None}:
        found = ", ".join(sorted("none" if n is None else str(n) for n in lengths)) or "no arguments"
        raise InputError(f"map_runs: arguments must all have the runs as their first axis; its lengths: {found}.")
    return lengths.pop() or 0


def _one_by_one(run: Callable[..., Any], batch: Any) -> Any:
    """Runs one after the other, each without the axis of length 1 that a vmap would give its products."""
    if jax.tree.leaves(batch)[0].shape[0] > 1:
        return jax.lax.map(lambda one: run(*one), batch)
    return jax.tree.map(lambda x: jnp.asarray(x)[None], run(*jax.tree.map(lambda x: x[0], batch)))


def _warn_of_copies() -> None:
    if jaxlib.version.__version__ == "0.11.1" and jax.default_backend() == "cpu":
        warnings.warn(
            "jaxlib 0.11.1 copies a whole buffer for every small in-place update on the CPU (jax issue 40101): "
            "replay will be slow. Another version of jaxlib does not.",
            stacklevel=3,
        )


def _mesh(shards: int) -> Mesh:
    return Mesh(np.asarray(jax.local_devices()[:shards]), ("runs",))
