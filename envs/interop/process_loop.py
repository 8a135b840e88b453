"""Copies of a Gymnasium environment divided among this process and others, which step at the same time.

1. Each process steps its rows one after another, and writes what they give into memory that all share; its pipe carries
   the actions there, and back only what a few rows say.
2. This process has a share too (or none), which it steps while the others step theirs.
3. Every row plays the same episodes whichever process has it.
"""

from __future__ import annotations

import ctypes
import functools
import math
import multiprocessing
import select
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import connection
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from gymnasium.vector.utils import CloudpickleWrapper

from palaestra.envs.core import Array, EnvError, user_code
from palaestra.envs.core.user_code import RAISED, describe
from palaestra.envs.interop.sync_loop import Batch, RowValues, SyncLoop
from palaestra.envs.interop.worker_process import NAME, leave_signals_to_parent

SPIN = 2e-3  # s
IDLE = 5e-4  # s; about as long, training computes between two steps of few environments
_CONTEXT: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else None)


class _Pipe:
    """An end of a pipe that looks for what comes all the time for a while: a core that has gone to sleep wakes up late,
    after as much as a millisecond on virtual machines."""

    def __init__(self, end: Any) -> None:
        self._end, self.send = end, end.send
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(end.fileno(), select.POLLIN)

    def receive(self) -> Any:
        end = time.perf_counter() + SPIN
        while self._poll is not None and not self._poll.poll(0) and time.perf_counter() < end:
            pass
        return self._end.recv()


class ProcessDeath(Exception):  # noqa: N818
    """How the process of the environment in ``row`` ended."""

    def __init__(self, how: str, row: int) -> None:
        super().__init__(how)
        self.row = row


class ProcessLoop:
    """N guarded environments, the first ``own`` of them in this process; see :class:`SyncLoop`."""

    def __init__(
        self, make: Callable[[int], Any], first_env_index: int, space: Space[Any], own: int, others: Sequence[int]
    ) -> None:
        """Start the processes.

        Args:
            make: gives the environment of a global index.
            space: of one environment's observations.
            others: how many environments each of the other processes has.

        Raises:
            EnvError: what making an environment raises in another process.
        """
        memory = _Memory(space, own + sum(others))
        self.batch = memory.batch()
        self.processes, self._pipes, self._rows = [], [], []
        end = own
        for count in others:
            rows = slice(end, end := end + count)
            ours, theirs = _CONTEXT.Pipe()
            indices = range(first_env_index + rows.start, first_env_index + rows.stop)
            make_all: Any = functools.partial(_make_all, make, indices)
            work = (theirs, CloudpickleWrapper(make_all), memory, rows)
            process = _CONTEXT.Process(target=_serve, args=work, name=f"{NAME}-{rows.start}")
            process.start()
            theirs.close()
            self.processes.append(process)
            self._pipes.append(_Pipe(ours))
            self._rows.append(rows)
        self._here = SyncLoop([make(first_env_index + row) for row in range(own)], self.batch.part(slice(own)))
        self.envs = self._here.envs
        self._answers()

    def reset(self, seeds: Sequence[int] | None = None, options: dict[str, Any] | None = None) -> RowValues:
        return self._all("reset", lambda rows: (None if seeds is None else seeds[rows], options))

    def step(self, actions: Array) -> RowValues:
        return self._all("step", lambda rows: (actions[rows],))

    def infos(self) -> list[dict[str, Any]]:
        """See :meth:`SyncLoop.infos`; they cross the pipes only with this call."""
        here, there = self._everywhere("infos")
        return [*here, *(info for theirs in there for info in theirs)]

    def number(self, first_env_index: int) -> None:
        self._everywhere("number", lambda rows: (first_env_index + rows.start,))

    def render(self) -> tuple[Any, ...]:
        pictures: tuple[Any, ...]
        pictures, there = self._everywhere("render")
        return pictures + sum(there, start=())

    def close(self) -> None:
        """End the processes; they are killed where a call did not come to its end, since answers may be half read."""
        if not self._asked:
            with suppress(ProcessDeath):
                self._ask("close", lambda rows: ())
                self._answers()
        for process in self.processes:
            if self._asked:
                process.kill()
            process.join()
        self._here.close()

    def _all(self, method: str, arguments: Callable[[slice], tuple[Any, ...]]) -> RowValues:
        """What the rows of all processes say."""
        self.batch.rewards.fill(np.nan)
        told: RowValues
        told, there = self._everywhere(method, arguments)
        for rows, theirs in zip(self._rows, there, strict=True):
            for name, by_row in theirs.items():
                told.setdefault(name, {}).update({rows.start + i: value for i, value in by_row.items()})
        return told

    def _everywhere(
        self, method: str, arguments: Callable[[slice], tuple[Any, ...]] = lambda rows: ()
    ) -> tuple[Any, list[Any]]:
        """What a method of :class:`SyncLoop` gives in this process, and in each of the others meanwhile."""
        self._ask(method, arguments)
        return getattr(self._here, method)(*arguments(slice(0, len(self.envs)))), self._answers()

    def _ask(self, method: str, arguments: Callable[[slice], tuple[Any, ...]]) -> None:
        self._asked = True
        for index, (pipe, rows) in enumerate(zip(self._pipes, self._rows, strict=True)):
            try:
                pipe.send((method, arguments(rows)))
            except OSError as error:
                raise self._death(index) from error

    def _answers(self) -> list[Any]:
        """What the processes answer, when all have.

        Raises:
            EnvError: what one of their environments raised.
            ProcessDeath: if one has ended.
        """
        answers = []
        for index, pipe in enumerate(self._pipes):
            try:
                answer = pipe.receive()
            except (EOFError, OSError) as error:
                raise self._death(index) from error
            if isinstance(answer, Exception):
                raise answer
            answers.append(answer)
        self._asked = False
        return answers

    def _death(self, index: int) -> ProcessDeath:
        process, rows = self.processes[index], self._rows[index]
        how = "does not answer any more"
        if connection.wait([process.sentinel], timeout=2.0):
            process.join()
            how = f"ended with exit code {process.exitcode}"
            if process.exitcode < 0:
                how = f"was killed by {signal.Signals(-process.exitcode).name}"
        return ProcessDeath(how, rows.start + int(np.isnan(self.batch.rewards[rows]).argmax()))


