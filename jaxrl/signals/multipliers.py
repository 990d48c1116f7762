"""Costs as penalties whose weights rise while a limit is exceeded (Lagrangian relaxation of a constrained MDP)."""

from typing import Any, NamedTuple

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


class Lagrangian(NamedTuple):
    """State of the signal."""

    multiplier: jax.Array  # f32[K] λ
    running: jax.Array  # f32[B, K] what each unfinished episode has cost so far
    episode_cost: jax.Array  # f32[K] mean of the episodes that ended last; the limit before any has ended


def lagrangian(num_costs: int, num_envs: int) -> Signal:
    """Replaces the reward r by r − Σ_k λ_k c_k, and moves λ_k ← max(0, λ_k + η (C_k − d)) after each rollout.

    C_k is the mean cost of the episodes that ended in the rollout, each from its first step on (Altman 1999,
    "Constrained Markov Decision Processes"; as a signal of proximal policy optimisation: Ray, Achiam & Amodei 2019,
    "Benchmarking Safe Exploration in Deep Reinforcement Learning"). Where none ended λ stays. The multipliers are
    reported as "multiplier_k", C_k as "episode_cost_k": where none ended, that of the episodes that ended last.

    Args:
        num_costs: K of the environment.
        num_envs: B, the lanes of a rollout; their episodes go on from one rollout to the next.
    """

    def init(key: jax.Array, hp: Any) -> Lagrangian:
        del key
        limit = jnp.full(num_costs, hp.cost_limit, jnp.float32)
        return Lagrangian(jnp.full(num_costs, hp.multiplier, jnp.float32), jnp.zeros((num_envs, num_costs)), limit)

    def gathered(
        hp: Any, state: Lagrangian, batch: Transition, key: jax.Array
    ) -> tuple[Lagrangian, Transition, dict[str, jax.Array]]:
        del key

        def one_step(running: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            cost, ended = step
            running = running + cost
            return jnp.where(ended, 0.0, running), jnp.where(ended, running, 0.0)

        ended = (batch.terminated | batch.truncated)[..., None]
        running, whole = jax.lax.scan(one_step, state.running, (batch.cost, ended))
        count = jnp.sum(ended)
        cost = jnp.where(count > 0, whole.sum((0, 1)) / jnp.maximum(count, 1), state.episode_cost)
        rise = jnp.where(count > 0, hp.multiplier_learning_rate * (cost - hp.cost_limit), 0.0)
        multiplier = state.multiplier
        scalars = {f"multiplier_{k}": multiplier[k] for k in range(num_costs)}
        scalars |= {f"episode_cost_{k}": cost[k] for k in range(num_costs)}
        moved = Lagrangian(jnp.maximum(multiplier + rise, 0.0), running, cost)
        return moved, batch._replace(reward=batch.reward - batch.cost @ multiplier), scalars

    return Signal(init, gathered)
