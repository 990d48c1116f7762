"""Parity of the toy-text environments with Gymnasium's: all transition probabilities, and what both really do.

Where Gymnasium has a table (its `P`), every entry is compared with ours, and outcomes of our `step` are held against
Gymnasium's table. Where it has none (Blackjack, a fickle passenger in the taxi) outcomes of its `step` are held against
our table: an outcome that should be impossible is counted, and the others are tested for their probabilities.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from envs.base import Env
from envs.interop.parity import (
    Check,
    gymnasium_play,
    gymnasium_reference,
    random_policy,
    same_spaces,
    same_time_limit,
)
from envs.tabular import State, Tables
from envs.toy_text import blackjack, taxi

Outcomes = dict[tuple[int, float, bool], float]  # (next state, reward, terminated) -> probability


class Happened(NamedTuple):
    """One step that was taken."""

    index: int
    action: int
    outcome: tuple[int, float, bool]  # (next state, reward, terminated)


def compare_frozen_lake(
    env: Env, params: Any, samples: int, episodes: int | None, rng: np.random.Generator
) -> list[Check]:
    """The 4 × 4 lake."""
    return _compare("FrozenLake-v1", env, params, samples, episodes, rng)


def compare_frozen_lake_8x8(
    env: Env, params: Any, samples: int, episodes: int | None, rng: np.random.Generator
) -> list[Check]:
    """The 8 × 8 lake."""
    return _compare("FrozenLake8x8-v1", env, params, samples, episodes, rng)


def compare_cliff_walking(
    env: Env, params: Any, samples: int, episodes: int | None, rng: np.random.Generator
) -> list[Check]:
    """The cliff, with actions that soon arrive: a uniform policy takes thousands of steps."""
    return _compare("CliffWalking-v1", env, params, samples, episodes, rng, weights=(0.25, 0.4, 0.25, 0.1))


def compare_cliff_walking_slippery(
    env: Env, params: Any, samples: int, episodes: int | None, rng: np.random.Generator
) -> list[Check]:
    """The slippery cliff."""
    return _compare("CliffWalkingSlippery-v1", env, params, samples, episodes, rng, weights=(0.2, 0.5, 0.2, 0.1))


def compare_taxi(env: Env, params: Any, samples: int, episodes: int | None, rng: np.random.Generator) -> list[Check]:
    """The taxi in dry weather with a passenger who keeps to a destination."""
    _, reference = gymnasium_reference("Taxi-v4")
    return [*_compare("Taxi-v4", env, params, samples, episodes, rng), same_masks(env, reference)]


def compare_blackjack(
    env: Any, params: Any, samples: int, episodes: int | None, rng: np.random.Generator
) -> list[Check]:
    """Blackjack: hands of any length are put into Gymnasium's, which then hits or sticks."""
    spec, reference = gymnasium_reference("Blackjack-v1")
    parts = (env.observation_space, reference.observation_space.spaces)
    different = sum(ours.n != theirs.n or theirs.start != 0 for ours, theirs in zip(*parts, strict=True))
    different += env.action_space.n != reference.action_space.n
    tables = jax.device_get(jax.jit(env.tables)(params))
    return [
        *same_steps("hands", outcomes(tables), blackjack_hands(reference, samples, rng)),
        *same_steps("naturals", outcomes(tables), blackjack_hands(reference, samples, rng, natural=True)),
        *same_starts(tables, blackjack_starts(reference, samples, rng)),
        same_time_limit(env, spec),
        Check("spaces", "mismatches", different, 0, 4, note="three parts of the observation, and the action"),
        *random_policy(env, params, gymnasium_play("Blackjack-v1", rng), episodes or samples, rng),
    ]


