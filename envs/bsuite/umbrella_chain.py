"""Umbrella Chain of the Behaviour Suite: one early choice, judged at the end of a noisy walk.

Observation: f32[3 + n_distractor]: 1 if an umbrella will be needed, 1 if one is carried, the share of the chain that is
    left, and distractors that are 0 or 1 by a fair coin at every step.
Action: 0 or 1. Only the first counts: 1 takes the umbrella, 0 leaves it.
Reward: at the end of the chain 1 if what is carried is what is needed, else −1; before that ±1 by a fair coin.
Ends: after chain_length steps.
Start: what is needed and what is carried are fair coins; what is carried then has no effect beyond the observation.

Source, time limit and common deviations: see `envs.bsuite`. Experiments: "umbrella_length": n_distractor=20,
chain_length 1, 2, … 100; "umbrella_distract": chain_length=20, n_distractor 1, 2, … 100.
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
    """The walk."""

    needed: jax.Array  # i32[] 1 if an umbrella will be needed
    carried: jax.Array  # i32[] 1 if one is carried
    t: jax.Array  # i32[] steps taken


class Params(NamedTuple):
    """The chain."""

    chain_length: int = 10  # at least 1


class Draws(NamedTuple):
    """The random decisions of one step."""

    reward: jax.Array  # i32[] 1 for a reward of 1, 0 for −1
    distractors: jax.Array  # i32[n_distractor] 0 or 1


@dataclass(frozen=True)
class UmbrellaChain(Env[State, Params]):
    """A walk that may end in the rain."""

    n_distractor: int = 0

    def __post_init__(self) -> None:
        """Raises InputError for a negative number of distractors."""
        if self.n_distractor < 0:
            raise InputError(f"UmbrellaChain: n_distractor={self.n_distractor} must not be negative.")

    @property
    def observation_space(self) -> Box:
        """f32[3 + n_distractor]: needed, carried, share of the chain that is left, distractors."""
        return Box(0.0, 1.0, (3 + self.n_distractor,))

    @property
    def action_space(self) -> Discrete:
        """0: leave the umbrella, 1: take it."""
        return Discrete(2)

    def default_params(self) -> Params:
        """A chain of length 10."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Tosses all the coins."""
        coins = _coins(key, 2 + self.n_distractor)
        state = State(coins[0], coins[1], jnp.int32(0))
        return _observe(state, coins[2:], params), state

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Draws, then walks on."""
        return self.transition(state, action, self.draw(key), params)

    def draw(self, key: jax.Array) -> Draws:
        """Tosses the coins of one step."""
        coins = _coins(key, 1 + self.n_distractor)
        return Draws(coins[0], coins[1:])

    def transition(self, state: State, action: jax.Array, draws: Draws, params: Params) -> Step:
        """Walks on, given the coins."""
        carried = jnp.where(state.t == 0, action, state.carried).astype(jnp.int32)
        new = State(state.needed, carried, state.t + 1)
        arrived = new.t == params.chain_length
        well = jnp.where(arrived, carried == state.needed, draws.reward == 1)
        reward = jnp.where(well, 1.0, -1.0).astype(jnp.float32)
        return Step(_observe(new, draws.distractors, params), new, reward, arrived, {})

    def render(self, state: State, params: Params) -> np.ndarray:
        """The walker on the way to a sunny or rainy end, with or without an umbrella."""
        canvas = Canvas(height=160, width=400, background="ice")
        canvas.rectangle((0, 130), (400, 160), "green")
        rain = bool(state.needed)
        canvas.circle((370, 30), 20, "slate" if rain else "yellow")
        for drop in range(345, 400, 12) if rain else ():
            canvas.line((drop, 60), (drop - 5, 80), 2, "blue")
        x = 20 + 350 * min(int(state.t) / int(params.chain_length), 1)
        canvas.line((x, 130), (x, 95), 5, "black")
        canvas.circle((x, 88), 9, "tan")
        if state.carried:
            canvas.line((x + 8, 110), (x + 8, 60), 2, "black")
            canvas.polygon([(x - 18, 70), (x + 34, 70), (x + 8, 52)], "red")
        return canvas.pixels


def _coins(key: jax.Array, n: int) -> jax.Array:
    """Tosses n fair coins, i32[n], 32 of them in each random word."""
    words = jax.random.bits(key, (-(-n // 32), 1), jnp.uint32)
    return ((words >> np.arange(32, dtype=np.uint32)) & 1).reshape(-1)[:n].astype(jnp.int32)


def _observe(state: State, distractors: jax.Array, params: Params) -> jax.Array:
    left = (params.chain_length - state.t) / params.chain_length
    return jnp.concatenate([jnp.stack([state.needed, state.carried, left]), distractors]).astype(jnp.float32)
