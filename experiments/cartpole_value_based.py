"""What descends from DQN on CartPole-v1: 60,000 steps, an update of 64 transitions for every two steps.

All have two layers of 128 units (bootstrapped DQN ten members of 64-64), a replay of 50,000 and targets that are copied
every 128 updates. ε falls to 0.04 over a sixth of the run; noisy networks and Rainbow explore by the noise of their
weights, bootstrapped DQN by its members. These settings were chosen for DQN, on seeds 1000 to 1003, and not changed for
the others. CleanRL's DQN and C51 get 489–498 and 481–491 out of 500,000 steps, with ten times fewer updates for a step.
"""

from typing import Any

import envs
from jaxrl.agents import bootstrapped_dqn, c51, dqn, iqn, qr_dqn, rainbow
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

STEPS = 60_000
SHARED: dict[str, Any] = {"batch_size": 64, "num_updates": 5, "replay_capacity": 50_000}
WIDE: dict[str, Any] = {**SHARED, "hidden": (128, 128)}
HP: dict[str, Any] = {"target_period": 128}
EPSILON: dict[str, Any] = {**HP, "epsilon_fraction": 0.16, "epsilon_end": 0.04}
FEW: dict[str, Any] = {"num_quantiles": 8, "num_target_quantiles": 8, "num_policy_quantiles": 8}
AGENTS: dict[str, tuple[Any, Any, Any]] = {
    "dqn": (dqn, dqn.Config(**WIDE), dqn.Hyperparams(**EPSILON)),
    "ddqn-per": (
        dqn,
        dqn.Config(**SHARED, hidden=(128, 64), double=True, prioritized=True),
        dqn.Hyperparams(**EPSILON),
    ),
    "munchausen": (dqn, dqn.Config(**WIDE, munchausen=True), dqn.Hyperparams(**EPSILON)),
    "noisy": (dqn, dqn.Config(**WIDE, exploration="noisy"), dqn.Hyperparams(**HP)),
    "c51": (c51, c51.Config(**WIDE, num_atoms=51), c51.Hyperparams(**EPSILON)),
    "qr-dqn": (qr_dqn, qr_dqn.Config(**WIDE, num_quantiles=25), qr_dqn.Hyperparams(**EPSILON)),
    "iqn": (iqn, iqn.Config(**WIDE, **FEW), iqn.Hyperparams(**EPSILON)),
    "rainbow": (rainbow, rainbow.Config(**WIDE, num_atoms=51), rainbow.Hyperparams(**HP)),
    "bootstrapped": (bootstrapped_dqn, bootstrapped_dqn.Config(**SHARED), bootstrapped_dqn.Hyperparams(**HP)),
}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each; quick: 2 seeds of DQN."""
    seeds = range(2 if quick else 8)
    env, params = envs.make("CartPole-v1")
    measured, lines, settings = {}, [], {}
    for name, (module, config, hp) in AGENTS.items():
        if quick and name != "dqn":
            continue
        agent = module.make(env, config)
        curves = fit(agent, params, hp, seeds=seeds, env_steps=STEPS, num_evals=10).results
        returns = curves["evaluation_return"].transpose("seed", "env_step").values
        measured[f"cartpole-{name}"] = returns[:, -1]
        lines.append(Line(name, curves["env_step"].values, returns))
        settings[name] = {"config": config, "hp": hp}
    half = (len(lines) + 1) // 2
    axes = ("environment steps", "return of the greedy policy")
    panels = [Panel("scalar values", *axes, lines[:half], ["cartpole-dqn"])]
    if len(lines) > 1:
        panels.append(Panel("distributions, ensembles", *axes, lines[half:], ["cartpole-c51"]))
    return Outcome(measured, panels, {"seeds": list(seeds), "steps": STEPS, **settings})
