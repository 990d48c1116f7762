"""Two first exercises of deep RL on CartPole-v1: DQN with layers of 128-128, REINFORCE with one of 128.

DQN: Adam 1e-3, a replay of 10,000, batches of 64, an update for every step. The exercise copies the target every ten
episodes and multiplies ε by 0.995 after each; here both go by steps: a copy every 500 updates, ε from 1 to 0.05 over
the first half of 60,000 steps. It promises about 500 within 200 to 300 episodes. Ours get there with the 60,000 steps,
which are 900 episodes, most of them short ones from the half in which ε is high.

REINFORCE: Adam 1e-3, returns to go less their mean, an update after every episode, 1,000 of them. A batch has a fixed
size, so ours collects 500 steps and learns from the first episode that began in them; what follows it is not used.
"""

from typing import Any

import envs
from jaxrl.agents import dqn, reinforce
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

AGENTS: dict[str, tuple[Any, Any, Any, int]] = {
    "dqn": (
        dqn,
        dqn.Config(num_envs=1, batch_size=64, replay_capacity=10_000, hidden=(128, 128)),
        dqn.Hyperparams(target_period=500),
        60_000,
    ),
    "reinforce": (
        reinforce,
        reinforce.Config(baseline="mean", num_envs=1, rollout_length=500, hidden=(128,), anneal_learning_rate=False),
        reinforce.Hyperparams(learning_rate=1e-3),
        500_000,
    ),
}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each; quick: 2 of REINFORCE."""
    seeds = range(2 if quick else 8)
    env, params = envs.make("CartPole-v1")
    measured: dict[str, Any] = {}
    panels, settings = [], {}
    for name, (module, config, hp, steps) in AGENTS.items():
        if quick and name == "dqn":
            continue
        curves = fit(module.make(env, config), params, hp, seeds=seeds, env_steps=steps, num_evals=15).results
        returns = curves["evaluation_return"].transpose("seed", "env_step").values
        if name == "dqn":
            measured["lab-cartpole-dqn"] = returns[:, -1]
            episodes = curves["training_episodes"].transpose("seed", "env_step").values.cumsum(1).mean(0)
        else:
            episodes = curves["env_step"].values / config.rollout_length
        panels.append(
            Panel(
                name.upper(),
                "episodes (mean of the runs)" if name == "dqn" else "episodes learnt from",
                "return of the greedy policy",
                [Line(name, episodes, returns)],
                [key for key in measured if key.endswith(name)],
            )
        )
        settings[name] = {
            "steps": steps,
            "config": config,
            "hp": hp,
            "episodes": episodes.tolist(),
            "return at the end": returns[:, -1].tolist(),
        }
    return Outcome(measured, panels, {"seeds": list(seeds), **settings})
