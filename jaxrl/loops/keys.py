"""Where the keys of a step are born, and with them the generator that its draws come from.

Files of agents and environments write `jax.random` as a paper would; the keys that they get say which code encrypts.
"""

import jax

from envs import threefry


def split(key: jax.Array, *wanted: bool) -> list[jax.Array]:
    """Splits a key once for each `wanted`; one that is not wanted is `key` itself, not to be used.

    Args:
        key: consumed.
        wanted: whether the one at this place will be used.
    """
    return _dealt(key, list(jax.random.split(key, sum(wanted))), wanted)


def spawn(key: jax.Array, *wanted: bool) -> list[jax.Array]:
    """As `split`, in a step: the first is to carry on with, the others are of the generator for draws in bulk."""
    return _dealt(key, list(threefry.spawn(key, sum(wanted))), wanted)


def _dealt(key: jax.Array, born: list[jax.Array], wanted: tuple[bool, ...]) -> list[jax.Array]:
    rest = iter(born)
    return [next(rest) if use else key for use in wanted]
