"""Contenders in processes of their own: started together, asked one at a time.

A process that dies, says that it cannot, or does not answer in time is a :class:`ContenderError` with the reason in
one line. Between two requests it sleeps.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
from typing import Any

from palaestra.train.bench.interleaved import Contender, ContenderError, Sample

START_SECONDS, ANSWER_SECONDS = 180.0, 300.0  # after which nobody waits any more; compilation takes its time


class Process:
    """One contender.

    Attributes:
        memory_mib, device_memory_mib: its peaks after its latest work; None before, and where nobody knows.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        """Start it; ``spec`` is what the worker builds. :meth:`ready` waits until it has."""
        self.memory_mib: float | None = None
        self.device_memory_mib: float | None = None
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 close() does
        self._process = subprocess.Popen(
            [sys.executable, "-m", "palaestra.train.bench.libraries.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._send(spec)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except OSError:  # it has gone: reading its answer tells why
            return

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise ContenderError(f"no answer after {seconds:.0f} s") from None
        if not line:
            raise ContenderError(f"its process ended ({self._process.wait()}) {self._last_words()}".strip())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        return (self._errors.read().strip().splitlines() or [""])[-1][:200]

    def ready(self) -> None:
        """Wait until it is built.

        Raises:
            ContenderError: if it cannot be.
        """
        self._answer(START_SECONDS)

    def contender(self, **settings: Any) -> Contender:
        """What takes turns with others; ``settings`` go with each request."""

        def work(seconds: float) -> Sample:
            self._send({"seconds": seconds, **settings})
            answer = self._answer(ANSWER_SECONDS + seconds)
            self.memory_mib, self.device_memory_mib = answer["memory_mib"], answer["device_memory_mib"]
            return Sample(**answer["sample"])

        return work

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # a request that nobody read
                    stream.close()
