"""One thread where several would cost more than they compute.

1. PyTorch gives an operation on 32,768 numbers or more to all its threads. Arms need hundreds of operations of some
   microseconds in a step, few of them that large; a thread that has nothing to do in between falls asleep, and waking
   it takes longer than the operation. On two cores one thread was faster at all sizes measured (1,024 to 16,384 arms),
   more so beside other work; with more threads large batches are left to PyTorch.
2. The time steps of many arms are nothing but large operations. There it depends on what else the processor does:
   :class:`FasterWay` measures it while it runs. Results do not depend on threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch

LARGE = 2048  # environments, from which on more than two threads are used

Method = TypeVar("Method", bound=Callable[..., Any])


_outside = threading.local()  # ``number``: the threads outside of all blocks of this thread, if it is in one


def allowed_threads() -> int:
    """How many threads PyTorch has here, or outside of :func:`threads_within`."""
    number: int = getattr(_outside, "number", 0) or torch.get_num_threads()
    return number


def one_is_enough(num_envs: int, device: torch.device) -> bool:
    """True if one thread is to compute so many environments."""
    return device.type == "cpu" and (allowed_threads() <= 2 or num_envs <= LARGE)


@contextmanager
def threads_within(number: int) -> Iterator[None]:
    """A block that is computed with so many threads; such blocks may contain each other."""
    before, outside = torch.get_num_threads(), getattr(_outside, "number", 0)
    _outside.number = outside or before
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _outside.number = outside


def with_enough_threads(method: Method) -> Method:
    """A method of an arm's rules, whose first argument is a state, computed with one thread where that is enough."""

    @wraps(method)
    def on_threads(self: Any, state: Any, *others: Any) -> Any:
        if not one_is_enough(len(state.q), state.q.device):
            return method(self, state, *others)
        with threads_within(1):
            return method(self, state, *others)

    return on_threads  # type: ignore[return-value]


class FasterWay:
    """One of two ways to do the same work, by how long they took: the shortest of each way's latest few times counts.

    Both take turns at first; later the slower one is tried again now and then.
    """

    LATEST, AGAIN = 3, 64  # times that count, calls after which the other way is tried

    def __init__(self) -> None:
        self._calls = 0
        self._seconds: tuple[deque[float], deque[float]] = (deque(maxlen=self.LATEST), deque(maxlen=self.LATEST))

    def choose(self) -> int:
        """The way to go now, 0 or 1."""
        self._calls += 1
        first, second = self._seconds
        if len(second) < self.LATEST:
            return int(len(second) < len(first))
        faster = int(min(second) < min(first))
        return 1 - faster if self._calls % self.AGAIN == 0 else faster

    def took(self, way: int, seconds: float) -> None:
        """Say how long it took."""
        self._seconds[way].append(seconds)


@lru_cache(64)
def faster_way(*work: Any) -> FasterWay:
    """The memory of some work, known by any hashable arguments."""
    return FasterWay()
