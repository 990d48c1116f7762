"""Names of environments: `make`, `register`, `names`."""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from envs.base import Env
from envs.errors import InputError, unknown


class Entry(NamedTuple):
    """What a name stands for."""

    env: str | type[Env]  # the class, or "module:Class"
    options: dict[str, Any]  # static fields that the name fixes
    wrap: Callable[[Env], Env] | str | None  # applied to the instance: a function, or "module:function"


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str, env: str | type[Env], *, wrap: Callable[[Env], Env] | str | None = None, **options: Any
) -> None:
    """Adds an environment under `name`.

    Args:
        env: the class, or "module:Class", imported at the first `make`.
        wrap: turns the instance into the one that `make` returns (see `envs.wrappers`); a function, or
            "module:function", imported at the first `make`.
        options: static fields of the class that this name fixes, e.g. `max_steps=200`.

    Raises:
        InputError: `name` is taken already.
    """
    if name in _ENTRIES:
        raise InputError(f"environment {name!r} is registered already.")
    _ENTRIES[name] = Entry(env, options, wrap)


def names() -> list[str]:
    """All registered names, sorted."""
    return sorted(_ENTRIES)


def make(name: str, **overrides: Any) -> tuple[Env, Any]:
    """Builds an environment and its parameters.

    Args:
        name: a registered id, e.g. "CartPole-v1".
        overrides: static fields of the environment (`max_steps=1000`) or fields of its parameters (`length=0.7`).

    Returns:
        (env, params); the leaves of params are NumPy arrays of a fixed dtype.

    Raises:
        InputError: unknown name or field, or a value of the wrong type or shape.
    """
    if name not in _ENTRIES:
        raise unknown("environment", name, _ENTRIES)
    entry = _ENTRIES[name]
    env = _import(entry.env)(**entry.options)
    if entry.wrap is not None:
        env = _import(entry.wrap)(env)
    static_names = set(env.options())
    env = env.replace(**{key: value for key, value in overrides.items() if key in static_names})
    params = env.default_params()
    param_names = set(getattr(params, "_fields", ()))
    for key in overrides:
        if key not in static_names | param_names:
            raise unknown(f"field of {name}", key, static_names | param_names)
    changed = {
        key: _cast(name, key, getattr(params, key), value) for key, value in overrides.items() if key in param_names
    }
    return env, as_arrays(params._replace(**changed) if changed else params)


def _import(target: Any) -> Any:
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def as_arrays(params: Any) -> Any:
    """Gives every leaf a fixed dtype (float32, int32 or bool), so that no default recompiles a program."""
    return jax.tree.map(_as_array, params)


def _as_array(leaf: Any) -> Any:
    value = np.asarray(leaf)
    narrow = {"f": np.float32, "i": np.int32, "b": np.bool_}
    if value.dtype.itemsize == 8 or isinstance(leaf, bool | int | float):
        value = value.astype(narrow.get(value.dtype.kind, value.dtype))
    return value


def _cast(env: str, field: str, default: Any, value: Any) -> Any:
    old = _as_array(default)
    try:
        new = np.asarray(value)
        if not np.can_cast(new.dtype, old.dtype, "same_kind"):
            raise TypeError
    except (TypeError, ValueError):
        raise InputError(f"{env}: {field}={value!r} must be a number of type {old.dtype}.") from None
    if new.shape != old.shape:
        raise InputError(f"{env}: {field} has shape {old.shape}, got shape {new.shape} from {value!r}.")
    return new.astype(old.dtype)
