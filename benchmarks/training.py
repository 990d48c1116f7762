"""Training: our agents beside rejax's, Stable-Baselines3's and sbx's at the same settings, in turn, in one run.

    python -m benchmarks.training [--cases ppo-cartpole-1 …] [--turns 3] [--contender NAME=COMMAND …] [--out FILE]

Every contender has a process of its own (`benchmarks.contender`), set up before the first turn; then they take turns
(A B C A B C), each training fresh seeds from beginning to end. What is compiled is compiled before, and timed apart.
A peer that no package registry has joins by a command that, followed by the name of a case, answers as
`benchmarks.contender` does. Results go to a JSON file, from which `benchmarks.page` makes docs/performance.md.
"""

import argparse
import importlib.util
import json
import shlex
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, CPU, Case
from benchmarks.machine import machine

RESULTS = Path(__file__).parent / "results" / "training.json"
PEERS = {"rejax": "rejax", "stable-baselines3": "stable_baselines3", "sbx-rl": "sbx"}


class Process:
    """A contender that waits for its turns."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.answer()
        self.turns: list[dict[str, Any]] = []

    def answer(self) -> dict[str, Any]:
        """The next line that it writes."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended with status {self.process.wait()}.")
        return json.loads(line)

    def go(self, first_seed: int) -> None:
        """Lets it train."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{first_seed}\n")
        self.process.stdin.flush()
        self.turns.append(self.answer())

    def close(self) -> dict[str, Any]:
        """Ends it; returns the figures of all turns."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        speeds = [turn["env_steps"] / turn["seconds"] for turn in self.turns]
        return self.ready | {
            "env_steps": self.turns[0]["env_steps"],
            "median": round(statistics.median(speeds)),
            "min": round(min(speeds)),
            "max": round(max(speeds)),
            "returns": [x for turn in self.turns for x in turn["returns"]],
            "peak_memory_bytes": max(turn["peak_memory_bytes"] for turn in self.turns),
        }


def peers(case: Case) -> list[str]:
    """Whom this case is measured against, as far as they are installed."""
    wanted = {"rejax": case.rejax, "stable-baselines3": case.sb3, "sbx-rl": case.sb3}
    return [who for who, module in PEERS.items() if wanted[who] is not None and importlib.util.find_spec(module)]


def measure(name: str, turns: int, others: dict[str, list[str]]) -> dict[str, Any]:
    """All contenders of one case: {"ours": figures, "rejax": …}.

    Args:
        name: of the case.
        turns: of each contender.
        others: more contenders' commands, by name.
    """
    here = [sys.executable, "-m", "benchmarks.contender", name]
    contenders = {who: Process([*here, who]) for who in ["ours", *peers(CASES[name])]}
    contenders |= {who: Process([*command, name]) for who, command in others.items()}
    for turn in range(turns):
        for contender in contenders.values():
            contender.go(first_seed=1000 * (turn + 1))
    return {who: contender.close() for who, contender in contenders.items()}


def main() -> None:
    """Measures what the command line asks for; cases that are in FILE already are measured anew."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CPU))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--contender", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out.exists() else {"cases": {}}
    results["machine"] = machine()
    results["peers"] = {who: version(who) for who, module in PEERS.items() if importlib.util.find_spec(module)}
    others = {who: shlex.split(command) for who, _, command in (text.partition("=") for text in options.contender)}
    for name in options.cases:
        sys.stderr.write(f"{name} …\n")
        results["cases"][name] = measure(name, options.turns, others)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
