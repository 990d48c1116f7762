"""Exact optima of Gymnasium's toy text, by our dynamic programming on our tables.

No learning and no sampling: the tables of the environments equal Gymnasium's entry by entry (tests), and these are the
best expected returns on them: with the time limit by backward induction (the policy may know the time), without it by
value iteration in float64.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from jaxrl.planners import dynamic_programming as dp
from jaxrl.reproduce import Outcome

QUICK = True


def optimum(name: str, horizon: int | None, gamma: float = 1.0, **options: object) -> float:
    """The best expected undiscounted return from the start; `gamma` < 1 is used for choosing the policy only."""
    made: tuple[Any, Any] = envs.make(name, **options)
    env, params = made
    tables = env.tables(params)
    model = jnp.asarray(tables.continuation, jnp.float64), jnp.asarray(tables.expected_reward, jnp.float64)
    if gamma < 1.0:
        policy = dp.value_iteration(*model, gamma, 1e-12).policy
        rows = jnp.arange(len(policy))
        model = model[0][rows, policy][:, None], model[1][rows, policy][:, None]
    if horizon is not None:
        values = dp.backward_induction(*model, horizon).values[0]
    else:
        values = dp.value_iteration(*model, 1.0, 1e-9, 100_000).values
    return float(np.asarray(tables.start, np.float64) @ np.asarray(values))


def run(quick: bool) -> Outcome:
    """Both forms are the same."""
    del quick
    with jax.enable_x64():
        measured = {
            "lake-100": optimum("FrozenLake-v1", 100),
            "lake-100-stationary": optimum("FrozenLake-v1", 100, 0.99),
            "lake-unlimited": optimum("FrozenLake-v1", None),
            "lake8-200": optimum("FrozenLake8x8-v1", 200),
            "lake8-200-stationary": optimum("FrozenLake8x8-v1", 200, 0.99),
            "taxi-200": optimum("Taxi-v4", 200),
            "cliff-slippery": optimum("CliffWalkingSlippery-v1", None),
            "blackjack-sab": optimum("Blackjack-v1", None, discrete=True),
            "blackjack-no-sab": optimum("Blackjack-v1", None, discrete=True, sab=False),
        }
    return Outcome(measured)
