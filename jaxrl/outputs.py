"""Files that a user asks for, such as pictures, films and tables: nothing is overwritten unless that is asked for."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from envs.errors import InputError


def check(path: str | Path, overwrite: bool = False) -> Path:
    """Returns the path if a file may be written there; to be asked before the work whose outcome it is.

    Args:
        path: of the file.
        overwrite: whether one that is there may be replaced.

    Raises:
        InputError: it exists, or its directory does not.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a directory.")
    if not overwrite and path.exists():
        raise InputError(f"{path} exists; nothing is overwritten. Choose another name, or give --overwrite.")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no directory {path.parent}.")
    return path


def write(path: str | Path, writer: Callable[[Path], Any], overwrite: bool = False) -> Path:
    """Lets `writer` make a file, complete or not at all, and returns its path.

    Args:
        path: of the file.
        writer: called with the name to write to, which has the same suffix.
        overwrite: whether a file that is there may be replaced.

    Raises:
        InputError: see `check`, or the file cannot be written.
    """
    path = check(path, overwrite)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        writer(temporary)
        os.replace(temporary, path)
    except (OSError, ValueError) as error:  # ValueError: matplotlib has no writer for the suffix
        raise InputError(f"cannot write {path}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return path
