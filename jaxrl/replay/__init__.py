"""Replay memories: `make(capacity, batch_size, example) -> Replay(init, add, sample, size)`, all pure functions.

`uniform` draws every stored transition alike, `packing` says how one transition becomes one row of storage.
"""

from jaxrl.replay.uniform import Replay, ReplayState, make

__all__ = ["Replay", "ReplayState", "make"]
