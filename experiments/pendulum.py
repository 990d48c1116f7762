"""The continuous-control agents and PPO on Pendulum-v1.

DDPG, TD3, SAC and TQC learn for 20,000 steps with an update for every step, as in Stable-Baselines3's zoo, whose values
are of one run each, evaluated for 750 episodes; CrossQ for 10,000. Their networks have two layers of 64 units where the
zoo has 400-300 or 256-256. A good controller, found by dynamic programming on a fine grid, gets −140.4; per-episode
returns spread by 90, so the evaluations are of 256 episodes. Our SAC ends nearer to that optimum than its published
run, by more than the tolerance: no match, and no worse.
"""

from typing import Any

import envs
from jaxrl.agents import crossq, ddpg, ppo, sac, td3, tqc
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

SMALL = (64, 64)
AGENTS: dict[str, tuple[Any, Any, Any, int]] = {
    "ddpg": (ddpg, ddpg.Config(hidden=SMALL), ddpg.Hyperparams(), 20_000),
    "td3": (td3, td3.Config(hidden=SMALL), td3.Hyperparams(), 20_000),
    "sac": (sac, sac.Config(hidden=SMALL), sac.Hyperparams(), 20_000),
    "tqc": (tqc, tqc.Config(hidden=SMALL, batch_size=128), tqc.Hyperparams(), 20_000),
    "crossq": (crossq, crossq.Config(hidden=SMALL, batch_size=128), crossq.Hyperparams(), 10_000),
    "ppo": (
        ppo,
        ppo.Config(num_envs=8, num_epochs=10, normalize_obs=True, normalize_reward=True),
        ppo.Hyperparams(learning_rate=1e-3, gamma=0.95, entropy_coef=0.0),
        300_000,
    ),
}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each; quick: 2 seeds of DDPG."""
    seeds = range(2 if quick else 8)
    env, params = envs.make("Pendulum-v1")
    measured, short, long, settings = {}, [], [], {}
    for name, (module, config, hp, steps) in AGENTS.items():
        if quick and name != "ddpg":
            continue
        agent = module.make(env, config)
        curves = fit(agent, params, hp, seeds=seeds, env_steps=steps, num_evals=10, eval_episodes=256).results
        returns = curves["evaluation_return"].transpose("seed", "env_step").values
        measured[f"pendulum-{name}"] = returns[:, -1]
        (long if name == "ppo" else short).append(Line(name.upper(), curves["env_step"].values, returns))
        settings[name] = {"steps": steps, "config": config, "hp": hp}
    axes = ("environment steps", "return of the greedy policy")
    panels = [Panel("off-policy", *axes, short, ["pendulum-ddpg"])]
    if long:
        panels.append(Panel("on-policy", *axes, long, ["pendulum-ppo"]))
    return Outcome(measured, panels, {"seeds": list(seeds), **settings})
