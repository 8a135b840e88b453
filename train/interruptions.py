"""Interruptions from outside the process, by which no work is lost: signals, and output that cannot be written.

1. Ctrl-C, SIGTERM and SIGHUP (a closed terminal) end training between two iterations; a second signal ends it at once.
   ``timeout``, torchrun and closing terminals send a process two signals for one, so those within ``TOGETHER`` seconds
   of the first count as one.
   Of what comes after training Ctrl-C skips the rest, and the run is finished.
2. The first signal only sets a flag, for an exception in the middle of anything may be lost (those in the hooks of a
   fork are) or leave half of it done. Commands that have nothing to finish end with the first.
3. A forked process inherits the handler and no training; there signals do what they do by default.
4. The reader of the output may go (``| head``), its disk be full, its terminal be closed: the work goes on without it.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar, Self, TextIO

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
TOGETHER = 1.0  # s


class Stopped(Exception):  # noqa: N818  nothing went wrong
    """Somebody asked for the end, and everything is saved."""


class Interrupted(KeyboardInterrupt):
    """The same as a KeyboardInterrupt, which somebody was told of already."""


class StopSignal:
    """Listens while the block runs.

    Attributes:
        requested: training is to stop; the next signal raises a KeyboardInterrupt.
        say: takes a line for the user; None prints it on standard output as it is now, not while environments run.
        when: how the line goes on after "stopping".
        skippable: what Ctrl-C leaves out instead, which can be made up for at any time; empty while there is no such.
        skipped: Ctrl-C has done so.
    """

    def __init__(self, say: Callable[[str], None] | None, *, requested: bool = False) -> None:
        say = functools.partial(print, file=sys.stdout) if say is None else say
        self.requested, self.say, self.when = requested, say, ""
        self.skippable, self.skipped = "", False
        self._first, self._process = -TOGETHER, os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python gives signals to that one only
            for number in SIGNALS:
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # which is nohup's
                    self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if time.monotonic() - self._first < TOGETHER:
            return
        self._first = time.monotonic()
        if self.requested:
            raise KeyboardInterrupt
        self.requested, self.skipped = True, bool(self.skippable) and number == signal.SIGINT
        self.say(f"{f'skipping {self.skippable}' if self.skipped else f'stopping{self.when}'}; again: at once")

    def check(self) -> None:
        """Raise Stopped if training is to stop."""
        if self.requested:
            raise Stopped


class Shown:
    """What is shown beside results and errors: ``-q`` and ``-v`` of a command decide, and in Python all is."""

    progress: ClassVar[bool] = True
    environments: ClassVar[bool] = True  # what those of other people print


class LastingOutput:
    """A stream that leaves out what it cannot write, and tells that the first time.

    Attributes:
        lost: why the first text was left out; None if all was written.
    """

    def __init__(self, stream: TextIO | None, tell: Callable[[str], None] | None = None) -> None:
        """``stream`` is None where the process was started without one; ``tell`` takes the reason."""
        self.lost: OSError | None = None
        self._stream, self._tell = stream or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"), tell

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def move(self, targets: dict[int, int]) -> None:
        """Write to another descriptor, if that of the stream is among the keys."""
        try:
            target = targets.get(self._stream.fileno())
        except (OSError, ValueError):  # it is not one of the operating system's
            return
        if target is not None:
            self.flush()
            lines, texts = self._stream.line_buffering, (self._stream.encoding, self._stream.errors)
            self._stream = open(target, "w", 1 if lines else -1, *texts, closefd=False)  # noqa: SIM115

    def _lose(self, error: OSError) -> None:
        first, self.lost = self.lost is None, self.lost or error
        if first and self._tell is not None:
            self._tell(error.strerror or str(error))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def go_on_without(reason: str) -> None:
    """Tell on standard error that standard output is given up."""
    print(f"palaestra: standard output: {reason}; going on without it", file=LastingOutput(sys.stderr))
