"""PPO without a memory, with a GRU and with a gated transformer on tasks that need one.

CartPole without its velocities; a bit that is asked for after 40 steps (bsuite's memory chain); a T-maze with a corridor
of 20 (Bakker 2001). The same PPO in all three: 16 environments, rewards scaled, 4 epochs. Without a memory the best
return is 0 in the chain and 1.95 in the maze (a turn at chance), and the observation of CartPole does not say which way
the pole falls. The curves are of the greedy policy; of a policy that cannot know the answer, one that always gives the
same is as good as any, and its return here depends on how often that is right in the episodes of the evaluation.
"""

from typing import Any

import envs
from jaxrl.agents import ppo, ppo_recurrent, ppo_transformer
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

QUICK = True
# name, options, steps, and how far the transformer looks back
TASKS: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "cartpole": ("CartPole-Hidden-v0", {}, 300_000, 8),
    "chain": ("MemoryChain-bsuite", {"memory_length": 40, "max_steps": 41}, 150_000, 48),
    "maze": ("TMaze-v0", {"corridor_length": 20, "max_steps": 200}, 200_000, 24),
}


def agents(env: Any, memory_length: int) -> dict[str, tuple[Any, Any]]:
    """The three agents and their hyper-parameters."""
    feed_forward = ppo.Config(num_envs=16, normalize_reward=True, clip_value=False)
    looking_back = ppo_transformer.Config(memory_length=memory_length)
    return {
        "feed-forward": (ppo.make(env, feed_forward), ppo.Hyperparams(learning_rate=1e-3)),
        "GRU": (ppo_recurrent.make(env), ppo_recurrent.Hyperparams()),
        "transformer": (ppo_transformer.make(env, looking_back), ppo_transformer.Hyperparams()),
    }


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each agent on each task; quick: 2 seeds on the chain alone, 10 steps long."""
    seeds = range(2 if quick else 8)
    measured, panels, settings = {}, [], {}
    for task, (name, options, steps, memory_length) in TASKS.items():
        if quick:
            if task != "chain":
                continue
            options, steps, memory_length = {"memory_length": 10, "max_steps": 11}, 60_000, 12
        env, params = envs.make(name, **options)
        lines = []
        for label, (agent, hp) in agents(env, memory_length).items():
            curves = fit(agent, params, hp, seeds=seeds, env_steps=steps, num_evals=10, eval_episodes=64).results
            returns = curves["evaluation_return"].transpose("seed", "env_step").values
            measured[f"memory-{task}-{label.lower()}"] = returns[:, -1]
            lines.append(Line(label, curves["env_step"].values, returns))
            settings[f"{task}, {label}"] = {"steps": steps, "config": agent.config, "hp": hp._asdict()}
        title = f"{name}, {', '.join(f'{k} {v}' for k, v in options.items() if k != 'max_steps')}".rstrip(", ")
        references = [] if quick else [f"memory-{task}-gru", f"memory-{task}-feed-forward"]
        panels.append(Panel(title, "environment steps", "return of the greedy policy", lines, references))
    return Outcome(measured, panels, {"seeds": list(seeds), **settings})
