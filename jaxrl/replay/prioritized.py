"""Prioritised replay, proportional variant (Schaul et al. 2016, arXiv:1511.05952).

    P(i) = p_i^α / Σ_j p_j^α,   p_i = |δ_i| + ε,   w_i = (N P(i))^−β / max_j w_j

The maximum is over the batch, so N drops out of the weights. A new transition gets the largest priority that was ever
set (1 before the first), so that it is soon drawn. A batch is stratified: one draw from each of `batch_size` equal
parts of the total mass p^α.

The masses are the leaves of a tree in which every node is the sum of its eight children. A level is one flat array, so
a whole batch goes down, or corrects its ancestors, by one gather (and one scatter) per level: no cost depends on the
capacity but by its logarithm. A parent is always summed anew from its children, never corrected by a difference, so
rounding does not accumulate. In f32 the total and a draw have 24 bits: with a million equal rows, one row's
probability is right to about 5 %; the error falls with the capacity.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.errors import InputError
from jaxrl.replay import ring

EPSILON = 1e-6  # added to every priority: a transition without error is still drawn now and then
# Children of a node. More mean fewer levels but more additions at each: measured on one core at 10^6 rows, a draw and
# an update of 32 and of 128 take 22 and 39 µs with eight, 21 and 52 with sixteen, 25 and 68 with thirty-two.
_FAN_OUT = 8
_RUNNING = np.triu(np.ones((_FAN_OUT, _FAN_OUT), np.float32))  # x @ _RUNNING are the running sums of x


class PrioritizedState(NamedTuple):
    """Arrays only, so it can be vmapped over runs, donated and checkpointed."""

    ring: ring.RingState
    levels: tuple[jax.Array, ...]  # f32[a multiple of 8] each: the masses p^α of the rows, then sums up to one node
    highest: jax.Array  # f32[] the largest mass ever set


class Drawn(NamedTuple):
    """What a prioritised memory draws."""

    transitions: Any  # [batch_size, ...]
    index: jax.Array  # i32[batch_size] the rows, for `update_priorities`; valid until the next `add`
    probability: jax.Array  # f32[batch_size] P(i) of each, for `importance_weights`


class PrioritizedReplay(NamedTuple):
    """A replay memory: five pure functions that close over its static sizes and layout."""

    init: Callable[[], PrioritizedState]
    """() -> an empty state."""
    add: Callable[[PrioritizedState, Any], PrioritizedState]
    """(state, batch [B, ...]) -> state, the oldest transitions overwritten, the new ones at the highest priority."""
    sample: Callable[[PrioritizedState, jax.Array], Drawn]
    """(state, key) -> Drawn, in proportion to the priorities to the power of α."""
    size: Callable[[PrioritizedState], jax.Array]
    """(state) -> i32[] how many transitions can be drawn."""
    update_priorities: Callable[..., PrioritizedState]
    """(state, index i32[n], error f32[n], alpha) -> state; see `make`."""


def importance_weights(probability: jax.Array, beta: jax.Array | float) -> jax.Array:
    """The weights f32[batch] that take back, at β = 1, the bias of drawing by P(i) f32[batch]; the largest is 1.

    β is annealed to 1 by the agent.
    """
    return jnp.power(jnp.min(probability) / probability, beta)


def make(capacity: int, batch_size: int, example: Any) -> PrioritizedReplay:
    """Makes a prioritised memory of `capacity` transitions that draws `batch_size` at a time.

    Rows are stored, and all of `add` and `sample` said there holds, as in `uniform.make`: in the body of a loop `add`
    before `sample`. `update_priorities` sets the priorities of drawn rows to |error| + 1e-6, where `error` f32[n] may
    be any measure of surprise (TD error, cross-entropy); `alpha`, a number or traced, is the exponent α: 0 draws
    uniformly. It belongs to one memory: what was set before keeps the exponent that it was set with. Of a row that a
    batch holds twice one error is kept. An error that is not finite counts as the highest priority so far.

    Args:
        capacity: rows of storage, at least 1.
        batch_size: transitions per `sample`, at least 1.
        example: one unbatched transition, a pytree of arrays or of `jax.ShapeDtypeStruct`.

    Raises:
        InputError: a size below 1 or a leaf that cannot be stored; from `add`, when traced: a batch larger than
            `capacity` or unlike `example`.
    """
    if batch_size < 1:
        raise InputError(f"replay batch_size is {batch_size}; it must be at least 1.")
    storage = ring.make(capacity, example)

    def init() -> PrioritizedState:
        sizes = [_padded(capacity)]
        while sizes[-1] > _FAN_OUT:
            sizes.append(_padded(sizes[-1] // _FAN_OUT))
        return PrioritizedState(storage.init(), tuple(jnp.zeros(size) for size in sizes), jnp.ones(()))

    def add(state: PrioritizedState, batch: Any) -> PrioritizedState:
        before = state.ring.cursor
        rows, start = storage.write(state.ring, batch)
        num = jax.tree.leaves(batch)[0].shape[0]
        # Where the batch was sent back to the start, the rows from the old cursor to the end are dropped: fewer than
        # `num`. Elsewhere that changes nothing, for what it empties is written next.
        levels = _fill(state.levels, ((before, 0.0), (start, state.highest)), num)
        return PrioritizedState(rows, levels, state.highest)

    def sample(state: PrioritizedState, key: jax.Array) -> Drawn:
        total = state.levels[-1].sum()
        strata = jnp.arange(batch_size) + jax.random.uniform(key, (batch_size,))
        index, mass = _find(state.levels, strata * (total / batch_size))
        return Drawn(storage.read(state.ring, index), index, mass / total)

    def update_priorities(
        state: PrioritizedState, index: jax.Array, error: jax.Array, alpha: jax.Array | float
    ) -> PrioritizedState:
        mass = jnp.power(jnp.abs(error) + EPSILON, alpha)
        # One NaN or infinity in the tree would make every sum above it one, and every later draw the same row.
        mass = jnp.where(jnp.isfinite(mass), mass, state.highest)
        highest = jnp.maximum(state.highest, jnp.max(mass))
        return PrioritizedState(state.ring, _set(state.levels, index, mass), highest)

    def size(state: PrioritizedState) -> jax.Array:
        return state.ring.filled

    return PrioritizedReplay(init, add, sample, size, update_priorities)


def _padded(size: int) -> int:
    """The next multiple of the fan-out."""
    return -(-size // _FAN_OUT) * _FAN_OUT


def _children(level: jax.Array) -> jax.Array:
    """A level f32[n] seen as f32[n / 8, 8]: one row for each node of the level above."""
    return level.reshape(-1, _FAN_OUT)


def _find(levels: tuple[jax.Array, ...], target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The leaf i32[n] at which the running sum of all leaves passes each target f32[n], and its mass f32[n].

    A leaf of mass 0 is never found, whatever rounding does, unless all are 0.
    """
    index = jnp.zeros(target.shape, jnp.int32)
    mass = jnp.zeros(target.shape)
    for level in reversed(levels):
        children = _children(level).at[index].get(mode="promise_in_bounds")
        sums = jax.lax.dot(children, _RUNNING, precision="highest")  # a cumsum, at a fraction of its cost on a CPU
        # Rounding can put a target behind the last child. The second condition stops at the last child with a mass.
        passed = (sums <= target[:, None]) & (sums < sums[:, -1:])
        child = passed.sum(-1, dtype=jnp.int32)
        target = target - jnp.where(passed, children, 0.0).sum(-1)
        index = index * _FAN_OUT + child
        mass = jnp.take_along_axis(children, child[:, None], axis=-1)[:, 0]
    return index, mass


