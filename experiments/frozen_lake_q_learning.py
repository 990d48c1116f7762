"""Q-learning on FrozenLake that is not slippery: the exercise's settings.

α = 0.1, γ = 0.99, ε from 1 to 0.01 by a factor of 0.9995 after every episode, 10,000 episodes; the greedy policy should
always arrive.
"""

import envs
from jaxrl.agents import q_learning
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

QUICK = True
STEPS = 90_000  # about 10,000 episodes


def run(quick: bool) -> Outcome:
    """Trains 16 seeds; quick: 4."""
    seeds = range(4 if quick else 16)
    env, params = envs.make("FrozenLake-v1", is_slippery=False)
    agent = q_learning.make(env, q_learning.Config(epsilon_schedule="per_episode"))
    hp = q_learning.Hyperparams(
        learning_rate=0.1, gamma=0.99, epsilon_start=1.0, epsilon_end=0.01, epsilon_decay=0.9995
    )
    curves = fit(agent, params, hp, seeds=seeds, env_steps=STEPS, num_evals=10, eval_episodes=4).results
    success = curves["evaluation_return"].transpose("seed", "env_step").values
    panel = Panel(
        "greedy policy",
        "environment steps",
        "success",
        [Line("ours", curves["env_step"].values, success)],
        ["lab-lake"],
        (0.0, 1.05),
    )
    episodes = float(curves["training_episodes"].sum("env_step").mean())
    return Outcome({"lab-lake": success[:, -1]}, [panel], {"seeds": list(seeds), "steps": STEPS, "episodes": episodes})
