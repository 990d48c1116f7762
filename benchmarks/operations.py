"""Where the time of training goes: every operation of a compiled training step, timed by XLA's own profiler.

    python -m benchmarks.operations [--cases ppo-cartpole-1 …] [--out FILE]

One seed of a training case, or one vmap of as many as a core takes at once, on one core, so that the times of the
operations add up. Products are told apart from everything else, and how many floating-point operations they did in
their time is set beside what a large product reaches in the same process. Profiling itself makes short operations look
longer, so every size of product is also timed by itself: what they take together is what is left of a step where all
else is free.
"""

import argparse
import collections
import functools
import glob
import json
import math
import multiprocessing
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import envs
from benchmarks.cases import CPU
from benchmarks.machine import machine
from jaxrl import agents
from jaxrl.placement import CPU_LANES
from jaxrl.train import with_total_steps

RESULTS = Path(__file__).parent / "results" / "operations.json"
DEFAULT = (
    "ppo-cartpole-1",
    "ppo-cartpole-64",
    "dqn-cartpole-1",
    "dqn-cartpole-16",
    "double-dqn-cartpole-1",
    "sac-pendulum-1",
    "sac-pendulum-8",
    "td3-pendulum-1",
    "td3-pendulum-8",
    "ppo-breakout-1",
    "dqn-breakout-1",
)
SHOWN = 12  # operations of each case
Product = tuple[int, int, int, int]  # of so many pairs of matrices: rows, inner size, columns
_DEFINITION = re.compile(r"^\s*(?:ROOT )?%([\w.\-]+) = \(?\w+\[([\d,]*)\]\S* ([\w\-]+)\((.*)", re.M)


def numbers(text: str) -> list[int]:
    """The sizes in a shape, 3,4 -> [3, 4]."""
    return [int(n) for n in text.split(",") if n]


def products(program: str) -> dict[str, list[Product]]:
    """The sizes of every matrix product in a compiled program, by the operation's name.

    A fusion has the products of what it calls. Left [m, k], right [k, n] and result [m, n] tell m, k and n whatever
    their order and layout.
    """
    shapes = {name: numbers(shape) for name, shape, _, _ in _DEFINITION.findall(program)}

    def of_dot(shape: str, rest: str) -> Product:
        operands = [shapes[operand] for operand in re.findall(r"%([\w.\-]+)", rest.split(")")[0])]
        batch = re.search(r"lhs_batch_dims=\{([\d,]+)\}", rest)
        many = math.prod(operands[0][axis] for axis in numbers(batch[1])) if batch else 1
        left, right, result = (math.prod(dims) / many for dims in (*operands, numbers(shape)))
        rows, inner, columns = left * result / right, left * right / result, right * result / left
        return (many, round(math.sqrt(rows)), round(math.sqrt(inner)), round(math.sqrt(columns)))

    found, fused = {}, {}
    for computation, body in re.findall(r"^(?:ENTRY )?%([\w.\-]+) \(.*?\{\n(.*?)^\}", program, re.M | re.S):
        dots = {name: of_dot(shape, rest) for name, shape, kind, rest in _DEFINITION.findall(body) if kind == "dot"}
        if "fused" in computation:
            fused[computation] = list(dots.values())
        else:
            found |= {name: [size] for name, size in dots.items()}
    for name, _, kind, rest in _DEFINITION.findall(program):
        called = re.search(r"calls=%([\w.\-]+)", rest)
        if kind == "fusion" and called and fused.get(called[1]):
            found[name] = fused[called[1]]
    return found


def traced(run: Any) -> dict[str, tuple[float, int]]:
    """(microseconds, calls) of every operation while `run` runs, by name."""
    total: dict[str, float] = collections.defaultdict(float)
    calls: dict[str, int] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(run())
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        for plane in jax.profiler.ProfileData.from_file(path).planes:
            for line in plane.lines:
                if "XLA" in line.name:
                    for event in line.events:
                        total[event.name] += event.duration_ns / 1e3
                        calls[event.name] += 1
    return {name: (total[name], calls[name]) for name in total}


def flop(sizes: list[Product]) -> int:
    """Floating-point operations of products."""
    return sum(2 * math.prod(size) for size in sizes)


def fastest(compiled: Any, *args: Any, seconds: float = 0.2) -> float:
    """Seconds that the fastest of many calls takes: with neighbours on the machine the nearest to what it can do."""
    jax.block_until_ready(compiled(*args))
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        times.append(time.perf_counter() - start)
    return min(times)


def peak(seconds: float = 0.4) -> float:
    """Floating-point operations per second of a product of 1,024 × 1,024 matrices."""
    a = jnp.ones((1024, 1024))
    return 2 * 1024**3 / fastest(jax.jit(jnp.matmul).lower(a, a).compile(), a, a, seconds=seconds)


@functools.cache
def alone(size: Product) -> float:
    """Seconds of a product by itself, in a loop of a compiled program, with all that it reads in the cache."""
    many, rows, inner, columns = size
    copies, rounds = 8, 50
    pairs = (many,) if many > 1 else ()
    lefts = list(jnp.ones((copies, *pairs, rows, inner)))
    right = jnp.ones((*pairs, inner, columns))

    def multiply(lefts: list[jax.Array], right: jax.Array) -> Any:
        def again(i: jax.Array, carry: Any) -> Any:
            now = carry[0].at[..., 0, 0].set(i)  # products of what does not change would be taken out of the loop
            return now, [left @ now for left in lefts]

        return jax.lax.fori_loop(0, rounds, again, (right, [jnp.zeros((*pairs, rows, columns))] * copies))

    return fastest(jax.jit(multiply).lower(lefts, right).compile(), lefts, right) / copies / rounds


