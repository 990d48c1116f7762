"""Replay memories: `make(capacity, batch_size, example) -> Replay(init, add, sample, size)`, all pure functions.

`uniform` draws every stored transition alike, `prioritized` in proportion to how much the learner was surprised by it.
Both keep their rows in a `ring`; `packing` says how one transition becomes one row of storage.
"""

from jaxrl.replay import prioritized
from jaxrl.replay.ring import warmup_rounds
from jaxrl.replay.uniform import Replay, ReplayState, make

__all__ = ["Replay", "ReplayState", "make", "prioritized", "warmup_rounds"]
