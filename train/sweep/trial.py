"""One trial of a sweep: an ordinary run in a process of its own, so that a crash ends only that trial.

1. ``python -m palaestra.train.sweep.trial FOLDER`` reads its configuration as one line of JSON and trains in FOLDER.
   What is there already goes on from its last checkpoint; a finished run is left as it is.
2. Its standard input stays open for as long as its worker lives. If that is killed the trial stops too, after saving.
3. What it prints goes to ``<folder>.log``, which is left behind where it failed. What environments of other people
   print is in the run's ``env.log``, as in any run.
4. The worker reads the evaluations in ``progress.csv``. The row of the final evaluation, whose episodes are held out,
   is not among them: nothing is chosen by it.
"""

from __future__ import annotations

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
from typing import TextIO, cast

from palaestra.envs.core import user_code
from palaestra.train.config.run_config import RunConfig
from palaestra.train.interruptions import LastingOutput, Shown
from palaestra.train.runs.parallel.child_process import ChildProcess, failure, last_line
from palaestra.train.runs.run_folder import RunFolder

LAST_PART = 0.7  # evaluations after this part of the training make the score, for one alone is 100 episodes of luck


@dataclass(frozen=True)
class Evaluated:
    """One evaluation on the validation seed: after which part of the training, and the mean return."""

    done: float  # 0 … 1
    score: float


class TrialProcess:
    """A trial in a process of its own, on this machine."""

    PATIENCE = 30.0  # s, from the request to stop until it is killed

    def __init__(self, config: RunConfig, folder: Path, threads: int | None) -> None:
        self._folder, self._steps = folder, config.total_timesteps
        self._log, self._stopped = folder.with_name(f"{folder.name}.log"), False
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
        """The error of a trial that has ended, and the file that tells more; None if it went well."""
        status = self.child.wait() or 0
        if status == 0 and RunFolder(self._folder).is_evaluated():
            return None
        return failure(status, self._log) + (f" (log: {self._log})" if last_line(self._log) else "")

    def stop(self) -> None:
        """Ask it to save and end."""
        self._stopped = True
        self.child.stop()

    def wait(self) -> None:
        """Until it has ended, by force after a while; the log of one that went well is removed."""
        self.child.end(self.PATIENCE)
        done = self.child.status() == 0 and (self._stopped or RunFolder(self._folder).is_evaluated())
        if done or not last_line(self._log):
            self._log.unlink(missing_ok=True)


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
    from palaestra.train import env_output
    from palaestra.train.runs import trainer

    sys.stdout, sys.stderr = (cast(TextIO, LastingOutput(stream)) for stream in (sys.stdout, sys.stderr))
    Shown.environments = False
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
    if not config.resolved_env.in_tensors:
        user_code.printing.keep_in(run.env_log_file(0))
    try:
        begun = run.config() if goes_on else None  # with the threads that it was begun with
        trainer.train(begun or config, run, "disabled", resume=folder if goes_on else None)
    except KeyboardInterrupt:
        """Stopped before training began."""
    finally:
        env_output.disarm()


def _stop_without_worker() -> None:
    while os.read(0, 1):  # not through sys.stdin, whose lock would outlive the interpreter
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
