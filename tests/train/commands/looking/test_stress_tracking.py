"""The worst case and the mean of a stress test among the curves of its run."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from palaestra.train import cli

RUN = Path(__file__).parents[3] / "data/runs-885ce09/ppo-cartpole"


def evaluate(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    monkeypatch.setattr(sys, "argv", ["palaestra", "evaluate", *text.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_they_are_added_at_the_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = shutil.copytree(RUN, tmp_path / "run")
    curves = (run / "progress.csv").read_bytes()
    assert evaluate(monkeypatch, f"{run} --stress --episodes 4 --json --track tensorboard") == 0
    test = json.loads(capsys.readouterr().out)
    events = accumulator.EventAccumulator(str(run / "tensorboard")).Reload()
    found = {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    wanted = {f"stress/worst_{name}": test["worst"][name] for name in test["mean"]}
    wanted |= {f"stress/mean_{name}": value for name, value in test["mean"].items()}
    told = {name: [(8192, pytest.approx(value, rel=1e-6))] for name, value in wanted.items() if value is not None}
    assert [found] == [told]
    assert {"stress/worst_score", "stress/mean_score", "stress/worst_percent_of_optimal"} <= {*told}
    (text,) = (one.tensor_proto.string_val[0].decode() for one in events.Tensors("stress/conditions/text_summary"))
    assert [line.split("|")[1].strip() for line in text.splitlines()[2:]] == [one["name"] for one in test["stresses"]]
    assert (run / "progress.csv").read_bytes() == curves


def test_bad_input_tests_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setattr("palaestra.train.commands.looking.stress_output.stress_player", None)
    run = shutil.copytree(RUN, tmp_path / "run")
    files = sorted(run.rglob("*"))
    shutil.copy(run / "model.zip", tmp_path / "alone.zip")
    for arguments, message in {
        f"{run} --track tensorboard": "give --stress too",
        f"{run} --stress --track offline": "a run gets more in online (W&B), tensorboard and trackio, not in auto",
        f"{run} --stress --track mlflow": "--track mlflow: expected auto",
        f"{run} --stress --stochastic --track tensorboard": "adds to the curves of a run: name one",
        f"{run}:best --stress --track tensorboard": "adds to the curves of a run: name one",
        "random --env cartpole --stress --track tensorboard": "adds to the curves of a run: name one",
        f"{tmp_path}/alone.zip --env cartpole --stress --track tensorboard": "adds to the curves of a run: name one",
    }.items():
        assert evaluate(monkeypatch, arguments) == 2
        assert message in capsys.readouterr().err
    assert sorted(run.rglob("*")) == files