def _compare(
    gymnasium_id: str,
    env: Any,
    params: Any,
    samples: int,
    episodes: int | None,
    rng: np.random.Generator,
    weights: Sequence[float] = (),
) -> list[Check]:
    spec, reference = gymnasium_reference(gymnasium_id)
    policy = f"random actions {weights}" if weights else "random policy"
    play = gymnasium_play(gymnasium_id, rng)
    return [
        *same_tables(env, params, reference),
        *same_steps("step", listed(reference.P), our_steps(env, params, samples, rng)),
        same_time_limit(env, spec),
        same_spaces(env, reference),
        *random_policy(env, params, play, episodes or max(1, samples // 20), rng, policy, weights),
    ]


def same_tables(env: Any, params: Any, reference: Any) -> list[Check]:
    """Compares our tables and start with the reference's `P` and `initial_state_distrib`, entry by entry."""
    tables = jax.device_get(jax.jit(env.tables)(params))
    ours, theirs = outcomes(tables), listed(reference.P)
    entries = [(place, key) for place in theirs for key in {**ours.get(place, {}), **theirs[place]}]
    error = max(abs(ours[place].get(key, 0.0) - theirs[place].get(key, 0.0)) for place, key in entries)
    start = np.abs(tables.start - reference.initial_state_distrib).max()
    return [
        Check("tables: states and actions", "mismatches", len(set(ours) ^ set(theirs)), 0, len(theirs)),
        # Sums of a few float32 numbers against sums of float64 numbers.
        Check("tables: probabilities", "max |error|", float(error), 2e-7, len(entries)),
        Check("starts", "max |error|", float(start), 2e-8, len(tables.start)),
    ]


def same_steps(quantity: str, table: Mapping[tuple[int, int], Outcomes], steps: Sequence[Happened]) -> list[Check]:
    """Holds steps that one side took against the table of the other.

    Pearson's statistics of all states and actions are added up. Many of them were taken too few times for a chi-square
    distribution, so their sum is compared with the scaled one of the same mean and variance (Satterthwaite), both of
    which are known exactly for multinomial counts of any size.
    """
    counts: dict[tuple[int, int], Counter] = defaultdict(Counter)
    for step in steps:
        counts[step.index, step.action][step.outcome] += 1
    impossible, statistic, mean, variance = 0, 0.0, 0.0, 0.0
    for place, seen in counts.items():
        p = np.array(list(table[place].values()))
        n = np.array([seen[outcome] for outcome in table[place]])
        total = sum(seen.values())
        impossible += int(total - n.sum())
        statistic += np.sum((n - total * p) ** 2 / (total * p))
        mean += p.size - 1
        variance += 2 * (p.size - 1) + (np.sum(1 / p) - p.size**2 - 2 * p.size + 2) / total
    checks = [Check(f"{quantity}: impossible outcomes", "mismatches", impossible, 0, len(steps))]
    if mean > 0:
        p_value = float(stats.chi2.sf(statistic * 2 * mean / variance, 2 * mean**2 / variance))
        note = f"{len(counts):,} states and actions"
        checks.append(Check(f"{quantity}: probabilities", "chi-square p-value", p_value, 1e-4, len(steps), note=note))
    return checks


def same_starts(tables: Tables, starts: np.ndarray) -> list[Check]:
    """Holds first states of the reference, i[n], against our table."""
    expected = np.asarray(tables.start, np.float64) * len(starts)
    counts = np.bincount(starts, minlength=len(expected))
    rare = expected < 5  # taken together, as the test asks for
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    statistic = float(np.sum((observed - expected) ** 2 / expected))
    return [
        Check("starts: impossible", "mismatches", int(counts[np.asarray(tables.start) == 0].sum()), 0, len(starts)),
        Check(
            "starts: probabilities",
            "chi-square p-value",
            float(stats.chi2.sf(statistic, len(expected) - 1)),
            1e-4,
            len(starts),
            note=f"{len(expected)} cells",
        ),
    ]


def same_masks(env: Any, reference: Any) -> Check:
    """Compares the masks of all states of the taxi."""
    ours = jax.device_get(jax.jit(jax.vmap(env.action_mask))(np.arange(taxi.CODES)))
    theirs = np.array([reference.action_mask(state) for state in range(taxi.CODES)])
    return Check("action masks", "mismatches", int((ours != theirs).sum()), 0, ours.size)


def outcomes(tables: Tables) -> dict[tuple[int, int], Outcomes]:
    """Our tables as a mapping; outcomes that coincide are one, impossible ones none."""
    result: dict[tuple[int, int], Outcomes] = {}
    states, actions, _ = np.shape(tables.probability)
    # From here on Python's numbers, whose loops are faster.
    rows = [np.asarray(part).tolist() for part in tables[:4]]
    for s in range(states):
        for a in range(actions):
            merged: Outcomes = defaultdict(float)
            for p, following, reward, terminated in zip(*(part[s][a] for part in rows), strict=True):
                if p > 0:
                    merged[following, reward, terminated] += p
            result[s, a] = dict(merged)
    return result


def listed(table: Any) -> dict[tuple[int, int], Outcomes]:
    """The same of Gymnasium's P[state][action] = [(probability, next state, reward, terminated), …]."""
    result: dict[tuple[int, int], Outcomes] = {}
    for s, actions in table.items():
        for a, entries in actions.items():
            merged: Outcomes = defaultdict(float)
            for p, following, reward, terminated in entries:
                if p > 0:
                    merged[int(following), float(np.float32(reward)), bool(terminated)] += p
            result[int(s), int(a)] = dict(merged)
    return result


def our_steps(env: Any, params: Any, samples: int, rng: np.random.Generator) -> list[Happened]:
    """Takes random actions in random states of ours."""
    states, actions = (rng.integers(n, size=samples, dtype=np.int32) for n in (env.num_states, env.action_space.n))
    keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), samples)
    step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, None)))
    out = jax.device_get(step(keys, State(jnp.asarray(states)), jnp.asarray(actions), params))
    columns = states, actions, out.state.index, out.reward, out.terminated
    return [Happened(s, a, (n, r, t)) for s, a, n, r, t in zip(*(column.tolist() for column in columns), strict=True)]


