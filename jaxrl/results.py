"""What a run leaves behind: its directory, `config.json`, `cost.json` and the curves as a labelled xarray.Dataset.

Every file knows its own hash, and by `run`, the random name that `config.json` gives to a directory, where it belongs.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from envs.errors import InputError, unknown
from jaxrl import files, statistics

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 3  # of a run directory; 1: before learners were taken apart from loops; 2: before files had hashes
CONFIG_FILE = "config.json"
COST_FILE = "cost.json"
RESULTS_FILE = "results.nc"
CURVE_FILE = "curve.png"
CHECKPOINTS = "checkpoints"
POLICIES = "policies"
# Attributes of a file: the dtypes of variables that are stored as float64, as files with and without a hash call it.
_INTEGERS, _INTEGERS_BEFORE = "integers", "integer_variables"
_HASH = re.compile(rb"sha256:[0-9a-f]{64}")  # of all bytes of the file, with zeros in the place of the digits
RECORDED_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "jaxrl")


# ---------------------------------------------------------------------------------------------------------- JSON


def plain(value: Any) -> Any:
    """Returns `value` as JSON has it: dicts with string keys, lists, str, int, float, bool and None.

    Dataclasses and NamedTuples become dicts, arrays become (nested) lists, NumPy and JAX scalars become numbers, and
    anything else (dtypes, paths, functions) becomes its name or its text.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=repr)
    if hasattr(value, "__array__") and hasattr(value, "tolist") and not isinstance(value, type):
        array = np.asarray(value)
        # float32 0.1 is written as 0.1, the shortest text that reads back as the same float32
        if array.dtype == np.float32:
            return np.array([float(str(x)) for x in array.flat]).reshape(array.shape).tolist()
        return array.tolist()
    if isinstance(value, type) or callable(value):
        return getattr(value, "__qualname__", str(value))
    return str(value)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    files.write(path, files.sealed(plain(value)))


def _read_json(path: Path) -> dict[str, Any]:
    """Reads a sealed JSON file, or an unsealed one of a version before seals.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} is not a run directory: it has no {path.name}.") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {files.reason(error)}.") from error
    try:
        entries = files.parse(content)
        before = files.SEAL not in entries and entries.get("format", 1) in (1, 2)
        return entries if before else files.unseal(content)
    except ValueError as error:  # not UTF-8, no JSON, or another seal
        raise InputError(f"{path} is damaged: {error}.") from error


# ------------------------------------------------------------------------------------------------- run directory


def create_run_directory(path: str | Path | None = None, name: str = "run") -> Path:
    """Makes the directory of a new run, and the directories above it.

    Args:
        path: which; None: a new one, runs/NAME-TIME or, where several runs start in one second, runs/NAME-TIME-2 ….
        name: what is in it.

    Returns:
        The directory. One that was named may have been there, empty but for what a killed process leaves.

    Raises:
        InputError: it exists and is not empty, it is not a directory, it is in use, or nothing can be written there.
    """
    if path is None:
        stem = re.sub(r"[^\w.-]", "_", name)
        return _reserve(Path("runs"), f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}")
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        occupied = any(not files.leftover(inside.name) for inside in directory.iterdir())
    except FileExistsError as error:
        raise InputError(f"run directory {directory} cannot be made: a file of that name exists.") from error
    except OSError as error:
        raise InputError(f"run directory {directory} cannot be made: {error.strerror}.") from error
    if occupied:
        user = files.in_use(directory)
        if user:
            raise InputError(
                f"run directory {directory} is in use by {user}; nothing was changed. Choose another --out."
            )
        raise InputError(
            f"run directory {directory} exists and is not empty; nothing is overwritten. Choose another --out, "
            f"continue that run with `jaxrl resume {directory}`, or delete it first."
        )
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise InputError(f"run directory {directory} is not writable: {error.strerror}.") from error
    return directory


def _reserve(parent: Path, name: str) -> Path:
    """Makes a directory that nobody else has: making it is what decides between several processes."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"run directories in {parent} cannot be made: {error.strerror}.") from error
    number = 1
    while True:
        directory = parent / (name if number == 1 else f"{name}-{number}")
        try:
            directory.mkdir()
            return directory
        except FileExistsError:
            number += 1
        except OSError as error:
            raise InputError(f"run directory {directory} cannot be made: {error.strerror}.") from error


