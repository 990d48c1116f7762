"""What the loops count: iterations, and from them how far a run is."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_MOST = np.iinfo(np.int32).max


def advance(iteration: jax.Array) -> jax.Array:
    """The next iteration i32[]; the count stops at the largest number instead of wrapping."""
    return jnp.where(iteration == _MOST, iteration, iteration + 1)


def progress(hp: Any, iteration: jax.Array, steps_per_iteration: int, warmup_steps: int = 0) -> jax.Array | None:
    """How far a run is, f32[] from 0 to 1 of `hp.total_steps`; None where that is not given.

    Steps are counted as floats: as integers they would wrap after 2^31, minutes of a GPU.
    """
    if hp.total_steps is None:
        return None
    taken = iteration.astype(jnp.float32) * steps_per_iteration + warmup_steps
    total = jnp.asarray(hp.total_steps, jnp.float32)
    return jnp.where(taken >= total, 1.0, taken / jnp.maximum(total, 1.0))
