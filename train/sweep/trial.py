"""One trial of a sweep: an ordinary run in a process of its own, so that a crash ends only that trial.

1. ``python -m palaestra.train.sweep.trial FOLDER`` reads its configuration as one line of JSON and trains in FOLDER.
   What is there already goes on from its last checkpoint; a finished run is left as it is.
2. Its standard input stays open for as long as its worker lives. If that is killed the trial stops too, after saving.
3. The worker reads the evaluations in ``progress.csv``. The row of the final evaluation, whose episodes are held out,
   is not among them: nothing is chosen by it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from palaestra.train.config.run_config import RunConfig
from palaestra.train.runs.child_process import ChildProcess, failure
from palaestra.train.runs.run_folder import RunFolder

LAST_PART = 0.7  # evaluations after this part of the training make the score, for one alone is 100 episodes of luck


@dataclass(frozen=True)
class Evaluated:
    """One evaluation on the validation seed: after which part of the training, and the mean return."""

    done: float  # 0 … 1
    score: float


class TrialProcess:
    """A trial in a process of its own, on this machine; its output goes to ``<folder>.log``."""

    PATIENCE = 30.0  # s, from the request to stop until it is killed

    def __init__(self, config: RunConfig, folder: Path, threads: int | None) -> None:
        self._folder, self._steps = folder, config.total_timesteps
        self._log = folder.with_name(f"{folder.name}.log")
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "palaestra.train.sweep.trial", str(folder)]
        self.child = ChildProcess(command, self._log, threads, stdin=True)
        self.child.send(json.dumps(config.as_dict()))

    def evaluations(self) -> list[Evaluated]:
        """All so far, in their order."""
        return evaluations(self._folder, self._steps)

    def ended(self) -> bool:
        return self.child.status() is not None

    def error(self) -> str | None:
        """The error of a trial that has ended; None if it went well."""
        status = self.child.wait() or 0
        return None if status == 0 and RunFolder(self._folder).is_evaluated() else failure(status, self._log)

    def stop(self) -> None:
        """Ask it to save and end."""
        self.child.stop()

    def wait(self) -> None:
        """Until it has ended, by force after a while."""
        self.child.end(self.PATIENCE)


LaunchTrial = Callable[[RunConfig, Path], TrialProcess]  # configuration and folder of a trial → it runs


def evaluations(folder: Path, total_timesteps: int) -> list[Evaluated]:
    """The evaluations during training that a run has written so far."""
    found = RunFolder(folder).curves.evaluations()
    return [Evaluated(min(1.0, e.step / total_timesteps), e.mean_reward) for e in found]


def score(found: list[Evaluated]) -> float | None:
    """The mean return at the end of the training, over its last evaluations; None without any."""
    if not found:
        return None
    return fmean([e.score for e in found if e.done > LAST_PART] or [found[-1].score])


def main(folder: Path) -> None:
    """Train in this process, which is the child."""
    from palaestra.train.runs import trainer

    config = RunConfig.from_dict(json.loads(sys.stdin.readline()))
    threading.Thread(target=_stop_without_worker, daemon=True).start()
    run = RunFolder(folder)
    if run.is_evaluated():
        return
    goes_on = run.can_go_on()
    if folder.exists() and not goes_on:
        shutil.rmtree(folder)  # killed before its first checkpoint
    if not folder.exists():
        RunFolder.new(config, folder)
    with contextlib.suppress(KeyboardInterrupt):  # stopped before training began
        begun = run.config() if goes_on else None  # with the threads that it was begun with
        trainer.train(begun or config, run, "disabled", resume=folder if goes_on else None)


def _stop_without_worker() -> None:
    while os.read(0, 1):  # not through sys.stdin, whose lock would outlive the interpreter
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
