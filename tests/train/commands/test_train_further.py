"""``palaestra train --resume RUN --total-timesteps N``: a finished run goes on, by the schedules of the new total."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import yaml

from palaestra.train import cli

TINY = ["--num-envs", "64", "--set", "n_steps=16", "--set", "batch_size=256", "--set", "learning_rate=linear(1e-3, 0)"]


def test_a_finished_run_is_trained_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["palaestra", "train", *arguments, "--track", "disabled"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    monkeypatch.chdir(tmp_path)
    assert train("cartpole", *TINY, "--total-timesteps", "2k", "--run-dir", "run")[0] == 0
    evaluation = Path("run/eval.json").read_text()
    refusals = {
        ("run", "2048"): "must be above the 2,048 steps that run has trained already",
        ("run", "1k"): "must be above the 2,048 steps",
        ("run/model.zip", "4k"): "name its folder, run, not model.zip",
        ("nowhere", "4k"): "no run 'nowhere'",
    }
    for (name, total), message in refusals.items():
        status, out, error = train("--resume", name, "--total-timesteps", total)
        assert (status, out, error.count("\n")) == (2, "", 1)
        assert message in error
    assert yaml.safe_load(Path("run/config.yaml").read_text())["total_timesteps"] == 2000

    status, out, _ = train("--resume", "run", "--total-timesteps", "4096")
    assert status == 0
    assert "from 2,048 to 4,096 steps: the learning rate, linear(0.001, 0.0) over all of them, is 0.0005 now" in out
    assert yaml.safe_load(Path("run/config.yaml").read_text())["total_timesteps"] == 4096
    assert json.loads(Path("run/run.json").read_text())["num_timesteps"] == 4096
    rows = list(csv.DictReader(Path("run/progress.csv").read_text().splitlines()))
    assert [int(row["global_step"]) for row in rows] == [1024, 2048, 3072, 4096, 4096]
    rates = [float(row["train/learning_rate"]) for row in rows[3:]]
    assert rates == pytest.approx([1e-3 * (1 - 3072 / 4096), 0.0])  # before the last update, and after it
    assert Path("run/eval.json").read_text() != evaluation
    status, out, _ = train("--resume", "run")
    assert "run is finished" in out

    Path("run/eval.json").unlink()
    status, out, error = train("--resume", "run", "--total-timesteps", "8k")
    assert (status, error.count("\n")) == (2, 1)
    assert "run is not finished; go on to its 4,096 steps first: palaestra train --resume run" in error
