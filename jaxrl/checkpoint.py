"""Checkpoints of whole runs: every leaf of the state, bit for bit, in units that are complete or not there at all.

A checkpoint is one directory, `<step>` or (when a step is saved again) `<step>.<n>`: the arrays as orbax writes them,
files that belong to the same moment (the results so far), and `manifest.json` with what the run is, path, shape, dtype
and CRC-32 of every leaf, and size and CRC-32 of every file. It is made under another name, synced, and renamed when
everything is in it, so a process that is killed, or a machine that loses power, at any moment leaves the checkpoints
that were complete before. Nothing is pickled.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import InputError
from jaxrl import files
from jaxrl.results import plain

FORMAT = 2  # 1: without files of the same moment; its seal was a CRC-32
_NAME = re.compile(r"(\d+)(?:\.(\d+))?")
_MANIFEST = "manifest.json"
_ARRAYS = "arrays"
_LISTED = 12  # differences that an error message lists before it only counts them


class Unusable(InputError):
    """A checkpoint is damaged, or not of this run."""


def save(
    directory: str | Path,
    state: Any,
    step: int,
    identity: Mapping[str, Any],
    keep: int = 2,
    beside: Mapping[str, bytes] | None = None,
) -> Path:
    """Saves `state` as the checkpoint of `step`; it is on disk and complete when this returns.

    One process at a time may save into a directory.

    Args:
        directory: where the checkpoints of the run lie; made if missing.
        state: any pytree of arrays: typed PRNG keys, any dtype and shape, usually [runs, ...].
        step: how far the run is, ≥ 0; the number that `steps` and `restore` know the checkpoint by.
        identity: what the state belongs to (agent, environment, configuration, number of runs …), as values that
            JSON can hold; `restore` refuses the checkpoint where its own identity differs.
        keep: how many of the newest checkpoints remain, this one included.
        beside: file name -> content of what belongs to the same moment; `find` says where it lies.

    Returns:
        The directory of this checkpoint.

    Raises:
        WriteError: the directory cannot be written; the checkpoints there are as they were.
        ValueError: `step` is negative or `keep` is not positive.
        TypeError: a leaf is a 64-bit array that JAX, as configured, cannot hold.
    """
    if step < 0 or keep < 1:
        raise ValueError(f"step must be >= 0 and keep >= 1, not step={step} and keep={keep}")
    directory = Path(directory).absolute()
    arrays, leaves = {}, []
    for path, leaf in _flatten(state):
        value = _to_numpy(path, leaf)
        leaves.append({"path": path, **_describe(leaf), "crc32": _crc32(value)})
        if hasattr(leaf, "dtype") and _is_key(leaf):
            leaves[-1]["key_impl"] = str(jax.random.key_impl(leaf))
        if value.size:  # orbax refuses arrays without entries; the manifest alone says all there is to them
            arrays[str(len(leaves) - 1)] = value
    manifest = {"format": FORMAT, "step": int(step), "identity": plain(identity), "leaves": leaves}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tidy(directory)
        complete = _complete(directory)
        again = complete.get(step)
        target = directory / (str(step) if again is None else f"{step}.{_generation(again) + 1}")
        _write(directory / f"partial-{target.name}", target, arrays, manifest, beside or {})
        complete[step] = target
        stale = [complete[old] for old in sorted(complete)[:-keep] if old != step]
        for path in [*stale, *([again] if again else [])]:
            _remove(path)
    except OSError as error:
        raise files.WriteError(f"cannot write a checkpoint to {directory}: {files.reason(error)}.") from error
    return target


def restore(
    directory: str | Path,
    template: Any,
    identity: Mapping[str, Any],
    step: int | None = None,
    fall_back: Callable[[str], None] | None = None,
) -> tuple[Any, int]:
    """Reads a checkpoint back, after checking that it is this run's and that every bit is as it was saved.

    Args:
        directory: what `save` was given.
        template: the state's structure: a pytree of arrays or `jax.ShapeDtypeStruct`, e.g. from `jax.eval_shape`.
        identity: what the state must belong to, compared entry by entry with what was saved.
        step: which checkpoint; None: the newest complete one.
        fall_back: called with what is wrong with the newest one if an older one is good; that is then restored, and
            what is newer is renamed. None: what is wrong is an error.

    Returns:
        (state, step). The arrays are on the default device, not committed to it.

    Raises:
        InputError: there is no (such) checkpoint; it belongs to another run (the message lists each entry that
            differs); its leaves are not the template's; it is damaged (the message names an older complete one).
    """
    directory = Path(directory).absolute()
    complete = _complete(directory)
    if not complete:
        why = "holds no complete checkpoint" if directory.is_dir() else "does not exist"
        raise InputError(f"no checkpoint to restore: {directory} {why}.")
    wanted = max(complete) if step is None else step
    if wanted not in complete:
        raise InputError(f"no checkpoint of step {wanted} in {directory}. Steps there: {_join(sorted(complete))}.")
    try:
        return _read(complete[wanted], template, identity), wanted
    except Unusable as error:
        first = error
    for older in sorted((other for other in complete if other < wanted), reverse=True):
        if fall_back is None or step is not None:
            raise Unusable(f"{first} The checkpoint before it is of step {older} (--checkpoint {older}).") from first
        try:
            state = _read(complete[older], template, identity)
        except Unusable:
            continue
        aside = [files.set_aside(complete[newer]).name for newer in sorted(complete) if newer > older]
        fall_back(f"{first} Going on from step {older}; {_join(aside)} is what was newer.")
        return state, older
    raise first


def find(directory: str | Path, step: int) -> Path:
    """Where the complete checkpoint of `step` lies, and what was saved beside it.

    Raises:
        InputError: there is none.
    """
    complete = _complete(Path(directory))
    if step not in complete:
        raise InputError(f"no checkpoint of step {step} in {directory}. Steps there: {_join(sorted(complete))}.")
    return complete[step]


def _read(source: Path, template: Any, identity: Mapping[str, Any]) -> Any:
    try:
        manifest = _read_manifest(source)
        _check_identity(source, manifest["identity"], plain(identity))
        wanted = [{"path": path, **_describe(leaf)} for path, leaf in _flatten(template)]
        _check_leaves(source, manifest["leaves"], wanted)
        _check_files(source, manifest["files"])
        arrays = _read_arrays(source, manifest["leaves"])
    except OSError as error:
        raise Unusable(f"checkpoint {source} cannot be read: {files.reason(error)}.") from error
    leaves = [_to_jax(array, saved) for array, saved in zip(arrays, manifest["leaves"], strict=True)]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def fingerprint(tree: Any) -> str:
    """The SHA-256 of a pytree of arrays as JAX holds them: of the path, dtype, shape and bytes of every leaf."""
    digest = hashlib.sha256()
    for path, leaf in _flatten(tree):
        if isinstance(leaf, np.ndarray):
            leaf = leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)
        value = np.ascontiguousarray(_to_numpy(path, leaf))
        digest.update(f"{path} {value.dtype} {value.shape}".encode())
        digest.update(value.data)
    return digest.hexdigest()


def steps(directory: str | Path) -> list[int]:
    """Returns the steps of the complete checkpoints in `directory`, ascending; [] if there are none."""
    return sorted(_complete(Path(directory)))


def tidy(directory: str | Path) -> None:
    """Removes what a killed process left behind: unfinished saves, unfinished deletions, and what they replace.

    Raises:
        WriteError: something cannot be removed.
    """
    directory = Path(directory)
    newest = _complete(directory)
    try:
        for path in directory.iterdir() if directory.is_dir() else ():
            unfinished = re.fullmatch(r"(partial|deleted)-\d+(\.\d+)?", path.name)
            match = _NAME.fullmatch(path.name)
            if path.is_dir() and (unfinished or (match and newest[int(match[1])] != path)):
                shutil.rmtree(path)
    except OSError as error:
        raise files.WriteError(f"cannot tidy {directory}: {files.reason(error)}.") from error


def _write(
    partial: Path,
    target: Path,
    arrays: dict[str, np.ndarray],
    manifest: dict[str, Any],
    beside: Mapping[str, bytes],
) -> None:
    import orbax.checkpoint as ocp

    partial.mkdir()
    if arrays:
        try:
            with _quiet(), ocp.PyTreeCheckpointer() as checkpointer:
                checkpointer.save(partial / _ARRAYS, arrays)
        except Exception as error:  # its storage layer raises ValueError for what the operating system says
            raise OSError(_system_reason(error)) from error
    for name, content in beside.items():
        (partial / name).write_bytes(content)
    inside = sorted(partial.rglob("*"))
    written = {
        path.relative_to(partial).as_posix(): {"size": path.stat().st_size, "crc32": _file_crc32(path)}
        for path in inside
        if path.is_file()
    }
    (partial / _MANIFEST).write_bytes(files.sealed({**manifest, "files": written}))
    # The content first, then the names that lead to it, from the deepest up.
    for path in [*reversed(inside), partial / _MANIFEST, partial]:
        files.sync(path)
    partial.rename(target)
    files.sync(target.parent)


def _system_reason(error: BaseException) -> str:
    """What the operating system said, out of the long message that orbax makes of it."""
    text = str(error)
    found = [words for words in map(os.strerror, files.REFUSALS) if words in text]
    return found[0] if found else files.reason(error)


def _complete(directory: Path) -> dict[int, Path]:
    """The newest complete checkpoint of each step. Unfinished and half-deleted ones have other names."""
    found: dict[int, Path] = {}
    if directory.is_dir():
        for path in directory.iterdir():
            match = _NAME.fullmatch(path.name)
            if match and path.is_dir():
                step = int(match[1])
                if step not in found or _generation(found[step]) < _generation(path):
                    found[step] = path
    return found


def _generation(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[2] or 0) if match else 0


def _remove(path: Path) -> None:
    # Renamed first: a kill in the middle of the deletion must not leave something that looks complete.
    doomed = path.with_name(f"deleted-{path.name}")
    path.rename(doomed)
    shutil.rmtree(doomed)


@contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what orbax logs while it runs, through absl's logger; its errors are raised as well."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _flatten(tree: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path) or "(the whole state)", leaf) for path, leaf in leaves]


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(leaf: Any) -> dict[str, Any]:
    """Shape and dtype of an array or ShapeDtypeStruct; the dtype of keys names their generator."""
    leaf = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _to_numpy(path: str, leaf: Any) -> np.ndarray:
    if not hasattr(leaf, "dtype"):
        leaf = jnp.asarray(leaf)
    if _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype != jax.dtypes.canonicalize_dtype(leaf.dtype):
        raise TypeError(f"{path} is {leaf.dtype}, which JAX cannot hold unless jax_enable_x64 is set")
    return np.ascontiguousarray(leaf).reshape(leaf.shape)  # ascontiguousarray alone makes a scalar one-dimensional


def _to_jax(array: np.ndarray, saved: Mapping[str, Any]) -> jax.Array:
    value = jnp.array(array)
    return jax.random.wrap_key_data(value, impl=saved["key_impl"]) if "key_impl" in saved else value


def _crc32(array: np.ndarray) -> int:
    return zlib.crc32(array.reshape(-1).view(np.uint8).data) if array.size else 0


def _file_crc32(path: Path) -> int:
    crc32 = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc32 = zlib.crc32(block, crc32)
    return crc32


def _damaged(source: Path, what: str) -> Unusable:
    return Unusable(f"checkpoint {source} is damaged: {what}.")


def _read_manifest(source: Path) -> dict[str, Any]:
    try:
        content = (source / _MANIFEST).read_bytes()
        entries = files.parse(content)
        if entries.get("format", FORMAT) != FORMAT:
            raise Unusable(f"checkpoint {source} has format {entries['format']}; this version reads {FORMAT}.")
        manifest = files.unseal(content)
        if manifest["step"] != int(source.name.partition(".")[0]):
            raise ValueError(f"it is the checkpoint of step {manifest['step']}, and was renamed")
    except FileNotFoundError as error:
        raise _damaged(source, f"{_MANIFEST} is missing") from error
    except Unusable:
        raise
    except (ValueError, KeyError) as error:
        raise _damaged(source, f"{_MANIFEST}: {error}") from error
    return manifest


def _check_files(source: Path, listed: Mapping[str, Any]) -> None:
    # Before orbax reads them: damaged ones make its storage layer fail in ways that spill over into later work.
    for name, written in listed.items():
        path = source / name
        if not path.is_file():
            raise _damaged(source, f"{name} is missing")
        if path.stat().st_size != written["size"]:
            raise _damaged(source, f"{name} has {path.stat().st_size} bytes of {written['size']}")
        if _file_crc32(path) != written["crc32"]:
            raise _damaged(source, f"{name} is not as it was written (checksum)")


def _read_arrays(source: Path, leaves: list[dict[str, Any]]) -> list[np.ndarray]:
    import orbax.checkpoint as ocp

    stored = [str(i) for i, leaf in enumerate(leaves) if 0 not in leaf["shape"]]
    arrays: Mapping[str, np.ndarray] = {}
    if stored:
        restore_args = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in stored}
        try:
            with _quiet(), ocp.PyTreeCheckpointer() as checkpointer:
                arrays = checkpointer.restore(source / _ARRAYS, restore_args=restore_args)
        except Exception as error:  # the files are as written, but e.g. another version of orbax cannot read them
            raise _damaged(source, f"orbax cannot read its arrays ({files.reason(error)})") from error
    result = []
    for i, leaf in enumerate(leaves):
        if str(i) in arrays:
            array = np.ascontiguousarray(arrays[str(i)]).reshape(np.shape(arrays[str(i)]))
        else:
            array = np.zeros(leaf["shape"], np.uint32 if "key_impl" in leaf else leaf["dtype"])
        if _crc32(array) != leaf["crc32"]:
            raise _damaged(source, f"the bits of {leaf['path']} are not those that were saved (checksum)")
        result.append(array)
    return result


def _join(values: list[Any]) -> str:
    return ", ".join(map(str, values))


def _listed(lines: list[str]) -> str:
    more = [f"… and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return "".join(f"\n  {line}" for line in lines[:_LISTED] + more)


def _entries(value: Any, prefix: str = "") -> dict[str, Any]:
    """A nested dict as {dotted path: leaf}; lists are leaves."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    entries: dict[str, Any] = {}
    for name, inner in value.items():
        entries.update(_entries(inner, f"{prefix}.{name}" if prefix else str(name)))
    return entries


