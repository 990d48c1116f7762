"""TRPO and A2C on CartPole-v1 with the settings of Stable-Baselines3's zoo.

TRPO: 2 environments × 512 steps, damping 1e-3, λ 0.98, 15 steps of conjugate gradients, 20 passes of the critic in
minibatches of 512 with step size 1e-3; 100,000 steps. A2C: 8 environments × 5 steps, RMSProp 7e-4, no entropy bonus;
500,000 steps. The zoo's values are of one run each, the greedy policy evaluated. Its MountainCar settings need a
running normalisation of observations and rewards, which our TRPO and A2C do not have.
"""

from typing import Any

import envs
from jaxrl.agents import a2c, trpo
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

AGENTS: dict[str, tuple[Any, Any, Any, int]] = {
    "F1-cartpole": (
        trpo,
        trpo.Config(num_envs=2, rollout_length=512, cg_iterations=15, critic_epochs=20, critic_minibatches=2),
        trpo.Hyperparams(gae_lambda=0.98, damping=1e-3),
        100_352,
    ),
    "D2-cartpole": (
        a2c,
        a2c.Config(num_envs=8, rollout_length=5, anneal_learning_rate=False),
        a2c.Hyperparams(learning_rate=7e-4),
        500_000,
    ),
}


def run(quick: bool) -> Outcome:
    """Trains 16 seeds of each; quick: 4 of TRPO."""
    seeds = range(4 if quick else 16)
    env, params = envs.make("CartPole-v1")
    measured, panels, settings = {}, [], {}
    for key, (module, config, hp, steps) in AGENTS.items():
        if quick and key != "F1-cartpole":
            continue
        curves = fit(module.make(env, config), params, hp, seeds=seeds, env_steps=steps, num_evals=10).results
        returns = curves["evaluation_return"].transpose("seed", "env_step").values
        measured[key] = returns[:, -1]
        name = module.__name__.rpartition(".")[2].upper()
        line = Line(name, curves["env_step"].values, returns)
        panels.append(Panel(name, "environment steps", "return of the greedy policy", [line], [key]))
        settings[key] = {"steps": steps, "config": config, "hp": hp._asdict()}
    return Outcome(measured, panels, {"seeds": list(seeds), **settings})
