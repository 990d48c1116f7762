"""PPO with CleanRL's settings on CartPole-v1, Acrobot-v1 and MountainCar-v0.

The defaults of our PPO are CleanRL's: 4 environments × 128 steps, 4 epochs of 4 minibatches, learning rate 2.5e-4
falling to 0, clip 0.2, entropy 0.01, 64-64 tanh. The metric is theirs too: the return of the training episodes (with
sampled actions) of the last tenth of 500,000 steps. CleanRL ran 3 seeds each.

MountainCar-v0 is the expected failure: without a bonus for exploration no reward is ever met.
"""

import envs
from jaxrl.agents import ppo
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

QUICK = True
STEPS = 500_000
TASKS = {"E1": "CartPole-v1", "E2": "Acrobot-v1", "E3": "MountainCar-v0"}


def run(quick: bool) -> Outcome:
    """Trains 16 seeds on each task; quick: 4 seeds on CartPole alone."""
    seeds = range(4 if quick else 16)
    measured, panels = {}, []
    for key, task in TASKS.items():
        if quick and key != "E1":
            continue
        env, params = envs.make(task)
        agent = ppo.make(env, ppo.Config())
        curves = fit(agent, params, ppo.Hyperparams(), seeds=seeds, env_steps=STEPS, num_evals=10).results
        returns = curves["training_return"].transpose("seed", "env_step").values
        measured[key] = returns[:, -1]
        line = Line("ours", curves["env_step"].values, returns)
        panels.append(Panel(task, "environment steps", "return of training episodes", [line], [key]))
    return Outcome(measured, panels, {"seeds": list(seeds), "steps": STEPS, "config": ppo.Config()})
