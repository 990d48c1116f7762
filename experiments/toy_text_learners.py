"""Q-learning and Monte Carlo control on Gymnasium's toy text against the exact optimum.

Tables are learnt from 16 environments stepped side by side; the greedy policy is then judged by 4,096 whole episodes a
seed. The published value is the optimum by dynamic programming (study tabular_optima), within reach of which a learner
should come; the FrozenLakes' thresholds leave room because the greedy policy does not know the time.

Blackjack (Sutton & Barto's rule) is learnt by first-visit Monte Carlo control with ε falling from 0.2 to 0.05, its
three numbers made one; its returns are judged by 65,536 hands a seed. From ε = 1, tried first, the averages keep what
the random policy of the beginning got, and the result was −0.063; 0.2 was chosen on seeds 1000 and 1001. FrozenLake has
a reward at the far end alone, found by optimistic starts (all values 1).
"""

from typing import Any

import jax
import numpy as np

import envs
import jaxrl
from envs.wrappers import EnumerateObservation
from jaxrl.agents import monte_carlo, q_learning
from jaxrl.driver import fit
from jaxrl.reproduce import Line, Outcome, Panel

QUICK = True
Q = q_learning.Config(num_envs=16)
LAKE = q_learning.Hyperparams(
    gamma=0.99, learning_rate=0.2, learning_rate_decay=1.0, epsilon_start=0.1, epsilon_end=0.05, initial_value=1.0
)
TAXI = q_learning.Hyperparams(gamma=0.99, learning_rate=0.5, learning_rate_decay=1.0, epsilon_start=0.1)
BLACKJACK = monte_carlo.Hyperparams(gamma=1.0, epsilon_start=0.2, epsilon_end=0.05, epsilon_fraction=0.8)
TASKS = {
    "learn-lake": ("FrozenLake-v1", q_learning, Q, LAKE, 2_000_000),
    "learn-lake-8x8": ("FrozenLake8x8-v1", q_learning, Q, LAKE, 8_000_000),
    "learn-taxi": ("Taxi-v4", q_learning, Q, TAXI, 4_000_000),
    "learn-blackjack": ("Blackjack-v1", monte_carlo, monte_carlo.Config(num_envs=16), BLACKJACK, 8_000_000),
}


def run(quick: bool) -> Outcome:
    """Trains 8 seeds on each task; quick: 4 seeds on the small lake alone."""
    seeds = range(4 if quick else 8)
    measured, panels = {}, []
    for key, (task, module, config, hp, steps) in TASKS.items():
        if quick and key != "learn-lake":
            continue
        env, params = envs.make(task)
        blackjack = key == "learn-blackjack"
        if blackjack:
            env = EnumerateObservation(env.replace(max_steps=32))  # more cards than a hand can hold
        hands = 65_536 if blackjack else 4_096
        agent = module.make(env, config)
        fitted = fit(agent, params, hp, seeds=seeds, env_steps=steps, num_evals=10, eval_episodes=512)

        def judge(
            state: Any, key: jax.Array, agent: jaxrl.Agent = agent, params: Any = params, hands: int = hands
        ) -> jax.Array:
            return jaxrl.evaluate(agent.env, params, agent.policy(state), key, hands).returns

        keys = jax.random.split(jax.random.key(2**31 - 3), len(seeds))
        measured[key] = np.asarray(jax.jit(jaxrl.map_runs(judge))(fitted.state, keys)).mean(1)
        curves = fitted.results
        line = Line("greedy policy", curves["env_step"].values, curves["evaluation_return"].values)
        panels.append(Panel(task, "environment steps", "return", [line], [key]))
    return Outcome(measured, panels, {"seeds": list(seeds), "tasks": {key: value[2:] for key, value in TASKS.items()}})
