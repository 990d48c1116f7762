"""PPO on LunarLander-v3 with networks of several sizes, and with one torso for policy and value in place of two.

Sixteen environments, minibatches of 128, six epochs, a step size of 1e-3 falling to 0, rewards scaled; 300,000 steps.
These were chosen for the networks of 64-64, on seeds 1000 to 1003.
"""

from typing import Any

import envs
from jaxrl.agents import ppo
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

STEPS = 294_912
SHARED: dict[str, Any] = {"num_envs": 16, "num_minibatches": 16, "num_epochs": 6, "normalize_reward": True}
HP = ppo.Hyperparams(learning_rate=1e-3, gamma=0.999, gae_lambda=0.98)
NETWORKS: dict[str, dict[str, Any]] = {
    "8-8": {"hidden": (8, 8)},
    "16-16": {"hidden": (16, 16)},
    "64": {"hidden": (64,)},
    "64-64": {"hidden": (64, 64)},
    "64-64, one torso": {"hidden": (64, 64), "shared_torso": True},
    "128-128": {"hidden": (128, 128)},
}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each; quick: 2."""
    seeds = range(2 if quick else 8)
    env, params = envs.make("LunarLander-v3")
    lines, ends = [], {}
    for label, shape in NETWORKS.items():
        agent = ppo.make(env, ppo.Config(**SHARED, **shape))
        fitted = fit(agent, params, HP, seeds=seeds, env_steps=STEPS, num_evals=12)
        curves = fitted.results
        returns = curves["evaluation_return"].transpose("seed", "env_step").values
        lines.append(Line(label, curves["env_step"].values, returns))
        ends[label] = {"returns": returns[:, -1].round(1).tolist(), "run_seconds": fitted.cost["run_s"]}
    panel = Panel("LunarLander-v3", "environment steps", "return of the greedy policy", lines)
    return Outcome({}, [panel], {"seeds": list(seeds), "shared": SHARED, "hp": HP, "at the end": ends})
