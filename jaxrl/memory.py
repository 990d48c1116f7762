"""What this process may use, and what a program will take: memory and cores, within a container's limits.

A batch of runs is planned before anything is allocated: by the size of its state, which is known without compiling,
and then by the compiler's own figures for the programs that will work on it.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import jax

from envs.errors import InputError

_GROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Returns how many cores this process may keep busy: its affinity and the quotas of its container."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups("cpu"):
        quota, period = [*_numbers(group / "cpu.max"), None, None][:2]
        if quota is None:
            quota = _number(group / "cpu.cfs_quota_us")
            period = _number(group / "cpu.cfs_period_us")
        if quota and period and quota > 0:
            known = min(known, max(quota // period, 1))
    return known


def free_memory() -> int:
    """Returns the bytes that may be used: nine tenths of what the local devices, or a CPU's machine, have free.

    On a CPU that is what the machine has, what the container has left (cgroups of either version), or what the limit
    of this process's address space leaves, whichever is least.
    """
    stats = [device.memory_stats() for device in jax.local_devices()]
    known = [s["bytes_limit"] - s.get("bytes_in_use", 0) for s in stats if s and "bytes_limit" in s]
    if known:
        return int(0.9 * sum(known))
    return int(0.9 * max(min(_host_memory()), 0))


def _host_memory() -> Iterable[int]:
    """Bytes that each of the limits leaves."""
    available = _field(Path("/proc/meminfo"), "MemAvailable:")
    if available is not None:
        yield available * 1024
    else:
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    for group in _groups("memory"):
        limit, used = _number(group / "memory.max"), _number(group / "memory.current")
        if limit is None:
            limit, used = _number(group / "memory.limit_in_bytes"), _number(group / "memory.usage_in_bytes")
        if limit is not None:
            # Files that the kernel has cached count as used, and are given up when memory is wanted.
            cached = [_field(group / "memory.stat", name) or 0 for name in ("inactive_file", "total_inactive_file")]
            yield limit - max((used or 0) - max(cached), 0)
    with contextlib.suppress(ImportError, OSError):
        import resource  # not on every system

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            pages = _numbers(Path("/proc/self/statm"))
            yield limit - (pages[0] or 0) * resource.getpagesize() if pages else limit


def _groups(controller: str) -> list[Path]:
    """The control groups that bound this process, its own and those above it."""
    found = []
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = _GROUPS / controller if controllers else _GROUPS
        # A container may see the paths of its host, of which only the root is mounted.
        found += [base / str(path).lstrip("/") for path in (PurePosixPath(place), *PurePosixPath(place).parents)]
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _numbers(path: Path) -> list[int | None]:
    """The words of a file; None for those that are no numbers, such as "max"."""
    return [int(word) if word.lstrip("-").isdecimal() else None for word in _text(path).split()]


def _number(path: Path) -> int | None:
    return next(iter(_numbers(path)), None)


def _field(path: Path, name: str) -> int | None:
    words = (line.split() for line in _text(path).splitlines())
    return next((int(line[1]) for line in words if len(line) > 1 and line[0] == name), None)


def size(tree: Any) -> int:
    """Returns the bytes of a pytree of arrays or `jax.ShapeDtypeStruct`."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def needed(programs: Iterable[Any], shards: int, shared: Any = ()) -> int:
    """Returns the bytes that the largest of compiled programs takes: arguments, results and what is temporary.

    Args:
        programs: what `jax.jit(…).lower(…).compile()` returned.
        shards: devices that each is spread over; the compiler's figures are of one.
        shared: what all devices read; those of a CPU have one copy in common.
    """
    most = 0
    for program in programs:
        figures = program.memory_analysis()
        if figures is not None:  # some backends keep none
            parts = figures.argument_size_in_bytes + figures.output_size_in_bytes + figures.temp_size_in_bytes
            most = max(most, shards * (parts - figures.alias_size_in_bytes))
    return most - (shards - 1) * size(shared) if most and jax.default_backend() == "cpu" else most


def require(name: str, num_runs: int, state: Any, limit: int, programs: int = 0) -> None:
    """Checks that a batch of runs fits.

    Args:
        name: of the agent.
        num_runs: how many.
        state: their batched state, or its shapes.
        limit: bytes that may be used.
        programs: bytes that the compiled programs take, the state included; 0: not known yet.

    Raises:
        InputError: it does not; the message says what takes the memory and how many runs would fit.
    """
    total = max(size(state), programs)
    if total <= limit:
        return
    parts = {part: size(leaves) for part, leaves in _parts(state).items()}
    largest = max(parts, key=lambda part: parts[part])
    fit = int(limit / (total / num_runs))
    runs = f"1 run of {name} needs" if num_runs == 1 else f"{num_runs:,} runs of {name} need"
    raise InputError(
        f"{runs} {readable(total)}, and {readable(limit)} may be used. The state of one takes "
        f"{readable(size(state) / num_runs)}, of it {largest} {readable(parts[largest] / num_runs)}. "
        + (f"About {fit:,} would fit; a sweep does many in chunks that fit." if fit else "Not even one would fit.")
    )


def _parts(state: Any) -> dict[str, Any]:
    return state._asdict() if hasattr(state, "_asdict") else {"all": state}


def readable(number: float) -> str:
    """Bytes as a person reads them: "27.3 MiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:,.3g} {unit}"
        number /= 1024
    return f"{number:,.1f} GiB"
