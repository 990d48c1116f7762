"""What is typed becomes values: the flags of a command, of the agent and of the environment, and axes of sweeps.

`envs.values` reads every value by the type of its field. Tyro writes the help and puts the settings together, from
flags that were read, checked and written out plainly before.
"""

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import tyro

import envs
from envs import values
from envs.errors import InputError, unknown
from envs.modules import import_all
from jaxrl import agents

if TYPE_CHECKING:
    from jaxrl.sweep import Axis

MOST_NUMBERS = 32  # a parameter of the environment with more of them (a map) is set from Python, not by a flag

# Names of `jaxrl.evaluations.KINDS`, shown in the help.
EvaluationNames = Annotated[tuple[str, ...], tyro.conf.arg(metavar="[sampling|own_reward|test …]")]


class Flag(NamedTuple):
    """What a flag is for."""

    field: str  # name of the field
    kind: Any  # its type


def parse(kind: type, argv: Sequence[str], prog: str) -> Any:
    """Parses the flags of a command that is about no particular agent and environment.

    Args:
        kind: dataclass of the command's options.
        argv: what was typed after the command.
        prog: the command, for its help.

    Raises:
        InputError: an unknown flag, or a value that its field cannot have.
    """
    return tyro.cli(kind, args=_plain(argv, _flags("", values.kinds(kind)), prog, positional=True), prog=prog)


