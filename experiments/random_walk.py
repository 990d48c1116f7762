"""n-step TD and off-line λ-returns on the random walk of 19 states (Sutton & Barto, figures 7.2 and 12.3).

Values start at 0; the error is the root mean square over the states, averaged over the ends of the first 10 episodes
and over runs; the best step size of each n or λ is compared. With one action n-step Sarsa is n-step TD: our agent
updates the last states of an episode while the next one begins, so its table is read n − 1 steps after an end.

The off-line λ-return algorithm learns at the end of an episode, from its first step to its last:
V(S_t) += α [G_t − V(S_t)]. In the book's text G_t is of the values before the episode (`frozen`); the implementation
whose plot was read takes G_t of the values as they are by then, changed by the steps before t (`in place`). The two
differ most where λ is small.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import envs
from envs import episode
from jaxrl import returns
from jaxrl.agents import n_step_sarsa
from jaxrl.reproduce import Line, Outcome, Panel
from jaxrl.rollout import rollout
from jaxrl.types import Policy

QUICK = False
EPISODES, STEPS = 10, 3_200
BEST = {1: 0.8, 2: 0.6, 4: 0.4, 8: 0.2, 16: 0.2, 32: 0.1}  # step size of the book's minimum for each n
PLACES = 21  # with both ends
LONGEST = 2_000  # steps that every episode has to end in; the mean is 100
LAMBDAS = (0.0, 0.4, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)
IN_PLACE = {0.0: 0.8, 0.4: 0.75, 0.8: 0.4, 0.9: 0.25, 0.95: 0.15}  # best step size of each published λ
FROZEN = {0.8: 0.4}
STEP_SIZES = np.round([0.01, 0.02, 0.03, 0.04, *np.linspace(0.05, 1.0, 20)], 3)
TRUE = np.arange(1, 20) / 10 - 1


def errors(n: int, alphas: np.ndarray, runs: int) -> np.ndarray:
    """The error of each run and step size, [runs, alphas]."""
    env, params = envs.make("RandomWalk-19")
    agent = n_step_sarsa.make(env, n_step_sarsa.Config(n=n, steps_per_iteration=1))

    def one(key: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
        hp = replace(n_step_sarsa.Hyperparams(gamma=1.0, total_steps=1.0), learning_rate=alpha)

        def step(state: Any, _: None) -> tuple[Any, tuple[jax.Array, jax.Array]]:
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


class Walks(NamedTuple):
    """Whole episodes, [runs, EPISODES, T]; after its end an episode is padded."""

    place: jax.Array  # i32
    reward: jax.Array  # f32
    terminated: jax.Array  # bool
    following: jax.Array  # i32
    valid: jax.Array  # bool: not padding


def walks(runs: int) -> Walks:
    """Draws EPISODES episodes for each run."""
    env, params = envs.make("RandomWalk-19")
    lanes = EPISODES * runs
    forth = Policy(lambda key, obs, memory: (jnp.zeros_like(obs), memory, ()))

    @jax.jit
    def draw(key: jax.Array) -> Walks:
        key_start, key_walk = jax.random.split(key)
        start = episode.reset(env, params, key_start, lanes)
        steps = rollout(env, params, forth, start, (), key_walk, LONGEST).transitions
        ended = jnp.cumsum(steps.terminated, axis=0)
        valid = ended - steps.terminated == 0  # nothing ended before: the first episode of the lane
        return Walks(steps.obs, steps.reward, steps.terminated, steps.next_obs, valid)

    drawn = jax.device_get(draw(jax.random.key(1)))
    assert (drawn.terminated & drawn.valid).any(0).all(), "an episode was too long"
    longest = drawn.valid.sum(0).max()
    return Walks(*(jnp.asarray(x[:longest].T.reshape(runs, EPISODES, longest)) for x in drawn))


def lambda_errors(lam: float, alphas: np.ndarray, data: Walks, in_place: bool) -> np.ndarray:
    """The error of each run and step size with off-line λ-returns, [runs, alphas]."""

    def one(data: Walks, alpha: jax.Array) -> jax.Array:
        def one_episode(values: jax.Array, walk: Walks) -> tuple[jax.Array, jax.Array]:
            # λ-returns are linear in the values, so their coefficients are the λ-returns of values that are 0 but for
            # one place: G_t = constant_t + weights_t · V, whatever V is by the time that step t is learnt.
            discount, lambda_t = returns.cuts(walk.terminated, jnp.zeros_like(walk.terminated), 1.0, lam)
            constant = returns.lambda_returns(walk.reward, discount, jnp.zeros_like(walk.reward), lambda_t)
            places = jax.nn.one_hot(walk.following, PLACES)
            nothing = jnp.zeros_like(places)
            weights = returns.lambda_returns(nothing, discount[:, None], places, lambda_t[:, None])

            def one_step(now: jax.Array, step: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
                place, constant, weights, valid = step
                target = constant + jnp.sum(weights * (now if in_place else values))
                here = jax.nn.one_hot(place, PLACES) * valid
                return now + alpha * here * (target - now), None

            values, _ = jax.lax.scan(one_step, values, (walk.place, constant, weights, walk.valid))
            return values, jnp.sqrt(jnp.mean((values[1:20] - TRUE) ** 2))

        return jax.lax.scan(one_episode, jnp.zeros(PLACES), data)[1].mean()

    many = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    return np.asarray(many(data, jnp.asarray(alphas)))


def run(quick: bool) -> Outcome:
    """400 runs for every n, λ and step size; quick: 100 and the best step sizes alone."""
    runs = 100 if quick else 400
    measured, lines = {}, []
    for n, best in BEST.items():
        alphas = np.array([best]) if quick else np.unique(np.round([best, *np.linspace(0.05, 1.0, 11)], 3))
        error = errors(n, alphas, runs)
        measured[f"walk-n{n}"] = error[:, int(np.argmin(np.abs(alphas - best)))]
        lines.append(Line(f"n = {n}", alphas, error))
    limits = (0.24, 0.55)
    panels = [Panel("n-step TD", "step size α", "RMS error", lines, list(measured), limits)]
    data = walks(runs)
    for name, in_place, chosen in (("in place", True, IN_PLACE), ("frozen", False, FROZEN)):
        lines, published = [], []
        for lam in chosen if quick else LAMBDAS:
            alphas = np.array([chosen[lam]]) if quick else STEP_SIZES
            error = lambda_errors(lam, alphas, data, in_place)
            lines.append(Line(f"λ = {lam:g}", alphas, error))
            if lam in chosen:
                published.append(f"walk-lambda{lam:g}" + ("" if in_place else "-frozen"))
                measured[published[-1]] = error[:, int(np.argmin(np.abs(alphas - chosen[lam])))]
        panels.append(Panel(f"off-line λ-return, {name}", "step size α", "RMS error", lines, published, limits))
    chosen = {"n": BEST, "λ, in place": IN_PLACE, "λ, frozen": FROZEN}
    return Outcome(measured, panels, {"runs": runs, "seed": 0, "step sizes": chosen})
