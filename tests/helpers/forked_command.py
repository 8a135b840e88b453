"""A ``palaestra`` command in a process of its own, forked from a server that has imported everything once.

To the command it is as if a shell had started it: it can be killed and gets signals. What is about the start of the
interpreter itself (imports, the module that runs, environment variables that libraries read as they are loaded) needs a
new interpreter instead.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from palaestra.envs.specs import TensorEnvSpec
from palaestra.train import cli
from palaestra.train.runs import trainer

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["palaestra.train.cli", "palaestra.train.commands.train", "palaestra.train.runs.trainer", "torch._dynamo"]
)  # not a test's own


class ForkedCommand:
    """``palaestra WORDS``; what it prints is appended to ``log``. Final evaluations are short and leave no video.

    ``before`` runs first in its process.
    """

    def __init__(self, words: list[str], log: Path, before: Callable[[], None] | None = None) -> None:
        self.log = log
        log.parent.mkdir(exist_ok=True, parents=True)
        self._process = FORKS.Process(target=_run, args=(Path.cwd(), {**os.environ}, words, str(log), before))
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit status, −N if signal N ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = 120.0) -> int:
        """Its exit status; an AssertionError if it does not end."""
        self._process.join(seconds)
        late = self._process.exitcode is None
        if late:
            self.kill()
        assert not late, f"{self.log} does not end: {self.said()}"
        return int(self._process.exitcode or 0)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.join()

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


def _run(
    folder: Path, environ: dict[str, str], words: list[str], log: str, before: Callable[[], None] | None
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    torch.set_num_threads(1)
    if before is not None:
        before()
    run_command(words, log)


def run_command(words: list[str], log: str) -> None:
    """Be that command, in this process."""
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(written, 1)
    os.dup2(written, 2)
    for name in ("stdout", "stderr"):
        setattr(sys, name, os.fdopen(written, "w", buffering=1, closefd=False))
    TensorEnvSpec.evaluation_episodes = 10
    trainer._record_episode = lambda *args: None
    sys.argv = ["palaestra", *words]
    cli.main()
