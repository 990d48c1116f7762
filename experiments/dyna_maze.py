"""Planning in the Dyna maze (Sutton & Barto, example 8.1, figure 8.2).

Dyna-Q with 0, 5 and 50 planning steps after every real one; α = 0.1, γ = 0.95, ε = 0.1. Compared are the steps of the
second, the fifth and the last episodes; the shortest way has 14. (The first episode is a random walk for all.)

The references are means of 30 runs. A plain Python program of the book's algorithm
(experiments/simulations/dyna_maze.py, 1,000 runs) has 671, 265 and 18.0 steps without planning, 147, 23.6 and 16.7 with
5 planning steps, and 39.3, 17.2 and 16.7 with 50, each with a standard error of a thirtieth of the spread of a run.
Where we do not match a reference, that program does not, either.
"""

import jax
import numpy as np

import envs
import jaxrl
from jaxrl.agents import dyna_q
from jaxrl.reproduce import Line, Outcome, Panel

QUICK = True
EPISODES = 50
STEPS = {0: 16_000, 5: 8_000, 50: 6_000}  # enough for EPISODES in every run


def lengths(planning_steps: int, runs: int) -> np.ndarray:
    """Steps of each of the first EPISODES episodes, [runs, EPISODES]."""
    env, params = envs.make("DynaMaze-v0")
    agent = dyna_q.make(env, dyna_q.Config(steps_per_iteration=1, planning_steps=planning_steps))
    hp = dyna_q.Hyperparams(learning_rate=0.1, gamma=0.95, epsilon=0.1)

    @jax.jit
    @jax.vmap
    def play(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        episodes = jaxrl.run(agent, agent.init(key, hp, params), STEPS[planning_steps])[1].episodes
        return episodes.length_sum, episodes.count

    length, count = jax.device_get(play(jax.random.split(jax.random.key(0), runs)))
    assert (count.sum(1) >= EPISODES).all(), f"a run had only {count.sum(1).min()} episodes"
    return np.stack([lane[ended > 0][:EPISODES] for lane, ended in zip(length, count, strict=True)])


def run(quick: bool) -> Outcome:
    """100 runs of each; quick: 30."""
    runs = 30 if quick else 100
    measured, lines = {}, []
    for planning_steps in STEPS:
        steps = lengths(planning_steps, runs)
        measured[f"dyna{planning_steps}-episode2"] = steps[:, 1]
        measured[f"dyna{planning_steps}-episode5"] = steps[:, 4]
        measured[f"dyna{planning_steps}-last"] = steps[:, 40:].mean(1)
        lines.append(Line(f"{planning_steps} planning steps", np.arange(2, EPISODES + 1), steps[:, 1:]))
    panel = Panel("Dyna maze, from episode 2", "episode", "steps", lines, (), (0.0, 800.0))
    return Outcome(measured, [panel], {"runs": runs, "seed": 0})
