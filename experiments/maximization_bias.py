"""Maximisation bias: Q-learning against double Q-learning (Sutton & Barto, example 6.7, figure 6.5).

From A one may go right to the end for 0, or left to B, where each of ten actions ends for a reward from N(−0.1, 1).
Left is worth −0.1, yet Q-learning goes left far too often, since the largest of ten noisy estimates is above 0. An
ε-greedy policy with ε = 0.1 goes left at least 5 % of the time. α = 0.1, γ = 1, 300 episodes; `update` of the tabular
agent with the behaviour written out here, because A has only two actions.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import exploration
from jaxrl.agents import q_learning
from jaxrl.reproduce import Line, Outcome, Panel
from jaxrl.types import Context, Transition

QUICK = True
EPISODES = 300
A, B, END = range(3)
HP = q_learning.Hyperparams(learning_rate=0.1, gamma=1.0)


def share_of_left(double: bool, runs: int) -> np.ndarray:
    """Whether each episode went left, bool[runs, EPISODES]."""
    config = q_learning.Config(double=double)
    table = jnp.zeros((2, 3, 10) if double else (3, 10))
    start = q_learning.Learner(table, jnp.int32(0))

    def one_transition(obs: int, action: jax.Array, reward: jax.Array, next_obs: int, terminated: bool) -> Transition:
        flags = jnp.array([terminated]), jnp.array([False])
        return Transition(jnp.array([obs]), action[None], reward[None], *flags, jnp.array([next_obs]), ())

    def episode(learner: q_learning.Learner, key: jax.Array) -> tuple[q_learning.Learner, jax.Array]:
        key_a, key_b, key_reward, key_coin_a, key_coin_b = jax.random.split(key, 5)

        def learn(learner: q_learning.Learner, batch: Transition, key: jax.Array) -> q_learning.Learner:
            return q_learning.update(config, HP, Context(progress=0.0), learner, batch, key)[0]

        values = q_learning.table(config, learner)
        left = exploration.epsilon_greedy(key_a, values[A, :2], 0.1, random_ties=True) == 0
        choice = exploration.epsilon_greedy(key_b, values[B], 0.1, random_ties=True)
        reward = -0.1 + jax.random.normal(key_reward)
        to_b = learn(learner, one_transition(A, jnp.int32(0), jnp.float32(0), B, False), key_coin_a)
        to_b = learn(to_b, one_transition(B, choice, reward, END, True), key_coin_b)
        to_end = learn(learner, one_transition(A, jnp.int32(1), jnp.float32(0), END, True), key_coin_a)
        return jax.tree.map(lambda x, y: jnp.where(left, x, y), to_b, to_end), left

    def one(key: jax.Array) -> jax.Array:
        return jax.lax.scan(episode, start, jax.random.split(key, EPISODES))[1]

    return jax.device_get(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), runs)))


def run(quick: bool) -> Outcome:
    """Trains 10,000 runs of each; quick: 2,000."""
    runs = 2_000 if quick else 10_000
    left = {name: 100.0 * share_of_left(double, runs) for name, double in (("Q-learning", False), ("double", True))}
    measured = {
        "bias-peak": left["Q-learning"][:, 21],
        "bias-q": left["Q-learning"][:, 280:].mean(1),
        "bias-double": left["double"][:, 280:].mean(1),
    }
    lines = [Line(name, np.arange(1, EPISODES + 1), values) for name, values in left.items()]
    panel = Panel("going left from A", "episode", "% of runs", lines, list(measured))
    return Outcome(measured, [panel], {"runs": runs, "seed": 0})
