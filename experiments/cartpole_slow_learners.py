"""Noisy layers and R2D2 on CartPole-v1, which need more than the 60,000 steps of DQN (study cartpole_value_based).

Both learn for 100,000 steps; the settings were chosen on seeds 1000 to 1003. Noisy layers, which have a plateau near
370 with the settings chosen for DQN, have double Q-learning and targets that are copied every 50 updates instead of
128. R2D2 has a memory of 64 units that CartPole does not need, twenty updates of 32 sequences for every 100 steps, half
the default step size and targets that follow softly.
"""

from typing import Any

import envs
from jaxrl.agents import dqn, r2d2
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

STEPS = 100_000
NOISY = dqn.Config(
    batch_size=64, num_updates=5, replay_capacity=50_000, hidden=(128, 128), exploration="noisy", double=True
)
SOFT = r2d2.Hyperparams(learning_rate=5e-4, epsilon_fraction=0.15, target_period=1, target_rate=0.01)
AGENTS: dict[str, tuple[Any, Any, Any]] = {
    "noisy": (dqn, NOISY, dqn.Hyperparams(target_period=50)),
    "r2d2": (r2d2, r2d2.Config(num_updates=20), SOFT),
}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each; quick: 2 seeds of the noisy layers."""
    seeds = range(2 if quick else 8)
    env, params = envs.make("CartPole-v1")
    measured, lines, settings = {}, [], {}
    for name, (module, config, hp) in AGENTS.items():
        if quick and name != "noisy":
            continue
        curves = fit(module.make(env, config), params, hp, seeds=seeds, env_steps=STEPS, num_evals=10).results
        returns = curves["evaluation_return"].transpose("seed", "env_step").values
        measured[f"cartpole-slow-{name}"] = returns[:, -1]
        lines.append(Line(name, curves["env_step"].values, returns))
        settings[name] = {"config": config, "hp": hp}
    panel = Panel("CartPole-v1", "environment steps", "return of the greedy policy", lines, ["cartpole-slow-noisy"])
    return Outcome(measured, [panel], {"seeds": list(seeds), "steps": STEPS, **settings})
