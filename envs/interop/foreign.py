"""What the adapters of other libraries share: importing them, bounds of boxes, dtypes of states."""

import importlib
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import InputError


def load(module: str, extra: str) -> Any:
    """Imports a module of another library.

    Warnings that its import gives are the library's own business, so they are not shown.

    Args:
        module: its full name, e.g. "brax.envs".
        extra: the extra of this package that installs it.

    Raises:
        InputError: it is not installed, or something that it needs is not; the message has the command that helps.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f'{module} is needed here ({error}): pip install "jaxrl[{extra}]"') from None


def bound(values: Any) -> float | tuple:
    """Returns an array as a bound of `envs.spaces.Box`: one number where all are equal, otherwise nested tuples."""
    array = np.asarray(values)
    first = array.reshape(-1)[0].item() if array.size else 0
    return first if np.all(array == first) else _tuples(array.tolist())


def _tuples(nested: Any) -> Any:
    return tuple(map(_tuples, nested)) if isinstance(nested, list) else nested


def strong(tree: Any) -> Any:
    """Gives Python numbers and weakly typed arrays the type that they have as arrays, so that loops can carry them."""

    def convert(leaf: Any) -> jax.Array:
        array = jnp.asarray(leaf)
        return (
            array
            if jnp.issubdtype(array.dtype, jax.dtypes.extended)
            else jax.lax.convert_element_type(leaf, array.dtype)
        )

    return jax.tree.map(convert, tree)


def like(tree: Any, model: Any) -> Any:
    """Gives the leaves of `tree` the dtypes of `model`'s."""
    return jax.tree.map(lambda leaf, old: jnp.asarray(leaf, old.dtype), tree, model)
