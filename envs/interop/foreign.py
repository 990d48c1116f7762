"""Importing libraries that only interoperation needs, and saying what to install where one is missing."""

import importlib
import warnings
from typing import Any

from envs.errors import InputError


def load(module: str, extra: str) -> Any:
    """Imports a module of another library.

    Warnings that its import gives are the library's own business, so they are not shown.

    Args:
        module: its full name, e.g. "brax.envs".
        extra: the extra of this package that installs it.

    Raises:
        InputError: it is not installed, or something that it needs is not; the message has the command that helps.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f'{module} is needed here ({error}): pip install "jaxrl[{extra}]"') from None
