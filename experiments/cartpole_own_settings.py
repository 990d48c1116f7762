"""C51 and bootstrapped DQN on CartPole-v1 with settings of their own.

With the settings that were chosen for DQN (the study cartpole_value_based) C51 learns and then loses what it has
learnt in three runs of eight, and the ensemble stays at 240. These were chosen for them, on seeds 1000 to 1003: C51 has
values from 0 to 120 instead of ±100, and half the step size; the ensemble has an update for every two and a half steps,
targets that are copied every 50 updates instead of 128, and longer to learn.
"""

from typing import Any

import envs
from jaxrl.agents import bootstrapped_dqn, c51
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

WIDE: dict[str, Any] = {"batch_size": 64, "num_updates": 5, "replay_capacity": 50_000, "hidden": (128, 128)}
EPSILON: dict[str, Any] = {"target_period": 128, "epsilon_fraction": 0.16, "epsilon_end": 0.04}
AGENTS: dict[str, tuple[Any, Any, Any, int]] = {
    "c51": (
        c51,
        c51.Config(**WIDE, num_atoms=51),
        c51.Hyperparams(**EPSILON, learning_rate=5e-4, v_min=0.0, v_max=120.0),
        60_000,
    ),
    "bootstrapped": (
        bootstrapped_dqn,
        bootstrapped_dqn.Config(num_updates=4, replay_capacity=50_000),
        bootstrapped_dqn.Hyperparams(),
        100_000,
    ),
}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each; quick: 2 seeds of C51."""
    seeds = range(2 if quick else 8)
    env, params = envs.make("CartPole-v1")
    measured, lines, settings = {}, [], {}
    for name, (module, config, hp, steps) in AGENTS.items():
        if quick and name != "c51":
            continue
        curves = fit(module.make(env, config), params, hp, seeds=seeds, env_steps=steps, num_evals=10).results
        returns = curves["evaluation_return"].transpose("seed", "env_step").values
        measured[f"cartpole-own-{name}"] = returns[:, -1]
        lines.append(Line(name, curves["env_step"].values, returns))
        settings[name] = {"steps": steps, "config": config, "hp": hp}
    panel = Panel("CartPole-v1", "environment steps", "return of the greedy policy", lines, ["cartpole-own-c51"])
    return Outcome(measured, [panel], {"seeds": list(seeds), **settings})
