"""A live line while a batch of runs trains: progress, speed, time left, current return."""

import sys
import time
from types import TracebackType

import numpy as np

from envs.episode import EpisodeStats
from jaxrl.train import Schedule


class Progress:
    """A rich progress bar on a terminal, silent elsewhere."""

    def __init__(self, plan: Schedule, num_runs: int, done: int, show: bool | None = None) -> None:
        self._plan, self._num_runs, self._done = plan, num_runs, done
        self._show = sys.stderr.isatty() if show is None else show
        self._bar = None
        self._started = time.perf_counter()
        self._first = done

    def __enter__(self) -> "Progress":
        if self._show:
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
            self._task = self._bar.add_task(
                runs, total=self._plan.num_evals, completed=self._done, speed="", returns=""
            )
        return self

    def advance(self, returns: np.ndarray, training: EpisodeStats) -> None:
        """Reports one more stretch.

        Args:
            returns: f32[runs, episodes] of the evaluation after it.
            training: [runs, iterations] the training episodes that ended in it.
        """
        self._done += 1
        if self._bar is None:
            return
        steps = self._plan.env_steps
        taken = (steps[self._done - 1] - (steps[self._first - 1] if self._first else 0)) * self._num_runs
        speed = taken / (time.perf_counter() - self._started)
        count = int(np.sum(training.count))
        text = f"return {np.mean(returns):.1f}"
        if count:
            text += f" (training {np.sum(training.return_sum) / count:.1f})"
        self._bar.update(self._task, completed=self._done, speed=f"{speed:,.0f} steps/s", returns=text)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
