"""A run's facts: when it was solved, counted from the start of the process, and what a resumed run says of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from palaestra.envs import resolve
from palaestra.train.commands.train import resume_run as resume
from palaestra.train.commands.train import start_run as train
from palaestra.train.config.run_config import resolve_config
from palaestra.train.evaluation.episodes import Evaluation
from palaestra.train.runs import callbacks, machine, trainer
from palaestra.train.runs.machine import process_seconds

TINY = {"num_envs": 32, "total_timesteps": 768, "settings": ["n_steps=8", "batch_size=64"]}  # three rollouts


# ------------------------------------------------------------------------------------------- the clock


def test_the_clock_starts_with_the_process() -> None:
    """Not with the import, half a second later, and not before whoever started it."""
    code = (
        "import time; time.sleep(0.5); born = time.monotonic()\n"
        "from palaestra.train.runs.machine import process_seconds\n"
        "print(process_seconds(), time.monotonic() - born)"
    )
    started = time.monotonic()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    whole = time.monotonic() - started
    age, since_import = map(float, out.split())
    assert since_import + 0.49 < age < whole + 0.02  # Linux counts in hundredths of a second


def test_without_proc_the_clock_starts_with_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(machine, "_STAT", tmp_path / "none")
        patch.setattr(machine, "_IMPORTED", time.monotonic() - 2.0)
        assert 2.0 <= process_seconds() < 2.5
    # a process that claims to be younger than this module in it is not believed
    (tmp_path / "stat").write_text(f"1 (a (b) c) S {' '.join(str(10**15) for _ in range(40))}")
    monkeypatch.setattr(machine, "_STAT", tmp_path / "stat")
    monkeypatch.setattr(machine, "_IMPORTED", time.monotonic() - 3.0)
    assert 3.0 <= process_seconds() < 3.5


def test_the_start_is_read_from_behind_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with brackets and spaces; the 22nd field of the line is what counts."""
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    ticks = round((boot - 7.0) * os.sysconf("SC_CLK_TCK"))
    fields = ["1", "(py) (x 9)", "S", *["0"] * 18, str(ticks), "5", "6"]
    (tmp_path / "stat").write_text(" ".join(fields))
    monkeypatch.setattr(machine, "_STAT", tmp_path / "stat")
    monkeypatch.setattr(machine, "_IMPORTED", time.monotonic())
    assert 6.9 < process_seconds() < 7.5


# ------------------------------------------------------------------------------------------- solved after


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the evaluations during training will say; the clock then shows 10, 20, … seconds."""
    scores: list[float] = []
    ticks: Iterator[float] = iter(range(10, 1000, 10))
    real = callbacks.evaluate_run

    def evaluate_run(model: Any, config: Any, episodes: int, *args: Any, **kwargs: Any) -> Evaluation:
        result = real(model, config, 4, *args, **kwargs)
        return result if not args else replace(result, mean=scores.pop(0))

    monkeypatch.setattr(callbacks, "evaluate_run", evaluate_run)
    monkeypatch.setattr(trainer, "evaluate_run", evaluate_run)
    monkeypatch.setattr(callbacks, "process_seconds", lambda: next(ticks) + 0.123)
    monkeypatch.setattr(callbacks, "EVALUATIONS", 3)
    monkeypatch.setattr(trainer, "_record_episode", lambda *args: None)
    return scores


def solved_after(folder: str) -> float | None:
    seconds: float | None = json.loads(Path(folder, "run.json").read_text())["solved_after_seconds"]
    return seconds


def test_the_first_evaluation_at_the_threshold_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scores: list[float]
) -> None:
    monkeypatch.chdir(tmp_path)
    scores += [474.9, 475.0, 500.0]
    train("cartpole", "ppo", Path("a"), "disabled", **TINY)
    assert scores == []
    assert solved_after("a") == 10.12  # the clock is read once, when it is reached
    assert "; reached 475 10.1 s after the start of the command\n" in capsys.readouterr().out
    scores += [474.9] * 3
    train("cartpole", "ppo", Path("b"), "disabled", **TINY)
    assert solved_after("b") is None
    out = capsys.readouterr().out
    assert "not solved: mean return" in out
    assert "reached" not in out


@pytest.mark.parametrize("first", [[475.0, 0.0, 0.0], [0.0] * 3])
def test_a_resumed_run_has_what_its_first_process_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: list[float], first: list[float]
) -> None:
    monkeypatch.chdir(tmp_path)
    scores += first
    train("cartpole", "ppo", Path("a"), "disabled", **TINY)
    reached = solved_after("a")
    assert reached == (10.12 if first[0] else None)
    config = yaml.safe_load(Path("a/config.yaml").read_text())
    for steps in (1536, 2304):
        Path("a/config.yaml").write_text(yaml.safe_dump({**config, "total_timesteps": steps}))
        scores[:] = [500.0] * 9
        resume("a", "disabled")
        assert len(scores) < 9
        assert solved_after("a") == reached
        if steps == 1536:
            Path("a/run.json").unlink()  # as after a power cut
            reached = None


def test_thresholds_of_other_peoples_environments_too() -> None:
    for name, threshold in (("cartpole", 475.0), ("CartPole-v1", 475.0), ("Pendulum-v1", None)):
        assert resolve(name).reference({}).solved_at == threshold
    config = resolve_config("reach", settings=["env.action_delay=1"])
    assert config.resolved_env.reference(config.env_kwargs).solved_at is None
