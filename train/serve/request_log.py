"""A log of requests and answers as JSON lines, in files that are rotated and bounded.

A thread writes, so that no answer waits for the disk. Where the disk is slower than the requests, or full, or an entry
is larger than a file, lines are dropped and counted; the next line that is written says how many.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

_MOST_WAITING, _MOST_BYTES = 10_000, 2**27  # lines, and their bytes in memory


class RequestLog:
    """Takes entries and writes them, a line each."""

    def __init__(self, path: Path, largest: int = 50_000_000, files: int = 5) -> None:
        """
        Args:
            path: the file; older ones are called path.1, path.2, ...
            largest: bytes of one file.
            files: how many there are at most, the newest among them.

        Raises:
            OSError: if the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        _end_half_a_line(path)
        self._handler = RotatingFileHandler(path, maxBytes=largest, backupCount=files - 1, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(message)s"))
        self._largest = largest
        self._waiting: queue.Queue[tuple[dict[str, Any], int] | None] = queue.Queue(_MOST_WAITING)
        self._handler.handleError = self._failed  # type: ignore[method-assign]
        self._refused = self._came = 0  # changed by the server's thread alone
        self._unwritten = self._told = self._went = 0  # changed by the writing thread alone
        self._thread = threading.Thread(target=self._write, name="request log", daemon=True)
        self._thread.start()

    def __call__(self, entry: dict[str, Any], size: int) -> None:
        """Have an entry written, or dropped where too many wait.

        Args:
            entry: what JSON can hold.
            size: its bytes in memory, roughly.
        """
        if self._came - self._went + size > _MOST_BYTES:
            self._refused += 1
            return
        try:
            self._waiting.put_nowait((entry, size))
        except queue.Full:
            self._refused += 1
        else:
            self._came += size

    @property
    def dropped(self) -> int:
        """Entries that were lost and of which no line has told yet."""
        return self._refused + self._unwritten - self._told

    def close(self) -> None:
        """Write what waits, and end."""
        self._waiting.put(None)
        self._thread.join()
        self._handler.close()

    def _write(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            entry, size = waiting
            lost, failures = self.dropped, self._unwritten
            text = json.dumps({**entry, "dropped_before": lost} if lost else entry, separators=(",", ":"))
            self._went += size
            if len(text) + 1 >= self._largest:  # of ASCII
                self._unwritten += 1
                continue
            self._handler.emit(logging.LogRecord("palaestra", logging.INFO, "", 0, text, None, None))
            if self._unwritten == failures:
                self._told += lost

    def _failed(self, record: logging.LogRecord) -> None:
        self._unwritten += 1


def _end_half_a_line(path: Path) -> None:
    """End a line that a killed server has left unfinished, or the next one would be lost with it."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, 2)
        if file.read(1) != b"\n":
            file.write(b"\n")
