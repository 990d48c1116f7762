"""Uniform replay: a ring of self-contained transitions, drawn with equal probability (Lin 1992)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs.errors import InputError
from jaxrl.replay import ring
from jaxrl.replay.ring import RingState as ReplayState


class Replay(NamedTuple):
    """A replay memory: four pure functions that close over its static sizes and layout."""

    init: Callable[[], ReplayState]
    """() -> an empty state."""
    add: Callable[[ReplayState, Any], ReplayState]
    """(state, batch [B, ...]) -> state, the oldest transitions overwritten."""
    sample: Callable[[ReplayState, jax.Array], Any]
    """(state, key) -> transitions [batch_size, ...]."""
    size: Callable[[ReplayState], jax.Array]
    """(state) -> i32[] how many transitions can be drawn."""


def make(capacity: int, batch_size: int, example: Any) -> Replay:
    """Makes a replay memory of `capacity` transitions that draws `batch_size` at a time.

    `add` takes batches of any size up to `capacity` and writes each in one piece: see `ring.make`.

    `add` writes in place when the state is donated or carried by a scan, and no cost depends on `capacity`. For
    that, in the body of a loop, either `add` before `sample`, or add what depends on what was drawn (learn, then
    act): given a draw and an addition that XLA may order as it likes, it copies the whole memory at every
    iteration (measured: 25 to 60 times slower at 20,000 rows; `lax.optimization_barrier` does not prevent it).

    `sample` draws with replacement. Drawing from an empty memory cannot be detected in a compiled program (it
    yields zeros): the caller fills it first, as agents do in `init`.

    Args:
        capacity: rows of storage, at least 1.
        batch_size: transitions per `sample`, at least 1.
        example: one unbatched transition, a pytree of arrays or of `jax.ShapeDtypeStruct`; only its structure,
            shapes and dtypes are used.

    Raises:
        InputError: a size below 1 or a leaf that cannot be stored; from `add`, when traced: a batch larger than
            `capacity` or unlike `example`.
    """
    if batch_size < 1:
        raise InputError(f"replay batch_size is {batch_size}; it must be at least 1.")
    storage = ring.make(capacity, example)

    def add(state: ReplayState, batch: Any) -> ReplayState:
        return storage.write(state, batch)[0]

    def sample(state: ReplayState, key: jax.Array) -> Any:
        # One word per draw where `randint` takes two, which halves the cost of the random numbers; the remainder
        # favours some rows by at most filled/2^32 of their probability: 2e-4 at a million.
        filled = jnp.maximum(state.filled, 1).astype(jnp.uint32)
        index = jax.lax.rem(jax.random.bits(key, (batch_size,), jnp.uint32), filled).astype(jnp.int32)
        return storage.read(state, index)

    def size(state: ReplayState) -> jax.Array:
        return state.filled

    return Replay(storage.init, add, sample, size)
