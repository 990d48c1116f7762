"""What settings may be: text becomes values, and values are checked, by the type of the field that they are for.

The command line's flags, the axes of sweeps, the options of environments and every configuration go through here, so
the same text means the same everywhere, and the same sizes are refused everywhere.

    parse("num_envs", "64.0", int) == 64
    parse("hidden", "(64, 32)", tuple[int, ...]) == (64, 32)
    parse("double", "True", bool) is parse("double", "true", bool) is True

A field that is an `int` is a size: at least 1, or at least its default where that is lower. Other bounds are declared:

    lag: Count = 2
    gamma: Fraction = 0.99
"""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Union

import jax
import numpy as np
from jax.core import Tracer

from envs.errors import InputError, nearest

LARGEST = 2**31 - 1  # of a whole number: sizes and counters have 32 bits


class Bounds(NamedTuple):
    """What a number may be, ends included; stands in `Annotated`."""

    low: float
    high: float = math.inf
    above: bool = False  # the lower end itself is not allowed


Size = Annotated[int, Bounds(1)]
Count = Annotated[int, Bounds(0)]
Whole = Annotated[int, Bounds(-math.inf)]
Fraction = Annotated[float, Bounds(0, 1)]
NonNegative = Annotated[float, Bounds(0)]
Positive = Annotated[float, Bounds(0, above=True)]


class Checked:
    """Base of frozen dataclasses whose fields are converted and checked when one is made, e.g. by `replace`."""

    def __post_init__(self) -> None:
        """Raises InputError for a field that is not what its type says; a list becomes a tuple, 64.0 becomes 64."""
        for name, kind in kinds(self).items():
            object.__setattr__(self, name, convert(name, getattr(self, name), kind))


def require(settings: Any) -> None:
    """Raises InputError unless every field of `settings` (a dataclass or named tuple) is what its type allows."""
    for name, kind in kinds(settings).items():
        convert(name, getattr(settings, name), kind)


def kinds(settings: Any) -> dict[str, Any]:
    """The types of the fields of a dataclass or a named tuple, by name, with the bounds of whole numbers.

    Args:
        settings: the type, or an instance of it, whose values then stand in for missing defaults.
    """
    kind = settings if isinstance(settings, type) else type(settings)
    found, without_default = _kinds(kind)
    if isinstance(settings, type) or not without_default:
        return dict(found)
    hints = _hints(kind)
    return found | {name: _sized(hints[name], getattr(settings, name)) for name in without_default if name in hints}


@functools.cache
def _kinds(kind: type) -> tuple[dict[str, Any], tuple[str, ...]]:
    if dataclasses.is_dataclass(kind):
        defaults = {field.name: _default(field) for field in dataclasses.fields(kind) if field.init}
    else:
        defaults = {name: getattr(kind, "_field_defaults", {}).get(name) for name in getattr(kind, "_fields", ())}
    hints = _hints(kind)
    found = {
        name: _sized(hints[name], None if default is dataclasses.MISSING else default) if name in hints else Any
        for name, default in defaults.items()
    }
    return found, tuple(name for name, default in defaults.items() if default is dataclasses.MISSING)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except (NameError, TypeError):  # a type that is only known inside the function that made the class
        return {}


def _default(field: "dataclasses.Field[Any]") -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _sized(kind: Any, default: Any) -> Any:
    """Gives a plain `int` its bound, inside optional types and tuples, too."""
    if kind is int:
        numbers = [default] if isinstance(default, int) else []
        return Annotated[int, Bounds(min([1, *numbers]))]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if _is_union(kind):
        return Union[tuple(_sized(part, default) for part in arguments)]  # noqa: UP007
    if origin is tuple:
        lowest = min([1, *(x for x in default if isinstance(x, int))]) if isinstance(default, tuple) else 1
        return tuple[tuple(part if part is ... else _sized(part, lowest) for part in arguments)]
    return kind


def of_array(value: Any) -> Any:
    """The type of a value that is known by an example alone: bool, int, float, or tuples of them for an array."""
    array = np.asarray(0.0 if value is None else value)
    kind: Any = {"b": bool, "i": Whole, "u": Count}.get(array.dtype.kind, float)
    for length in reversed(array.shape):
        kind = tuple[(kind,) * length]
    return kind


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (Union, types.UnionType)


def known(kind: Any) -> bool:
    """Whether `parse` and `convert` know what to do with a type; others are taken as they are."""
    if typing.get_origin(kind) is Annotated:
        return known(typing.get_args(kind)[0])
    if _is_union(kind) or typing.get_origin(kind) is tuple:
        return all(part is ... or known(part) for part in typing.get_args(kind))
    return kind in (bool, int, float, str, None, type(None)) or typing.get_origin(kind) is Literal


