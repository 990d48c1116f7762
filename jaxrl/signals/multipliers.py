"""Costs as penalties whose weights rise while a limit is exceeded (Lagrangian relaxation of a constrained MDP)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.types import Signal, Transition


@struct.dataclass
class Hyperparams:
    """What `lagrangian` reads, to be inherited beside an agent's own hyper-parameters."""

    cost_limit: float = 0.0
    """The most that an episode may cost on average, undiscounted."""
    multiplier: float = 0.0
    """λ at the start, of every cost."""
    multiplier_learning_rate: float = 0.01
    """How much λ rises with every unit of cost above the limit."""


def lagrangian(num_costs: int) -> Signal:
    """Replaces the reward r by r − Σ_k λ_k c_k, and moves λ_k ← max(0, λ_k + η (C_k − d)) after each rollout.

    C_k is the cost of the rollout's steps divided by the number of its episodes that ended (Altman 1999, "Constrained
    Markov Decision Processes"; as a signal of proximal policy optimisation: Ray, Achiam & Amodei 2019, "Benchmarking
    Safe Exploration in Deep Reinforcement Learning"). The multipliers are reported as "multiplier_k", C_k as
    "episode_cost_k".

    Args:
        num_costs: K of the environment.
    """

    def init(key: jax.Array, hp: Any) -> jax.Array:
        del key
        return jnp.full(num_costs, hp.multiplier, jnp.float32)

    def gathered(
        hp: Any, multiplier: jax.Array, batch: Transition, key: jax.Array
    ) -> tuple[jax.Array, Transition, dict[str, jax.Array]]:
        del key
        ended = jnp.sum(batch.terminated | batch.truncated)
        cost = batch.cost.reshape(-1, num_costs).sum(0) / jnp.maximum(ended, 1)
        moved = jnp.maximum(multiplier + hp.multiplier_learning_rate * (cost - hp.cost_limit), 0.0)
        scalars = {f"multiplier_{k}": multiplier[k] for k in range(num_costs)}
        scalars |= {f"episode_cost_{k}": cost[k] for k in range(num_costs)}
        return moved, batch._replace(reward=batch.reward - batch.cost @ multiplier), scalars

    return Signal(init, gathered)
