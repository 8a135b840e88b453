"""Contenders in processes of their own: started together, asked one at a time.

A process that dies, says that it cannot, or does not answer in time is a :class:`WorkloadError` with the reason in
one line. Between two requests it sleeps.
"""

from __future__ import annotations

import json
import queue
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from palaestra.train.bench.interleaved import Sample, Workload, WorkloadError
from palaestra.train.runs.parallel.child_process import ChildProcess, last_line

START_SECONDS, ANSWER_SECONDS = 180.0, 300.0  # the longest waits; compilation takes its time


class LibraryProcess:
    """One workload.

    Attributes:
        memory_mib, device_memory_mib: its peaks after its latest work; None before, and where they are unknown.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        """Start it; ``spec`` is what the worker builds. :meth:`ready` waits until it has."""
        self.memory_mib: float | None = None
        self.device_memory_mib: float | None = None
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name, "log")
        command = [sys.executable, "-m", "palaestra.train.bench.libraries.worker"]
        self._child = ChildProcess(command, self._log, stdin=True, stdout=True)
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._child.send(json.dumps(spec))

    def _listen(self) -> None:
        for line in self._child.answers or ():
            self._answers.put(line)
        self._answers.put("")

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise WorkloadError(f"no answer after {seconds:.0f} s") from None
        if not line:
            raise WorkloadError(f"its process ended ({self._child.wait()}) {last_line(self._log)[:200]}".strip())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkloadError(answer["error"])
        return answer

    def ready(self, patience: float | None = None) -> None:
        """Wait until it is built, at most so many seconds, or as long as is usual.

        Raises:
            WorkloadError: if it cannot be.
        """
        self._answer(START_SECONDS if patience is None else patience)

    def ask(self, seconds: float, **settings: Any) -> None:
        """Let it work for at least so many seconds, with these settings; :meth:`answer` waits until it has."""
        self._child.send(json.dumps({"seconds": seconds, **settings}))

    def answer(self, patience: float) -> dict[str, Any]:
        """What it has found, plain data, after at most so many seconds.

        Raises:
            WorkloadError: if it failed, or is not done by then.
        """
        answer = self._answer(patience)
        self.memory_mib, self.device_memory_mib = answer["memory_mib"], answer["device_memory_mib"]
        return dict(answer["sample"])

    def workload(self, **settings: Any) -> Workload:
        """Its work, to be timed in turns with others; ``settings`` go with each request."""

        def work(seconds: float) -> Sample:
            self.ask(seconds, **settings)
            return Sample(**self.answer(ANSWER_SECONDS + seconds))

        return work

    def close(self) -> None:
        """End it."""
        self._child.end()
        self._folder.cleanup()
