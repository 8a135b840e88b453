"""Other programs beside a run that is under way: it computes on with fewer threads, or tells that they stall it.

1. Speed and processor time a second of each ``WINDOW`` are compared with those of the best so far.
2. Where the number of threads was tried out as the run began, a window ``SLOWER`` with less processor time is the
   occasion to try half as many beside what else runs now, with a throw-away agent: the run's own bits do not depend on
   it. Only if half as many are clearly faster the run goes on with them, from a checkpoint on, and what goes on from
   there is exact. It never takes more threads again.
3. A number that somebody has decided stays, and so does every number with ``--deterministic`` and in a resumed run. Of
   those a line tells once when training is stalled, with the cure.
"""

from __future__ import annotations

import shlex
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import cast

import torch
from stable_baselines3.common.callbacks import BaseCallback

from palaestra.envs.core.user_code import RAISED, describe
from palaestra.train.config.compatibility import Agent
from palaestra.train.config.run_config import RunConfig
from palaestra.train.interruptions import Stopped
from palaestra.train.runs import checkpoints
from palaestra.train.runs.run_folder import RunFolder

WINDOW = 5.0  # s of training that is looked at
SLOWER, LESS_WORK = 0.75, 0.9  # times the speed and the processor time of the best window: threads are tried out
SPACING = 60.0  # s between the first two trials, twice as many between the next two, and so on
STALLED = 3.0  # times slower than the best window
STARVED = 0.7  # processor time a second, over that of the best window
_WINDOWS = 3  # in a row


class StallWatch(BaseCallback):
    """Looks at a run's speed between its iterations.

    Args:
        config: the run's, with the number of threads that it computes with.
        folder: the run's.
        tell: takes a line for the user.
        fastest_now: the number of threads that is fastest at the moment, at most that of now; None to keep the number.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        tell: Callable[[str], None],
        fastest_now: Callable[[], int] | None = None,
    ) -> None:
        super().__init__()
        self._config, self._folder, self._tell, self._fastest_now = config, folder, tell, fastest_now
        self._told, self._spacing, self._next_trial = False, SPACING, 0.0
        self._forget()

    def _forget(self) -> None:
        """Nothing is known of how fast it can be."""
        self._best: Pace | None = None
        self._latest: deque[Pace] = deque(maxlen=_WINDOWS)

    def _on_training_start(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._wall, self._work, self._steps = time.perf_counter(), time.process_time(), self.num_timesteps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        """Between two iterations: nothing is half done."""
        now = time.perf_counter()
        if (seconds := now - self._wall) < WINDOW:
            return
        pace = Pace((self.num_timesteps - self._steps) / seconds, (time.process_time() - self._work) / seconds)
        self._latest.append(pace)
        if self._best is None or pace.speed > self._best.speed:
            self._best = pace
        if self._fastest_now is not None and pace.is_slower(self._best) and now >= self._next_trial:
            self._next_trial, self._spacing = now + self._spacing, 2.0 * self._spacing
            self._try_fewer(self._fastest_now)
        elif not self._told:
            self._tell_stall(self._best)
        self._begin()

    def _tell_stall(self, best: Pace) -> None:
        """Tell it if there is one."""
        if len(self._latest) == _WINDOWS and all(pace.is_stall(best) for pace in self._latest):
            self._told = True
            slower = best.speed / median(pace.speed for pace in self._latest)
            self._tell(f"training is {slower:.2g} times slower than before: {self._cure()}")

    def _try_fewer(self, fastest_now: Callable[[], int]) -> None:
        try:
            count = fastest_now()
        except Stopped:  # the callback that saves hears of it too
            return
        except RAISED as error:
            self._fastest_now = None
            self._tell(f"threads could not be tried out again: {describe(error)}")
            return
        if count < (before := torch.get_num_threads()):
            checkpoints.save(cast(Agent, self.model), self._folder)
            self._config = replace(self._config, threads=count)
            self._folder.write_config(self._config)
            torch.set_num_threads(count)
            self._forget()
            threads = "1 thread" if count == 1 else f"{count} threads"
            self._tell(
                f"other programs take processor time: the run goes on with {threads} instead of {before}, which is "
                "faster beside them (--threads N or --deterministic keeps the number)"
            )
        if count == 1:
            self._fastest_now = None

    def _cure(self) -> str:
        wanting = "other programs take processor time from it"
        if torch.get_num_threads() == 1:
            return wanting
        run = shlex.quote(str(self._folder.path))
        fewer = f"Ctrl-C, then palaestra train --resume {run} --threads 1"
        return f"{wanting}, and its threads wait for each other; {fewer}"


@dataclass(frozen=True)
class Pace:
    """Steps and processor seconds per second."""

    speed: float
    work: float

    def is_slower(self, best: Pace) -> bool:
        return self.speed < SLOWER * best.speed and self.work < LESS_WORK * best.work

    def is_stall(self, best: Pace) -> bool:
        return self.speed * STALLED < best.speed and self.work < STARVED * best.work
