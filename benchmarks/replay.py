"""Replay: a draw of a batch and an insertion, uniform and prioritised, at capacities up to a million.

    python -m benchmarks.replay [--out FILE]

A transition is that of CartPole (four numbers before and after, an action, a reward, two flags). Every round is what an
agent does between two gradient steps: ten transitions are added, a batch of 128 is drawn, and the prioritised memory
gets 128 new priorities. Uniform and prioritised take turns; figures are microseconds a round, medians of the turns.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import envs
from benchmarks.machine import machine
from jaxrl import replay
from jaxrl.rollout import example

RESULTS = Path(__file__).parent / "results" / "replay.json"
CAPACITIES = (10_000, 100_000, 1_000_000)
BATCH, ADDED, ROUNDS, TURNS = 128, 10, 2_000, 5


def program(prioritized: bool, capacity: int) -> tuple[Any, Any]:
    """(compiled function (state, key) -> (state, checksum) of ROUNDS rounds, a full memory)."""
    one = example(envs.make("CartPole-v1")[0])
    memory: Any = (replay.prioritized.make if prioritized else replay.make)(capacity, BATCH, one)

    def batch(key: jax.Array, num: int) -> Any:
        noise = jax.random.uniform(key, (num,))
        return jax.tree.map(
            lambda x: jnp.broadcast_to(jnp.expand_dims(noise, range(1, 1 + len(x.shape))), (num, *x.shape)).astype(
                x.dtype
            ),
            one,
        )

    def one_round(carry: Any, key: jax.Array) -> Any:
        state, total = carry
        key_add, key_sample, key_error = jax.random.split(key, 3)
        state = memory.add(state, batch(key_add, ADDED))
        drawn = memory.sample(state, key_sample)
        if not prioritized:
            return (state, total + drawn.reward.sum()), None
        error = jax.random.uniform(key_error, (BATCH,))  # a cost of this benchmark alone, but small
        state = memory.update_priorities(state, drawn.index, error, 0.6)
        return (state, total + drawn.transitions.reward.sum() + drawn.probability.sum()), None

    def rounds(state: Any, key: jax.Array) -> Any:
        return jax.lax.scan(one_round, (state, jnp.float32(0)), jax.random.split(key, ROUNDS))[0]

    def fill(key: jax.Array) -> Any:
        part = capacity // 10
        state = memory.init()
        for piece in jax.random.split(key, 10):
            state = memory.add(state, batch(piece, part))
        return state

    state = jax.jit(fill)(jax.random.key(0))
    return jax.jit(rounds, donate_argnums=0).lower(state, jax.random.key(1)).compile(), state


def measure(capacity: int) -> dict[str, Any]:
    """{"uniform": figures, "prioritized": figures, "ratio": …} in microseconds a round."""
    contenders = {name: [*program(name == "prioritized", capacity)] for name in ("uniform", "prioritized")}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(TURNS + 1):
        for name, contender in contenders.items():
            start = time.perf_counter()
            contender[1], total = contender[0](contender[1], jax.random.key(turn))
            jax.block_until_ready(total)
            times[name].append((time.perf_counter() - start) / ROUNDS * 1e6)
    figures: dict[str, Any] = {
        name: {"median": round(statistics.median(t[1:]), 1), "min": round(min(t[1:]), 1), "max": round(max(t[1:]), 1)}
        for name, t in times.items()
    }
    figures["ratio"] = round(figures["prioritized"]["median"] / figures["uniform"]["median"], 2)
    return figures


def main() -> None:
    """Measures every capacity."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "batch": BATCH, "added": ADDED, "capacities": {}}
    for capacity in CAPACITIES:
        sys.stderr.write(f"{capacity} …\n")
        results["capacities"][str(capacity)] = measure(capacity)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