def cores() -> list[int]:
    """What this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def keep_to(core: int) -> None:
    """Keeps this process to a core, where the system can. Before the first use of a device: its threads inherit it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def _peak_of_core(core: int, ready: Any, answers: Any) -> None:
    keep_to(core)
    peak()
    ready.wait()
    answers.put(peak(seconds=3.0))


def peak_of_all_cores() -> float:
    """Floating-point operations per second when every core multiplies, each a product of its own."""
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(len(cores())), context.Queue()
    workers = [context.Process(target=_peak_of_core, args=(core, ready, answers)) for core in cores()]
    for worker in workers:
        worker.start()
    total = sum(answers.get() for _ in workers)
    for worker in workers:
        worker.join()
    return total


def meaning(program: str, operation: str) -> str:
    """Shape and origin of an operation of a compiled program: "f32[256,64] grad Dense_1/dot_general"."""
    found = re.search(rf'%{re.escape(operation)} = (\w+\[[\d,]*\]).*?op_name="([^"]*)"', program)
    if found is None:
        return operation
    shape, path = found.groups()
    gradient = "grad " if "transpose(" in path else ""
    return f"{shape} {gradient}{'/'.join(path.split('/')[-2:])}"


class Prepared(NamedTuple):
    """A case as one core trains it."""

    train: Any  # the compiled program: state -> state
    state: Any
    lanes: int  # runs in one vmap
    iterations: int  # of each run in a call
    env_steps: int  # of all runs in a call


def prepared(name: str) -> Prepared:
    """Compiles a case and trains it once."""
    case = CPU[name]
    module = agents.get(case.agent)
    env, params = envs.make(case.env, **case.env_options)
    agent = module.make(env, module.Config(**case.config))
    hp = with_total_steps(module.Hyperparams(**case.hp), case.env_steps)
    iterations = max(1, 4_096 // agent.steps_per_iteration)
    lanes = min(case.num_seeds, CPU_LANES)
    single = lanes == 1

    def begin(key: jax.Array) -> Any:
        return agent.init(key, hp, params)

    def train(state: Any) -> Any:
        return jax.lax.scan(lambda s, _: (agent.step(s)[0], None), state, length=iterations)[0]

    state = (
        jax.jit(begin)(jax.random.key(0))
        if single
        else jax.jit(jax.vmap(begin))(jax.random.split(jax.random.key(0), lanes))
    )
    compiled = jax.jit(train if single else jax.vmap(train)).lower(state).compile()
    state = jax.block_until_ready(compiled(state))
    return Prepared(compiled, state, lanes, iterations, iterations * agent.steps_per_iteration * lanes)


def measure(name: str) -> dict[str, Any]:
    """The figures of one case."""
    compiled, state, lanes, iterations, steps = prepared(name)
    seconds = fastest(compiled, state)
    events = traced(lambda: compiled(state))
    program = compiled.as_text() or ""
    sizes = products(program)
    # Loops contain the others; what the profiler calls the end of an operation is its own time.
    left_out = ("while", "call", "conditional", "ThunkExecutor", "end: ")
    own = {op: figures for op, figures in events.items() if not op.startswith(left_out)}
    counted = {op: flop(sizes[op]) * calls for op, (_, calls) in own.items() if op in sizes}
    spent = sum(own[op][0] for op in counted)
    by_themselves = sum(own[op][1] * alone(size) for op in counted for size in sizes[op])
    largest = sorted(own.items(), key=lambda item: -item[1][0])[:SHOWN]
    return {
        "lanes": lanes,
        "env_steps": steps,
        "seconds": seconds,
        "operations_per_iteration": round(sum(calls for _, calls in own.values()) / iterations, 1),
        "product_flop_per_step": round(sum(counted.values()) / steps),
        "product_microseconds": round(spent, 1),
        "products_alone_microseconds": round(by_themselves * 1e6, 1),
        "other_microseconds": round(sum(us for us, _ in own.values()) - spent, 1),
        "product_gflop_per_second": round(sum(counted.values()) / spent / 1e3, 1) if spent else 0.0,
        "gflop_per_second": round(sum(counted.values()) / seconds / 1e9, 1),
        "largest": [
            {"name": meaning(program, op), "product": op in sizes, "microseconds": round(us, 1), "calls": calls}
            for op, (us, calls) in largest
        ],
    }


def main(arguments: list[str] | None = None) -> None:
    """Profiles, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=DEFAULT, choices=list(CPU))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    all_cores = round(peak_of_all_cores() / 1e9, 1)
    keep_to(cores()[0])
    peaks = {"peak_gflop_per_second": 0.0, "peak_gflop_per_second_of_all_cores": all_cores}
    results: dict[str, Any] = {"machine": machine(), **peaks, "cases": {}}
    for name in options.cases:
        print(name, "…", file=sys.stderr, flush=True)
        results["peak_gflop_per_second"] = max(results["peak_gflop_per_second"], round(peak() / 1e9, 1))
        results["cases"][name] = measure(name)
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