def _check_identity(source: Path, saved: Any, wanted: Any) -> None:
    theirs, ours = _entries(saved), _entries(wanted)
    lines = [
        f"{name}: ours {json.dumps(ours[name]) if name in ours else 'absent'}, "
        f"the checkpoint's {json.dumps(theirs[name]) if name in theirs else 'absent'}"
        for name in sorted(ours.keys() | theirs.keys())
        if name not in ours or name not in theirs or not _same(ours[name], theirs[name])
    ]
    if lines:
        raise Unusable(f"checkpoint {source} belongs to another run. What differs:{_listed(lines)}")


def _same(a: Any, b: Any) -> bool:
    # As text nan is nan; as values 1 is 1.0, but is not true.
    return json.dumps(a) == json.dumps(b) or (a == b and isinstance(a, bool) == isinstance(b, bool))


def _check_leaves(source: Path, saved: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    def kinds(leaves: list[dict[str, Any]]) -> dict[str, str]:
        return {leaf["path"]: f"{leaf['dtype']}[{_join(leaf['shape'])}]" for leaf in leaves}

    theirs, ours = kinds(saved), kinds(wanted)
    lines = [
        f"{path}: ours {ours.get(path, 'absent')}, the checkpoint's {theirs.get(path, 'absent')}"
        for path in [*ours, *(path for path in theirs if path not in ours)]
        if ours.get(path) != theirs.get(path)
    ]
    if not lines and list(theirs) != list(ours):
        lines = ["the same leaves in another order"]
    if lines:
        raise Unusable(f"checkpoint {source} does not hold this state. What differs:{_listed(lines)}")