@contextlib.contextmanager
def run_directory(path: str | Path | None, name: str = "run", resume: bool = False) -> Iterator[Path]:
    """Makes the directory of a new run, or takes that of an old one, and keeps other processes out of it.

    Args:
        path: which; None: a new one, see `create_run_directory`.
        name: what is in it.
        resume: it must be that of a run; otherwise it must be new or empty.

    Raises:
        InputError: as for `create_run_directory`; another process works in it; no run directory, or one in which a
            directory has the place of a file or a file that of a directory.
    """
    directory = create_run_directory(path, name) if path is None or not resume else Path(path)
    if resume:
        check_layout(directory)
    try:
        with files.lock(directory):
            if not resume:
                create_run_directory(directory)  # still empty, now that nobody else can begin in it
            yield directory
    finally:
        if path is None:
            with contextlib.suppress(OSError):
                directory.rmdir()  # only if nothing was begun


def check_layout(directory: Path) -> None:
    """Checks that what is in a run directory is a file, or a directory, where it must be one.

    Raises:
        InputError: there is no run, or something has the place of something else.
    """
    if not (directory / CONFIG_FILE).exists():
        began = directory.is_dir() and any(map(files.leftover, os.listdir(directory)))
        why = "; a run was about to begin there: start it again with the same --out" if began else ""
        raise InputError(f"{directory} is not a run directory: it has no {CONFIG_FILE}{why}.")
    for name in (CONFIG_FILE, RESULTS_FILE, COST_FILE, CURVE_FILE, CHECKPOINTS, POLICIES):
        path, folder = directory / name, name in (CHECKPOINTS, POLICIES)
        if path.exists() and path.is_dir() != folder:
            kinds = ("a file", "a directory") if folder else ("a directory", "a file")
            raise InputError(f"{path} is {kinds[0]}, but must be {kinds[1]}: move it away.")


