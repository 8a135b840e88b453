"""Stopping where nothing is lost: Ctrl-C, SIGTERM and SIGHUP (a closed terminal) end training between two iterations.

1. A second signal ends it at once. ``timeout``, torchrun and closing terminals send a process two signals for one, so
   those within ``TOGETHER`` seconds of the first count as one.
2. The first signal only sets a flag, for an exception in the middle of anything may be lost (those in the hooks of a
   fork are) or leave half of it done. Commands that have nothing to finish end with the first.
3. A forked process inherits the handler and no training; there signals do what they do by default.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

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
        say: takes a line for the user.
        when: how the line goes on after "stopping".
    """

    def __init__(self, say: Callable[[str], None], *, requested: bool = False) -> None:
        self.requested, self.say, self.when = requested, say, ""
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
        self.requested = True
        self.say(f"stopping{self.when}; again: at once")

    def check(self) -> None:
        """Raise Stopped if training is to stop."""
        if self.requested:
            raise Stopped
