"""n-step TD on the random walk of 19 states (Sutton & Barto, figure 7.2).

Values start at 0; the error is the root mean square over the states, averaged over the ends of the first 10 episodes
and over runs; the best step size of each n is compared. With one action n-step Sarsa is n-step TD: our agent updates
the last states of an episode while the next one begins, so its table is read n − 1 steps after an end.
"""

import jax
import jax.numpy as jnp
import numpy as np

import envs
from jaxrl.agents import n_step_sarsa
from jaxrl.reproduce import Line, Outcome, Panel

QUICK = False
EPISODES, STEPS = 10, 3_200
BEST = {1: 0.8, 2: 0.6, 4: 0.4, 8: 0.2, 16: 0.2, 32: 0.1}  # step size of the book's minimum for each n
TRUE = np.arange(1, 20) / 10 - 1


def errors(n: int, alphas: np.ndarray, runs: int) -> np.ndarray:
    """The error of each run and step size, [runs, alphas]."""
    env, params = envs.make("RandomWalk-19")
    agent = n_step_sarsa.make(env, n_step_sarsa.Config(n=n, steps_per_iteration=1))

    def one(key: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
        hp = n_step_sarsa.Hyperparams(gamma=1.0, total_steps=1.0)._replace(learning_rate=alpha)

        def step(state: n_step_sarsa.State, _: None) -> tuple[n_step_sarsa.State, tuple[jax.Array, jax.Array]]:
            state, metrics = agent.step(state)
            error = jnp.sqrt(jnp.mean((state.learner.q[1:20, 0] - TRUE) ** 2))
            return state, (error, metrics.episodes.count)

        return jax.lax.scan(step, agent.init(key, hp, params), None, length=STEPS + n)[1]

    many = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    error, ended = jax.device_get(many(jax.random.split(jax.random.key(0), runs), alphas))
    out = np.empty((runs, len(alphas)))
    for i in range(runs):
        for j in range(len(alphas)):
            ends = np.flatnonzero(ended[i, j])[:EPISODES]
            assert len(ends) == EPISODES, "a run was too short"
            out[i, j] = error[i, j, ends + n - 1].mean()
    return out


def run(quick: bool) -> Outcome:
    """400 runs for every n and step size; quick: 100 and the best step sizes alone."""
    runs = 100 if quick else 400
    measured, lines = {}, []
    for n, best in BEST.items():
        alphas = np.array([best]) if quick else np.unique(np.round([best, *np.linspace(0.05, 1.0, 11)], 3))
        error = errors(n, alphas, runs)
        measured[f"walk-n{n}"] = error[:, int(np.argmin(np.abs(alphas - best)))]
        lines.append(Line(f"n = {n}", alphas, error))
    panel = Panel("19 states, first 10 episodes", "step size α", "RMS error", lines, list(measured), (0.24, 0.55))
    return Outcome(measured, [panel], {"runs": runs, "seed": 0, "step sizes": BEST})
