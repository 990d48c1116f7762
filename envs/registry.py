"""Names of environments: `make`, `register`, `names`."""

import dataclasses
import importlib
from typing import Any

import jax
import numpy as np

from envs.base import Env
from envs.errors import InputError, unknown

_ENTRIES: dict[str, tuple[str | type[Env], dict[str, Any]]] = {}


def register(name: str, env: str | type[Env], **options: Any) -> None:
    """Adds an environment under `name`.

    Args:
        env: the class, or "module:Class", imported at the first `make`.
        options: static fields of the class that this name fixes, e.g. `max_steps=200`.

    Raises:
        InputError: `name` is taken already.
    """
    if name in _ENTRIES:
        raise InputError(f"environment {name!r} is registered already.")
    _ENTRIES[name] = (env, options)


def names() -> list[str]:
    """All registered names, sorted."""
    return sorted(_ENTRIES)


def env_class(name: str) -> tuple[type[Env], dict[str, Any]]:
    """Returns the class behind `name` and the static options that the name fixes.

    Raises:
        InputError: no such name; the message has the nearest.
    """
    if name not in _ENTRIES:
        raise unknown("environment", name, _ENTRIES)
    target, options = _ENTRIES[name]
    if isinstance(target, str):
        module, _, attribute = target.partition(":")
        target = getattr(importlib.import_module(module), attribute)
        _ENTRIES[name] = (target, options)
    return target, options


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
    cls, options = env_class(name)
    static_names = {field.name for field in dataclasses.fields(cls)}
    static = {key: value for key, value in overrides.items() if key in static_names}
    env = cls(**{**options, **static})
    params = env.default_params()
    param_names = set(getattr(params, "_fields", ()))
    for key in overrides:
        if key not in static_names | param_names:
            raise unknown(f"field of {name}", key, static_names | param_names)
    changed = {
        key: _cast(name, key, getattr(params, key), value) for key, value in overrides.items() if key in param_names
    }
    return env, as_arrays(params._replace(**changed) if changed else params)


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