def num_words(kind: Any) -> int | None:
    """How many words of a command line a value takes; None: all of them, up to the next flag."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return num_words(arguments[0])
    parts = [num_words(part) for part in arguments if part is not ...] if origin is tuple or _is_union(kind) else [1]
    if ... in arguments or None in parts:
        return None
    numbers = [part for part in parts if part is not None]
    return sum(numbers) if origin is tuple else max(numbers)


def parse(name: str, text: str | Sequence[str], kind: Any) -> Any:
    """Reads text as a value of a type.

    Args:
        name: of the field, for the message.
        text: one text (a sequence in brackets or not: "(64, 64)", "64,64"), or the words of a command line.
        kind: a type; see `kinds`. Text for a type that is not `known` stays text.

    Raises:
        InputError: it is none, or not allowed; with what is, and the nearest of several names.
    """
    words = [text] if isinstance(text, str) else list(text)
    try:
        return _settled(_read(words, kind), kind)
    except _Unlike as error:
        raise _refused(name, " ".join(words), kind, error) from None


def convert(name: str, value: Any, kind: Any) -> Any:
    """Returns a value as its type wants it: 64.0 as 64, a list as a tuple; arrays of several runs as they are.

    Args:
        name: of the field, for the message.
        value: what a person gave.
        kind: a type; see `kinds`. What is not `known` is taken as it is.

    Raises:
        InputError: a value of another type, beyond its bounds, or NaN.
    """
    try:
        return _settled(value, kind)
    except _Unlike as error:
        raise _refused(name, value, kind, error) from None


def as_array(name: str, value: Any, like: Any) -> np.ndarray:
    """Returns a value with the shape and dtype of another, its default.

    Raises:
        InputError: no number of that type, another shape, NaN, or a number that the type cannot hold.
    """
    old = np.asarray(like)
    try:
        new = np.asarray(value)
        if old.dtype.kind in "iu" and new.dtype.kind == "f" and (new == np.floor(new)).all():
            whole = new.astype(np.int64)
            new = whole if (whole == new).all() else new
        if new.dtype.kind not in "biuf" or not np.can_cast(new.dtype, old.dtype, "same_kind"):
            raise TypeError
    except (TypeError, ValueError):
        raise InputError(f"{name}={value!r} must be a number of type {old.dtype}.") from None
    if new.shape != old.shape:
        raise InputError(f"{name} has shape {old.shape}, got shape {new.shape} from {value!r}.")
    with np.errstate(over="ignore"):
        cast = new.astype(old.dtype)
    lost = (cast != new) if new.dtype.kind in "iu" and old.dtype.kind in "iu" else np.isinf(cast) & ~np.isinf(new)
    if np.any(np.isnan(cast)) or np.any(lost):
        raise InputError(f"{name}={value!r} is no number that {old.dtype} can hold.")
    return cast


def split(text: str) -> list[str]:
    """Takes a list apart at its commas, but not inside brackets or quotes: "(8, 8),(4,)" is "(8, 8)" and "(4,)".

    Raises:
        InputError: brackets or quotes that do not close.
    """
    parts, start, depth, quote = [], 0, 0, ""
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in "([":
            depth += 1
        elif sign in ")]":
            depth -= 1
        elif sign == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    if depth or quote:
        raise InputError(f"{text!r} has brackets or quotes that do not close.")
    last = text[start:].strip()
    return [*parts, last] if last or not parts else parts


class _Unlike(ValueError):
    """The value is not what the type wants; with the limit if that is one which the type does not say."""


def _refused(name: str, value: Any, kind: Any, error: _Unlike) -> InputError:
    shown = value if isinstance(value, str) else repr(value)
    return InputError(f"{name}={shown} must be {str(error) or describe(kind)}.{nearest(value, _choices(kind))}")


def _choices(kind: Any) -> list[str]:
    if typing.get_origin(kind) is Literal:
        return [str(choice) for choice in typing.get_args(kind)]
    return [choice for part in typing.get_args(kind) if part is not ... for choice in _choices(part)]


def describe(kind: Any) -> str:
    """What is allowed, e.g. "a whole number of at least 1"."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        bounds = [extra for extra in arguments[1:] if isinstance(extra, Bounds)]
        return describe(arguments[0]) + (_between(bounds[0]) if bounds else "")
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if _is_union(kind):
        return " or ".join(describe(part) for part in arguments)
    if origin is tuple:
        if ... in arguments:
            return f"a list, each entry {describe(arguments[0])}"
        return f"{len(arguments)} values, each {' or '.join(dict.fromkeys(map(describe, arguments)))}"
    names: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return names.get(kind) or ("None" if kind in (None, type(None)) else getattr(kind, "__name__", str(kind)))


