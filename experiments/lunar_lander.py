"""LunarLander-v3 by PPO and DQN within 500,000 steps, LunarLanderContinuous-v3 by SAC and TD3.

200 counts as landing. Published: SLM-Lab's moving averages of training returns after 300,000 steps, PPO 183, DQN 195,
double DQN with prioritised replay 266, and CrossQ 269 on the continuous lander, 4 runs each; Stable-Baselines3's zoo,
one run each, SAC 260 and TD3 208 on the continuous lander (version 2). Settings were chosen on seeds 1000 to 1003
(SAC's three-step returns lie between the one and the five steps that were tried there).

The first PPO has 16 environments and a step size of 1e-3; the second has the settings of a well-known tutorial: one
environment, 2,048 steps, minibatches of 64, one torso of 256-256.
"""

from typing import Any

import envs
from jaxrl.agents import dqn, ppo, sac, td3
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

PPO = ppo.Config(num_envs=16, num_minibatches=16, num_epochs=6, normalize_reward=True)
TUTORIAL = ppo.Config(
    num_envs=1,
    rollout_length=2_048,
    num_minibatches=32,
    hidden=(256, 256),
    activation="relu",
    shared_torso=True,
    anneal_learning_rate=False,
)
DQN = dqn.Config(
    num_envs=8,
    num_updates=4,
    batch_size=64,
    hidden=(128, 128),
    replay_capacity=100_000,
    double=True,
    n_step=3,
)
SOFT: dict[str, Any] = {"target_period": 1, "target_rate": 0.005}
REPLAY: dict[str, Any] = {
    "num_envs": 4,
    "num_updates": 4,
    "batch_size": 128,
    "hidden": (64, 64),
    "replay_capacity": 200_000,
}
AGENTS: dict[str, tuple[str, Any, Any, Any, int]] = {
    "ppo": (
        "LunarLander-v3",
        ppo,
        PPO,
        ppo.Hyperparams(learning_rate=1e-3, gamma=0.999, gae_lambda=0.98),
        491_520,
    ),
    "ppo-tutorial": ("LunarLander-v3", ppo, TUTORIAL, ppo.Hyperparams(learning_rate=3e-4), 499_712),
    "dqn": (
        "LunarLander-v3",
        dqn,
        DQN,
        dqn.Hyperparams(learning_rate=5e-4, **SOFT, epsilon_fraction=0.2, epsilon_end=0.02),
        400_000,
    ),
    "sac": (
        "LunarLanderContinuous-v3",
        sac,
        sac.Config(**REPLAY, n_step=3),
        sac.Hyperparams(policy_learning_rate=1e-3, target_rate=0.01),
        250_000,
    ),
    "td3": (
        "LunarLanderContinuous-v3",
        td3,
        td3.Config(**REPLAY, n_step=5),
        td3.Hyperparams(noise_std=0.2),
        150_000,
    ),
}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each; quick: 2 seeds of the first."""
    seeds = range(2 if quick else 8)
    measured, settings = {}, {}
    lines: dict[str, list[Line]] = {}
    for name, (task, module, config, hp, steps) in AGENTS.items():
        if quick and name != "ppo":
            continue
        env, params = envs.make(task)
        fitted = fit(module.make(env, config), params, hp, seeds=seeds, env_steps=steps, num_evals=10)
        returns = fitted.results["evaluation_return"].transpose("seed", "env_step").values
        measured[f"lander-{name}"] = returns[:, -1]
        lines.setdefault(task, []).append(Line(name, fitted.results["env_step"].values, returns))
        settings[name] = {"steps": steps, "config": config, "hp": hp, "run_seconds": fitted.cost["run_s"]}
    axes = ("environment steps", "return of the greedy policy")
    panels = [Panel(task, *axes, of_task, [f"lander-{of_task[0].label}"]) for task, of_task in lines.items()]
    return Outcome(measured, panels, {"seeds": list(seeds), **settings})