def parse_flags(
    kind: type, command: str, agent: str, env: str, argv: Sequence[str]
) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Parses the flags of a command about an agent and an environment.

    Args:
        kind: dataclass of the command's options.
        command: its name.
        agent: the agent.
        env: the environment.
        argv: what was typed after them.

    Returns:
        (options of type `kind`, Config, Hyperparams, the environment's fields that differ from its own).

    Raises:
        InputError: an unknown agent, environment or flag, or a value that its field cannot have.
    """
    imported(argv)
    module = agents.get(agent)
    kinds, own = _environment(env)
    fields = [(name, kinds[name], dataclasses.field(default=value)) for name, value in own.items()]
    made = dataclasses.make_dataclass("EnvironmentFields", fields, frozen=True)
    combined = _combined(kind, hp=module.Hyperparams, config=module.Config, env=made)
    flags = _flags("", values.kinds(kind)) | _agent_flags(module) | _flags("env.", kinds)
    prog = f"jaxrl {command} {agent} {env}"
    parsed = tyro.cli(combined, args=_plain(argv, flags, prog), prog=prog, description=module.__doc__ or "")
    changed = {name: getattr(parsed.env, name) for name in own if getattr(parsed.env, name) != own[name]}
    return parsed.options, parsed.config, parsed.hp, changed


def print_help(kind: type, command: str, agent: str | None, argv: Sequence[str]) -> None:
    """Prints the flags of a command about an agent and an environment before both are known, and exits.

    Args:
        kind: dataclass of the command's options.
        command: its name.
        agent: the agent, if that is known.
        argv: what was typed after them.

    Raises:
        InputError: an unknown agent.
    """
    imported(argv)
    prog = f"jaxrl {command} {agent or 'AGENT'} ENV"
    more = f"`{prog} --help` with an agent and an environment in their places lists the flags of both, too."
    if agent is None:
        text = f"Agents: {', '.join(agents.names())}. Environments: `jaxrl list envs`.\n\n{more}"
        tyro.cli(kind, args=["--help"], prog=prog, description=text)
    else:
        module = agents.get(agent)
        combined = _combined(kind, hp=module.Hyperparams, config=module.Config)
        tyro.cli(combined, args=["--help"], prog=prog, description=f"{module.__doc__ or ''}\n\n{more}")


def _combined(kind: type, **settings: type) -> Any:
    """A dataclass of a command's options and of further settings, whose flags have their name before them."""
    options = ("options", tyro.conf.OmitArgPrefixes[kind], dataclasses.field(default_factory=kind))
    rest = [(name, made, dataclasses.field(default_factory=made)) for name, made in settings.items()]
    return dataclasses.make_dataclass(kind.__name__, [options, *rest])


def _agent_flags(module: Any) -> dict[str, Flag]:
    return _flags("hp.", values.kinds(module.Hyperparams)) | _flags("config.", values.kinds(module.Config))


def _environment(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The types and values of the fields and parameters of an environment that flags can set."""
    env, params = envs.make(name)
    kinds, own = env.option_kinds(), env.options()
    for field, value in own.items():
        if not values.known(kinds[field]):
            kinds[field] = _type_of(value)
    for field, value in (params._asdict() if params else {}).items():
        if np.size(value) <= MOST_NUMBERS:
            own[field] = _as_tuples(np.asarray(value).tolist())
            kinds[field] = values.of_array(value)
    return kinds, own


def _as_tuples(value: Any) -> Any:
    """Nested lists as nested tuples, which can be the default of a field."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _type_of(value: Any) -> Any:
    """The type of a field of which only a value is known."""
    if isinstance(value, tuple):
        return tuple[(*map(_type_of, value),)]
    return values.Whole | None if value is None else type(value)


def _flags(prefix: str, kinds: Mapping[str, Any]) -> dict[str, Flag]:
    """--prefix.field for every field, and --prefix.no-field for those that are true or false."""
    found = {}
    for field, kind in kinds.items():
        extras = typing.get_args(kind)[1:] if typing.get_origin(kind) is Annotated else ()
        if tyro.conf.Positional in extras:
            continue
        spelled = next((extra.name for extra in extras if getattr(extra, "name", None)), field).replace("_", "-")
        found[f"--{prefix}{spelled}"] = Flag(field, kind)
        if kind is bool:
            found[f"--{prefix}no-{spelled}"] = Flag(field, kind)
    return found


def _plain(argv: Sequence[str], flags: Mapping[str, Flag], prog: str, positional: bool = False) -> list[str]:
    """Reads the values of flags by their types and writes them out in the one way that tyro takes for granted.

    Args:
        argv: what was typed.
        flags: those there are.
        prog: the command, for messages.
        positional: whether there are words that belong to no flag.
    """
    found, rest = [], list(argv)
    while rest:
        word = rest.pop(0)
        spelled, equals, text = word.partition("=")
        spelled = spelled.replace("_", "-")
        inner = spelled.rpartition(".")[0]
        if not word.startswith("-") and not positional:
            raise InputError(f"unexpected {word!r}: no flag before it takes it. `{prog} --help` lists them.")
        if not word.startswith("--") or spelled == "--help" or (inner in flags and not values.known(flags[inner].kind)):
            found.append(word)
            continue
        if spelled not in flags:
            raise _unknown_flag(spelled, flags, prog)
        field, kind = flags[spelled]
        following = [text] if equals else rest[: next((k for k, w in enumerate(rest) if w.startswith("--")), len(rest))]
        if not values.known(kind):
            found += [word] if equals else [word, *following]
            del rest[: 0 if equals else len(following)]
            continue
        said = following and (not positional or following[0].lower() in ("true", "false"))
        if kind is bool and not equals and not said:
            found.append(spelled)
            continue
        size = values.num_words(kind)
        if size is not None:
            alone = following[:1] and (following[0].startswith(("(", "[")) or (size > 1 and "," in following[0]))
            following = following[: 1 if alone else size]
        if size == 1 and not following:
            raise InputError(f"{spelled} needs a value: {values.describe(kind)}.")
        if not equals:
            del rest[: len(following)]
        try:
            value = values.parse(field, following, kind)
        except InputError as error:
            raise InputError(f"{spelled}: {error}") from None
        if kind is bool:
            found.append(spelled if value else _negated(spelled, flags))
        elif isinstance(value, tuple):
            found += [spelled, *_words(value)]
        else:
            found.append(f"{spelled}={value}")
    return found


def _negated(flag: str, flags: Mapping[str, Flag]) -> str:
    """--config.no-double for --config.double, and the other way round."""
    return next(other for other in flags if other != flag and flags[other] == flags[flag] and _same_place(flag, other))


def _same_place(one: str, other: str) -> bool:
    return one.removeprefix("--").rpartition(".")[0] == other.removeprefix("--").rpartition(".")[0]


def _words(value: tuple[Any, ...]) -> list[str]:
    return [word for one in value for word in (_words(one) if isinstance(one, tuple) else [str(one)])]


def _unknown_flag(flag: str, flags: Mapping[str, Flag], prog: str) -> InputError:
    """The error for a flag that there is not; one of the same field name comes before one that merely looks alike."""
    last = flag.removeprefix("--").rpartition(".")[2]
    same = [other for other in flags if other.removeprefix("--").rpartition(".")[2] == last]
    by_last = {other.removeprefix("--").rpartition(".")[2]: other for other in reversed([*flags])}
    close = difflib.get_close_matches(flag, flags, n=1, cutoff=0.75)
    alike = [by_last[name] for name in difflib.get_close_matches(last, by_last, n=1, cutoff=0.6)]
    best = (same or close or alike)[:2]
    hint = f" Did you mean {' or '.join(best)}?" if best else ""
    return InputError(f"unknown flag {flag}.{hint} `{prog} --help` lists them.")


def imported(argv: Sequence[str]) -> None:
    """Imports what --import names, before anything is looked up that it registers.

    Raises:
        InputError: there is no such module.
    """
    for place, word in enumerate(argv):
        if word == "--import":
            names = argv[place + 1 :]
            names = names[: next((k for k, name in enumerate(names) if name.startswith("--")), len(names))]
        elif word.startswith("--import="):
            names = [word.partition("=")[2]]
        else:
            continue
        import_all(names)


def parse_axis(text: str, axes: "Mapping[str, Axis]", flag: str = "--grid") -> tuple[str, list[Any]]:
    """Reads `hp.gamma=0.9,0.99` as ("hp.gamma", [0.9, 0.99]), each value by the type of its field.

    Args:
        text: what was typed.
        axes: those there are (`jaxrl.sweep.axes_of`).
        flag: what it was typed after.

    Raises:
        InputError: another form, an unknown axis, or a value that the field cannot have.
    """
    axis, equals, listed = text.partition("=")
    if not equals or not listed:
        raise InputError(f"{flag} {text!r} is not AXIS=VALUE,VALUE…, such as hp.gamma=0.9,0.99.")
    if axis not in axes:
        raise unknown("sweep axis", axis, axes)
    return axis, [values.parse(f"{flag} {axis}", part, axes[axis].kind) for part in values.split(listed)]


def parse_space(text: str, axes: "Mapping[str, Axis]") -> tuple[str, Any]:
    """Reads `hp.gamma=0.9:0.99`, `hp.learning_rate=log:1e-4:1e-2`, or an axis as `parse_axis` does.

    Of a field that is a whole number, whole numbers are drawn.
    """
    from jaxrl.sweep import Range

    axis, equals, bounds = text.partition("=")
    if not equals or ":" not in bounds:
        return parse_axis(text, axes, "--search")
    if axis not in axes:
        raise unknown("sweep axis", axis, axes)
    log = bounds.startswith("log:")
    ends = bounds.removeprefix("log:").split(":")
    kind = axes[axis].kind
    if len(ends) != 2 or not all(ends):
        raise InputError(f"--search {text!r} is not AXIS=LOW:HIGH or AXIS=log:LOW:HIGH.")
    low, high = (values.parse(f"--search {axis}", end, kind) for end in ends)
    if not isinstance(low, int | float) or not isinstance(high, int | float) or isinstance(low, bool):
        raise InputError(f"--search {text!r}: a range is of numbers; {axis} is {values.describe(kind)}.")
    return axis, Range(low, high, log, whole=isinstance(low, int) and isinstance(high, int))
