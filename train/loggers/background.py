"""A thread that takes a run's numbers to a tracker: training never waits for it, nor stops for what it raises.

1. Importing the tracker's package, opening its run, and everything that is logged are jobs of one daemon thread, done
   in order; rows that come before the run is open wait in the queue.
2. Whatever a job raises becomes one line of warning, the first time. Where the run cannot be opened, ``progress.csv``
   has every number.
"""

from __future__ import annotations

import functools
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from stable_baselines3.common.logger import KVWriter

from palaestra.envs.core.user_code import one_line
from palaestra.train.loggers.csv_logger import ScalarRow, scalar_row

TrackerJob = Callable[[Any], object]  # takes what :meth:`BackgroundLogger.open` has opened
LONGEST_WAIT = 100.0  # s, for what is left at the end


class BackgroundLogger(threading.Thread):
    """A tracker of a kind; what a kind cannot show it leaves out.

    Attributes:
        service: the tracker's name, in warnings.
        place: where the run is shown: an address, a folder or a command; None while it is not known.
    """

    service = ""
    place: str | Path | None = None

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(name=self.service, daemon=True)
        self._warn, self._warned = warn, False
        self._jobs: SimpleQueue[tuple[str, TrackerJob] | None] = SimpleQueue()

    @abstractmethod
    def open(self) -> Any:
        """Open the run, in the thread; None if that is impossible and was told."""

    @abstractmethod
    def log_row(self, row: ScalarRow, run: Any) -> None:
        """Log numbers; ``global_step`` is one of them."""

    @abstractmethod
    def close(self, run: Any) -> None:
        """End the run."""

    def log_values(self, values: Mapping[str, Any], excluded: Mapping[str, tuple[str, ...]], step: int) -> None:
        """Queue what SB3's logger dumps: its numbers, as ``progress.csv`` has them."""
        self.submit("logging", functools.partial(self.log_row, scalar_row(values, excluded, step)))

    def log_video(self, path: Path, step: int) -> None:
        """Queue a recorded episode and its last picture; the file stays until the end."""

    def log_file(self, path: Path, name: str, kind: str) -> None:
        """Queue a file of a kind ("model", "report"), which stays until the end."""

    def log_table(self, name: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        """Queue a table."""

    def log_summary(self, values: Mapping[str, Any]) -> None:
        """Queue numbers that stand for the whole run."""

    def submit(self, what: str, job: TrackerJob) -> None:
        """Queue a job; ``what`` names it in a warning."""
        self._jobs.put((what, job))

    def end(self) -> None:
        """Do what is queued, close the run, and come back in bounded time; later calls do nothing."""
        if not self.is_alive():
            return
        self._jobs.put(None)
        self.join(LONGEST_WAIT)
        if self.is_alive():
            self.warn_once("finishing", TimeoutError("no answer"))

    def run(self) -> None:
        run = None
        try:
            run = self.open()
        except Exception as error:
            self.warn_once("starting", error)
        while (item := self._jobs.get()) is not None:
            if run is not None:
                self._attempt(*item, run)
        if run is not None:
            self._attempt("finishing", self.close, run)

    def _attempt(self, what: str, job: TrackerJob, run: Any) -> None:
        try:
            job(run)
        except Exception as error:  # whatever tracking raises, training goes on
            self.warn_once(what, error)

    def warn_once(self, what: str, error: Exception) -> None:
        """Warn, unless it was warned before."""
        if not self._warned:
            self._warned = True
            text = f"{self.service}: {what} failed ({in_one_line(error)})"
            self._warn(f"{text}; training goes on, progress.csv has every number")


class BackgroundOutput(KVWriter):
    """Hands what SB3's logger dumps to the thread."""

    def __init__(self, logger: BackgroundLogger) -> None:
        self._logger = logger

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self._logger.log_values(dict(key_values), key_excluded, step)  # SB3 empties its own

    def close(self) -> None:
        """Nothing: ``end`` ends the run, with videos and models still to come after SB3's logger."""


def in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"[:160].rstrip(": ")
