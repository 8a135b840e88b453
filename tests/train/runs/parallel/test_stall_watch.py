"""A run beside other programs: it goes on with fewer threads where that is faster, exactly from a checkpoint on; stalls
are told.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from kills import same_weights
from thread_number import threads

from palaestra.train.commands.train import resume_run as resume
from palaestra.train.config.run_config import RunConfig, resolve_config
from palaestra.train.interruptions import Stopped
from palaestra.train.runs import checkpoints, trainer
from palaestra.train.runs.parallel import stall_watch
from palaestra.train.runs.parallel.stall_watch import Pace, StallWatch
from palaestra.train.runs.parallel.threads import ThreadChoice
from palaestra.train.runs.run_folder import RunFolder

TINY = {"num_envs": 32, "total_timesteps": 2048, "settings": ["n_steps=8", "batch_size=256"]}  # 8 rollouts


@pytest.fixture
def two_threads() -> Iterator[None]:
    with threads(2):
        yield


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stall watch whose clocks and steps a test moves, and what it finds when it tries threads out."""
    now = {"wall": 0.0, "work": 0.0}
    told: list[str] = []
    found: list[int | Exception] = []
    tried_at: list[float] = []
    saved: list[int | None] = []

    def fastest_now() -> int:
        tried_at.append(now["wall"])
        answer = found.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watched = StallWatch(resolve_config("cartpole", device="cpu"), RunFolder(Path("run")), told.append)
    monkeypatch.setattr(stall_watch.time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(stall_watch.time, "process_time", lambda: now["work"])
    monkeypatch.setattr(checkpoints, "save", lambda model, folder: saved.append(torch.get_num_threads()))
    monkeypatch.setattr(RunFolder, "write_config", lambda self, config: saved.append(config.threads))
    watched.model = SimpleNamespace()  # type: ignore[assignment]
    watched._on_training_start()

    def goes(seconds: float, steps: int, work: float) -> None:
        now["wall"] += seconds
        now["work"] += work
        watched.num_timesteps += steps
        watched._on_rollout_start()

    def may_change(*answers: int | Exception) -> None:
        found.extend(answers)
        watched._fastest_now = fastest_now

    return SimpleNamespace(told=told, goes=goes, may_change=may_change, tried_at=tried_at, saved=saved)


# ------------------------------------------------------------------------------------------- fewer threads


def test_it_goes_on_with_fewer_threads_from_a_checkpoint_on(two_threads: None, watch: SimpleNamespace) -> None:
    watch.may_change(1)
    watch.goes(6.0, 6000, 12.0)
    assert watch.tried_at == []
    watch.goes(6.0, 4000, 8.0)
    assert watch.told == [
        "other programs take processor time: the run goes on with 1 thread instead of 2, which is faster beside them "
        "(--threads N or --deterministic keeps the number)"
    ]
    assert watch.saved == [2, 1]  # the checkpoint with both threads, then the configuration
    assert torch.get_num_threads() == 1
    for _ in range(5):
        watch.goes(6.0, 1000, 1.0)  # it has no more to give away
    assert len(watch.tried_at) == 1


def test_trials_that_change_nothing_become_rare(two_threads: None, watch: SimpleNamespace) -> None:
    watch.may_change(2, 2, 2, 2)
    watch.goes(6.0, 6000, 12.0)
    for _ in range(80):
        watch.goes(6.0, 4000, 8.0)
    assert watch.tried_at == [12.0, 72.0, 192.0, 432.0]
    assert (watch.told, watch.saved, torch.get_num_threads()) == ([], [], 2)


@pytest.mark.parametrize(
    "later",
    [
        (6.0, 4000, 11.0),  # it computes: longer episodes, an evaluation
        (6.0, 5000, 6.0),  # hardly slower
        (1.0, 100, 0.1),  # too short to tell
    ],
)
def test_what_is_no_occasion(two_threads: None, watch: SimpleNamespace, later: tuple[float, int, float]) -> None:
    watch.may_change()
    watch.goes(6.0, 6000, 12.0)
    watch.goes(*later)
    assert watch.tried_at == []


def test_a_trial_that_fails_is_told_and_not_made_again(two_threads: None, watch: SimpleNamespace) -> None:
    watch.may_change(RuntimeError("no such luck"))
    watch.goes(6.0, 6000, 12.0)
    for _ in range(20):
        watch.goes(6.0, 4000, 8.0)
    (line,) = watch.told
    assert line.startswith("threads could not be tried out again: RuntimeError: no such luck")
    assert len(watch.tried_at) == 1


def test_ctrl_c_during_a_trial_is_left_to_the_one_that_saves(two_threads: None, watch: SimpleNamespace) -> None:
    watch.may_change(Stopped())
    watch.goes(6.0, 6000, 12.0)
    watch.goes(6.0, 4000, 8.0)
    assert (watch.told, watch.saved, torch.get_num_threads()) == ([], [], 2)


def _given(choice: ThreadChoice) -> Any:
    """What stands in for the choice of threads: the configuration's number, and this."""

    @contextmanager
    def chosen(config: RunConfig, *args: Any) -> Iterator[tuple[RunConfig, ThreadChoice]]:
        torch.set_num_threads(config.threads or 1)
        yield config, choice

    return chosen


@pytest.mark.parametrize("changes", [True, False])
def test_what_goes_on_from_the_change_is_exact(
    changes: bool, two_threads: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of two runs that try threads out after every iteration one changes, is copied as a kill would leave it, and the
    copy goes on to the same weights; the other never changes, and has the weights of one that tries nothing.
    """
    config = replace(resolve_config("cartpole", "ppo", device="cpu", **TINY), threads=2, checkpoint_every=10**9)
    asked: list[int] = []
    left, real = RunFolder(tmp_path / "left"), checkpoints.save

    def fastest_now() -> int:
        asked.append(torch.get_num_threads())
        return 1 if changes and len(asked) == 4 else 2

    def save(model: Any, folder: RunFolder) -> None:
        real(model, folder)
        if changes and not left.path.exists():
            shutil.copytree(folder.path, left.path, ignore=shutil.ignore_patterns(".lock"))

    monkeypatch.setattr(trainer, "_record_episode", lambda *args: None)
    for name in ("WINDOW", "SPACING"):
        monkeypatch.setattr(stall_watch, name, 0.0)
    monkeypatch.setattr(Pace, "is_slower", lambda self, best: True)
    monkeypatch.setattr(checkpoints, "save", save)
    monkeypatch.setattr(trainer, "chosen_threads", _given(ThreadChoice(fastest_now=fastest_now)))
    trainer.train_new(config, tmp_path / "run")
    assert RunFolder(tmp_path / "run").facts()["threads"] == (1 if changes else 2)
    assert asked == [2] * (4 if changes else 8)
    monkeypatch.setattr(trainer, "chosen_threads", _given(ThreadChoice()))
    if changes:
        found = RunFolder(tmp_path / "run").config()
        assert found == replace(config, threads=1)
        left.write_config(found)  # as it was a moment later
        resume(str(left.path), "disabled")
        assert same_weights(tmp_path / "run", left.path)
    else:
        trainer.train_new(config, tmp_path / "kept")
        assert same_weights(tmp_path / "run", tmp_path / "kept")


# ------------------------------------------------------------------------------------------- stalls


def test_a_stall_is_told_once(two_threads: None, watch: SimpleNamespace) -> None:
    watch.goes(6.0, 6000, 12.0)
    for _ in range(5):
        watch.goes(6.0, 1000, 6.0)
    assert watch.told == [
        "training is 6 times slower than before: other programs take processor time from it, and its threads wait for "
        "each other; Ctrl-C, then palaestra train --resume run --threads 1"
    ]


def test_with_one_thread_there_is_no_cure(watch: SimpleNamespace) -> None:
    watch.goes(6.0, 6000, 6.0)
    for _ in range(3):
        watch.goes(6.0, 1000, 3.0)
    assert watch.told == ["training is 6 times slower than before: other programs take processor time from it"]


@pytest.mark.parametrize(
    "later",
    [
        [(6.0, 1000, 11.0)] * 5,  # it computes: longer episodes, an evaluation
        [(6.0, 3000, 4.0)] * 5,  # slower, but not by so much
        [(6.0, 1000, 4.0), (6.0, 1000, 4.0), (6.0, 6000, 12.0)] * 2,  # not for long
        [(3600.0, 10, 0.1), *[(6.0, 6000, 12.0)] * 4],  # the laptop slept
        [(0.1, 1, 0.0)] * 100,  # too short to tell
    ],
)
def test_what_is_no_stall(watch: SimpleNamespace, later: list[tuple[float, int, float]]) -> None:
    watch.goes(6.0, 6000, 12.0)
    for step in later:
        watch.goes(*step)
    assert watch.told == []


def test_a_pace_is_compared_in_both(watch: SimpleNamespace) -> None:
    best = Pace(900.0, 2.0)
    assert Pace(299.0, 1.39).is_stall(best)
    assert not Pace(301.0, 1.39).is_stall(best)
    assert not Pace(299.0, 1.41).is_stall(best)
