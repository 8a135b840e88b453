"""Stopping where nothing is lost: Ctrl-C and SIGTERM end training between two iterations, a second one at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self


class Stopped(Exception):  # noqa: N818  nothing went wrong
    """Somebody asked for the end, and everything is saved."""


class StopSignal:
    """Listens while the block runs; ``requested`` says whether training is to stop."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """``say`` takes a line for the user."""
        self.requested = False
        self._say = say
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python gives signals to that one only
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self._say("stopping after this iteration; again: at once")
