"""REINFORCE with three baselines: nothing, the mean return of the batch, a learned value of the state.

On the pendulum that starts within ±π/4 of upright (g = 9.81, 200 steps): Gaussian policy, layers of 256 and 128,
returns to go, a gradient step for every eight episodes. And on MountainCarContinuous-v0, likewise. Without a baseline
all returns of the pendulum are negative, so every action that was taken is made less likely, the bad ones more; a
baseline takes that common part out. From the wider of these starts the motor cannot hold the pendulum, which has to be
swung up again. With the exercise's γ = 0.99 and step size 3e-4 no baseline learnt that in 800,000 steps (the returns
stayed at −700); γ = 0.95 and 1e-3 were chosen on seeds 1000 and 1001.

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
STILL = reinforce.Hyperparams(learning_rate=3e-4, value_learning_rate=1e-3)
SWING = reinforce.Hyperparams(learning_rate=1e-3, value_learning_rate=1e-2, gamma=0.95)
TASKS = {  # environment -> (steps of a rollout: the time limit, steps in all, hyper-parameters)
    "Pendulum-Lab-v0": (200, 2_000_000, SWING),
    "MountainCarContinuous-v0": (999, 800_000, STILL),
}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each; quick: 2 on a quarter of the steps."""
    seeds = range(2 if quick else 8)
    panels, ends = [], {}
    for task, (length, steps, hp) in TASKS.items():
        env, params = envs.make(task)
        lines = []
        for baseline, label in BASELINES.items():
            config = reinforce.Config(baseline=baseline, num_envs=8, rollout_length=length, **SETTINGS)
            agent = reinforce.make(env, config)
            budget = steps // 4 if quick else steps
            curves = fit(agent, params, hp, seeds=seeds, env_steps=budget, num_evals=10).results
            returns = curves["evaluation_return"].transpose("seed", "env_step").values
            lines.append(Line(label, curves["env_step"].values, returns))
            ends[f"{task}, {label}"] = returns[:, -1].round(2).tolist()
        panels.append(Panel(task, "environment steps", "return of the greedy policy", lines))
    settings = {"seeds": list(seeds), "tasks": TASKS, "settings": SETTINGS}
    settings |= {"return at the end": ends, "IQM": {k: float(statistics.iqm(np.asarray(v))) for k, v in ends.items()}}
    return Outcome({}, panels, settings)
