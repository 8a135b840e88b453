"""Runs that share the machine: speeds from their curves, in a time that is kept, and everybody is ended."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from palaestra.train.bench.interleaved import WorkloadError
from palaestra.train.bench.overview import shared_machine
from palaestra.train.bench.overview.shared_machine import NEEDED, TURN, WatchedRun, speeds_of, wait_for_steps
from palaestra.train.bench.overview.time_budget import Span


class Curves:
    """A run that writes a row of ``rollout`` steps every ``every`` s, after ``start`` s; it may end."""

    def __init__(self, start: float, every: float, rollout: int, ends_at: float = 1e9) -> None:
        self.now, self.start, self.every, self.rollout, self.ends_at = 0.0, start, every, rollout, ends_at

    def steps(self) -> int:
        if self.now >= self.ends_at:
            raise WorkloadError("the run ended: out of memory")
        return max(0, int((self.now - self.start) / self.every + 1e-9)) * self.rollout


def played(*runs: Curves) -> tuple[Any, Any]:
    """A clock for them all, and a sleep that winds it."""

    def sleep(seconds: float) -> None:
        for run in runs:
            run.now += seconds

    return (lambda: runs[0].now), sleep


def test_speeds_are_those_between_rows() -> None:
    runs: Any = [Curves(0.0, 0.5, 1000), Curves(0.2, 0.25, 300)]
    clock, sleep = played(*runs)
    found = speeds_of(runs, 10.0, Span(0.0, 10.0, 15.0, clock), sleep)
    assert found == pytest.approx([2000.0, 1200.0], rel=0.02)
    assert runs[0].now == pytest.approx(10.0, abs=2 * TURN)


def test_slow_runs_are_waited_for_within_the_time_s_end() -> None:
    run: Any = Curves(0.0, 5.0, 1000)
    clock, sleep = played(run)
    assert speeds_of([run], 4.0, Span(0.0, 4.0, 20.0, clock), sleep) == pytest.approx([200.0], rel=0.02)
    run = Curves(0.0, 50.0, 1000)
    clock, sleep = played(run)
    with pytest.raises(WorkloadError, match="no two iterations within 4 s: --seconds N gives more"):
        speeds_of([run], 4.0, Span(0.0, 4.0, 20.0, clock), sleep)
    assert run.now == pytest.approx(20.0, abs=2 * TURN)


def test_nobody_waits_for_a_run_that_does_not_begin_or_has_ended() -> None:
    run: Any = Curves(1e6, 1.0, 1)
    clock, sleep = played(run)
    with pytest.raises(WorkloadError, match="no time was left"):
        wait_for_steps([run], Span(0.0, 30.0, 45.0, clock), sleep)
    assert run.now == pytest.approx(30.0 - NEEDED, abs=2 * TURN)
    run = Curves(1e6, 1.0, 1, ends_at=3.0)
    clock, sleep = played(run)
    with pytest.raises(WorkloadError, match="out of memory"):
        wait_for_steps([run], Span(0.0, 30.0, 45.0, clock), sleep)


def test_a_real_run_is_watched_beside_a_busy_program_and_both_are_ended(tmp_path: Path) -> None:
    pids = []
    with shared_machine.training("cartpole", "cpu") as (run,), shared_machine.busy_program():
        pids.append(run._child.pid)
        now = time.perf_counter()
        span = Span(now, now + 60.0, now + 90.0)
        wait_for_steps([run], span)
        assert speeds_of([run], 0.5, span)[0] > 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_run_that_cannot_start_says_why(tmp_path: Path) -> None:
    run = WatchedRun("nosuchenv", "cpu", 0, tmp_path)
    try:
        assert run._child.wait(60) == 2
        with pytest.raises(WorkloadError, match=r"the run ended: exit status 2: .*unknown environment"):
            run.steps()
    finally:
        run.close()


@pytest.mark.parametrize(
    ("content", "steps"),
    [("", 0), ("global_step,a\n", 0), ("global_step,a\n1024,1\n", 1024), ("g,a\n1024,1\n20", 1024)],
)
def test_half_a_row_is_none(content: str, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_machine, "ChildProcess", lambda *args: type("Runs", (), {"status": lambda self: None})())
    run = WatchedRun("cartpole", "cpu", 0, tmp_path)
    assert run.steps() == 0
    (tmp_path / "run0").mkdir()
    (tmp_path / "run0/progress.csv").write_text(content)
    assert run.steps() == steps
