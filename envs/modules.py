"""Environments and agents of one's own by name: "module:attribute"."""

import importlib
from collections.abc import Iterable
from typing import Any

from envs.errors import InputError, nearest


def load(target: Any) -> Any:
    """Imports "module:attribute", "module:" (the module itself) or "package:module"; returns anything else as it is.

    Raises:
        InputError: there is no such module or attribute. What goes wrong inside the module is raised as it is.
    """
    if not isinstance(target, str):
        return target
    name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise InputError(
            f"there is no module {name!r} to import: it must lie in the working directory or be installed."
        ) from error
    except ValueError as error:  # an empty name
        raise InputError(f"{target!r} is not MODULE:NAME.") from error
    if not attribute:
        return module
    if not hasattr(module, attribute):
        try:
            return importlib.import_module(f"{name}.{attribute}")
        except ModuleNotFoundError:
            hint = nearest(attribute, [found for found in vars(module) if not found.startswith("_")])
            raise InputError(f"module {name} has no {attribute!r}.{hint}") from None
    return getattr(module, attribute)


def import_all(names: Iterable[str]) -> None:
    """Imports modules for what they register.

    Raises:
        InputError: there is no such module.
    """
    for name in names:
        load(f"{name}:")
