"""Memory Chain of the Behaviour Suite: remember what was shown at the start until asked for it.

Observation: f32[2 + num_bits]: the share of the chain that is left; at the query, which bit is asked for, else 0; at
    the start the bits as ±1, else 0. After t steps it shows place max(t − 1, 0) of the chain: so the bits are seen
    twice (t = 0 and 1), the share is 1, 1, 1 − 1/L, … 0, and the query comes at t = L, where L = memory_length.
Action: 0 or 1. Only the last action counts, the one that follows the query.
Reward: after the last action 1 if it is the bit asked for, else −1; 0 before.
Ends: after L + 1 steps.
Start: all bits and the query are uniform.
An agent without memory earns 0 on average, one that remembers earns 1.

Source, time limit and common deviations: see `envs.bsuite`. Experiments: "memory_len": num_bits=1, memory_length
1, 2, … 100; "memory_size": memory_length=2, num_bits 1, 2, … 40. The length is a parameter, so lengths can differ
between runs of one compiled program.
Deviations: of the query, the m-th bit of n is asked for with a probability that differs from 1/n by less than 2⁻³².
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.drawing import Canvas
from envs.errors import InputError
from envs.spaces import Box, Discrete


class State(NamedTuple):
    """What is to be remembered, and the clock."""

    context: jax.Array  # bool[num_bits]
    query: jax.Array  # i32[] which bit will be asked for
    t: jax.Array  # i32[] steps taken


class Params(NamedTuple):
    """The chain."""

    memory_length: int = 5  # L, at least 1


@dataclass(frozen=True)
class MemoryChain(Env[State, Params]):
    """Bits, a wait, and a question."""

    num_bits: int = 1

    def __post_init__(self) -> None:
        """Raises InputError if there is nothing to remember."""
        if self.num_bits < 1:
            raise InputError(f"MemoryChain: num_bits={self.num_bits} must be at least 1.")

    @property
    def random_step(self) -> bool:
        """False: only the start is random."""
        return False

    @property
    def observation_space(self) -> Box:
        """f32[2 + num_bits]: share of the chain that is left, query, bits."""
        bits = (1.0,) * self.num_bits
        return Box((0.0, 0.0, *(-b for b in bits)), (1.0, float(self.num_bits - 1), *bits), (2 + self.num_bits,))

    @property
    def action_space(self) -> Discrete:
        """The values of a bit."""
        return Discrete(2)

    def default_params(self) -> Params:
        """A chain of length 5."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Draws the bits and the query."""
        words = jax.random.bits(key, (self.num_bits + 1,), jnp.uint32)
        context = (words[:-1] >> 31) == 1
        state = State(context, (words[-1] % self.num_bits).astype(jnp.int32), jnp.int32(0))
        return self._observe(state, params), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Goes on by one place, or takes the answer."""
        del key
        asked = state.t == params.memory_length
        right = action == state.context[state.query]
        reward = jnp.where(asked, jnp.where(right, 1.0, -1.0), 0.0).astype(jnp.float32)
        return Step(self._observe(state, params), state._replace(t=state.t + 1), reward, asked, {})

    def _observe(self, state: State, params: Params) -> jax.Array:
        """What is shown at place t of the chain: as in the original, a step shows the place it was taken from."""
        length = params.memory_length
        left = (length - state.t) / length
        query = jnp.where(state.t == length - 1, state.query, 0)
        bits = jnp.where(state.t == 0, jnp.where(state.context, 1.0, -1.0), 0.0)
        return jnp.concatenate([jnp.stack([left, query]), bits]).astype(jnp.float32)

    def render(self, state: State, params: Params) -> np.ndarray:
        """The bits (green 1, red 0, the one asked for framed) over the chain with the place reached."""
        width, size = 400, 400 / max(self.num_bits, 8)
        canvas = Canvas(height=120, width=width)
        for i, bit in enumerate(np.asarray(state.context)):
            if i == int(state.query):
                canvas.rectangle((i * size, 10), ((i + 1) * size, 10 + size), "black")
            canvas.rectangle((i * size + 3, 13), ((i + 1) * size - 3, 7 + size), "green" if bit else "red")
        canvas.line((20, 95), (width - 20, 95), 4, "grey")
        place = min(int(state.t) / (int(params.memory_length) + 1), 1)
        canvas.circle((20 + place * (width - 40), 95), 9, "blue")
        return canvas.pixels
