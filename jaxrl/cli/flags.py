"""What is typed becomes values: the flags of a command, of the agent and of the environment, and axes of sweeps."""

import ast
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import envs
from envs.errors import InputError
from jaxrl import agents

MOST_NUMBERS = 32  # a parameter of the environment with more of them (a map) is set from Python, not by a flag


def parse_flags(
    kind: type, command: str, agent: str, env: str, argv: list[str]
) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Parses the flags of a command about an agent and an environment.

    Returns:
        (options of type `kind`, Config, Hyperparams, the environment's fields that differ from its own).
    """
    module = agents.get(agent)
    made, params = envs.make(env)
    own = made.options()
    own |= {
        name: _as_tuples(np.asarray(value).tolist())
        for name, value in (params._asdict().items() if params else ())
        if np.size(value) <= MOST_NUMBERS
    }
    env_fields = [(name, _flag_type(value), dataclasses.field(default=value)) for name, value in own.items()]
    env_type = dataclasses.make_dataclass("EnvironmentFields", env_fields, frozen=True)
    combined = dataclasses.make_dataclass(
        kind.__name__,
        [
            ("options", tyro.conf.OmitArgPrefixes[kind], dataclasses.field(default_factory=kind)),
            ("hp", module.Hyperparams, dataclasses.field(default=module.Hyperparams())),
            ("config", module.Config, dataclasses.field(default=module.Config())),
            ("env", env_type, dataclasses.field(default_factory=env_type)),
        ],
    )
    parsed: Any = tyro.cli(combined, args=argv, prog=f"jaxrl {command} {agent} {env}", description=module.__doc__ or "")
    changed = {name: getattr(parsed.env, name) for name in own if getattr(parsed.env, name) != own[name]}
    return parsed.options, parsed.config, parsed.hp, changed


def _as_tuples(value: Any) -> Any:
    """Nested lists as nested tuples, which can be the default of a field."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _flag_type(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple[(*map(_flag_type, value),)]
    return int | None if value is None else type(value)


def require(options: Any, *names: str) -> None:
    """Raises InputError unless the named options are at least 1."""
    for name in names:
        if getattr(options, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(options, name)} must be at least 1.")


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """Reads `hp.gamma=0.9,0.99` as ("hp.gamma", [0.9, 0.99]): values are Python literals, anything else is text."""
    axis, equals, values = text.partition("=")
    if not equals or not values:
        raise InputError(f"--grid {text!r} is not AXIS=VALUE,VALUE…, such as hp.gamma=0.9,0.99.")
    try:
        parsed = list(ast.literal_eval(f"[{values}]"))
    except (ValueError, SyntaxError):
        parsed = [{"True": True, "False": False}.get(part, part) for part in values.split(",")]
    return axis, parsed


def parse_space(text: str) -> tuple[str, Any]:
    """Reads `hp.gamma=0.9:0.99`, `hp.learning_rate=log:1e-4:1e-2`, or an axis as `parse_axis` does."""
    from jaxrl.sweep import Range

    axis, equals, bounds = text.partition("=")
    if not equals or ":" not in bounds:
        return parse_axis(text)
    log = bounds.startswith("log:")
    try:
        low, high = map(float, bounds.removeprefix("log:").split(":"))
    except ValueError:
        raise InputError(f"--search {text!r} is not AXIS=LOW:HIGH or AXIS=log:LOW:HIGH.") from None
    return axis, Range(low, high, log)


def use_cache(wanted: bool) -> None:
    """Switches on JAX's persistent compilation cache."""
    place = os.environ.get("JAXRL_CACHE", "")
    if not wanted or place.lower() in ("off", "0", "no"):
        return
    import jax

    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", place or str(home / "jaxrl" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
