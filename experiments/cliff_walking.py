"""Walking along the cliff: Q-learning, Sarsa and expected Sarsa (Sutton & Barto, example 6.6 and figure 6.3).

α = 0.5, ε = 0.1, γ = 1, no time limit. Compared is the return of the ε-greedy learner itself, over episodes 401 to 500:
Q-learning learns the shortest way along the edge and falls from it, Sarsa the safe one.
"""

import jax
import numpy as np

import envs
import jaxrl
from jaxrl import agents
from jaxrl.reproduce import Line, Outcome, Panel

QUICK = True
EPISODES = 500
STEPS = {"Sarsa": 22_000, "Q-learning": 16_000, "expected Sarsa": 16_000}  # enough for EPISODES in every run


def returns(name: str, runs: int) -> np.ndarray:
    """The return of each of the first EPISODES episodes, [runs, EPISODES]."""
    env, params = envs.make("CliffWalking-v1", max_steps=None)
    module = agents.get("q_learning" if name == "Q-learning" else "sarsa")
    options = {"expected": True} if name == "expected Sarsa" else {}
    agent = module.make(env, module.Config(steps_per_iteration=1, **options))
    hp = module.Hyperparams(learning_rate=0.5, gamma=1.0, epsilon_start=0.1, epsilon_end=0.1, total_steps=1.0)

    @jax.jit
    @jax.vmap
    def play(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        episodes = jaxrl.run(agent, agent.init(key, hp, params), STEPS[name])[1].episodes
        return episodes.return_sum, episodes.count

    total, count = jax.device_get(play(jax.random.split(jax.random.key(0), runs)))
    assert (count.sum(1) >= EPISODES).all(), f"{name}: a run had only {count.sum(1).min()} episodes"
    return np.stack([lane[ended > 0][:EPISODES] for lane, ended in zip(total, count, strict=True)])


def run(quick: bool) -> Outcome:
    """Trains 300 runs of each; quick: 50."""
    runs = 50 if quick else 300
    measured, lines = {}, []
    for name in STEPS:
        gained = returns(name, runs)
        measured[f"cliff-{name.replace(' ', '-').lower()}"] = gained[:, 400:].mean(1)
        smooth = gained.reshape(runs, -1, 10).mean(2)
        lines.append(Line(name, np.arange(5, EPISODES, 10), smooth))
    panel = Panel(
        "means of ten episodes", "episode", "return of the ε-greedy learner", lines, list(measured), (-100.0, -10.0)
    )
    return Outcome(measured, [panel], {"runs": runs, "seed": 0, "steps": STEPS})
