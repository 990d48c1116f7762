"""PQN with CleanRL's settings on CartPole-v1, Acrobot-v1 and MountainCar-v0.

4 environments × 128 steps, 4 epochs of 4 minibatches, step size 2.5e-4 falling to 0, λ 0.65, ε from 1 to 0.05 over the
first half, 120-84 with layer normalisation. The metric is theirs too: the return of the training episodes (ε-greedy) of
the last tenth of 500,000 steps. CleanRL ran 3 seeds each; its targets take a cut by the time limit for an end.
"""

import envs
from jaxrl.agents import pqn
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

QUICK = False
STEPS = 500_000
TASKS = {"C5-cartpole": "CartPole-v1", "C5-acrobot": "Acrobot-v1", "C5-mountain-car": "MountainCar-v0"}
CONFIG = pqn.Config(num_envs=4, rollout_length=128, num_epochs=4, num_minibatches=4)
HP = pqn.Hyperparams(learning_rate=2.5e-4, q_lambda=0.65, epsilon_fraction=0.5)


def run(quick: bool) -> Outcome:
    """Trains 16 seeds on each task; quick: 4 seeds on CartPole alone."""
    seeds = range(4 if quick else 16)
    measured, panels = {}, []
    for key, task in TASKS.items():
        if quick and key != "C5-cartpole":
            continue
        env, params = envs.make(task)
        curves = fit(pqn.make(env, CONFIG), params, HP, seeds=seeds, env_steps=STEPS, num_evals=10).results
        returns = curves["training_return"].transpose("seed", "env_step").values
        measured[key] = returns[:, -1]
        line = Line("ours", curves["env_step"].values, returns)
        panels.append(Panel(task, "environment steps", "return of training episodes", [line], [key]))
    return Outcome(measured, panels, {"seeds": list(seeds), "steps": STEPS, "config": CONFIG, "hp": HP})
