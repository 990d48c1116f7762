"""TRPO and A2C on CartPole-v1 and MountainCar-v0 with the settings of Stable-Baselines3's zoo.

CartPole. TRPO: 2 environments × 512 steps, damping 1e-3, λ 0.98, 15 steps of conjugate gradients, 20 passes of the
critic in minibatches of 512 with step size 1e-3; 100,000 steps. A2C: 8 environments × 5 steps, RMSProp 7e-4, no entropy
bonus; 500,000 steps.

MountainCar, with observations and rewards normalised by running statistics. TRPO: 2 environments × 1,024 steps, damping
0.1, λ 0.95, minibatches of 128, else as above; 100,000 steps. A2C: 16 environments, else as above; 1,000,000 steps. Our
statistics move after a rollout, Stable-Baselines3's with every step.

The zoo's A2C runs on PyTorch's RMSProp, which adds ε to the root, and its loss has no ½ in the critic's part, so our
weight of it is 1 where theirs is 0.5. (With ε under the root and weight 0.5, our defaults, eight other runs on
MountainCar ended at −130: the floor under small gradients is too high there.)

The zoo's values are of one run each, the greedy policy evaluated. All our evaluations have the same starts, whatever
the seed: 1,000 of them on MountainCar, where returns depend on the start.
"""

from typing import Any, NamedTuple

import envs
from jaxrl.agents import a2c, trpo
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

NORMALIZED: dict[str, Any] = {"normalize_obs": True, "normalize_reward": True}


class Case(NamedTuple):
    """An agent in an environment."""

    env: str
    module: Any
    config: Any
    hp: Any
    steps: int
    num_evals: int  # divides the number of iterations
    eval_episodes: int = 32


AGENTS = {
    "F1-cartpole": Case(
        "CartPole-v1",
        trpo,
        trpo.Config(num_envs=2, rollout_length=512, cg_iterations=15, critic_epochs=20, critic_minibatches=2),
        trpo.Hyperparams(gae_lambda=0.98, damping=1e-3),
        steps=100_352,
        num_evals=7,
    ),
    "D2-cartpole": Case(
        "CartPole-v1",
        a2c,
        a2c.Config(num_envs=8, rollout_length=5, anneal_learning_rate=False, epsilon_in_root=False),
        a2c.Hyperparams(learning_rate=7e-4, value_coef=1.0),
        steps=500_000,
        num_evals=10,
    ),
    "F1-mountaincar": Case(
        "MountainCar-v0",
        trpo,
        trpo.Config(
            num_envs=2, rollout_length=1_024, cg_iterations=15, critic_epochs=20, critic_minibatches=16, **NORMALIZED
        ),
        trpo.Hyperparams(),
        steps=100_352,
        num_evals=7,
        eval_episodes=1_000,
    ),
    "D2-mountaincar": Case(
        "MountainCar-v0",
        a2c,
        a2c.Config(num_envs=16, rollout_length=5, anneal_learning_rate=False, epsilon_in_root=False, **NORMALIZED),
        a2c.Hyperparams(learning_rate=7e-4, value_coef=1.0),
        steps=1_000_000,
        num_evals=10,
        eval_episodes=1_000,
    ),
}


def run(quick: bool) -> Outcome:
    """Trains 16 seeds of each; quick: 4 of TRPO on CartPole."""
    seeds = range(4 if quick else 16)
    measured, panels, settings = {}, [], {}
    for key, case in AGENTS.items():
        if quick and key != "F1-cartpole":
            continue
        env, params = envs.make(case.env)
        agent = case.module.make(env, case.config)
        evaluations: dict[str, Any] = {"num_evals": case.num_evals, "eval_episodes": case.eval_episodes}
        curves = fit(agent, params, case.hp, seeds=seeds, env_steps=case.steps, **evaluations).results
        returns = curves["evaluation_return"].transpose("seed", "env_step").values
        measured[key] = returns[:, -1]
        name = agent.name.upper()
        line = Line(name, curves["env_step"].values, returns)
        panels.append(Panel(f"{name}, {case.env}", "environment steps", "return of the greedy policy", [line], [key]))
        settings[key] = {"steps": case.steps, **evaluations, "config": case.config, "hp": case.hp}
    return Outcome(measured, panels, {"seeds": list(seeds), **settings})
