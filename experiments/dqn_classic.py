"""DQN with CleanRL's settings on CartPole-v1, Acrobot-v1 and MountainCar-v0, and C51 on the first two.

Ten steps and an update of 128 transitions in turn, a replay of 10,000, 10,000 steps of warm-up, ε from 1 to 0.05 over
the first half of 500,000 steps, step size 2.5e-4, 120-84; the target is copied every 500 steps. CleanRL takes these ten
steps in one environment, we take one step in each of ten; C51 has 51 atoms in ±100 where CleanRL has 101. The metric is
theirs too: the return of the training episodes (ε-greedy) of the last tenth. CleanRL ran 3 seeds each.
"""

from typing import Any

import envs
from jaxrl.agents import c51, dqn
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

STEPS = 500_000
SHARED: dict[str, Any] = {"num_envs": 10, "warmup_steps": 10_000}
HP: dict[str, Any] = {"learning_rate": 2.5e-4, "target_period": 50, "epsilon_fraction": 0.5, "epsilon_end": 0.05}
DQN = dqn.Config(**SHARED)
C51 = c51.Config(**SHARED, num_atoms=51)
RUNS: dict[str, tuple[str, Any, Any, Any]] = {
    "C1": ("CartPole-v1", dqn, DQN, dqn.Hyperparams(**HP)),
    "C2": ("Acrobot-v1", dqn, DQN, dqn.Hyperparams(**HP)),
    "C3": ("MountainCar-v0", dqn, DQN, dqn.Hyperparams(**HP)),
    "C4-cartpole": ("CartPole-v1", c51, C51, c51.Hyperparams(**HP, v_min=-100.0, v_max=100.0)),
    "C4-acrobot": ("Acrobot-v1", c51, C51, c51.Hyperparams(**HP, v_min=-100.0, v_max=100.0)),
}


def run(quick: bool) -> Outcome:
    """Trains 5 seeds of each; quick: 2 of DQN on CartPole."""
    seeds = range(2 if quick else 5)
    measured: dict[str, Any] = {}
    lines: dict[str, list[tuple[str, Line]]] = {}
    for key, (task, module, config, hp) in RUNS.items():
        if quick and key != "C1":
            continue
        env, params = envs.make(task)
        curves = fit(module.make(env, config), params, hp, seeds=seeds, env_steps=STEPS, num_evals=10).results
        returns = curves["training_return"].transpose("seed", "env_step").values
        measured[key] = returns[:, -1]
        label = module.__name__.rpartition(".")[2].upper()
        lines.setdefault(task, []).append((key, Line(label, curves["env_step"].values, returns)))
    axes = ("environment steps", "return of training episodes")
    panels = [Panel(task, *axes, [line for _, line in some], [some[0][0]]) for task, some in lines.items()]
    settings = {"seeds": list(seeds), "steps": STEPS, "dqn": DQN, "c51": C51, "hp": HP}
    return Outcome(measured, panels, settings)