def time_divided(work: float, count: int) -> float:
    """Seconds in which ``count`` processes, this one among them, now do ``work`` seconds of computing: the median.

    It counts what asking them costs, and what else the machine is doing.
    """
    pipes, processes = [], []
    for _ in range(count - 1):
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_compute_when_asked, args=(theirs,), name=f"{NAME}-trial")
        process.start()
        theirs.close()
        pipes.append(_Pipe(ours))
        processes.append(process)
    try:
        durations: list[float] = []
        while len(durations) < 3 or (len(durations) < 15 and sum(durations) < 0.2):
            _compute(IDLE)
            started = time.perf_counter()
            for pipe in pipes:
                pipe.send(work / count)
            _compute(work / count)
            for pipe in pipes:
                pipe.receive()
            durations.append(time.perf_counter() - started)
        return statistics.median(durations)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _compute_when_asked(end: Any) -> None:
    leave_signals_to_parent()
    pipe = _Pipe(end)
    while True:
        _compute(pipe.receive())
        pipe.send(None)


def _compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class _Memory:
    """A batch's arrays in memory that processes share, however they are started."""

    def __init__(self, space: Space[Any], count: int) -> None:
        self._space, self._count = space, count
        self._blocks: list[Any] = []

        def allocate(shape: tuple[int, ...], dtype: Any) -> Array:
            self._blocks.append(_CONTEXT.RawArray(ctypes.c_byte, max(math.prod(shape) * np.dtype(dtype).itemsize, 1)))
            return _array(self._blocks[-1], shape, dtype)

        Batch.of(space, count, allocate)

    def batch(self) -> Batch:
        blocks = iter(self._blocks)
        return Batch.of(self._space, self._count, lambda shape, dtype: _array(next(blocks), shape, dtype))


def _array(block: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    array: Array = np.frombuffer(block, dtype=np.uint8)[:size].view(dtype).reshape(shape)
    return array


def _make_all(make: Callable[[int], Any], indices: range) -> list[Any]:
    return [make(index) for index in indices]


def _serve(end: Any, make_all: Callable[[], list[Any]], memory: _Memory, rows: slice) -> None:
    """What another process runs: it makes its environments, says so, and does what it is asked until it is closed."""
    leave_signals_to_parent()
    torch.set_num_threads(1)
    pipe = _Pipe(end)
    method, loop, arguments = "", None, ()
    with user_code.printing, suppress(EOFError, ConnectionError):  # the parent has closed its end
        while method != "close":
            try:
                if loop is None:
                    loop, answer = SyncLoop(make_all(), memory.batch().part(rows)), None
                else:
                    answer = getattr(loop, method)(*arguments)
            except RAISED as error:
                answer = error if isinstance(error, EnvError | MemoryError) else EnvError(describe(error))
                answer.add_note("".join(traceback.format_exception(error.__cause__ or error)))  # a pipe loses them
            try:
                pipe.send(answer)
            except OSError:
                raise
            except Exception as error:  # infos hold any object, which raises anything where it is copied
                text = f"infos cannot go from one process to another ({describe(error)}): set vectorization_mode=sync"
                pipe.send(EnvError(text))
            if method != "close":
                method, arguments = pipe.receive()
