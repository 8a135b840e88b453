"""Runs of a few steps, each with its exported file: what the tests of ``palaestra export`` play with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from palaestra.train import cli
from palaestra.train.runs import callbacks, trainer

TRAIN = ("--num-envs", "64", "--total-timesteps", "4096", "--track", "disabled", "--threads", "1", "--no-report", "-q")
SMALL = ("--set", "n_steps=16", "--set", "batch_size=256")
MARKET = {"periods": 9, "stock": 5, "hold": 2, "frame_stack": 2}
RUNS = {  # name of the run and of its file → its environment with settings
    "snake-small": ("snake-small", {}),
    "reach": ("reach", {}),
    "market": ("pricing", MARKET),  # choices with names, masks, and a wrapper
}


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit status of ``palaestra`` with these words. A training is evaluated once, and at its end."""
    monkeypatch.setattr(callbacks, "EVALUATIONS", 1)
    monkeypatch.setattr(sys, "argv", ["palaestra", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def make_runs(folder: Path) -> None:
    """``NAME/`` and ``NAME.onnx`` of each of the runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(trainer, "_record_episode", lambda *args: None)
        for name, (env, settings) in RUNS.items():
            given = [word for key, value in settings.items() for word in ("--set", f"env.{key}={value}")]
            assert command(patch, "train", env, *TRAIN, *SMALL, *given, "--run-dir", name) == 0
            assert command(patch, "export", name, "--out", f"{name}.onnx") == 0
