"""The seam of all networks, a function with its parameters, and several of them as one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Network(NamedTuple):
    """A function with parameters."""

    init: Callable[[jax.Array], Any]  # key -> params
    apply: Callable[..., Any]  # (params, obs [..., *obs]) -> outputs with the same leading axes


def ensemble(network: Network, num: int) -> Network:
    """`num` independent copies of a network on the same inputs; params and outputs are [num, ...]."""

    def init(key: jax.Array) -> Any:
        return jax.vmap(network.init)(jax.random.split(key, num))

    def apply(params: Any, *inputs: Any) -> Any:
        return jax.vmap(lambda params: network.apply(params, *inputs))(params)

    return Network(init, apply)