def _set(levels: tuple[jax.Array, ...], index: jax.Array, mass: jax.Array) -> tuple[jax.Array, ...]:
    """Writes leaves i32[n] and sums their ancestors anew."""
    out = [levels[0].at[index].set(mass, mode="promise_in_bounds")]
    for level in levels[1:]:
        index, children = index // _FAN_OUT, _children(out[-1])
        if level.size <= 2 * index.size:  # all nodes of a small level cost less than some of them
            out.append(level.at[: children.shape[0]].set(children.sum(-1)))
        else:
            sums = children.at[index].get(mode="promise_in_bounds").sum(-1)
            out.append(level.at[index].set(sums, mode="promise_in_bounds"))
    return tuple(out)


def _fill(
    levels: tuple[jax.Array, ...], spans: Sequence[tuple[jax.Array, jax.Array | float]], num: int
) -> tuple[jax.Array, ...]:
    """Gives `num` leaves from each span's first on (as far as there are so many) its mass; sums their ancestors anew.

    Args:
        levels: the tree.
        spans: (first leaf i32[], mass f32[]); later spans overwrite earlier ones.
        num: static.
    """
    # Slices, not scattered leaves: see `ring`. Every level is written for all spans before it is read for any:
    # otherwise XLA keeps the state between as a copy of the level.
    leaves, firsts = levels[0], []
    for start, mass in spans:
        first = jnp.minimum(start, leaves.size - num)
        old = jax.lax.dynamic_slice(leaves, (first,), (num,))
        leaves = jax.lax.dynamic_update_slice(leaves, jnp.where(first + jnp.arange(num) < start, old, mass), (first,))
        firsts.append(first)
    out = [leaves]
    for level in levels[1:]:
        children = _children(out[-1])
        # Nodes that the span may touch, wherever in a node it begins; summing one more alters nothing.
        num = min(-(-(num - 1) // _FAN_OUT) + 1, children.shape[0])
        firsts = [jnp.minimum(first // _FAN_OUT, children.shape[0] - num) for first in firsts]
        shape = (num, _FAN_OUT)
        sums = [jax.lax.dynamic_slice(children, (first, jnp.zeros_like(first)), shape).sum(-1) for first in firsts]
        for first, part in zip(firsts, sums, strict=True):
            level = jax.lax.dynamic_update_slice(level, part, (first,))
        out.append(level)
    return tuple(out)
