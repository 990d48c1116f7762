"""Files that are there whole or not at all, that notice when they were changed, and that one process uses at a time.

A file is written under another name, synced, and renamed, and then its directory is synced: a process that is killed,
or a machine that loses power, at any moment leaves what was there before or what is there after. JSON is sealed with
its SHA-256. A run directory is locked while a process writes in it.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from envs.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None

LOCK = "lock"  # who writes in a directory; gone when nobody does
SEAL = "sha256"  # entry of a JSON file: the hash of all the others
_TEMPORARY = re.compile(r"\..+\.\d+\.\w+")
REFUSALS = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_held: dict[Path, tuple[int, Path]] = {}  # directories that this process has locked -> the thread, what it calls them


class WriteError(InputError):
    """A file cannot be written: no space, no permission, no such directory."""


def reason(error: BaseException) -> str:
    """One line that says what went wrong; of an error of the operating system its own words."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def sync(path: Path) -> None:
    """Waits until a file's content, or a directory's names, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows syncs no directories
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, content: bytes) -> None:
    """Puts `content` at `path`, complete and on disk, in one step; what was there is replaced.

    Raises:
        WriteError: it cannot be written; what was there before still is.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {reason(error)}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_directory(path: Path) -> None:
    """Makes a directory, and those above it, unless it is there.

    Raises:
        WriteError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot make the directory {path}: {reason(error)}.") from error


def set_aside(path: Path) -> Path:
    """Renames a file or directory that is not what it should be, so that it is neither used nor overwritten.

    Returns:
        Where it is now: beside where it was, named set-aside-NAME.

    Raises:
        WriteError: it cannot be renamed.
    """
    number, aside = 1, path.with_name(f"set-aside-{path.name}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"set-aside-{number}-{path.name}")
    try:
        path.rename(aside)
        sync(path.parent)
    except OSError as error:
        raise WriteError(f"cannot rename {path}: {reason(error)}.") from error
    return aside


def digest(entries: Mapping[str, Any]) -> str:
    """The SHA-256 of JSON's values, in whatever order they stand."""
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def sealed(entries: Mapping[str, Any]) -> bytes:
    """JSON text of `entries` and their seal."""
    return (json.dumps({**entries, SEAL: digest(entries)}, indent=2) + "\n").encode()


def unseal(content: bytes) -> dict[str, Any]:
    """Reads what `sealed` made; the seal is not among the entries.

    Raises:
        ValueError: it is no JSON object, has no seal, or is not as it was written; the message says which.
    """
    entries = parse(content)
    if SEAL not in entries:
        raise ValueError("it has no checksum")
    if entries.pop(SEAL) != digest(entries):
        raise ValueError("it is not as it was written (checksum)")
    return entries


def parse(content: bytes) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ValueError: it is none.
    """
    try:
        entries = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(entries, dict):
        raise ValueError(f"it holds no object but a {type(entries).__name__}")
    return entries


# --------------------------------------------------------------------------------------------------------- locks


def leftover(name: str) -> bool:
    """Whether a process that is gone may leave a file of this name in a run directory: no part of any run."""
    return name == LOCK or _TEMPORARY.fullmatch(name) is not None


def held() -> list[Path]:
    """The directories that this process has locked, the last one last."""
    return [shown for _, shown in _held.values()]


@contextlib.contextmanager
def lock(directory: Path | str, shared: bool = False) -> Iterator[None]:
    """Keeps other processes out of a directory, from the moment of the call; what killed ones left there is removed.

    The system releases the lock of a process that ends in whatever way. Within the thread that holds it the lock may be
    taken again.

    Args:
        directory: an existing directory.
        shared: let others in that ask for a shared lock, too.

    Raises:
        InputError: another process has it; the message says which.
        WriteError: nothing can be written there.
    """
    place = Path(directory).resolve()
    thread = threading.get_ident()
    if place in _held and _held[place][0] == thread:
        yield
        return
    handle = None if place in _held else _acquire(place / LOCK, shared)
    if handle is None:
        raise InputError(f"{directory} is in use by {_holder(place / LOCK)}. Nothing was changed.")
    try:
        _held[place] = (thread, Path(directory))
        stale = _read(handle)
        if not shared:
            if stale:
                text = f"{directory}: {stale} is gone without having ended its work there; taking over."
                print(text, file=sys.stderr)
            for path in place.iterdir():
                if path.name != LOCK and leftover(path.name):
                    path.unlink(missing_ok=True)
        _sign(handle, place / LOCK)
        yield
    finally:
        _held.pop(place, None)
        try:
            if not shared:  # the others still need it
                (place / LOCK).unlink(missing_ok=True)
        except OSError:
            pass  # whoever comes next takes over
        finally:
            os.close(handle)


def _acquire(path: Path, shared: bool) -> int | None:
    """Opens and locks a file; None where another process has it."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise WriteError(f"cannot write {path}: {reason(error)}.") from error
        if fcntl is None:
            return handle
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError as error:
            print(f"{path.parent} is not locked: {reason(error)}.", file=sys.stderr)
            return handle
        # Whoever had it may have deleted the file that was opened here: only a lock on the present one counts.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        os.close(handle)


def _sign(handle: int, path: Path) -> None:
    text = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    try:
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, text.encode())
    except OSError as error:
        raise WriteError(f"cannot write {path}: {reason(error)}.") from error


def _read(handle: int) -> str:
    return os.read(handle, 200).decode("utf-8", "replace")


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_bytes()[:200].decode("utf-8", "replace") or "another process"
    return "another process"


def in_use(directory: Path | str) -> str:
    """Which other process has locked a directory, as a text; empty where none has."""
    path = Path(directory) / LOCK
    if fcntl is None or not path.is_file() or Path(directory).resolve() in _held:
        return ""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(path)
    except OSError:
        return ""
    finally:
        os.close(handle)
    return ""
