"""The processes of ``palaestra train --processes K``, forked by a command that is a fork itself.

To :mod:`palaestra.train.runs.parallel.launcher` they are what it would have started with new interpreters, each of
which loads PyTorch first.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from types import SimpleNamespace

from palaestra.train import cli
from palaestra.train.runs.parallel import launcher


class ForkedChild:
    """Stands in for ``subprocess.Popen`` of ``python -P -m palaestra.train WORDS``; see there."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: dict[str, str],
        stdin: int | None,
        process_group: int | None,
        preexec_fn: Callable[[], None] | None,
    ) -> None:
        assert command[:4] == [sys.executable, "-P", "-m", "palaestra.train"]
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            if process_group is not None:
                os.setpgid(0, process_group)
            if preexec_fn is not None:
                preexec_fn()
            if stdin is not None:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            _run(command[4:], env)

    def poll(self) -> int | None:
        return self._look(os.WNOHANG)

    def wait(self) -> int | None:
        return self._look(0)

    def _look(self, options: int) -> int | None:
        if self.returncode is None:
            found, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if found else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(words: Sequence[str], environ: dict[str, str]) -> None:
    """The whole life of a child: it begins with the handlers of a new interpreter, and ends without the parent's."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(environ)
        sys.argv = ["palaestra", *words]
        cli.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def fork_children() -> None:
    """Let the launcher of this process fork; for :class:`forked_command.ForkedCommand` to do before its command."""
    launcher.subprocess = SimpleNamespace(Popen=ForkedChild, DEVNULL=subprocess.DEVNULL)