def _between(bounds: Bounds) -> str:
    low, high = (f"{int(end):,}" if abs(end) < math.inf and end == int(end) else f"{end:g}" for end in bounds[:2])
    if bounds.high < math.inf:
        return f" from {low} to {high}"
    if bounds.above:
        return f" above {low}"
    return f" of at least {low}" if bounds.low > -math.inf else ""


def _read(words: Sequence[str], kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _read(words, arguments[0])
    if _is_union(kind):
        return _first(arguments, lambda part: _settled(_read(words, part), part))
    if origin is tuple:
        return _read_tuple(words, arguments)
    if len(words) != 1:
        raise _Unlike
    text = _unquoted(words[0].strip())
    if kind in (None, type(None)):
        if text.lower() != "none":
            raise _Unlike
        return None
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise _Unlike
        return text.lower() == "true"
    if kind is int or kind is float:
        return _number(text, kind)
    if origin is Literal:
        return _first(arguments, lambda choice: choice if str(choice) == text else _raise())
    return text


def _read_tuple(words: Sequence[str], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Words are the entries, those of inner tuples one after the other; or one word holds them all."""
    if len(words) == 1:
        text = words[0].strip()
        if text.startswith(("(", "[")) and len(split(text)) == 1:
            text = text[1:-1]
        words = [word for word in split(text) if word]
    entries = []
    rest = list(words)
    endless = ... in arguments
    for place in range(len(rest) if endless else len(arguments)):
        if endless and not rest:
            break
        kind = arguments[0] if endless else arguments[place]
        bracketed = bool(rest) and rest[0].startswith(("(", "["))
        size = 1 if bracketed else num_words(kind) or 1
        entries.append(_read(rest[:size], kind))
        rest = rest[size:]
    if rest:
        raise _Unlike
    return tuple(entries)


def _number(text: str, kind: type) -> int | float:
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        pass
    try:
        return float(text)  # 2.0 and 1e6 are whole numbers, which `_settled` decides
    except ValueError:
        raise _Unlike from None


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _raise() -> Any:
    raise _Unlike


def _first(parts: Iterable[Any], attempt: Callable[[Any], Any]) -> Any:
    for part in parts:
        try:
            return attempt(part)
        except _Unlike:
            continue
    raise _Unlike


def _settled(value: Any, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        value = _settled(value, arguments[0])
        for extra in arguments[1:]:
            if isinstance(extra, Bounds):
                _require_within(value, extra, LARGEST if arguments[0] is int else math.inf)
        return value
    if _is_union(kind):
        exact = [part for part in arguments if isinstance(part, type) and type(value) is part]
        return _first([*exact, *arguments], lambda part: _settled(value, part))
    if origin is tuple:
        if not isinstance(value, tuple | list | np.ndarray):
            raise _Unlike
        parts = [arguments[0]] * len(value) if ... in arguments else list(arguments)
        if len(parts) != len(value):
            raise _Unlike
        try:
            return tuple(_settled(one, part) for one, part in zip(value, parts, strict=True))
        except _Unlike:
            raise _Unlike from None
    if origin is Literal:
        return _first(arguments, lambda choice: choice if type(value) is type(choice) and value == choice else _raise())
    if kind in (int, float) and _is_batch(value):
        # Hyper-parameters of several runs, or of a program that is being traced.
        if not isinstance(value, Tracer) and np.isnan(np.asarray(value, np.float64)).any():
            raise _Unlike
        return value
    if kind is bool:
        if not isinstance(value, bool | np.bool_):
            raise _Unlike
        return bool(value)
    if kind is int or kind is float:
        return _settled_number(value, kind)
    if kind in (None, type(None)):
        return value if value is None else _raise()
    if kind is str:
        return value if isinstance(value, str) else _raise()
    return value


def _is_batch(value: Any) -> bool:
    return isinstance(value, jax.Array) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _settled_number(value: Any, kind: type) -> int | float:
    if isinstance(value, np.ndarray):  # of no dimensions
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise _Unlike
    if math.isnan(value):
        raise _Unlike
    if kind is float:
        return float(value)
    if math.isinf(value) or int(value) != value:
        raise _Unlike
    return int(value)


def _require_within(value: Any, bounds: Bounds, largest: float) -> None:
    """Checks the bounds, and where they have no upper end that a number fits into what holds it."""
    if isinstance(value, Tracer):
        return
    for number in np.asarray(value).ravel().tolist() if _is_batch(value) else [value]:
        if number is None:
            continue
        if number < bounds.low or (bounds.above and number == bounds.low) or number > bounds.high:
            raise _Unlike(_between(bounds).removeprefix(" of ").strip())
        if math.isinf(bounds.high) and abs(number) > largest:
            raise _Unlike(f"at most {largest:,}" if number > 0 else f"at least {-largest:,}")
