"""One thread where two would cost more than they compute.

PyTorch gives an operation on 32,768 numbers or more to all its threads. Arms need hundreds of operations of some
microseconds in a step, few of them that large; a thread that has nothing to do in between falls asleep, and waking it
takes longer than the operation. On two cores one thread was faster at all sizes measured (1,024 to 16,384 arms), more
so beside other work; with more threads large batches are left to PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import torch

LARGE = 2048  # environments, from which on more than two threads are used

Method = TypeVar("Method", bound=Callable[..., Any])


def one_is_enough(num_envs: int, device: torch.device) -> bool:
    """True if one thread is to compute so many environments."""
    return device.type == "cpu" and (torch.get_num_threads() <= 2 or num_envs <= LARGE)


@contextmanager
def one_thread(wanted: bool = True) -> Iterator[None]:
    """A block that is computed with one thread, if ``wanted``."""
    threads = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if wanted:
            torch.set_num_threads(threads)


def with_enough_threads(method: Method) -> Method:
    """A method of an arm's rules, whose first argument is a state, computed with one thread where that is enough."""

    @wraps(method)
    def on_threads(self: Any, state: Any, *others: Any) -> Any:
        with one_thread(one_is_enough(len(state.q), state.q.device)):
            return method(self, state, *others)

    return on_threads  # type: ignore[return-value]
