"""PPO without a memory, with a GRU and with a gated transformer, on tasks that need one.

CartPole without its velocities; a bit that is asked for after 40 steps (bsuite's memory chain); a T-maze with a
corridor of 20 (Bakker 2001). Rewards are scaled and 16 environments run side by side in all three agents; the steps of
each are in the result. Without a memory the best mean return is 0 in the chain and 1.95 in the maze, from a turn at
chance, and the observation of CartPole does not say which way the pole falls.

The curves are of the greedy policy over 32 episodes, always from the same starts; a policy that always gives the same
answer is judged by how often that is right among these. So the agent without memory is held to chance by its training
episodes of the last tenth of the run, and those with memory to the task's best by the greedy policy.
"""

from typing import Any, NamedTuple

import envs
from jaxrl.agents import ppo, ppo_recurrent, ppo_transformer
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

QUICK = True
FEED_FORWARD = ppo.Config(num_envs=16, normalize_reward=True, clip_value=False)


class Task(NamedTuple):
    """What is learnt, and for how long."""

    name: str
    options: dict[str, Any]
    steps: dict[str, int]  # by agent
    transformer: ppo_transformer.Config
    title: str
    by_training: bool  # whether the agent without memory is judged by its training episodes


TASKS = {
    "chain": Task(
        "MemoryChain-bsuite",
        {"memory_length": 40, "max_steps": 41},
        {"feed-forward": 160_000, "GRU": 220_000, "transformer": 100_000},
        ppo_transformer.Config(memory_length=48),
        "memory chain, asked after 40 steps",
        True,
    ),
    "maze": Task(
        "TMaze-v0",
        {"corridor_length": 20, "max_steps": 200},
        {"feed-forward": 160_000, "GRU": 280_000, "transformer": 100_000},
        ppo_transformer.Config(memory_length=24),
        "T-maze, corridor of 20",
        True,
    ),
    "cartpole": Task(
        "CartPole-Hidden-v0",
        {},
        {"feed-forward": 160_000, "GRU": 260_000, "transformer": 220_000},
        ppo_transformer.Config(rollout_length=32, memory_length=8),
        "CartPole without velocities",
        False,
    ),
}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each agent on each task; quick: 2 seeds of the agents with memory on a chain of 5."""
    seeds = range(2 if quick else 8)
    tasks = {"chain": TASKS["chain"]._replace(options={"memory_length": 5, "max_steps": 6})} if quick else TASKS
    measured, panels, settings = {}, [], {}
    for key, task in tasks.items():
        env, params = envs.make(task.name, **task.options)
        agents = {
            "feed-forward": (ppo.make(env, FEED_FORWARD), ppo.Hyperparams(learning_rate=1e-3)),
            "GRU": (ppo_recurrent.make(env), ppo_recurrent.Hyperparams()),
            "transformer": (ppo_transformer.make(env, task.transformer), ppo_transformer.Hyperparams()),
        }
        lines = []
        for label, (agent, hp) in agents.items():
            if quick and label == "feed-forward":
                continue
            steps = 40_000 if quick else task.steps[label]
            curves = fit(agent, params, hp, seeds=seeds, env_steps=steps, num_evals=10).results
            curves = curves.transpose("seed", "env_step", ...)
            greedy, training = curves["evaluation_return"].values, curves["training_return"].values
            at_chance = task.by_training and label == "feed-forward"
            measured[f"memory-{key}-{label.lower()}"] = (training if at_chance else greedy)[:, -1]
            lines.append(Line(label, curves["env_step"].values, greedy))
            settings[f"{key}, {label}"] = {"steps": steps, "config": agent.config, "hp": hp}
        references = [f"memory-{key}-gru", f"memory-{key}-feed-forward"]
        panels.append(Panel(task.title, "environment steps", "return of the greedy policy", lines, references))
    return Outcome(measured, panels, {"seeds": list(seeds), **settings})
