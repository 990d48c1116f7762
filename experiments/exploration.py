"""Four ways to explore, on CartPole-v1 and on Deep Sea of size 10: ε-greedy, softmax, noisy layers, an ensemble.

All are DQN with the same network (two layers of 64), replay (20,000), batch (64) and step size (1e-3). ε falls from 1
to 0.05 over the first half of a run; softmax draws actions in proportion to exp(Q / 0.1); noisy layers learn the size
of their noise; the ensemble is bootstrapped DQN with ten members and randomised priors, one of which is followed for
an episode. What is drawn is the return of the greedy policy.

CartPole rewards every step, so any dithering finds what there is to find. Deep Sea hides its only reward at the end of
one path of 2^10, which costs a little to follow. In 1,500 episodes chance finds that path as well, in five or six runs
of eight; the ensemble, which is consistent over a whole episode, finds it in all of them and sooner. (At size 20, in
the study deep_sea, only the ensemble does.)
"""

from typing import Any

import envs
from jaxrl.agents import bootstrapped_dqn, dqn
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

QUICK = False
SHARED: dict[str, Any] = {"hidden": (64, 64), "batch_size": 64, "replay_capacity": 20_000}
STRATEGIES = {
    "ε-greedy": (dqn, {"exploration": "epsilon_greedy"}),
    "softmax": (dqn, {"exploration": "softmax"}),
    "noisy layers": (dqn, {"exploration": "noisy"}),
    "bootstrapped": (bootstrapped_dqn, {}),
}
SIZE = 10
TASKS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "CartPole-v1": ({}, {"num_envs": 10, "num_updates": 4}, 50_000),
    "DeepSea-bsuite": ({"size": SIZE, "max_steps": SIZE}, {"num_envs": 4}, 15_000),
}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each pair; quick: 2."""
    seeds = range(2 if quick else 8)
    panels, ends = [], {}
    for task, (options, config, steps) in TASKS.items():
        env, params = envs.make(task, **options)
        lines = []
        for label, (module, variant) in STRATEGIES.items():
            agent = module.make(env, module.Config(**SHARED, **config, **variant))
            curves = fit(
                agent, params, module.Hyperparams(), seeds=seeds, env_steps=steps, num_evals=15, eval_episodes=16
            ).results
            returns = curves["evaluation_return"].transpose("seed", "env_step").values
            lines.append(Line(label, curves["env_step"].values, returns))
            ends[f"{task}, {label}"] = returns[:, -1].round(3).tolist()
        title = f"{task}, size {SIZE}" if "size" in options else task
        panels.append(Panel(title, "environment steps", "return of the greedy policy", lines))
    settings = {"seeds": list(seeds), "shared": SHARED, "tasks": TASKS, "return at the end": ends}
    return Outcome({}, panels, settings)
