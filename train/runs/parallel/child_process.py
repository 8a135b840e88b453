"""A child process that trains: its threads, its log, a gentle stop, and its error in one line.

1. What it prints is appended to a log file. With ``stdout`` its standard output is a pipe instead, and the log takes
   standard error alone.
2. With ``stdin`` its standard input is a pipe that stays open as long as the parent lives. A child that reads the end
   of it ends by itself, so it needs no signal of the terminal and gets a session of its own: Ctrl-C is the parent's.
   Any other child stays in the parent's session, so that a closed terminal ends both.
3. :meth:`ChildProcess.end` closes everything; leaving a ``with`` block kills what still runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self


class ChildProcess:
    """A running command.

    Args:
        command: the program and its arguments.
        log: takes what it prints; its folder must exist.
        threads: of its own choice if None.
        stdin: open a pipe to it, for :meth:`send`.
        stdout: open a pipe from it, :attr:`answers`.

    Attributes:
        pid: its number in the operating system.
        answers: the text that it writes to standard output; None without that pipe.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        threads: int | None = None,
        *,
        stdin: bool = False,
        stdout: bool = False,
    ) -> None:
        environment = os.environ if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with log.open("a", encoding="utf-8") as printed:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdout else printed,
                stderr=printed,
                env=environment,
                start_new_session=stdin,
                text=True,
                encoding="utf-8",
            )
        self.pid = self._process.pid
        self.answers: IO[str] | None = self._process.stdout

    def send(self, line: str) -> None:
        """Write a line to its standard input; nothing happens if it has ended, and its log tells why."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            print(line, file=self._process.stdin, flush=True)

    def status(self) -> int | None:
        """Its exit status, −N if signal N ended it; None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit status; None if it still runs after that many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def stop(self) -> None:
        """Ask it to save and end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def end(self, patience: float = 0.0) -> None:
        """Wait until it has ended, by force after so many seconds, and close its pipes."""
        if self.wait(patience) is None:
            self.kill()
            self.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # a request that it has not read
                self._process.stdin.close()
        if self.answers is not None:
            self.answers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.end()


def last_line(log: Path) -> str:
    """The last line in a log that says anything; empty if there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def killed_by(status: int) -> str:
    """The signal that has ended a child, in words; the status is −N for signal N."""
    name = signal.Signals(-status).name
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def failure(status: int, log: Path) -> str:
    """The failure of a child that has ended, in one line."""
    if status < 0:
        return killed_by(status)
    return f"exit status {status}: {last_line(log) or 'it said nothing'}"
