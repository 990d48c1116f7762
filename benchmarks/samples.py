"""What the processor does while a case trains, by samples of Linux's `perf`: what XLA's profiler cannot tell.

    python -m benchmarks.samples [--cases ppo-cartpole-1 …] [--out FILE]

The profiler of `benchmarks.operations` adds its own time to every operation. Here nothing is added: ten thousand times
a second perf notes in which function the training process is, on one core, and the functions are sorted by what they
are for. It needs `perf` and the right to use it on one's own processes.
"""

import argparse
import collections
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from benchmarks.cases import CPU
from benchmarks.machine import machine
from benchmarks.operations import cores, fastest, keep_to, prepared

RESULTS = Path(__file__).parent / "results" / "samples.json"
DEFAULT = ("ppo-cartpole-1", "ppo-cartpole-64", "dqn-cartpole-1", "dqn-cartpole-16", "sac-pendulum-1", "td3-pendulum-1")
SECONDS = 8
# What a function is for, by what its shared object or its name has in it; the first that fits.
PURPOSES = (
    ("other operations", r"^\[JIT\]"),  # what XLA has compiled for this program
    ("products", r" ynn::dot_|Eigen::internal::(gebp|gemm|general_matrix)"),
    ("packing, copies", r" ynn::(transpose|interleave)_|pack_rhs|pack_lhs|mem(move|cpy|set)_"),
    ("calls of products", r"ynn|Ynn|slinky"),  # XLA's library of products, around its kernels
    ("allocation", r"^libc.* (\w*alloc\w*|\w*free\w*|unlink_chunk\S*|\w*memalign\w*)"),
    ("dispatch", r"xla::|tsl::|^libjax|^libstdc"),  # XLA on its way from one operation to the next
)


def purpose(function: str) -> str:
    """What a function is for: "libjax_common.so xla::cpu::ThunkExecutor::Execute" -> "dispatch"."""
    return next((name for name, pattern in PURPOSES if re.search(pattern, function)), "the rest")


def shares(report: str) -> dict[str, float]:
    """Sums `perf report --sort dso,sym` by purpose: fractions of all samples."""
    totals: dict[str, float] = collections.defaultdict(float)
    for line in report.splitlines():
        found = re.match(r"\s*([\d.]+)%\s+(\S.*?)\s+\[[.k]\]\s+(.*)", line)
        if found:
            percent, module, symbol = found.groups()
            totals[purpose(f"{module} {symbol}")] += float(percent) / 100
    return dict(totals)


def train_for(name: str) -> None:
    """The sampled process: trains on one core, says how long an iteration of a run takes, and goes on."""
    keep_to(cores()[0])
    case = prepared(name)
    seconds = fastest(case.train, case.state, seconds=2.0) / case.iterations / case.lanes
    print(json.dumps({"lanes": case.lanes, "microseconds": round(seconds * 1e6, 1)}), flush=True)
    end = time.perf_counter() + SECONDS + 2
    while time.perf_counter() < end:
        jax.block_until_ready(case.train(case.state))


def measure(name: str) -> dict[str, Any]:
    """The figures of one case: microseconds of an iteration of one run, and the share of each purpose."""
    command = [sys.executable, "-m", "benchmarks.samples", "--train", name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    figures = json.loads(process.stdout.readline())
    with tempfile.TemporaryDirectory() as folder:
        samples = f"{folder}/samples"
        record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "10000", "-p", str(process.pid), "-o", samples]
        subprocess.run([*record, "sleep", str(SECONDS)], check=True)
        process.wait()
        report = ["perf", "report", "-i", samples, "--no-children", "--sort", "dso,sym"]
        text = subprocess.run(report, check=True, capture_output=True, text=True).stdout
    return figures | {"shares": {name: round(share, 4) for name, share in shares(text).items()}}


def main(arguments: list[str] | None = None) -> None:
    """Samples, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=DEFAULT, choices=list(CPU))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--train", choices=list(CPU), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.train:
        train_for(options.train)
        return
    if shutil.which("perf") is None:
        sys.exit("benchmarks.samples needs the program perf (Linux).")
    results: dict[str, Any] = {"machine": machine(), "cases": {}}
    for name in options.cases:
        print(name, "…", file=sys.stderr, flush=True)
        results["cases"][name] = measure(name)
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
