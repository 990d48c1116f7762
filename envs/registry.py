"""Names of environments: `make`, `register`, `names`.

An environment that is in no registry has a name, too: "module:Class", where `module` can be imported.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from envs import values
from envs.base import Env
from envs.errors import InputError, unknown
from envs.modules import load


class Entry(NamedTuple):
    """What a name stands for."""

    env: str | Callable[..., Env]  # the class, or "module:Class"
    options: dict[str, Any]  # static fields that the name fixes
    wrap: Callable[[Env], Env] | str | None  # applied to the instance: a function, or "module:function"


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str,
    env: str | Callable[..., Env],
    *,
    wrap: Callable[[Env], Env] | str | None = None,
    replace: bool = False,
    **options: Any,
) -> None:
    """Adds an environment under `name`.

    Args:
        env: the class, or "module:Class", imported at the first `make`.
        wrap: turns the instance into the one that `make` returns (see `envs.wrappers`); a function, or
            "module:function", imported at the first `make`.
        replace: the name may be taken: what it stood for is forgotten. So a cell of a notebook can be run again.
        options: static fields of the class that this name fixes, e.g. `max_steps=200`.

    Raises:
        InputError: `name` is taken already, or has a colon.
    """
    if ":" in name:
        raise InputError(f"environment {name!r}: a name with a colon is MODULE:CLASS.")
    if name in _ENTRIES and not replace:
        raise InputError(f"environment {name!r} is registered already; replace=True puts another in its place.")
    _ENTRIES[name] = Entry(env, options, wrap)


def names() -> list[str]:
    """All registered names, sorted."""
    return sorted(_ENTRIES)


def make(name: str, **overrides: Any) -> tuple[Env, Any]:
    """Builds an environment and its parameters.

    Args:
        name: a registered id, e.g. "CartPole-v1", or "module:Class".
        overrides: static fields of the environment (`max_steps=1000`) or fields of its parameters (`length=0.7`).

    Returns:
        (env, params); the leaves of params are NumPy arrays of a fixed dtype.

    Raises:
        InputError: unknown name or field, or a value of the wrong type or shape, or one that is not allowed.
    """
    if ":" in name:
        entry = Entry(name, {}, None)
    elif name in _ENTRIES:
        entry = _ENTRIES[name]
    else:
        raise unknown("environment", name, _ENTRIES, "`jaxrl list envs` or envs.names()")
    made = load(entry.env)
    env = _built(name, made, entry.options) if callable(made) else made
    if entry.wrap is not None:
        env = load(entry.wrap)(env)
    if not isinstance(env, Env):
        raise InputError(f"{name} is no environment (envs.base.Env) but {env!r}.")
    kinds = env.option_kinds()
    params = env.default_params()
    param_names = set(getattr(params, "_fields", ()))
    for key in overrides:
        if key not in kinds.keys() | param_names:
            raise unknown(f"field of {name}", key, kinds.keys() | param_names)
    options = {key: values.convert(key, value, kinds[key]) for key, value in overrides.items() if key in kinds}
    env = env.replace(**options)
    params = env.default_params()
    changed = {
        key: values.as_array(f"{name}: {key}", value, _as_array(getattr(params, key)))
        for key, value in overrides.items()
        if key in param_names
    }
    return env, as_arrays(params._replace(**changed) if changed else params)


def find(env: Env, params: Any) -> tuple[str, dict[str, Any]] | None:
    """Returns (name, overrides) from which `make` builds an environment and its parameters; None where none does.

    Of several names it is the one that leaves least to override, and of those the first.
    """
    params = as_arrays(params)
    layers: list[Any] = [env]
    while isinstance(getattr(layers[-1], "env", None), Env):
        layers.append(layers[-1].env)
    inner = type(layers[-1])
    own = f"{inner.__module__}:{inner.__qualname__}"
    same_class = [
        name
        for name, entry in _ENTRIES.items()
        if entry.env is inner or (isinstance(entry.env, str) and entry.env == own)
    ]
    found = []
    for name in [*same_class, *([own] if len(layers) == 1 and inner.__module__ != "__main__" else [])]:
        try:
            base = make(name)[0]
            static = {key: value for key, value in env.options().items() if base.options().get(key, ...) != value}
            defaults = make(name, **static)[1]
            fields = getattr(params, "_fields", ()) if type(params) is type(defaults) else ()
            traced = {
                field: _as_written(getattr(params, field))
                for field in fields
                if isinstance(getattr(params, field), np.ndarray | np.generic)
                and not np.array_equal(getattr(params, field), getattr(defaults, field))
            }
            made, made_params = make(name, **static, **traced)
        except (InputError, TypeError):  # it is made in another way
            continue
        same = jax.tree.structure(made_params) == jax.tree.structure(params)
        pairs = zip(jax.tree.leaves(made_params), jax.tree.leaves(params), strict=same)
        if same and made == env and all(np.array_equal(one, other) for one, other in pairs):
            found.append((name, static | traced))
    return min(found, key=lambda pair: len(pair[1]), default=None)


def _as_written(array: Any) -> Any:
    """Numbers, or nested lists of them, as a person would write them: 0.7, not the float32 next to it."""
    numbers = np.array([float(str(x)) if isinstance(x, np.floating) else x for x in np.ravel(array)])
    return numbers.reshape(np.shape(array)).tolist()


def _built(name: str, make: Callable[..., Any], options: dict[str, Any]) -> Any:
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        raise InputError(f"{name} cannot be made by its name alone: {error}. Give its fields default values.") from None
    return make(**options)


def as_arrays(params: Any) -> Any:
    """Gives every leaf a fixed dtype (float32, int32 or bool), so that no default recompiles a program."""
    return jax.tree.map(_as_array, params)


def _as_array(leaf: Any) -> Any:
    value = np.asarray(leaf)
    narrow = {"f": np.float32, "i": np.int32, "b": np.bool_}
    if value.dtype.itemsize == 8 or isinstance(leaf, bool | int | float):
        value = value.astype(narrow.get(value.dtype.kind, value.dtype))
    return value
