"""The value-based agents, PPO and A2C on MinAtar's Breakout by the original rules (sticky actions, six actions).

One convolution of sixteen 3 × 3 filters and a dense layer of 128, as in MinAtar's own experiments (Young & Tian 2019).
Those run for 5 million frames with an update of 32 transitions after each, and DQN has a return of about 9 after one
million (read off their figure). What is affordable on two cores is less: 100,000 frames with an update for every four
for the agents that replay, 500,000 frames for those that do not. The curves end where ours end.

The game has no time limit; episodes are cut, not ended, after 1,000 frames, as gymnax does.

Shared by the agents with replay: step size 2.5e-4, 100,000 transitions, target copied every 1,000 updates, ε from 1 to
0.1 over half of the run. The curves are of the greedy policy.
"""

from typing import Any

import envs
from jaxrl.agents import a2c, c51, dqn, iqn, ppo, pqn, qr_dqn, rainbow
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

CNN: dict[str, Any] = {"torso": "minatar_cnn", "hidden": (128,)}
REPLAY: dict[str, Any] = {**CNN, "num_envs": 4, "batch_size": 32, "replay_capacity": 100_000, "warmup_steps": 5_000}
RATES: dict[str, Any] = {"learning_rate": 2.5e-4, "target_period": 1_000}
EPSILON: dict[str, Any] = {**RATES, "epsilon_end": 0.1}
REPLAYING: dict[str, tuple[Any, Any, Any]] = {
    "DQN": (dqn, dqn.Config(**REPLAY), dqn.Hyperparams(**EPSILON)),
    "C51": (c51, c51.Config(**REPLAY, num_atoms=51), c51.Hyperparams(**EPSILON, v_min=-1.0, v_max=30.0)),
    "QR-DQN": (qr_dqn, qr_dqn.Config(**REPLAY, num_quantiles=51), qr_dqn.Hyperparams(**EPSILON)),
    "IQN": (
        iqn,
        iqn.Config(**REPLAY, num_quantiles=8, num_target_quantiles=8, num_policy_quantiles=8),
        iqn.Hyperparams(**EPSILON),
    ),
    "Rainbow": (rainbow, rainbow.Config(**REPLAY, num_atoms=51), rainbow.Hyperparams(**RATES, v_min=-1.0, v_max=30.0)),
}
ON_POLICY: dict[str, tuple[Any, Any, Any]] = {
    "PQN": (pqn, pqn.Config(**CNN, num_envs=64), pqn.Hyperparams(learning_rate=5e-4, q_lambda=0.65)),
    "PPO": (
        ppo,
        ppo.Config(**CNN, num_envs=64, num_minibatches=8, activation="relu"),
        ppo.Hyperparams(learning_rate=1e-3),
    ),
    "A2C": (a2c, a2c.Config(**CNN, num_envs=32, activation="relu"), a2c.Hyperparams(entropy_coef=0.01)),
}


def run(quick: bool) -> Outcome:
    """Trains 3 seeds of each; quick: 2 seeds for a tenth of the steps."""
    seeds = range(2 if quick else 3)
    env, params = envs.make("Breakout-MinAtar", max_steps=1_000)
    panels, settings = [], {}
    for title, agents, steps in (("with replay", REPLAYING, 100_000), ("on-policy, PQN", ON_POLICY, 500_000)):
        lines = []
        for label, (module, config, hp) in agents.items():
            agent = module.make(env, config)
            budget = steps // 10 if quick else steps
            fitted = fit(agent, params, hp, seeds=seeds, env_steps=budget, num_evals=10)
            returns = fitted.results["evaluation_return"].transpose("seed", "env_step").values
            lines.append(Line(label, fitted.results["env_step"].values, returns))
            end = {"return at the end": returns[:, -1].round(2).tolist(), "run seconds": fitted.cost["run_s"]}
            settings[label] = {"steps": budget, "config": config, "hp": hp, **end}
        panels.append(Panel(title, "frames", "return of the greedy policy", lines))
    return Outcome({}, panels, {"seeds": list(seeds), **settings})
