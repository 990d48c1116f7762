"""Tables and closing lines on the terminal."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table of text."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, title=title or None, title_justify="left")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width of its own: give the table what it needs instead of folding it to 80 columns.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def print_outcome(title: str, rows: list[Any], cost: dict[str, Any] | None, directory: Path, steps: int) -> None:
    """Prints what a run or a sweep came to: a row for each configuration (`results.summary`), its cost, its place."""
    swept = list(rows[0].swept)
    header = [*swept, "env steps", "seeds", "IQM", "95 % interval", "mean ± std", "min", "max"]
    body = [
        [
            *(str(row.swept[name]) for name in swept),
            f"{row.env_step:,}",
            str(row.seeds),
            f"{row.iqm:.1f}",
            "none of one seed" if row.seeds == 1 else f"{row.low:.1f} – {row.high:.1f}",
            f"{row.mean:.1f}" + ("" if np.isnan(row.std) else f" ± {row.std:.1f}"),
            f"{row.min:.1f}",
            f"{row.max:.1f}",
        ]
        for row in rows
    ]
    print_table(f"{title}: evaluation return", header, body)
    if rows[0].env_step < steps:
        print(f"{steps - rows[0].env_step:,} of {steps:,} steps were left out: they make no whole iteration")
    if cost:
        peak = f"peak memory {cost['peak_memory_bytes'] / 2**20:,.0f} MiB, " if cost["peak_memory_bytes"] else ""
        print(
            f"compile {cost['compile_s']:.1f} s, run {cost['run_s']:.1f} s, {cost['env_steps_per_s']:,} env steps/s, "
            f"{peak}{cost['devices']} × {cost['backend']}"
        )
    print(f"written to {directory}")
