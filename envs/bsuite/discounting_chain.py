"""Discounting Chain of the Behaviour Suite: the first action chooses when to be paid, and one choice pays more.

Observation: f32[2]: the first action, −1 before it is taken; the share of the episode that has passed.
Action: 0 … 4. Only the first counts: it chooses a chain.
Reward: after 1, 3, 10, 30 or 100 steps, by the chain, 1 or, in one chain, 1.1; 0 else.
Ends: after 100 steps.
Start: always the same.
The better chain is `mapping_seed` modulo 5. With discount γ the best choice is the largest γ^(delay − 1) × reward.

Source, time limit and common deviations: see `envs.bsuite`. Experiment "discounting_chain": mapping_seed 0, 1, … 19.
The rewards are a parameter, so different better chains can run in one compiled program.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.drawing import Canvas
from envs.spaces import Box, Discrete

_DELAYS = (1, 3, 10, 30, 100)  # steps
_LENGTH = 100  # steps


class State(NamedTuple):
    """The choice and the clock."""

    chain: jax.Array  # i32[] the first action; −1 before
    t: jax.Array  # i32[] steps taken


class Params(NamedTuple):
    """What the chains pay."""

    reward: Any  # f32[5]


@dataclass(frozen=True)
class DiscountingChain(Env[State, Params]):
    """Five chains with different delays."""

    mapping_seed: int = 0  # modulo 5: the chain that pays 1.1

    @property
    def random_step(self) -> bool:
        """False: nothing is random."""
        return False

    @property
    def observation_space(self) -> Box:
        """f32[2]: the choice, the share of the episode that has passed."""
        return Box((-1.0, 0.0), (4.0, 1.0), (2,))

    @property
    def action_space(self) -> Discrete:
        """The chains, by their delays: 1, 3, 10, 30, 100 steps."""
        return Discrete(len(_DELAYS))

    def default_params(self) -> Params:
        """Ones, but 1.1 for chain `mapping_seed` modulo 5."""
        better = np.arange(len(_DELAYS)) == self.mapping_seed % len(_DELAYS)
        return Params(np.where(better, 1.1, 1.0).astype(np.float32))

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Starts before the choice."""
        del key, params
        state = State(jnp.int32(-1), jnp.int32(0))
        return _observe(state), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Chooses at first, then waits."""
        del key
        chain = jnp.where(state.t == 0, action, state.chain).astype(jnp.int32)
        new = State(chain, state.t + 1)
        paid = jnp.asarray(_DELAYS)[chain] == new.t
        reward = jnp.where(paid, jnp.asarray(params.reward)[chain], 0.0).astype(jnp.float32)
        return Step(_observe(new), new, reward, new.t == _LENGTH, {})

    def render(self, state: State, params: Params) -> np.ndarray:
        """The chains with the places where they pay (yellow: more than 1); the chosen one is dark up to now."""
        canvas = Canvas(height=200, width=440)
        for chain, (delay, reward) in enumerate(zip(_DELAYS, np.asarray(params.reward), strict=True)):
            y = 20 + 40 * chain
            canvas.line((20, y), (20 + 4 * delay, y), 4, "light")
            if chain == int(state.chain):
                canvas.line((20, y), (20 + 4 * min(int(state.t), delay), y), 6, "black")
            canvas.circle((20 + 4 * delay, y), 10, "yellow" if reward > 1 else "tan")
        canvas.line((20 + 4 * int(state.t), 5), (20 + 4 * int(state.t), 195), 2, "blue")
        return canvas.pixels


def _observe(state: State) -> jax.Array:
    return jnp.stack([state.chain.astype(jnp.float32), state.t.astype(jnp.float32) / _LENGTH])
