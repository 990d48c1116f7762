"""What the functions of every agent take from outside: keys of either kind, and numbers of 64 bits.

Everything here computes in 32 bits, also where JAX is told to use 64 (`JAX_ENABLE_X64=1`): arrays of 64 bits are
narrowed on their way in.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from envs import threefry
from jaxrl.types import Agent, Policy

P = ParamSpec("P")
R = TypeVar("R")
_NARROW = {"float64": jnp.float32, "int64": jnp.int32, "uint64": jnp.uint32}


def in_32_bits(function: Callable[P, R]) -> Callable[P, R]:
    """The function in 32 bits; in JAX's default mode it is called as it is."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if jax.dtypes.canonicalize_dtype(jnp.float64) == jnp.float32:
            return function(*args, **kwargs)
        with jax.enable_x64(False):
            args, kwargs = jax.tree.map(_narrow, (args, kwargs))
            return function(*args, **kwargs)

    return call


def _narrow(x: Any) -> Any:
    dtype = _NARROW.get(str(getattr(x, "dtype", "")))
    return x if dtype is None else jax.lax.convert_element_type(x, dtype)


def agent(made: Agent) -> Agent:
    """The agent behind both: a key of `jax.random.PRNGKey` becomes one of `jax.random.key`."""

    def init(key: jax.Array, *args: Any, **kwargs: Any) -> Any:
        return made.init(threefry.typed(key), *args, **kwargs)

    def policies(make: Callable[..., Policy]) -> Callable[..., Policy]:
        def policy(*args: Any, **kwargs: Any) -> Policy:
            acting = make(*args, **kwargs)
            return acting._replace(act=in_32_bits(acting.act))

        return in_32_bits(policy)

    return made._replace(
        init=in_32_bits(init),
        step=in_32_bits(made.step),
        policy=policies(made.policy),
        explore=None if made.explore is None else policies(made.explore),
    )
