"""What Ctrl-C and SIGTERM do: the process ends at once, with one message that names the run, and the shell's status.

A handler of Python runs when the main thread is back from compiled code, which may take a while. So a thread hears of
signals, too, and ends the process where the main thread has not done so in time. Nothing is lost by that: the files of
a run are complete at any moment.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from jaxrl import files
from jaxrl.results import CONFIG_FILE

GRACE = 2.0  # seconds for the main thread to end by itself
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end."""


class Interrupts:
    """Which signal came, and what was being done."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._where: Path | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signals' handler."""
        if self.number is not None:  # asked twice
            os._exit(128 + number)
        self.note(number)
        raise Stopped(_WORDS[signal.Signals(number)])

    def note(self, number: int) -> None:
        """Remembers the first signal and the run that it ended."""
        if self.number is None:
            held = files.held()
            self.number, self._where = number, held[-1] if held else None

    def end(self) -> NoReturn:
        """Says what happened and ends the process here and now."""
        show = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar hides the cursor
        print(f"{show}{self.message()}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(128 + (self.number or signal.SIGINT))

    def message(self) -> str:
        """What to say about it."""
        word = _WORDS[signal.Signals(self.number or signal.SIGINT)]
        if self._where is None:
            return f"{word}; nothing was being written."
        if not (self._where / CONFIG_FILE).exists():
            return f"{word} before anything was begun in {self._where}."
        return f"{word}; what was finished is kept: `jaxrl resume {self._where}` goes on from there."


@contextlib.contextmanager
def handled() -> Iterator[Interrupts]:
    """Within it, SIGINT and SIGTERM raise `Stopped`, or end the process where nothing can be raised."""
    stopped = Interrupts()
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield stopped
        return
    hears, tells = socket.socketpair()
    tells.setblocking(False)
    ended = threading.Event()

    def watch() -> None:
        while heard := hears.recv(1):
            number = heard[0]
            if number in _WORDS and not ended.wait(GRACE):
                stopped.note(number)
                stopped.end()

    before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, stopped) for number in _WORDS}
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield stopped
    finally:
        ended.set()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        tells.close()
        watcher.join()
        hears.close()
