"""The 10-armed testbed of Sutton & Barto, section 2.3 to 2.7: ε-greedy, UCB and optimistic starts.

2,000 bandits with means from N(0, 1) and rewards of standard deviation 1, 1,000 pulls each; ties are broken at random.
Compared is the mean over pulls 901 to 1,000 of the reward and of the share of pulls of the best arm.
"""

import jax
import jax.numpy as jnp
import numpy as np

from envs.toy_text.bandit import Bandit
from jaxrl.agents import bandit
from jaxrl.reproduce import Line, Outcome, Panel

QUICK = True
PULLS = 1_000
GREEDY = bandit.Config(steps_per_iteration=1)
METHODS = {
    "greedy": (GREEDY, bandit.Hyperparams(epsilon=0.0)),
    "ε = 0.01": (GREEDY, bandit.Hyperparams(epsilon=0.01)),
    "ε = 0.1": (GREEDY, bandit.Hyperparams(epsilon=0.1)),
    "UCB, c = 2": (bandit.Config(steps_per_iteration=1, method="ucb"), bandit.Hyperparams(confidence=2.0)),
    "optimistic, Q = 5, α = 0.1": (
        bandit.Config(steps_per_iteration=1, sample_average=False),
        bandit.Hyperparams(epsilon=0.0, initial_value=5.0, learning_rate=0.1),
    ),
}
IDS = dict(zip(METHODS, ("greedy", "eps.01", "eps.1", "ucb", "optimistic"), strict=True))


def play(config: bandit.Config, hp: bandit.Hyperparams, runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (rewards, whether the best arm was pulled), each [runs, PULLS]."""
    env = Bandit()
    agent = bandit.make(env, config)

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_means, key_run = jax.random.split(key)
        params = env.draw_params(key_means)
        best = jnp.argmax(params.means[0])

        def pull(state: bandit.State, _: None) -> tuple[bandit.State, tuple[jax.Array, jax.Array]]:
            state, metrics = agent.step(state)
            return state, (metrics.episodes.return_sum, state.learner.count[0, best])

        _, (rewards, count) = jax.lax.scan(pull, agent.init(key_run, hp, params), None, length=PULLS)
        return rewards, jnp.diff(count, prepend=0.0)

    return jax.device_get(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), runs)))


def run(quick: bool) -> Outcome:
    """Plays 2,000 bandits; quick: 500."""
    runs = 500 if quick else 2_000
    measured, rewards, optimal = {}, [], []
    pulls = np.arange(1, PULLS + 1)
    for name, (config, hp) in METHODS.items():
        reward, best = play(config, hp, runs)
        measured[f"testbed-reward-{IDS[name]}"] = reward[:, -100:].mean(1)
        measured[f"testbed-best-{IDS[name]}"] = 100 * best[:, -100:].mean(1)
        rewards.append(Line(name, pulls, reward))
        optimal.append(Line(name, pulls, 100 * best))
    panels = [
        Panel("reward", "pull", "mean reward", rewards, [f"testbed-reward-{key}" for key in IDS.values()]),
        Panel("choice of the best arm", "pull", "%", optimal, [f"testbed-best-{key}" for key in IDS.values()]),
    ]
    return Outcome(measured, panels, {"bandits": runs, "pulls": PULLS, "seed": 0, "methods": METHODS})
