"""Overlapping sequences of steps for a replay memory, with the memory of the policy before the first of them.

Unlike transitions they keep the order of steps, which recurrent networks need. A sequence may hold the end of one
episode and the beginning of another; the flags in it say where.
"""

from typing import Any

import jax
import jax.numpy as jnp

from envs.errors import InputError
from jaxrl.types import Transition


def extend(window: Any, steps: Transition, length: int, overlap: int) -> tuple[Any, Transition]:
    """Appends new steps to the window and emits every sequence that is complete, each exactly once.

    Sequences begin every `length` − `overlap` steps, so two neighbours share `overlap` of them.

    Args:
        window: the steps that have no complete sequence yet, [.., B, ...]; () at the beginning.
        steps: [T, B, ...] out of a rollout; extras are the memories before each of them.
        length: steps of a sequence, static.
        overlap: steps that a sequence shares with the next, static.

    Returns:
        (window for the next call, sequences [num · B, length, ...] without extras and with the `memory` [num · B, ...]
        before their first step).
    """
    if window != ():
        steps = jax.tree.map(lambda old, new: jnp.concatenate([old, new]), window, steps)
    stride = length - overlap
    num = (steps.reward.shape[0] - overlap) // stride
    at = stride * jnp.arange(num)[:, None] + jnp.arange(length)  # [num, length]
    emitted = jax.tree.map(lambda x: jax.lax.collapse(jnp.swapaxes(x[at], 1, 2), 0, 2), steps)
    before = jax.tree.map(lambda x: x[:, 0], emitted.extras)
    return jax.tree.map(lambda x: x[num * stride :], steps), emitted._replace(extras=(), memory=before)


def stored(example: Transition, length: int) -> Transition:
    """The shapes of one sequence that `extend` emits, given those of one step."""
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((length, *x.shape), x.dtype), example._replace(extras=()))
    return one._replace(memory=example.extras)


def warmup_rounds(warmup_steps: int, num_envs: int, stride: int, batch_size: int, capacity: int) -> int:
    """How many sequences of each of `num_envs` environments make `warmup_steps` steps and fill one batch.

    Raises:
        InputError: they would not fit the memory.
    """
    rounds = max(-(-warmup_steps // (num_envs * stride)), -(-batch_size // num_envs))
    if rounds * num_envs > capacity:
        raise InputError(
            f"replay_capacity={capacity} must be at least {rounds * num_envs}, the sequences of the warm-up "
            f"(warmup_steps={warmup_steps}, batch_size={batch_size})."
        )
    return rounds
