"""REINFORCE in a corridor whose places look alike, with and without a baseline (Sutton & Barto, figures 13.1 and 13.2).

The policy has one number to learn, the difference d of the preferences for right and left; it starts at
p(right) = 0.05, and as in the well-known programs for these figures p is kept within 0.05 … 0.95. After every episode,
for its steps in turn,

    w ← w + α_w (G − w),   d ← d + 2 α (G − w) (a − p),   G = −(steps that are left)

with w = 0 and α_w = 0 without the baseline. (The 2: the preferences move by the same amount in opposite directions.)
This is the book's update, plain gradient steps on one episode; `jaxrl.agents.reinforce` learns from batches by Adam.
Episodes are cut after 1,000 steps, which at p = 0.05 befalls one of 100,000. The best any p can do is −11.66.
"""

import jax
import jax.numpy as jnp
import numpy as np

import envs
from jaxrl.reproduce import Line, Outcome, Panel

EPISODES, CUT = 1_000, 1_000
# reference -> (label, α, α_w, episodes whose mean is compared)
SETTINGS = {
    "corridor-2e-4": ("α = 2e-4", 2e-4, 0.0, slice(900, 1_000)),
    "corridor-2e-5": ("α = 2e-5", 2e-5, 0.0, slice(900, 1_000)),
    "corridor-2e-3": ("α = 2e-3", 2e-3, 0.0, slice(900, 1_000)),
    "corridor-baseline": ("α = 2e-3, baseline 2e-2", 2e-3, 2e-2, slice(100, 200)),
}


def returns(rate: float, value_rate: float, runs: int) -> np.ndarray:
    """The return of every episode, [runs, EPISODES]."""
    env, params = envs.make("ShortCorridor-v0")

    def right(difference: jax.Array) -> jax.Array:
        return jnp.clip(jax.nn.sigmoid(difference), 0.05, 0.95)

    def episode(learner: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        p = right(learner[0])
        actions = (jax.random.uniform(key, (CUT,)) < p).astype(jnp.int32)

        def act(carry: tuple, action: jax.Array) -> tuple:
            state, going = carry
            out = env.step(key, state, action, params)
            return (out.state, going & ~out.terminated), going

        start = env.reset(key, params)[1], jnp.bool_(True)
        going = jax.lax.scan(act, start, actions)[1]
        length = going.sum()

        def learn(carry: tuple, step: tuple) -> tuple:
            difference, w = carry
            t, action, counts = step
            error = jnp.where(counts, (t - length) - w, 0.0)
            difference += 2 * rate * error * (action - right(difference))
            return (difference, w + value_rate * error), None

        learner, _ = jax.lax.scan(learn, learner, (jnp.arange(CUT), actions, going))
        return learner, -length

    def one(key: jax.Array) -> jax.Array:
        start = jnp.float32(np.log(0.05 / 0.95)), jnp.float32(0)
        return jax.lax.scan(episode, start, jax.random.split(key, EPISODES))[1]

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), runs)))


def run(quick: bool) -> Outcome:
    """100 runs of each; quick: 20 of the middle step size."""
    runs = 20 if quick else 100
    measured, lines = {}, []
    for key, (label, rate, value_rate, window) in SETTINGS.items():
        if quick and key != "corridor-2e-4":
            continue
        got = returns(rate, value_rate, runs)
        measured[key] = got[:, window].mean(1)
        lines.append(Line(label, np.arange(5, EPISODES, 10), got.reshape(runs, -1, 10).mean(2)))
    panel = Panel("short corridor", "episodes", "return (means of ten)", lines, ["corridor-2e-4"], (-90.0, -8.0))
    return Outcome(measured, [panel], {"runs": runs, "seed": 0, "episodes": EPISODES})
