"""Training runs that share the machine: beside a busy program, and two of them side by side.

1. A run is ``palaestra train`` as a user types it, with its own choice of threads, in a process of its own. Its steps
   are read from its curves; start-up, trial of threads and the final evaluation do not count.
2. The busy program is a Python that counts for ever: one core's worth of somebody else's work. A run first has the
   machine for itself; then the program starts, the run has time to notice (it looks after its threads every few
   seconds), and its speed is taken again.
3. Two runs with different seeds start together and train at the same time; the sum of their speeds counts.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from palaestra.train.bench.interleaved import WorkloadError
from palaestra.train.bench.overview.measured import PERCENT, STEPS, Measured
from palaestra.train.bench.overview.time_budget import Span
from palaestra.train.runs.parallel.child_process import ChildProcess, failure
from palaestra.train.runs.run_folder import RunFolder

ALONE = "alone"
NEEDED = 6.0  # s below which nothing can be learned of a run
TURN = 0.05  # s between two looks at the runs' steps
_STEPS = "1000M"  # no run comes to its end
_NOTICE = 0.4  # share of the time in which a run notices its neighbour
BUSY = (sys.executable, "-c", "while True: pass")


class WatchedRun:
    """A training run under way.

    Args:
        env, device, seed: of the run.
        folder: takes its run folder and its log.
    """

    def __init__(self, env: str, device: str, seed: int, folder: Path) -> None:
        run, self._log = RunFolder(folder / f"run{seed}"), folder / f"log{seed}"
        self._progress = run.progress_file
        command = [sys.executable, "-m", "palaestra.train", "train", env, "--device", device, "--seed", str(seed)]
        command += ["--total-timesteps", _STEPS, "--track", "disabled", "--no-report"]
        self._child = ChildProcess([*command, "--run-dir", str(run.path)], self._log)

    def steps(self) -> int:
        """Environment steps so far, 0 before the first row of its curves.

        Raises:
            WorkloadError: if it has ended.
        """
        status = self._child.status()
        if status is not None:
            raise WorkloadError(f"the run ended: {failure(status, self._log)[:300]}")
        if not self._progress.is_file():
            return 0
        whole_lines = self._progress.read_bytes().rpartition(b"\n")[0]
        first = whole_lines.rpartition(b"\n")[2].partition(b",")[0]
        return int(first) if first.isdigit() else 0

    def close(self) -> None:
        """End it."""
        self._child.end()


@contextmanager
def training(env: str, device: str, seeds: Sequence[int] = (0,)) -> Iterator[list[WatchedRun]]:
    """A block beside such runs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runs = []
        for seed in seeds:
            runs.append(WatchedRun(env, device, seed, folder))
            stack.callback(runs[-1].close)
        yield runs


@contextmanager
def busy_program() -> Iterator[None]:
    """A block beside a program that keeps one core busy."""
    with tempfile.TemporaryDirectory() as folder, ChildProcess(BUSY, Path(folder, "log")):
        yield


def wait_for_steps(runs: Sequence[WatchedRun], span: Span, sleep: Callable[[float], None] = time.sleep) -> None:
    """Until all of them train.

    Raises:
        WorkloadError: if one ends, or there is no time left to measure it.
    """
    while not all(run.steps() for run in runs):
        if span.left < NEEDED:
            raise WorkloadError("no time was left for it: --seconds N gives more")
        sleep(TURN)


def speeds_of(
    runs: Sequence[WatchedRun], seconds: float, span: Span, sleep: Callable[[float], None] = time.sleep
) -> list[float]:
    """The speed of each, from the first new row of its curves within these seconds to the last.

    Raises:
        WorkloadError: if one ends, or has not come far enough by the end of the span.
    """
    seen: list[list[tuple[float, int]]] = [[(span.clock(), run.steps())] for run in runs]
    start = span.clock()
    while span.clock() - start < seconds or (span.patience and any(len(rows) < 3 for rows in seen)):
        sleep(TURN)
        for run, rows in zip(runs, seen, strict=True):
            if (steps := run.steps()) > rows[-1][1]:
                rows.append((span.clock(), steps))
    if any(len(rows) < 3 for rows in seen):
        raise WorkloadError(f"no two iterations within {seconds:.0f} s: --seconds N gives more")
    return [(rows[-1][1] - rows[1][1]) / (rows[-1][0] - rows[1][0]) for rows in seen]


def beside_a_neighbour(env: str, device: str, span: Span) -> Iterator[Measured]:
    """Speeds of a run alone and beside a busy program, and their ratio."""
    topic = f"palaestra train {env}"
    with training(env, device) as runs:
        wait_for_steps(runs, span)
        window = span.left * (1.0 - _NOTICE) / 2.0
        (alone,) = speeds_of(runs, window, span)
        yield Measured(topic, ALONE, [alone])
        with busy_program():
            speeds_of(runs, span.left - window, span)
            (beside,) = speeds_of(runs, window, span)
    yield Measured(topic, "beside a busy program", [beside])
    yield Measured(topic, "share that is left of it", [100.0 * beside / alone], PERCENT)


def side_by_side(env: str, device: str, alone: float | None, span: Span) -> Iterator[Measured]:
    """The sum of two runs' speeds, and its ratio to one run ``alone`` if that is known."""
    topic = f"two times palaestra train {env}"
    with training(env, device, (0, 1)) as runs:
        wait_for_steps(runs, span)
        both = speeds_of(runs, span.left, span)
    yield Measured(topic, "both together", [sum(both)], STEPS)
    if alone is not None:
        yield Measured(topic, "sum over one run alone", [100.0 * sum(both) / alone], PERCENT)
