"""REINFORCE with three baselines: nothing, the mean return of the batch, a learned value of the state.

On the pendulum that starts within ±π/4 of upright (g = 9.81, 200 steps): Gaussian policy, layers of 256 and 128, step
size 3e-4, returns to go, a gradient step for every four episodes. And on MountainCarContinuous-v0, a gradient step for
every eight episodes. Without a baseline all returns of the pendulum are negative, so every action that was taken is
made less likely, the bad ones more; a baseline takes that common part out.

REINFORCE does not learn MountainCarContinuous: the Gaussian noise of its policy is independent from step to step, the
goal is hardly ever met, and what is left of the return is the cost of force. A gradient of that says: stand still.
"""

from typing import Any

import numpy as np

import envs
from jaxrl import statistics
from jaxrl.agents import reinforce
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

BASELINES: dict[Any, str] = {"none": "no baseline", "mean": "mean of the batch", "value": "learned value"}
SETTINGS: dict[str, Any] = {"hidden": (256, 128), "anneal_learning_rate": False}
RATES = reinforce.Hyperparams(learning_rate=3e-4, value_learning_rate=1e-3)
TASKS = {  # environment -> (environments, steps of a rollout: the time limit, steps in all)
    "Pendulum-Lab-v0": (4, 200, 800_000),
    "MountainCarContinuous-v0": (8, 999, 800_000),
}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each; quick: 2 on a quarter of the steps."""
    seeds = range(2 if quick else 8)
    panels, ends = [], {}
    for task, (num_envs, length, steps) in TASKS.items():
        env, params = envs.make(task)
        lines = []
        for baseline, label in BASELINES.items():
            config = reinforce.Config(baseline=baseline, num_envs=num_envs, rollout_length=length, **SETTINGS)
            agent = reinforce.make(env, config)
            budget = steps // 4 if quick else steps
            curves = fit(agent, params, RATES, seeds=seeds, env_steps=budget, num_evals=20).results
            returns = curves["evaluation_return"].transpose("seed", "env_step").values
            lines.append(Line(label, curves["env_step"].values, returns))
            ends[f"{task}, {label}"] = returns[:, -1].round(2).tolist()
        panels.append(Panel(task, "environment steps", "return of the greedy policy", lines))
    settings = {"seeds": list(seeds), "tasks": TASKS, "settings": SETTINGS, "hp": RATES._asdict()}
    settings |= {"return at the end": ends, "IQM": {k: float(statistics.iqm(np.asarray(v))) for k, v in ends.items()}}
    return Outcome({}, panels, settings)
