"""A sweep on several machines: thin glue to engines that exist, Slurm by submitit and Ray.

Each of N processes runs `jaxrl sweep … --out DIR --share I/N` and keeps its finished chunks in DIR, which all machines
see; the processes need not talk to one another. When all are done, `jaxrl resume DIR` puts the results together; it
also does what a lost process left undone.
"""

import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envs.errors import InputError


def run_share(arguments: Sequence[str], index: int, count: int) -> int:
    """Runs one process's share of a sweep, here and now; returns the exit status.

    Args:
        arguments: of `jaxrl sweep`: agent, environment, flags.
        index: of this process.
        count: of all processes.
    """
    command = [sys.executable, "-m", "jaxrl", "sweep", *arguments, "--share", f"{index}/{count}"]
    return subprocess.run(command, check=False).returncode


def slurm(
    arguments: Sequence[str], count: int, logs: Path | str, cluster: str | None = None, **parameters: Any
) -> list[Any]:
    """Submits a job array; needs the extra "slurm".

    Args:
        arguments: of `jaxrl sweep`, with --out.
        count: jobs.
        logs: directory for submitit's files.
        cluster: None finds Slurm; "local" runs the jobs on this machine.
        parameters: of submitit's executor, such as timeout_min, slurm_partition, gpus_per_node.

    Returns:
        submitit's jobs; `job.result()` waits and is the exit status.

    Raises:
        InputError: submitit is not installed, no jobs, or no --out.
    """
    _check(arguments, count)
    submitit = _require("submitit", "slurm")
    executor = submitit.AutoExecutor(folder=str(logs), cluster=cluster)
    executor.update_parameters(**parameters)
    return executor.map_array(run_share, [list(arguments)] * count, range(count), [count] * count)


def ray(arguments: Sequence[str], count: int, **options: Any) -> list[int]:
    """Runs a sweep as `count` Ray tasks on the cluster that `ray.init` finds; needs the extra "ray".

    Args:
        arguments: of `jaxrl sweep`, with --out.
        count: tasks.
        options: of a Ray task, such as num_gpus.

    Returns:
        The exit statuses.

    Raises:
        InputError: ray is not installed, no tasks, or no --out.
    """
    _check(arguments, count)
    engine = _require("ray", "ray")
    if not engine.is_initialized():
        engine.init()
    task = engine.remote(run_share)
    task = task.options(**options) if options else task
    return engine.get([task.remote(list(arguments), index, count) for index in range(count)])


def _check(arguments: Sequence[str], count: int) -> None:
    if count < 1:
        raise InputError(f"a sweep needs at least one process, not {count}.")
    if not any(argument == "--out" or argument.startswith("--out=") for argument in arguments):
        raise InputError("the processes of a sweep meet in a directory: give --out.")


def _require(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{module} is not installed: pip install 'jaxrl[{extra}]'.") from error
