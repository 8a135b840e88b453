"""What ``palaestra train`` prints at its end: everything, or with ``-q`` one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from palaestra.train.commands.train import _finish
from palaestra.train.interruptions import Shown
from palaestra.train.runs.trainer import RunResult


def test_quiet_training_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = RunResult(tmp_path, None, 2048, 61.0, [tmp_path / "wandb/offline-run-1"])
    _finish(result)
    assert "curves: wandb leet" in capsys.readouterr().out
    monkeypatch.setattr(Shown, "progress", False)
    _finish(result)
    assert capsys.readouterr().out == f"trained: 2,048 steps in 1:01; run folder: {tmp_path}\n"
