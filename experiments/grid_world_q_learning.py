"""Q-learning on two grids: six steps through 4 × 4 cells, and the policy of 5 × 5 cells as it grows.

α = 0.1, γ = 0.9, ε = 0.1 and 1,000 episodes on both. The 4 × 4 grid starts in one corner and pays 1 in the other; the
5 × 5 grid starts anywhere and pays −1 for a step and 10 for the last. Compared are the steps of the greedy policy from
the start of the first, and the share of cells of the second in which it takes a shortest way. Values start at 0, which
is optimistic where every step costs: after ten episodes most arrows still point to what was not tried yet.
"""

from typing import Any

import jax
import numpy as np

import envs
from jaxrl.agents import q_learning
from jaxrl.reproduce import Line, Map, Outcome, Panel

QUICK = True
EPISODES, CHECKPOINTS = 1_000, (10, 100, 1_000)
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # rows down, columns right of: up, down, left, right
HP = q_learning.Hyperparams(learning_rate=0.1, gamma=0.9, epsilon_start=0.1, epsilon_end=0.1, total_steps=1.0)


def tables(name: str, runs: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Learns; returns the tables f[runs, n, S, A] after every ten steps, and the episodes ended by then i[runs, n]."""
    env, params = envs.make(name)
    agent = q_learning.make(env, q_learning.Config(steps_per_iteration=10))

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        def step(state: Any, _: None) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            state = agent.step(state)[0]
            return state, (state.learner.q, state.learner.episodes)

        return jax.lax.scan(step, agent.init(key, HP, params), None, length=steps // 10)[1]

    return jax.device_get(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), runs)))


def shortest(q: np.ndarray, size: int) -> np.ndarray:
    """Which cells of f[..., S, A] have a greedy action towards the goal, the last cell."""
    row, col = np.divmod(np.arange(size * size), size)
    best = q.argmax(-1)
    return (((best == 1) & (row < size - 1)) | ((best == 3) & (col < size - 1)))[..., :-1]


def walk(q: np.ndarray, size: int) -> int:
    """Steps of the greedy policy of f[S, A] from the first cell to the last; 100 when it does not get there."""
    row = col = 0
    for step in range(100):
        if row == col == size - 1:
            return step
        down, right = MOVES[int(q[row * size + col].argmax())]
        row, col = np.clip((row + down, col + right), 0, size - 1)
    return 100


def run(quick: bool) -> Outcome:
    """64 runs; quick: 16."""
    runs = 16 if quick else 64
    small, ended = tables("GridWorld-4x4", runs, 30_000)
    last = [int(np.searchsorted(row, EPISODES)) for row in ended]
    measured: dict[str, Any] = {"lab-grid-4x4": [walk(q[i], 4) for q, i in zip(small, last, strict=True)]}
    large, ended = tables("GridWorld-5x5", runs, 20_000)
    counts = np.unique(np.geomspace(1, EPISODES, 40).astype(int))
    at = [np.searchsorted(row, counts) for row in ended]
    share = np.stack([shortest(q[i], 5).mean(-1) for q, i in zip(large, at, strict=True)])
    measured["lab-grid-5x5"] = share[:, -1]
    panels: list[Panel | Map] = [
        Panel(
            "5 × 5: cells with a shortest way",
            "episodes",
            "share",
            [Line("greedy policy", counts, share)],
            ["lab-grid-5x5"],
            (0.0, 1.05),
            log_x=True,
        )
    ]
    for episodes in CHECKPOINTS:
        q = large[0, int(np.searchsorted(ended[0], episodes))].reshape(5, 5, 4)
        actions = q.argmax(-1)
        actions[-1, -1] = -1
        panels.append(Map(f"one run after {episodes:,} episodes", q.max(-1), actions, MOVES))
    return Outcome(measured, panels, {"runs": runs, "seed": 0, "episodes": EPISODES, "hp": HP})
