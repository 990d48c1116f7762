"""DDPG, TD3 and SAC on MountainCarContinuous-v0, where exploring is the problem.

Force costs 0.1 u² a step and only the goal pays, 100 for reaching it: a policy that has not met the goal yet soon
learns to stand still, at a return of 0. Independent noise does not get the car out of the valley, for its pushes
cancel. Noise that keeps its direction for about twenty steps, half a swing of the car, does: Ornstein–Uhlenbeck noise
that forgets a twentieth of itself at every step, with a standard deviation of 1 in units of the action's half range.
SAC's own exploration is correlated in the same way, and its temperature is kept at 0.1.

The published values are of one run each: Stable-Baselines3's zoo needs 300,000 steps for DDPG and TD3 (noise with a
standard deviation of 0.5), 50,000 for SAC with state-dependent exploration. Everything here has 50,000.
"""

from typing import Any

import envs
from jaxrl.agents import ddpg, sac, td3
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

STEPS = 50_000
SHARED: dict[str, Any] = {
    "num_envs": 4,
    "num_updates": 4,
    "batch_size": 128,
    "hidden": (64, 64),
    "replay_capacity": 50_000,
}
NOISE: dict[str, Any] = {"noise_theta": 0.05, "noise_std": 0.3}
AGENTS = {
    "ddpg": (ddpg, ddpg.Config(**SHARED), ddpg.Hyperparams(**NOISE, learning_rate=1e-3)),
    "td3": (td3, td3.Config(**SHARED), td3.Hyperparams(**NOISE)),
    "sac": (
        sac,
        sac.Config(**SHARED),
        sac.Hyperparams(noise_theta=0.05, temperature=0.1, temperature_learning_rate=0.0),
    ),
}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each; quick: 2."""
    seeds = range(2 if quick else 8)
    env, params = envs.make("MountainCarContinuous-v0")
    measured, lines, settings = {}, [], {}
    for name, (module, config, hp) in AGENTS.items():
        agent = module.make(env, config)
        curves = fit(agent, params, hp, seeds=seeds, env_steps=STEPS, num_evals=10).results
        returns = curves["evaluation_return"].transpose("seed", "env_step").values
        measured[f"G6-{name}"] = returns[:, -1]
        lines.append(Line(name.upper(), curves["env_step"].values, returns))
        settings[name] = {"config": config, "hp": hp}
    panel = Panel("MountainCarContinuous-v0", "environment steps", "return of the greedy policy", lines, ["G6-td3"])
    return Outcome(measured, [panel], {"seeds": list(seeds), "steps": STEPS, **settings})
