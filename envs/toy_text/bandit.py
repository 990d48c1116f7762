"""k-armed bandits, also with contexts (Sutton & Barto 2018, sections 2.1, 2.3 and 2.9).

Observation: i32[] the context; 0 where there is only one.
Action: 0 … arms − 1, the arm to pull.
Reward: normal with mean `means[context, arm]` and standard deviation `std`. `tables` has the mean.
Ends: after one step; each episode is one pull. Start: a uniform context.
Info: regret, f32[], by how much the arm's mean is below the best; best, bool[], whether it is the best.

| name | arms | contexts |
|---|---|---|
| Bandit-10 | 10 | 1 |
| ContextualBandit-v0 | 10 | 5 |

The book's testbed is 2,000 bandits of 10 arms whose means are drawn from N(0, 1). Means are parameters, so it is a vmap
over `jax.vmap(env.draw_params)(keys)`. The default parameters are one fixed draw from the same distribution.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.drawing import Canvas
from envs.errors import InputError
from envs.spaces import Discrete
from envs.tabular import Finite, Outcome, State


class Params(NamedTuple):
    """The arms."""

    means: Any  # f32[contexts, arms]
    std: Any = 1.0  # f32[] of every reward


@dataclass(frozen=True)
class Bandit(Finite[Params]):
    """Slot machines with several arms, one machine for each context."""

    arms: int = 10
    contexts: int = 1

    def __post_init__(self) -> None:
        """Raises InputError where there is nothing to pull."""
        if self.arms < 1 or self.contexts < 1:
            raise InputError(f"arms={self.arms} and contexts={self.contexts} must be at least 1.")

    @property
    def random_step(self) -> bool:
        """True: the reward is noisy."""
        return True

    @property
    def num_states(self) -> int:
        """The contexts."""
        return self.contexts

    @property
    def starts(self) -> tuple[int, ...]:
        """Any context."""
        return tuple(range(self.contexts))

    @property
    def action_space(self) -> Discrete:
        """The arms."""
        return Discrete(self.arms)

    def default_params(self) -> Params:
        """One fixed testbed."""
        means = np.random.default_rng(0).normal(size=(self.contexts, self.arms))
        return Params(means.astype(np.float32))

    def draw_params(self, key: jax.Array) -> Params:
        """Draws means from N(0, 1)."""
        return Params(jax.random.normal(key, (self.contexts, self.arms)), jnp.float32(1))

    def outcome(self, index: jax.Array, action: jax.Array, k: jax.Array, params: Params) -> Outcome:
        """The end of the episode."""
        return Outcome(index, jnp.asarray(params.means)[index, action], True)

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Pulls an arm."""
        out = super().step(key, state, action, params)
        regret = jnp.max(jnp.asarray(params.means)[state.index]) - out.reward
        noise = params.std * jax.random.normal(key)
        return out._replace(reward=out.reward + noise, info={"regret": regret, "best": regret == 0})

    def render(self, state: State, params: Params) -> np.ndarray:
        """The means of the context's arms as bars above or below zero, between ±3; the best one green."""
        width, scale = 30, 30
        means = np.asarray(params.means)[int(state.index)]
        canvas = Canvas(height=6 * scale, width=self.arms * width)
        for arm, mean in enumerate(means):
            color = "green" if mean == means.max() else "slate"
            foot, tip = (arm * width + 5, 3 * scale), ((arm + 1) * width - 5, (3 - float(mean)) * scale)
            canvas.rectangle(foot, tip, color)
        canvas.line((0, 3 * scale), (self.arms * width, 3 * scale), 2, "black")
        return canvas.pixels
