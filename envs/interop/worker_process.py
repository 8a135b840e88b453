"""A process of Gymnasium environments, on both sides.

1. Signals to a whole group of processes (Ctrl-C, ``timeout``, a scheduler, a terminal that closes) are the parent's: it
   finishes its step, which needs the environments, and then ends them. Their process ignores them, by a function and
   not by ``SIG_IGN``, which simulators that an environment starts would inherit.
2. So it does not end when it is told to terminate; it is killed.
3. It ends when its parent has died, however that died.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any, ClassVar

from palaestra.envs.core.user_code import RAISED

NAME = "environments"  # and the first of them
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_LOOKING = 0.5  # s between two looks at the parent


def leave_signals_to_parent() -> None:
    """The first thing that such a process does; it will end with its parent too."""
    for number in _SIGNALS:
        signal.signal(number, _leave_to_parent)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # see _hold_signals
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _leave_to_parent(*signal_and_frame: Any) -> None:
    """Do nothing."""


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOKING)
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


class Starting:
    """A block that makes environments, here or in processes, and ends all of them if it fails."""

    running = False
    made: ClassVar[list[Any]] = []  # here

    def __enter__(self) -> None:
        self._before, Starting.running = multiprocessing.active_children(), True

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        made, Starting.made, Starting.running = Starting.made, [], False
        if kind is not None:
            _kill_others(self._before)
            for env in made:
                with suppress(*RAISED):
                    env.close()


def _kill_others(spared: list[Any]) -> None:
    for process in multiprocessing.active_children():
        if process not in spared and process.name.startswith(NAME):
            process.kill()
            process.join()


def _hold_signals(how: int) -> None:
    """Signals wait from the fork until the process ignores them, here until the fork is done."""
    if Starting.running:
        signal.pthread_sigmask(how, _SIGNALS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _hold_signals(signal.SIG_BLOCK), after_in_parent=lambda: _hold_signals(signal.SIG_UNBLOCK)
    )
# before multiprocessing's own, which asks them to terminate and waits
atexit.register(_kill_others, [])