def taxi_steps(reference: Any, samples: int, rng: np.random.Generator) -> list[Happened]:
    """Moves Gymnasium's taxi, with a passenger in it whose mind may still change, out of random cells."""
    happened = []
    reference.reset(seed=int(rng.integers(2**31)))
    for _ in range(samples):
        reference.s = int((rng.integers(25) * 5 + taxi.IN_TAXI) * 4 + rng.integers(4))
        reference.fickle_step = bool(rng.uniform() < 0.8)
        index, action = reference.s + taxi.CODES * int(reference.fickle_step), int(rng.integers(4))
        code, reward, terminated, _, _ = reference.step(action)
        following = int(code) + taxi.CODES * int(reference.fickle_step)
        happened.append(Happened(index, action, (following, float(reward), bool(terminated))))
    return happened


def blackjack_hands(reference: Any, samples: int, rng: np.random.Generator, *, natural: bool = False) -> list[Happened]:
    """Puts random hands of two to four cards, or only naturals, into Gymnasium's table and plays on."""
    deck = np.minimum(np.arange(1, 14), 10)
    happened = []
    reference.reset(seed=int(rng.integers(2**31)))
    while len(happened) < samples:
        reference.player = [1, 10] if natural else rng.choice(deck, int(rng.integers(2, 5))).tolist()
        reference.dealer = rng.choice(deck, 2).tolist()
        if reference._get_obs()[0] > 21:
            continue
        index, action = _blackjack_state(reference), int(rng.integers(2))
        _, reward, terminated, _, _ = reference.step(action)
        outcome = _blackjack_state(reference), float(reward), bool(terminated)
        happened.append(Happened(index, action, outcome))
    return happened


def blackjack_starts(reference: Any, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns first states of Gymnasium's table, i[samples]."""
    reference.reset(seed=int(rng.integers(2**31)))
    starts = np.empty(samples, np.int64)
    for i in range(samples):
        reference.reset()
        starts[i] = _blackjack_state(reference)
    return starts


def _blackjack_state(reference: Any) -> int:
    total, card, ace = reference._get_obs()
    if sorted(reference.player) == [1, 10]:
        return blackjack.CODES + card - 1
    return (total * blackjack.CARDS + card) * blackjack.ACES + ace
