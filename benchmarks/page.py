"""Makes docs/performance.md out of benchmarks/results/*.json: `python -m benchmarks.page`."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import CASES, GPU
from benchmarks.startup import budgets
from jaxrl import statistics

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

HEAD = """# Performance

Made by `jaxrl bench` (extra `bench` installs the peers) from benchmarks/results/; do not edit. Contenders take turns in
one run; a figure is the median of the turns, with the slowest and the fastest in brackets. Compilation is timed apart.
A ratio above 1 means that ours is faster.
"""


PUREJAXRL = (
    "purejaxrl (commit 31756b1), in no registry, run from its own files under jax 0.10 with `jax.tree_map` given back, "
    "its greedy policy evaluated in gymnax's environment; for 64 seeds with our orthogonal weights, of the same "
    "distribution, because its batched QR hangs on two cores"
)
PACKAGES = ("rejax", "purejaxrl")  # peers that compile training end to end
EARLIER = (
    "PPO with 64 seeds, double DQN, SAC, TD3 and all MinAtar rows were measured before layers of few inputs became "
    "sums (ours up to 5 % faster since)"
)
GPU_COMMANDS = [
    "    python -m benchmarks.training --out benchmarks/results/gpu/training.json "
    f"--cases ppo-cartpole-1 ppo-breakout-1 dqn-breakout-1 {' '.join(GPU)}",
    "    python -m benchmarks.stepping --out benchmarks/results/gpu/stepping.json "
    "--names CartPole-v1 --num-envs 2048 16384 131072",
]


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
    """Training beside the peers."""
    results = load("training")
    if results is None:
        return []
    peers = ", ".join(f"{who} {number}" for who, number in results["peers"].items())
    lines = ["## Training", "", f"{where(results)}; {peers}; {PUREJAXRL}. {EARLIER}.", "", *training_table(results)]
    shown = [case for name, case in CASES.items() if name in results["cases"]]
    notes = [f"- {case.title}: {note}." for case in shown for note in case.notes]
    fewer = (
        "- Stable-Baselines3 and sbx-rl train one seed for fewer steps (see benchmarks/cases.py): only their speeds "
        "compare; what sbx compiles happens before its clock starts."
    )
    return [*lines, "Where settings differ:", "", fewer, *notes, ""]


def training_table(results: dict[str, Any]) -> list[str]:
    """A row for every contender of every case."""
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
    return table(head, rows)


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
    start, allowed = results["start"], budgets(results["agents"])
    lines += [
        "Seconds of `jaxrl train ppo CartPole-v1` from its first line to its first step of training: "
        f"{start['first_ready']:.1f} at the first start, {start['second_ready']:.1f} at the second, out of the cache "
        f"of compiled programs. The whole process, 4,096 steps of training included: {start['first_process']:.1f} and "
        f"{start['second_process']:.1f}.",
        "",
        "Compilation of one stretch of training, with its evaluation, for one seed. PPO's budget is half of what "
        "purejaxrl's was measured at, that of others a multiple of PPO's seconds; what exceeds it fails the benchmark:",
        "",
    ]
    lines += table(
        ["agent", "environment", "trace, s", "compile, s", "budget of both, s"],
        [
            [
                agent,
                figures["env"],
                f"{figures['trace_seconds']:.1f}",
                f"{figures['compile_seconds']:.1f}",
                f"{allowed[agent]:.1f}",
            ]
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
        f"in the same process, and one on each core together {results['peak_gflop_per_second_of_all_cores']:g}. One "
        "core, one seed or a vmap of a few; products are products of matrices, all else is other. The profiler's own "
        "time is in the shares, not in the steps per second. Products by themselves: every one of its size, with "
        "nothing around it and what it reads in the cache.",
        "",
    ]
    rows = []
    for name, figures in results["cases"].items():
        total = figures["product_microseconds"] + figures["other_microseconds"]
        largest = ", ".join(
            f"{op['name']} {op['microseconds'] / total:.0%}" + (" (product)" if op["product"] else "")
            for op in figures["largest"][:4]
        )
        rows.append(
            [
                CASES[name].title + (f", {figures['lanes']} at once" if figures["lanes"] > 1 else ""),
                count(figures["env_steps"] / figures["seconds"]),
                count(figures["product_flop_per_step"]),
                count(results["peak_gflop_per_second"] * 1e9 / figures["product_flop_per_step"]),
                count(_products_alone(figures)),
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
        "env-steps/s of products alone at the large one's rate",
        "env-steps/s of products by themselves",
        "GFLOP/s overall",
        "share of products in the time",
        "GFLOP/s within products",
        "operations an iteration",
        "largest operations",
    ]
    return lines + table(head, rows)


def samples() -> list[str]:
    """What the processor does while it trains."""
    results = load("samples")
    if results is None:
        return []
    trained = load("training")
    lines = [
        "## What the processor does meanwhile",
        "",
        f"{where(results)}. Samples of one core while it trains, without a profiler's own time: microseconds that an "
        "iteration of one run spends in products' kernels; in bringing matrices into the order these want, and in "
        "other copies; in the library's calls around them; in all other compiled operations (tanh, Adam, the "
        "environment …); in XLA on its way from one operation to the next; and in allocating memory. The kernels and "
        'the other operations are the work itself: were all else free, a run would be so much faster as "work alone" '
        "says, and so far ahead of a peer as the last column says.",
        "",
    ]
    purposes = ["products", "packing, copies", "calls of products", "other operations", "dispatch", "allocation"]
    rows = []
    for name, figures in results["cases"].items():
        spent = {purpose: figures["shares"].get(purpose, 0.0) for purpose in purposes}
        work = spent["products"] + spent["other operations"]
        ours = (trained or {"cases": {}})["cases"].get(name, {})
        possible = [
            f"{who} {ours['ours']['median'] / ours[who]['median'] / work:.1f} ×" for who in PACKAGES if who in ours
        ]
        rows.append(
            [
                CASES[name].title + (f", {figures['lanes']} at once" if figures["lanes"] > 1 else ""),
                f"{figures['microseconds']:,.0f}",
                *(f"{share * figures['microseconds']:,.0f} ({share:.0%})" for share in spent.values()),
                f"{1 / work:.2f} ×",
                "; ".join(possible),
            ]
        )
    head = ["case", "µs an iteration of a run", *purposes, "work alone", "ahead of a peer if work were all"]
    return lines + table(head, rows)


def _products_alone(figures: dict[str, Any]) -> float:
    """Environment steps per second on one core if nothing but the products took time."""
    return figures["env_steps"] / figures["products_alone_microseconds"] * 1e6


def limits() -> list[str]:
    """What arithmetic allows of each training case, beside what was reached."""
    trained, profiled = load("training"), load("operations")
    if trained is None or profiled is None or trained["machine"]["device"] != profiled["machine"]["device"]:
        return []
    rows = []
    large, large_on_all = (profiled[f"peak_gflop_per_second{which}"] for which in ("", "_of_all_cores"))
    for name, figures in profiled["cases"].items():
        contenders = trained["cases"].get(name)
        if contenders is None:
            continue
        ours = contenders["ours"]["median"]
        speedup = large_on_all / large if CASES[name].num_seeds > 1 else 1.0
        at_most = speedup * large * 1e9 / figures["product_flop_per_step"]
        as_they_are = speedup * _products_alone(figures)
        peers = {who: contenders[who]["median"] for who in PACKAGES if who in contenders}
        ratios = [
            f"{who} {ours / peer:.1f} × of {at_most / peer:.1f} ×, {as_they_are / peer:.1f} ×"
            for who, peer in peers.items()
        ]
        limits = (f"{count(limit)} ({ours / limit:.0%})" for limit in (at_most, as_they_are))
        rows.append([CASES[name].title, count(ours), *limits, "; ".join(ratios)])
    head = [
        "case",
        "env-steps/s",
        "products alone, at the large one's rate (reached)",
        "products alone, as fast as by themselves (reached)",
        "ahead of a peer, reached of possible",
    ]
    lines = [
        "## How near to the limit",
        "",
        "The speeds above beside what products of matrices alone would allow, were all else free: at the rate of the "
        "large product, which small ones do not reach, and at what XLA reaches for each size by itself. Steps and "
        "updates of a run follow one another, so a single run is set beside one core (where it sees pictures, its "
        f"products may use more), several runs beside all cores, which together multiply {large_on_all / large:.1f} "
        "times as fast as one.",
        "",
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
    """Random stepping beside gymnax, on each machine on which it was measured."""
    files = sorted(path.stem for path in RESULTS.glob("stepping*.json"))
    measured = [results for name in files if (results := load(name)) is not None]
    if not measured:
        return []
    lines = [
        "## Random stepping with auto-reset, steps/s",
        "",
        "All environments, also beside their originals: [environments.md](environments.md).",
        "",
    ]
    for results in measured:
        lines += [f"{where(results)}; {_stepping_peers(results)}:", "", *stepping_table(results)]
    return lines


def _stepping_peers(results: dict[str, Any]) -> str:
    machine = results["machine"]
    return ", ".join(f"{peer} {machine[peer]}" for peer in ("gymnax", "envpool") if machine.get(peer))


def stepping_table(results: dict[str, Any]) -> list[str]:
    """A row for every environment and size that gymnax or envpool has too."""
    rows = []
    for name, entry in results["environments"].items():
        for size, ours in entry["ours"].items():
            cells = []
            for peer in ("gymnax", "envpool"):
                figures = entry.get(peer, {}).get(size)
                cells += [spread(figures), f"{ours['median'] / figures['median']:.1f} ×"] if figures else ["", ""]
            if any(cells):
                rows.append([name, f"{int(size):,}", spread(ours), *cells])
    head = ["environment", "side by side", "ours", "gymnax", "ours / gymnax", "envpool", "ours / envpool"]
    return table(head, rows)


def gpu() -> list[str]:
    """What was measured on a GPU, or how to measure it."""
    train, step = load("gpu/training"), load("gpu/stepping")
    lines = ["## On a GPU", ""]
    if train is None and step is None:
        lines += ["Not measured yet: no figure here is of a GPU. The commands are", "", *GPU_COMMANDS, ""]
    if train:
        lines += [f"{where(train)}.", "", *training_table(train)]
    if step:
        lines += [f"{where(step)}; {_stepping_peers(step)}.", "", *stepping_table(step)]
    return lines


def text() -> str:
    """The page."""
    parts = [HEAD, *training(), *operations(), *samples(), *limits(), *stepping(), *replay(), *startup(), *gpu()]
    return "\n".join(parts).rstrip() + "\n"


def main() -> None:
    """Writes the page."""
    PAGE.write_text(text())


if __name__ == "__main__":
    main()
