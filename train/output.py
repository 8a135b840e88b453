"""Output that never stops the work: its reader may go (``| head``), its disk be full, its terminal be closed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO


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

    def _lose(self, error: OSError) -> None:
        first, self.lost = self.lost is None, self.lost or error
        if first and self._tell is not None:
            self._tell(error.strerror or str(error))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def go_on_without(reason: str) -> None:
    """Tell on standard error that standard output is given up."""
    print(f"palaestra: standard output: {reason}; going on without it", file=LastingOutput(sys.stderr))
