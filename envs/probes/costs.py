"""Probes of costs; see `envs.probes`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.probes.rewards import Params, Probe, State, TimeLimit, Treatment

_PAY = (1.0, 2.0)  # of the costly action in each state of `ActionCost`


class Constrained(NamedTuple):
    """The best policy under a limit on the discounted cost, and what it is worth from the start."""

    policy: np.ndarray  # f64[2] probability of the costly action in each state
    value: float  # its discounted return
    cost: float  # its discounted cost, at most the limit
    multiplier: float  # what a little more of the limit would add to the return: the Lagrangian's λ


@dataclass(frozen=True)
class ActionCost(Probe):
    """Two steps, state 0 and then state 1, in which action 1 costs 1; it pays 1 in state 0 and 2 in state 1.

    Action 0 costs and pays nothing. A policy that takes action 1 with probabilities p = (p0, p1) has the discounted
    return p0 + 2 γ p1 and the discounted cost p0 + γ p1. Without a limit the best is p = (1, 1). Cost buys twice as
    much in state 1, so under a limit d the best is, with its multiplier λ,

    | limit | p | return | λ |
    |---|---|---|---|
    | 0 … γ | 0, d / γ | 2 d | 2 |
    | γ … 1 + γ | d − γ, 1 | d + γ | 1 |
    | from 1 + γ | 1, 1 | 1 + 2 γ | 0 |

    so at most limits it must mix its actions. Continuous: the share x = (a + 1) / 2 of the action, clipped to 0 … 1,
    pays and costs in proportion; p is then that share, and nothing need be random. `params.scale` leaves costs alone.
    """

    num_states: ClassVar[int] = 2

    @property
    def num_costs(self) -> int:
        """1."""
        return 1

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Pays and costs by the action; terminates out of state 1."""
        del key
        share = jnp.clip((action[0] + 1) / 2, 0.0, 1.0) if self.continuous else (action == 1).astype(jnp.float32)
        last = state.index == 1
        out = self._outcome(jnp.int32(1), state.memory, share * jnp.where(last, _PAY[1], _PAY[0]), params, ends=last)
        return out._replace(cost=share[None].astype(jnp.float32))

    def values(self, gamma: float) -> np.ndarray:
        """[1 + 2 γ, 2]: V* without a limit."""
        return np.array([_PAY[0] + gamma * _PAY[1], _PAY[1]])

    def action_values(self, gamma: float) -> np.ndarray:
        """[[2 γ, 1 + 2 γ], [0, 2]]: Q* without a limit."""
        return super().action_values(gamma) - np.array([[_PAY[0], 0.0], [_PAY[1], 0.0]])

    def of_policy(self, policy: Sequence[float] | np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns (values, costs to come) of a policy at `params.scale` 1, each f64[num_states].

        Args:
            policy: the probability of action 1 in each state; with continuous actions, its share.
            gamma: the discount of both.
        """
        first, second = policy
        values = np.array([_PAY[0] * first + gamma * _PAY[1] * second, _PAY[1] * second])
        return values, np.array([first + gamma * second, second])

    def constrained(self, gamma: float, limit: float) -> Constrained:
        """Returns the best policy whose discounted cost from the start is at most `limit` (not negative)."""
        second = min(1.0, limit / gamma)
        first = min(1.0, max(0.0, limit - gamma))
        values, costs = self.of_policy((first, second), gamma)
        multiplier = 2.0 if limit < gamma else 1.0 if limit < 1 + gamma else 0.0
        return Constrained(np.array([first, second]), float(values[0]), float(costs[0]), multiplier)


@dataclass(frozen=True)
class CostTimeLimit(TimeLimit):
    """`TimeLimit` with its reward as a cost: 0 → 1 → 2 → 1 → 2 …, cut after three steps; the step out of 2 costs 1.

    The cost comes with the very step that the time limit cuts, so the cost to come tells how a critic of costs treats a
    truncation, as the table of `TimeLimit` has it for values. Every reward is 0.
    """

    @property
    def num_costs(self) -> int:
        """1."""
        return 1

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Moves on."""
        out = super().step(key, state, action, params)
        cost = jnp.where(state.index == 2, 1.0, 0.0).astype(jnp.float32)
        return out._replace(reward=jnp.zeros_like(out.reward), cost=cost[None])

    def values(self, gamma: float, treatment: Treatment = "bootstrapped") -> np.ndarray:
        """Zeros, f64[3]: nothing is paid."""
        return np.zeros_like(super().values(gamma, treatment))

    def costs(self, gamma: float, treatment: Treatment = "bootstrapped") -> np.ndarray:
        """Returns the costs to come that a critic with this treatment of the time limit finds, f64[3]."""
        return super().values(gamma, treatment)


COSTS: Sequence[type[Probe]] = (ActionCost, CostTimeLimit)