def provenance() -> dict[str, Any]:
    """Returns what a run's numbers depend on besides its settings: versions, commit, backend and devices.

    Asking for the devices starts JAX's backend.
    """
    import jax

    devices = jax.devices()
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in RECORDED_PACKAGES}},
        "git": _git(),
        "backend": jax.default_backend(),
        "devices": [str(device.device_kind) for device in devices],
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """The commit this file is checked out from and whether files differ from it; None outside a checkout."""

    def git(*args: str) -> str:
        command = ["git", "-C", str(Path(__file__).resolve().parent), *args]
        return subprocess.run(command, capture_output=True, check=True, text=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # not merely installed below someone's repository
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def write_config(directory: str | Path, config: Mapping[str, Any]) -> Path:
    """Writes `config.json`: `config`, made JSON by `plain`, a name for the run, and the `provenance` of this process.

    Args:
        directory: the run directory.
        config: everything needed to repeat the run: command line, agent, environment and its parameters, Config,
            Hyperparams, seeds, env_steps, num_evals.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(directory) / CONFIG_FILE
    _write_json(path, {"format": FORMAT, "run": secrets.token_hex(8), **config, "provenance": provenance()})
    return path


def read_config(directory: str | Path) -> dict[str, Any]:
    """Reads `config.json` of a run directory.

    Raises:
        InputError: it is missing or damaged.
    """
    return _read_json(Path(directory) / CONFIG_FILE)


def change_config(directory: str | Path, **entries: Any) -> None:
    """Replaces entries of `config.json`; the run keeps its name.

    Raises:
        InputError: it is missing or damaged, or cannot be written.
    """
    _write_json(Path(directory) / CONFIG_FILE, read_config(directory) | entries)


def record_resumption(directory: str | Path, evaluations: int) -> list[str]:
    """Notes in `config.json` that another process goes on with a run, if it differs from the one before.

    Args:
        directory: the run directory.
        evaluations: how many were done before this process.

    Returns:
        What differs, a text each: versions, commit, backend, number of devices. Where that is so, what is computed from
        here on equals an undisturbed run to rounding, not bit for bit.

    Raises:
        InputError: `config.json` is missing or damaged, or cannot be written.
    """
    config = read_config(directory)
    resumed = list(config.get("resumed") or [])
    now = provenance()
    before = resumed[-1]["provenance"] if resumed else config.get("provenance") or {}
    theirs, ours = _conditions(before), _conditions(plain(now))
    differences = [
        f"{name} {ours[name]} (before: {theirs.get(name)})" for name in ours if ours[name] != theirs.get(name)
    ]
    if differences:
        change_config(directory, resumed=[*resumed, {"evaluations": evaluations, "provenance": now}])
    return differences


def _conditions(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What the last bits of a run depend on, of the `provenance` of a process."""
    git, devices = provenance.get("git") or {}, provenance.get("devices") or []
    return {
        **(provenance.get("versions") or {}),
        "commit": f"{git['commit'][:12]}{' with changes' if git.get('modified') else ''}" if git else None,
        "backend": provenance.get("backend"),
        "devices": f"{len(devices)} × {devices[0]}" if devices else None,
    }


def write_cost(directory: str | Path, cost: Mapping[str, Any]) -> Path:
    """Writes `cost.json`: compile_s, run_s, env_steps_per_s, peak_memory_bytes, backend.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(directory) / COST_FILE
    _write_json(path, {**cost, **belonging(directory), "format": FORMAT})
    return path


def read_cost(directory: str | Path) -> dict[str, Any]:
    """Reads `cost.json` of a run directory.

    Raises:
        InputError: it is missing or damaged, or of another run.
    """
    cost = _read_json(Path(directory) / COST_FILE)
    known, wanted = cost.pop("format", None), belonging(directory)
    if wanted and cost.pop("run", None) != wanted["run"] and known is not None:
        raise InputError(f"{Path(directory) / COST_FILE} belongs to another run than the {CONFIG_FILE} beside it.")
    return cost


def peak_memory() -> int:
    """Returns the most memory used so far, in bytes: of all local devices together where they count it.

    Where they do not, as on a CPU, it is the largest resident set of this process, Python and compiler included; 0
    where nothing tells.
    """
    import jax

    stats = [device.memory_stats() for device in jax.local_devices()]
    peaks = [device["peak_bytes_in_use"] for device in stats if device and "peak_bytes_in_use" in device]
    if peaks:
        return int(sum(peaks))
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts KiB


# ---------------------------------------------------------------------------------------------------------- curves


def curves(
    env_steps: np.ndarray,
    seeds: Sequence[int] | np.ndarray,
    returns: np.ndarray,
    lengths: np.ndarray,
    train: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    scalars: Mapping[str, np.ndarray] | None = None,
    dims: Mapping[str, Sequence[Any]] | None = None,
    attrs: Mapping[str, Any] | None = None,
    others: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    costs: np.ndarray | None = None,
    infos: Mapping[str, np.ndarray] | None = None,
    keep_episodes: bool = False,
) -> "xr.Dataset":
    """Labels the arrays of a run: dimensions (swept names …, seed, env_step), and `evaluation` where it has several.

    In the shapes below `D` stands for one axis for each of `dims`, in their order; none without a sweep.

    Args:
        env_steps: int[E] environment steps taken at each evaluation.
        seeds: int[S].
        returns: f32[D…, S, E, episodes] undiscounted return of every evaluation episode.
        lengths: int[D…, S, E, episodes] its length in steps.
        train: (return_sum, length_sum, count), each [D…, S, E]: training episodes that ended since the evaluation
            before. Their means are NaN where count is 0.
        scalars: the learner's diagnostics by name, each [D…, S, E].
        dims: swept hyper-parameters and their values.
        attrs: what else to write on the Dataset, e.g. agent and env; text and numbers.
        others: name -> (returns, lengths) of further evaluations, each as those of the greedy policy. The variables of
            evaluations then have a dimension `evaluation` before the seed; its first entry is "greedy".
        costs: f32[D…, S, E, episodes, K] undiscounted costs of the greedy policy's episodes; None: there are none.
        infos: name -> f32[D…, S, E, episodes] what the environment says of a step, a mean over the steps of each of the
            greedy policy's episodes.
        keep_episodes: keep each episode's return and length, too, along a dimension `episode`.

    Returns:
        A Dataset of `evaluation_return`, `evaluation_length` and, as given, `evaluation_cost_<k>`,
        `evaluation_info_<name>`, `evaluation_episode_return` and `_length`, `training_return`, `training_length`,
        `training_episodes` and `learner_<name>`; every variable has `units` and `description`.

    Raises:
        InputError: shapes do not fit together.
    """
    import xarray as xr

    swept = {name: labels(values) for name, values in (dims or {}).items()}
    coords: dict[str, Any] = {
        **{name: (name, values, {"description": "swept hyper-parameter"}) for name, values in swept.items()},
        "seed": ("seed", np.asarray(seeds, np.int64), {"description": "seed of the run"}),
        "env_step": (
            "env_step",
            np.asarray(env_steps, np.int64),
            {"units": "steps", "description": "environment steps taken, over all parallel environments of one run"},
        ),
    }
    names = tuple(coords)
    if others:
        coords["evaluation"] = ("evaluation", ["greedy", *others], {"description": "who was evaluated, and on what"})
    variables: dict[str, Any] = {}

    def add(name: str, values: ArrayLike, units: str, description: str, dims: tuple[str, ...] = names) -> None:
        shape = tuple(len(coords[dim][1]) for dim in dims)
        if np.shape(values) != shape:
            raise InputError(f"{name} has shape {np.shape(values)}; {dict(zip(dims, shape, strict=True))} is needed.")
        variables[name] = (dims, np.asarray(values), {"units": units, "description": description})

    all_returns, all_lengths = [], []
    for returns_of, lengths_of in ((returns, lengths), *(others or {}).values()):
        returns_of, lengths_of = np.asarray(returns_of), np.asarray(lengths_of)  # whatever library's arrays they were
        episodes = np.shape(returns_of)[-1] if np.ndim(returns_of) else 0
        if episodes == 0 or np.shape(returns_of) != np.shape(lengths_of):
            raise InputError(
                f"evaluation returns {np.shape(returns_of)} and lengths {np.shape(lengths_of)} must be of the same "
                "episodes, at least one."
            )
        all_returns.append(np.mean(returns_of, -1, np.float64))
        all_lengths.append(np.mean(lengths_of, -1, np.float64))
    evaluated = (*swept, "evaluation", *names[len(swept) :]) if others else names
    for name, parts, units in (("return", all_returns, "return"), ("length", all_lengths, "steps")):
        values = np.stack(parts, len(swept)) if others else parts[0]
        add(f"evaluation_{name}", values, units, f"mean over {episodes} evaluation episodes", evaluated)
    if keep_episodes:
        coords["episode"] = (
            "episode",
            np.arange(episodes),
            {"description": "evaluation episode; the same start in all"},
        )
        for place, (name, units) in enumerate((("return", "return"), ("length", "steps"))):
            parts = [np.asarray(part[place]) for part in ((returns, lengths), *(others or {}).values())]
            values = np.stack(parts, len(swept)) if others else parts[0]
            add(f"evaluation_episode_{name}", values, units, "of each evaluation episode", (*evaluated, "episode"))
    for name, values in (infos or {}).items():
        mean = np.mean(values, -1, np.float64)
        add(
            f"evaluation_info_{name}",
            mean,
            "1",
            f"{name}: mean over the steps of {episodes} episodes of the greedy policy",
        )
    for k in range(0 if costs is None else np.shape(costs)[-1]):
        mean = np.mean(np.asarray(costs)[..., k], -1, np.float64)
        add(f"evaluation_cost_{k}", mean, "cost", f"mean over {episodes} episodes of the greedy policy")
    if train is not None:
        return_sum, length_sum, count = (np.asarray(part) for part in train)
        some = np.maximum(count, 1)
        ended = "mean over the training episodes that ended since the evaluation before; NaN where none did"
        add("training_return", np.where(count > 0, return_sum / some, np.nan), "return", ended)
        add("training_length", np.where(count > 0, length_sum / some, np.nan), "steps", ended)
        add("training_episodes", count, "episodes", "training episodes that ended since the evaluation before")
    for name, values in (scalars or {}).items():
        add("learner_" + name.replace("/", "_"), values, "1", f"{name} of the learner")
    notes = {name: _attribute(value) for name, value in (attrs or {}).items()}
    return xr.Dataset(variables, coords, {**notes, "evaluation_episodes": episodes})


def _attribute(value: Any) -> str | int | float:
    """What netCDF can hold as an attribute: numbers and text as they are, everything else as JSON."""
    value = plain(value)
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else json.dumps(value)


def labels(values: Sequence[Any]) -> np.ndarray:
    """Values along a dimension: numbers stay numbers; whatever netCDF cannot hold as a coordinate becomes text."""
    array = np.asarray([plain(value) if not isinstance(value, tuple | list) else str(value) for value in values])
    return array if array.dtype.kind in "biufU" else np.asarray([str(value) for value in values])


def save(dataset: "xr.Dataset", path: str | Path) -> Path:
    """Writes `dataset` as netCDF (version 3, 64-bit offsets; no further library is needed), complete or not at all.

    Beside a `config.json` it belongs to that run, and says so.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(path)
    files.write(path, encode(dataset.assign_attrs(belonging(path.parent))))
    return path


def encode(dataset: "xr.Dataset") -> bytes:
    """The bytes that `save` writes, with their hash."""
    # netCDF 3 has no unsigned or 64-bit integers, and env_step outgrows 32 bits; float64 is exact up to 2**53.
    dtypes = {str(name): dataset[name].dtype for name in dataset.variables}
    wide = {name: str(dtype) for name, dtype in dtypes.items() if dtype.kind in "iu" and dtype != np.int32}
    stored = _cast(dataset, dict.fromkeys(wide, "float64"))
    stored = stored.assign_attrs({_INTEGERS: json.dumps(wide), files.SEAL: f"sha256:{'0' * 64}"})
    content = bytes(stored.to_netcdf(engine="scipy", format="NETCDF3_64BIT"))
    return _HASH.sub(_hash_of(content), content, count=1)


def _hash_of(content: bytes) -> bytes:
    return b"sha256:" + hashlib.sha256(_HASH.sub(b"sha256:" + b"0" * 64, content, count=1)).hexdigest().encode()


def belonging(directory: str | Path) -> dict[str, str]:
    """What a file of a run directory says about where it belongs: {"run": name}; {} in any other directory.

    Raises:
        InputError: `config.json` is damaged.
    """
    entries = read_config(directory) if (Path(directory) / CONFIG_FILE).is_file() else {}
    return {"run": str(entries["run"])} if "run" in entries else {}


def _cast(dataset: "xr.Dataset", dtypes: Mapping[str, str]) -> "xr.Dataset":
    # Bare variables: a DataArray would carry its coordinates along, uncast.
    return dataset.assign({name: dataset[name].variable.astype(dtype) for name, dtype in dtypes.items()})


def load(path: str | Path) -> "xr.Dataset":
    """Reads what `save` wrote, into memory.

    Raises:
        InputError: the file is missing, damaged or no netCDF, or of another run than the `config.json` beside it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there are no results at {path}.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {files.reason(error)}.") from error
    try:
        dataset = decode(content)
    except Exception as error:  # scipy's reader raises whatever it stumbles on
        raise InputError(f"{path} is damaged or holds no results of a run ({files.reason(error)}).") from error
    wanted = belonging(path.parent)
    if wanted and dataset.attrs.get("run") != wanted["run"]:
        raise InputError(f"{path} belongs to another run than the {CONFIG_FILE} beside it.")
    return dataset


def recover(directory: str | Path, evaluations: int) -> "xr.Dataset":
    """The results of a run up to a checkpoint, which are in it, and are put in the place of `results.nc`.

    What was there is renamed where it is damaged or of other runs.

    Args:
        directory: the run directory.
        evaluations: how many the checkpoint has.

    Raises:
        InputError: no such checkpoint, or no results in it.
    """
    from jaxrl import checkpoint

    path = Path(directory) / RESULTS_FILE
    inside = checkpoint.find(path.parent / CHECKPOINTS, evaluations) / RESULTS_FILE
    dataset = load(inside)
    if path.exists():
        try:
            beside = load(path)
            same = min(beside.sizes["env_step"], dataset.sizes["env_step"])
            first, second = (one.isel(env_step=slice(same)) for one in (beside, dataset))
            problem = "" if first.equals(second) else f"{path} has other numbers than the checkpoint."
        except InputError as error:
            problem = str(error)
        if problem:
            aside = files.set_aside(path)
            print(f"{problem} It is now {aside.name}; those of the checkpoint are used.", file=sys.stderr)
    files.write(path, inside.read_bytes())
    return dataset


def decode(content: bytes) -> "xr.Dataset":
    """Reads what `encode` made, or a file of a version before hashes.

    Raises:
        Exception: of any kind, where that is not what it is.
    """
    import xarray as xr

    found = _HASH.search(content)
    if found and found[0] != _hash_of(content):
        raise ValueError("it is not as it was written (checksum)")
    dataset = xr.load_dataset(io.BytesIO(content), engine="scipy")
    dataset.attrs.pop(files.SEAL, None)
    wide = json.loads(dataset.attrs.pop(_INTEGERS if found else _INTEGERS_BEFORE))
    text = [str(name) for name in dataset.variables if dataset[name].dtype == object]
    return _cast(dataset, {**wide, **dict.fromkeys(text, "str")})


class Row(NamedTuple):
    """The end of one configuration's curve, over its seeds."""

    swept: dict[str, Any]  # its swept hyper-parameters; {} without a sweep
    env_step: int  # of the last evaluation
    seeds: int
    iqm: float  # interquartile mean of the final evaluation return
    low: float  # 95 % stratified-bootstrap interval of the IQM
    high: float
    mean: float
    std: float  # over seeds, with n-1; NaN for one seed
    min: float
    max: float


def summary(dataset: "xr.Dataset", variable: str = "evaluation_return") -> list[Row]:
    """Returns a row for each combination of the swept hyper-parameters (one row without a sweep).

    Args:
        dataset: what `curves` or `load` returned.
        variable: what is summarised, at the last `env_step`.
    """
    if dataset.sizes["env_step"] == 0:
        raise InputError("these results hold no evaluation.")
    rows = []
    for swept, curve in configurations(dataset):
        final = curve[variable].isel(env_step=-1).values.astype(np.float64)
        low, high = statistics.stratified_bootstrap(final)
        rows.append(
            Row(
                swept=swept,
                env_step=int(dataset["env_step"][-1]),
                seeds=len(final),
                iqm=float(statistics.iqm(final)),
                low=low,
                high=high,
                mean=float(final.mean()),
                std=float(final.std(ddof=1)) if len(final) > 1 else float("nan"),
                min=float(final.min()),
                max=float(final.max()),
            )
        )
    return rows


def of_evaluation(dataset: "xr.Dataset", name: str = "greedy") -> "xr.Dataset":
    """The results of one evaluation alone, where there are several by name.

    Raises:
        InputError: there is none of that name.
    """
    several = "evaluation" in dataset.dims
    known = list(map(str, dataset["evaluation"].values)) if several else ["greedy"]
    if name not in known:
        raise unknown("evaluation", name, known)
    return dataset.sel(evaluation=name, drop=True) if several else dataset


def configurations(dataset: "xr.Dataset") -> "list[tuple[dict[str, Any], xr.Dataset]]":
    """Splits a sweep into (swept hyper-parameters, Dataset over seed and env_step); one item without a sweep.

    Where the sweep was of trials, what they tried is among the hyper-parameters.
    """
    dataset = dataset.drop_dims("episode", errors="ignore")
    names = [str(name) for name in dataset.sizes if name not in ("seed", "env_step")]
    tried = [str(name) for name, coord in dataset.coords.items() if coord.dims == ("trial",) and name != "trial"]
    sizes = [dataset.sizes[name] for name in names]
    parts = []
    for index in np.ndindex(*sizes):
        part = dataset.isel(dict(zip(names, index, strict=True)))
        parts.append(
            ({name: part[name].values.item() for name in [*names, *tried]}, part.transpose("seed", "env_step", ...))
        )
    return parts
