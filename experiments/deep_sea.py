"""Deep Sea of size 20: bootstrapped DQN with randomised priors against ε-greedy DQN.

One path of 2^20 leads to the treasure, and every step of it costs something, so chance finds it once in a million
episodes. Both agents have the same network (50 units), batch (64) and step size, four environments in parallel and an
update for every four steps, over 2,000 episodes. The value is the return of the greedy policy (of the ensemble's votes)
at the end: 0.99 is the best, 0 is what going left all the time earns.
"""

from typing import Any

import envs
from jaxrl.agents import bootstrapped_dqn, dqn
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

QUICK = False
SIZE, STEPS = 20, 40_000  # 2,000 episodes
SHARED: dict[str, Any] = {"num_envs": 4, "hidden": (50,), "batch_size": 64}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each; quick: 2."""
    seeds = range(2 if quick else 8)
    env, params = envs.make("DeepSea-bsuite", size=SIZE, max_steps=SIZE)
    deep = bootstrapped_dqn.make(env, bootstrapped_dqn.Config(**SHARED))
    plain = dqn.make(env, dqn.Config(**SHARED))
    measured, lines = {}, []
    for key, agent, hp, label in (
        ("deep-sea-bootstrapped", deep, bootstrapped_dqn.Hyperparams(), "bootstrapped, randomised priors"),
        ("deep-sea-dqn", plain, dqn.Hyperparams(), "ε-greedy DQN"),
    ):
        curves = fit(agent, params, hp, seeds=seeds, env_steps=STEPS, num_evals=20, eval_episodes=4).results
        returns = curves["evaluation_return"].transpose("seed", "env_step").values
        measured[key] = returns[:, -1]
        lines.append(Line(label, curves["env_step"].values / SIZE, returns))
    panel = Panel("size 20", "episodes", "return of the greedy policy", lines, list(measured), (-0.05, 1.05))
    settings = {"seeds": list(seeds), "steps": STEPS, "size": SIZE, "shared": SHARED}
    return Outcome(measured, [panel], settings | {"hp": [bootstrapped_dqn.Hyperparams(), dqn.Hyperparams()]})
