"""Makes docs/performance.md out of benchmarks/results/*.json: `python -m benchmarks.page`."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import CASES
from jaxrl import statistics

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

HEAD = """# Performance

Made by `jaxrl bench` (extra `bench` installs the peers) from benchmarks/results/; do not edit. Contenders take turns in
one run; a figure is the median of the turns, with the slowest and the fastest in brackets. Compilation is timed apart.
A ratio above 1 means that ours is faster.
"""


def load(name: str) -> dict[str, Any] | None:
    """A results file, or None where it was not measured yet."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def count(value: float) -> str:
    """1234567 -> 1.23 M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def spread(figures: dict[str, Any]) -> str:
    """Median (slowest – fastest)."""
    return f"{count(figures['median'])} ({count(figures['min'])} – {count(figures['max'])})"


def where(results: dict[str, Any]) -> str:
    """The machine in a line."""
    machine = results["machine"]
    return f"{machine['device']}, {machine['cores']} cores, Python {machine['python']}, jax {machine['jax']}"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def returns(figures: dict[str, Any]) -> str:
    """IQM of the seeds' last evaluations with its interval, or the mean of a few."""
    values = np.asarray(figures["returns"])
    if len(values) < 4:
        return f"{values.mean():.1f} ({len(values)} seeds)"
    low, high = statistics.stratified_bootstrap(values[:, None], statistics.iqm)
    return f"{statistics.iqm(values):.1f} ({low:.1f} – {high:.1f})"


def training() -> list[str]:
    """Training beside rejax and Stable-Baselines3."""
    results = load("training")
    if results is None:
        return []
    peers = ", ".join(f"{who} {number}" for who, number in results["peers"].items())
    lines = ["## Training", "", f"{where(results)}; {peers}.", ""]
    head = ["case", "who", "env-steps/s", "ours / it", "trace + compile, s", "peak memory", "return in the end, IQM"]
    rows = []
    for name, case in CASES.items():
        contenders = results["cases"].get(name, {})
        for who, figures in contenders.items():
            ratio = "" if who == "ours" else f"{contenders['ours']['median'] / figures['median']:.1f} ×"
            rows.append(
                [
                    case.title if who == "ours" else "",
                    who,
                    spread(figures),
                    ratio,
                    f"{figures['trace_seconds']:.1f} + {figures['compile_seconds']:.1f}",
                    f"{figures['peak_memory_bytes'] / 2**20:.0f} MiB",
                    returns(figures),
                ]
            )
    lines += table(head, rows)
    notes = [f"- {case.title}: {note}." for case in CASES.values() for note in case.notes]
    fewer = "- Stable-Baselines3 trains one seed for fewer steps (see benchmarks/cases.py): only its speed compares."
    return [*lines, "Where settings differ:", "", fewer, *notes, ""]


def startup() -> list[str]:
    """Imports, compilation, second start."""
    results = load("startup")
    if results is None:
        return []
    lines = ["## Start-up", "", f"{where(results)}.", ""]
    lines += table(
        ["imported", "seconds (fastest – slowest)"],
        [[name, f"{t['median']:.2f} ({t['min']:.2f} – {t['max']:.2f})"] for name, t in results["imports"].items()],
    )
    start = results["start"]
    lines += [
        "Seconds of `jaxrl train ppo CartPole-v1` from its first line to its first step of training: "
        f"{start['first_ready']:.1f} at the first start, {start['second_ready']:.1f} at the second, out of the cache "
        f"of compiled programs. The whole process, 4,096 steps of training included: {start['first_process']:.1f} and "
        f"{start['second_process']:.1f}.",
        "",
        "Compilation of one stretch of training, with its evaluation, for one seed:",
        "",
    ]
    lines += table(
        ["agent", "environment", "trace, s", "compile, s"],
        [
            [agent, figures["env"], f"{figures['trace_seconds']:.1f}", f"{figures['compile_seconds']:.1f}"]
            for agent, figures in results["agents"].items()
        ],
    )
    return lines


def operations() -> list[str]:
    """Where the time of training goes."""
    results = load("operations")
    if results is None:
        return []
    lines = [
        "## Where the time of training goes",
        "",
        f"{where(results)}; a product of 1,024 × 1,024 matrices reaches {results['peak_gflop_per_second']:g} GFLOP/s "
        "in the same process. One seed on one core; products are multiplications of matrices, all else is other. The "
        "profiler's own time is in the shares, not in the steps per second.",
        "",
    ]
    rows = []
    for name, figures in results["cases"].items():
        total = figures["product_microseconds"] + figures["other_microseconds"]
        largest = ", ".join(
            f"{op['name']} {op['microseconds'] / total:.0%}" + (" (product)" if op["product"] else "")
            for op in figures["largest"][:5]
        )
        rows.append(
            [
                CASES[name].title,
                count(figures["env_steps"] / figures["seconds"]),
                count(figures["product_flop_per_step"]),
                f"{figures['gflop_per_second']:g}",
                f"{figures['product_microseconds'] / total:.0%}",
                f"{figures['product_gflop_per_second']:g}",
                f"{figures['operations_per_iteration']:,.0f}",
                largest,
            ]
        )
    head = [
        "case",
        "env-steps/s",
        "FLOP of products a step",
        "GFLOP/s overall",
        "share of products in the time",
        "GFLOP/s within products",
        "operations an iteration",
        "largest operations",
    ]
    return lines + table(head, rows)


def replay() -> list[str]:
    """Uniform and prioritised draws."""
    results = load("replay")
    if results is None:
        return []
    rows = [
        [
            f"{int(capacity):,}",
            f"{figures['uniform']['median']:g}",
            f"{figures['prioritized']['median']:g}",
            f"{figures['ratio']:g}",
        ]
        for capacity, figures in results["capacities"].items()
    ]
    lines = [
        "## Replay",
        "",
        f"{where(results)}. A round adds {results['added']} transitions of CartPole and draws a batch of "
        f"{results['batch']}; the prioritised memory also gets the new priorities of the batch.",
        "",
    ]
    return lines + table(["capacity", "uniform, µs a round", "prioritised, µs a round", "ratio"], rows)


def stepping() -> list[str]:
    """Random stepping beside gymnax."""
    results = load("stepping")
    if results is None:
        return []
    rows = []
    for name, entry in results["environments"].items():
        for size, figures in entry["gymnax"].items():
            ours = entry["ours"][size]
            ratio = f"{ours['median'] / figures['median']:.1f} ×"
            rows.append([name, f"{int(size):,}", spread(ours), spread(figures), ratio])
    lines = [
        "## Random stepping with auto-reset, steps/s",
        "",
        f"{where(results)}; gymnax {results['machine']['gymnax']}. All environments, also beside their originals: "
        "[environments.md](environments.md).",
        "",
    ]
    return lines + table(["environment", "side by side", "ours", "gymnax", "ours / gymnax"], rows)


def main() -> None:
    """Writes the page."""
    PAGE.write_text("\n".join([HEAD, *training(), *operations(), *stepping(), *replay(), *startup()]).rstrip() + "\n")


if __name__ == "__main__":
    main()
