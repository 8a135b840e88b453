"""A ``palaestra`` command in a process of its own, forked from a server that has imported everything once.

To the command it is as if a shell had started it: it can be killed and gets signals. What is about the start of the
interpreter itself (imports, the module that runs, environment variables that libraries read as they are loaded) needs a
new interpreter instead.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from garbage import leave_imports_alone

from palaestra.envs.specs import TensorEnvSpec
from palaestra.train import cli
from palaestra.train.commands.looking import report
from palaestra.train.runs import callbacks, trainer

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["palaestra.train.cli", "palaestra.train.commands.train", "palaestra.train.runs.trainer", "torch._dynamo"]
)  # not a test's own


class ForkedCommand:
    """``palaestra WORDS`` in this folder. Evaluations are few, final ones short, without a video and a page.

    Args:
        words: after the name of the command.
        log: takes what it prints.
        errors: takes what it writes to standard error instead.
        environ: all variables of its environment; those of this process if None.
        before: runs first in its process.
        evaluations: number while it trains; None for as many as the command has in life.

    Attributes:
        pid: its number in the operating system.
    """

    def __init__(
        self,
        words: Sequence[str],
        log: Path,
        before: Callable[[], None] | None = None,
        *,
        errors: Path | None = None,
        environ: Mapping[str, str] | None = None,
        evaluations: int | None = 2,
    ) -> None:
        self._log, self._errors = log, errors or log
        log.parent.mkdir(exist_ok=True, parents=True)
        environ = os.environ if environ is None else environ
        arguments = (Path.cwd(), {**environ}, [*words], str(log), str(self._errors), before, evaluations)
        self._process = FORKS.Process(target=_run, args=arguments)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit status, −N if signal N ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = 120.0) -> int:
        """Its exit status; an AssertionError if it does not end."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self.kill()
            raise AssertionError(f"it does not end: {self.said()}")
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.join()

    def said(self) -> str:
        """What it has printed."""
        return self._log.read_text() if self._log.exists() else ""

    def complained(self) -> str:
        """What it has written to standard error."""
        return self._errors.read_text() if self._errors.exists() else ""


def _run(
    folder: Path,
    environ: dict[str, str],
    words: list[str],
    log: str,
    errors: str,
    before: Callable[[], None] | None,
    evaluations: int | None,
) -> None:
    leave_imports_alone()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    torch.set_num_threads(1)
    for number, name, file in ((1, "stdout", log), (2, "stderr", errors)):
        written = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(written, number)
        setattr(sys, name, os.fdopen(written, "w", buffering=1, closefd=False))
    TensorEnvSpec.evaluation_episodes = 10
    trainer._record_episode = lambda *args: None
    report.report_after_training = lambda folder: None
    if evaluations is not None:
        callbacks.EVALUATIONS = evaluations
    if before is not None:
        before()
    sys.argv = ["palaestra", *words]
    cli.main()
