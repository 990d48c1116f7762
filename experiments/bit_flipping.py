"""DQN with and without hindsight experience replay on bit flipping with 15 bits.

Andrychowicz et al. 2017 (arXiv:1707.01495), section 3.1 and figure 1: a layer of 256 units, four goals out of the
future for every step (k = 4), 16 episodes and 40 updates of 128 transitions in turn, γ 0.98. In their figure DQN alone
fails beyond 13 bits and DQN with hindsight solves up to 40. Success is judged by 1,024 episodes a seed of the greedy
policy. Theirs is the discount and the number of goals, ours the targets that follow softly (τ 0.005) and an ε that
falls from 1 to 0.05 over the first third of 12,800 episodes, the same for both.
"""

from typing import Any

import jax
import numpy as np

import envs
import jaxrl
from jaxrl.agents import dqn
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

BITS, STEPS = 15, 192_000
SHARED: dict[str, Any] = {
    "num_envs": 16,
    "rollout_length": BITS,
    "num_updates": 40,
    "replay_capacity": 200_000,
    "hidden": (256,),
}
CONFIGS = {"bits-dqn": dqn.Config(**SHARED), "bits-her": dqn.Config(**SHARED, hindsight=4)}
HP = dqn.Hyperparams(gamma=0.98, epsilon_fraction=0.33, target_period=1, target_rate=0.005)


def run(quick: bool) -> Outcome:
    """Trains 8 seeds of each; quick: 2 seeds with hindsight for a third of the steps."""
    seeds, steps = range(2 if quick else 8), STEPS // 3 if quick else STEPS
    env, params = envs.make("BitFlipping-v0", bits=BITS, max_steps=BITS)
    measured, lines = {}, []
    keys = jax.random.split(jax.random.key(2**31 - 3), len(seeds))
    for key, config in CONFIGS.items():
        if quick and key != "bits-her":
            continue
        agent = dqn.make(env, config)
        fitted = fit(agent, params, HP, seeds=seeds, env_steps=steps, num_evals=10, eval_episodes=256)

        def judge(state: Any, key: jax.Array, agent: jaxrl.Agent = agent) -> jax.Array:
            return jaxrl.evaluate(env, params, agent.policy(state), key, 1_024).returns > -BITS

        measured[key] = 100.0 * np.asarray(jax.jit(jaxrl.map_runs(judge))(fitted.state, keys)).mean(1)
        label = "with hindsight" if config.hindsight else "DQN alone"
        curves = fitted.results
        returns = curves["evaluation_return"].transpose("seed", "env_step").values
        lines.append(Line(label, curves["env_step"].values, returns))
    panel = Panel(f"{BITS} bits", "environment steps", "return of the greedy policy", lines)
    return Outcome(measured, [panel], {"seeds": list(seeds), "steps": steps, "configs": CONFIGS, "hp": HP})
