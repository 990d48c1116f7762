"""A passage that closes, and Dyna-Q with and without a bonus for what was long not tried (Sutton & Barto, figure 8.4).

The goal is reached through a gap at the right; after 1,000 steps it closes and one at the left opens. α = 1, γ = 0.95,
ε = 0.1, ten planning steps, κ = 1e-4. Compared is the reward collected in 3,000 steps, one for every episode. Dyna-Q's
model has to run against the wall until its values have faded; the bonus of Dyna-Q+ sends it looking.
"""

import jax
import jax.numpy as jnp
import numpy as np

import envs
import jaxrl
from envs.toy_text.maze import BlockingMaze
from jaxrl.agents import dyna_q
from jaxrl.reproduce import Line, Outcome, Panel

QUICK = True
BEFORE, AFTER = 1_000, 2_000
HP = dyna_q.Hyperparams(learning_rate=1.0, gamma=0.95, epsilon=0.1, bonus=1e-4)


def rewards(exploration_bonus: bool, runs: int) -> np.ndarray:
    """Reward collected up to every step, [runs, BEFORE + AFTER]."""
    env, params = envs.make("BlockingMaze-v0")
    assert isinstance(env, BlockingMaze)
    config = dyna_q.Config(steps_per_iteration=1, planning_steps=10, exploration_bonus=exploration_bonus)
    agent = dyna_q.make(env, config)
    changed = env.changed_params()

    @jax.jit
    @jax.vmap
    def play(key: jax.Array) -> jax.Array:
        state, first = jaxrl.run(agent, agent.init(key, HP, params), BEFORE)
        state, second = jaxrl.run(agent, state._replace(env_params=changed), AFTER)
        return jnp.cumsum(jnp.concatenate([first.episodes.return_sum, second.episodes.return_sum]))

    return np.asarray(play(jax.random.split(jax.random.key(0), runs)))


def run(quick: bool) -> Outcome:
    """200 runs of each; quick: 30."""
    runs = 30 if quick else 200
    measured, lines = {}, []
    for key, label, bonus in (("blocking-dyna", "Dyna-Q", False), ("blocking-dyna-plus", "Dyna-Q+", True)):
        total = rewards(bonus, runs)
        measured[key] = total[:, -1]
        lines.append(Line(label, np.arange(20, total.shape[1] + 1, 20), total[:, 19::20]))
    panel = Panel("Blocking maze", "step", "reward so far", lines, ["blocking-dyna", "blocking-dyna-plus"])
    return Outcome(measured, [panel], {"runs": runs, "seed": 0, "hp": HP})
