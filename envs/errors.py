"""What both packages say about bad input: one message with the value, what is allowed and the nearest match."""

import difflib
from collections.abc import Iterable

MANY = 40  # names that a message does not list any more


class InputError(ValueError):
    """A value that a person gave cannot be used. The command line prints its message alone and exits with 2."""


def unknown(kind: str, name: object, allowed: Iterable[str], listed: str = "") -> InputError:
    """Returns the error for a `name` that is none of `allowed`, e.g. kind="environment", name="CartPol-v1".

    Args:
        kind: what it should be the name of.
        name: what was given.
        allowed: the names there are.
        listed: what lists them; where there are many the message says that instead.
    """
    options = sorted(allowed)
    if listed and len(options) > MANY:
        rest = f"There are {len(options)}; {listed} lists them."
    else:
        rest = f"Allowed: {', '.join(options) or 'none'}."
    return InputError(f"unknown {kind} {name!r}.{nearest(name, options)} {rest}")


def nearest(name: object, allowed: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the name or names that are much like `name`, or an empty text."""
    folded, by_folded = str(name).lower(), {option.lower(): option for option in allowed}
    close = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    if not close and len(folded) > 2:
        close = sorted(option for option in by_folded if folded in option)[:3]
    return f" Did you mean {' or '.join(repr(by_folded[option]) for option in close)}?" if close else ""
