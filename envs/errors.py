"""What both packages say about bad input: one message with the value, what is allowed and the nearest match."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A value that a person gave cannot be used. The command line prints its message alone and exits with 2."""


def unknown(kind: str, name: object, allowed: Iterable[str]) -> InputError:
    """Returns the error for a `name` that is none of `allowed`, e.g. kind="environment", name="CartPol-v1"."""
    options = sorted(allowed)
    by_folded = {option.lower(): option for option in options}
    close = difflib.get_close_matches(str(name).lower(), by_folded, n=1, cutoff=0.5)
    hint = f" Did you mean {by_folded[close[0]]!r}?" if close else ""
    return InputError(f"unknown {kind} {name!r}.{hint} Allowed: {', '.join(options) or 'none'}.")
