"""All-gather and all-reduce between the processes of one machine, through shared memory.

A gradient step of several processes waits for a sum over them, twice. Sent through the network of the operating system,
as gloo does, it costs from a tenth of a millisecond to more than the step itself. Here a process copies its numbers to
its slot, counts its turn up, waits for the counters of the others and reads.

1. Each process has two slots of 1 MiB, used in turns: when it writes to one again, all others have shown, by counting
   on, that they have read what it held. Larger tensors go in pieces.
2. All add up in the order of the ranks, so all get the same bits.
3. A waiting process spins for 50 µs, then yields to other threads, then sleeps with growing intervals.
4. Every process holds a lock on a byte of the file, which the kernel releases when it ends, however it ends. A process
   that waits long tries the locks of those that are missing.

For Linux on x86, whose stores are seen by others in the order in which they were made.
"""

from __future__ import annotations

import mmap
import os
import pathlib
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_FOLDER = pathlib.Path("/dev/shm")
_SLOT = 1 << 20  # bytes
_LINE = 64  # bytes of a cache line: counters that lie apart do not disturb each other
_SPIN, _YIELD, _TRY_LOCKS = 50e-6, 2e-3, 0.2  # seconds of waiting
_LONGEST_SLEEP = 1e-3


class GoneError(RuntimeError):
    """Another process has ended."""


class SharedMemoryGroup:
    """One process's view; see the module. The processes make the same calls in the same order."""

    def __init__(self, path: pathlib.Path, rank: int, size: int) -> None:
        """Map the file that one of them has made; see :meth:`shared`."""
        import fcntl  # not on Windows

        self._rank, self._size, self._turn = rank, size, 0
        self._fcntl = fcntl
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._memory = mmap.mmap(self._file, _bytes(size))
        fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
        self._counters = memoryview(self._memory)[: _start(size)].cast("q")  # turns, and a flag: one has failed
        whole = torch.frombuffer(self._memory, dtype=torch.uint8, offset=_start(size))
        self._slots = whole.view(2, size, _SLOT)
        self._views: dict[Any, Tensor] = {}  # by type and number of elements

    @classmethod
    def shared(cls, name: str, rank: int, size: int, all_true: Callable[[bool], bool]) -> SharedMemoryGroup | None:
        """The group of all processes; None if they are not on one machine, or it does not have what this needs.

        Args:
            name: name of a file that is not there yet, the same in all processes.
            rank: this process's number.
            size: number of processes.
            all_true: a logical "and" over the processes, by other means.
        """
        path, group = _FOLDER / name, None
        try:
            if not all_true(_is_possible() and (rank > 0 or _is_made(path, size))):
                return None
            try:
                group = cls(path, rank, size)
            except OSError:  # it is on another machine
                group = None
            if all_true(group is not None):
                return group
            if group is not None:
                group.close()
            return None
        finally:
            if rank == 0:  # the processes that have mapped it keep the memory
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Tell the others that this process has ended."""
        os.close(self._file)

    @staticmethod
    def fits(values: Tensor) -> bool:
        """True if :meth:`all_gather` takes it."""
        return values.device.type == "cpu" and values.nbytes <= _SLOT

    def all_gather(self, values: Tensor) -> Tensor:
        """The processes' tensors of at most 1 MiB, [size, n]: a view, until the next call but one.

        Raises:
            GoneError: if one of the others has ended.
        """
        self._turn += 1
        slots = self._view(values.dtype, values.numel())[self._turn % 2]
        slots[self._rank].copy_(values.reshape(-1))
        self._counters[self._rank * _LINE // 8] = self._turn
        self._wait()
        return slots

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum over the processes, in the form of ``values``; raises as :meth:`all_gather`."""
        flat, total = values.detach().reshape(-1), torch.empty_like(values, memory_format=torch.contiguous_format)
        step = _SLOT // values.element_size()
        for piece, out in zip(torch.split(flat, step), torch.split(total.view(-1), step), strict=True):
            torch.sum(self.all_gather(piece), 0, dtype=values.dtype, out=out)
        return total

    def first_to_fail(self) -> bool:
        """True if no other process has called this before."""
        self._fcntl.lockf(self._file, self._fcntl.LOCK_EX, 1, self._size)
        try:
            flag = self._size * _LINE // 8
            was, self._counters[flag] = self._counters[flag], 1
            return not was
        finally:
            self._fcntl.lockf(self._file, self._fcntl.LOCK_UN, 1, self._size)

    def _view(self, dtype: torch.dtype, numel: int) -> Tensor:
        """The slots, [2, size, numel]."""
        if (dtype, numel) not in self._views:
            self._views[dtype, numel] = self._slots.view(dtype)[..., :numel]
        return self._views[dtype, numel]

    def _wait(self) -> None:
        """Wait until all processes are in this turn."""
        counters, turn, stride = self._counters, self._turn, _LINE // 8
        missing = [rank for rank in range(self._size) if counters[rank * stride] < turn]
        begun = tried = time.monotonic()
        while missing:
            missing = [rank for rank in missing if counters[rank * stride] < turn]
            now = time.monotonic()
            if now - begun > _YIELD:
                time.sleep(min(_LONGEST_SLEEP, (now - begun) / 50))
            elif now - begun > _SPIN:
                os.sched_yield()
            if now - tried > _TRY_LOCKS:
                tried = now
                self._try_locks(missing)

    def _try_locks(self, ranks: list[int]) -> None:
        for rank in ranks:
            try:
                self._fcntl.lockf(self._file, self._fcntl.LOCK_EX | self._fcntl.LOCK_NB, 1, rank)
            except OSError:  # it holds it
                continue
            self._fcntl.lockf(self._file, self._fcntl.LOCK_UN, 1, rank)
            if self._counters[rank * _LINE // 8] < self._turn:  # it may have come, and ended since
                raise GoneError(f"process {rank} has ended")


def _is_possible() -> bool:
    """True on Linux on x86 with a shared-memory folder."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return sys.platform == "linux" and x86 and os.access(_FOLDER, os.R_OK | os.W_OK)


def _is_made(path: pathlib.Path, size: int) -> bool:
    """Make the file with all of its memory, without which a process would die of a bus error later."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return False
    try:
        os.posix_fallocate(file, 0, _bytes(size))
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def _start(size: int) -> int:
    """Offset of the slots in bytes: a counter for each process, and one more, lie before them."""
    return -(-(size + 1) * _LINE // mmap.PAGESIZE) * mmap.PAGESIZE


def _bytes(size: int) -> int:
    return _start(size) + 2 * size * _SLOT
