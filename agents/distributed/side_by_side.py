"""Two functions computed side by side, each by one of two threads.

PyTorch divides each operation among the threads, and at its end each waits for the other: some forty times in the
passes of two networks over a minibatch. Two networks that share nothing can take a thread each instead and wait once.
Their bits are those of one thread. A core that another program takes for a moment then delays the pass once, not each
operation.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from palaestra.agents.distributed.process_group import one_thread

_A = TypeVar("_A")
_B = TypeVar("_B")


@contextmanager
def in_halves(wanted: bool, device: torch.device) -> Iterator[bool]:
    """A block in which :func:`side_by_side` may be called if it gives True, and operations have one thread.

    On a CPU with two threads it does if ``wanted``, unless operations are recorded or counted: all of them must come
    from one thread then.
    """
    halves = wanted and device.type == "cpu" and torch.get_num_threads() == 2 and _get_current_dispatch_mode() is None
    with one_thread(halves):
        yield halves


def side_by_side(first: Callable[[], _A], second: Callable[[], _B]) -> tuple[_A, _B]:
    """The results of both functions, which must not write to the same memory.

    Raises:
        Exception: what either of them raised, after both have ended.
    """
    other = _second_thread().submit(second)
    try:
        own = first()
    finally:
        wait([other])
    return own, other.result()


@functools.cache
def _second_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "palaestra-second", torch.set_num_threads, (1,))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_second_thread.cache_clear)  # a forked process has not got the thread
