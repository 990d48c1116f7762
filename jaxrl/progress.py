"""What is seen while a batch of runs trains: progress, speed, time left, current return."""

import sys
import time
from types import TracebackType

import numpy as np

from jaxrl.train import Schedule


class Progress:
    """A live bar on a terminal; elsewhere, as in the log of a cluster, a plain line for each evaluation."""

    def __init__(self, plan: Schedule, num_runs: int, done: int, show: bool | None = None) -> None:
        """Begins.

        Args:
            plan: of the runs.
            num_runs: how many there are.
            done: evaluations that were done before.
            show: whether anything is shown; None: on a terminal alone.
        """
        live = sys.stderr.isatty()
        self._live, self._lines = live and show is not False, not live and show is True
        self._bar = None
        self._num_runs, self._budget, self._speed = num_runs, int(plan.env_steps[-1]), ""
        self._total = int(plan.iterations.sum())
        self._steps = int(plan.env_steps[-1]) / self._total * num_runs  # of an iteration, the warm-up shared out
        self._first = self._taken = int(plan.iterations[:done].sum())
        self._started = time.perf_counter()

    def __enter__(self) -> "Progress":
        if self._live:
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.TextColumn("{task.percentage:>3.0f}%"),
                progress.TimeElapsedColumn(),
                progress.TextColumn("ETA"),
                progress.TimeRemainingColumn(elapsed_when_finished=False),
                progress.TextColumn("{task.fields[speed]}"),
                progress.TextColumn("{task.fields[returns]}"),
                console=Console(stderr=True),
                speed_estimate_period=600,
            )
            self._bar.start()
            runs = "1 run" if self._num_runs == 1 else f"{self._num_runs} runs"
            self._task = self._bar.add_task(runs, total=self._total, completed=self._taken, speed="", returns="")
        return self

    def moved(self, iterations: int) -> None:
        """Reports iterations that were taken."""
        self._taken += iterations
        speed = (self._taken - self._first) * self._steps / (time.perf_counter() - self._started)
        self._speed = f"{speed:,.0f} steps/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._taken, speed=self._speed)

    def evaluated(self, returns: np.ndarray, training_return: float) -> None:
        """Reports an evaluation.

        Args:
            returns: f32[runs, episodes].
            training_return: mean of the training episodes that ended since the one before; NaN where none did.
        """
        text = f"return {np.mean(returns):.1f}"
        if not np.isnan(training_return):
            text += f" (training {training_return:.1f})"
        if self._bar is not None:
            self._bar.update(self._task, returns=text)
        elif self._lines:
            steps = round(self._taken * self._steps / self._num_runs)
            part = f"{100 * self._taken / self._total:.0f}%"
            speed = f", {self._speed}" if self._speed else ""
            print(f"{steps:,} of {self._budget:,} steps ({part}), {text}{speed}", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
