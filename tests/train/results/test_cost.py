"""The cost of a run: known answers by hand, what is measured while a run trains, and what is said where it was not."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from palaestra.train.commands.train import resume_run, start_run
from palaestra.train.config.schema import ConfigError
from palaestra.train.results.cost import Cost, EnergyFactors, cost_of
from palaestra.train.runs import trainer
from palaestra.train.runs.machine import Stopwatch
from palaestra.train.runs.run_folder import RunFolder

FACTS = {
    "training_seconds": 7000.0,
    "run_seconds": 7200.0,
    "cpu_seconds": 10_800.0,
    "threads": 2,
    "processes": 1,
    "device": "cpu",
}


def cost(folder: Path, factors: EnergyFactors | None = None, **change: Any) -> Cost:
    (folder / "run.json").write_text(json.dumps({**FACTS, **change}))
    return cost_of(RunFolder(folder), factors)


def test_electricity_and_co2_by_hand(tmp_path: Path) -> None:
    """Three hours of a processor at 12 W are 36 Wh; at 473 g a kWh those are 17.028 g."""
    found = cost(tmp_path)
    assert (found.seconds, found.cpu_hours, found.gpu_hours, found.remarks) == (7200.0, 3.0, None, ())
    assert (found.kwh, found.co2_grams) == (pytest.approx(0.036), pytest.approx(17.028))
    assert found.rows() == [
        ("wall time", "2:00:00"),
        ("processors", "3.0 h"),
        ("electricity", "0.036 kWh"),
        ("CO₂ equivalents", "17 g"),
    ]
    assert "12 W a core, Green Algorithms" in found.assumptions()
    assert "473 g CO₂ equivalents a kWh, the world's mean of 2024 (Ember" in found.assumptions()
    own = cost(tmp_path, EnergyFactors(watts_per_core=5.0, grams_per_kwh=20.0))
    assert (own.kwh, own.co2_grams) == (pytest.approx(0.015), pytest.approx(0.3))
    assert own.assumptions().count("as given") == 2
    assert json.loads(json.dumps(own.as_dict()))["factors"]["watts_per_core"] == 5.0


def test_a_gpu_is_counted_where_its_watts_are_given(tmp_path: Path) -> None:
    without = cost(tmp_path, device="cuda:0")
    assert (without.gpu_hours, without.kwh) == (2.0, pytest.approx(0.036))
    assert "GPU is left out" in without.assumptions()
    found = cost(tmp_path, EnergyFactors(gpu_watts=300.0), device="cuda:0", processes=2)
    assert found.gpu_hours == 4.0
    assert found.kwh == pytest.approx(2 * 0.036 + 4.0 * 0.3)
    assert "300 W a GPU" in found.assumptions()


def test_what_was_not_measured_is_estimated_and_said(tmp_path: Path) -> None:
    killed = cost(tmp_path, training_seconds=14_400.0)  # another process trained as long, and wrote no facts
    assert (killed.seconds, killed.cpu_hours) == (14_400.0, pytest.approx(6.0))
    assert "measured in 50 % of the wall time" in killed.assumptions()
    several = cost(tmp_path, processes=4)
    assert several.cpu_hours == pytest.approx(12.0)
    assert "one of 4 processes" in several.assumptions()
    old = cost(tmp_path, run_seconds=None, cpu_seconds=None)
    assert (old.seconds, old.cpu_hours) == (7000.0, pytest.approx(2 * 7000 / 3600))
    assert "those of 2 busy threads" in old.assumptions()
    unknown = cost(tmp_path, run_seconds=None, cpu_seconds=None, threads=None)
    assert (unknown.cpu_hours, unknown.kwh, unknown.co2_grams) == (None, None, None)
    assert unknown.rows() == [("wall time", "1:56:40")]
    assert unknown.assumptions() == "Processor time was not measured."


def test_a_run_of_which_nothing_is_known_has_no_numbers(tmp_path: Path) -> None:
    found = cost_of(RunFolder(tmp_path))
    assert (found.seconds, found.rows()) == (None, [])
    assert found.assumptions() == "The run's time is not known."
    (tmp_path / "progress.csv").write_text("global_step,time/iterations,time/time_elapsed\n512,1,90\n1024,2,180\n")
    assert cost_of(RunFolder(tmp_path)).rows() == [("wall time", "0:03:00")]  # killed before it wrote any facts


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
@pytest.mark.parametrize("name", ["watts_per_core", "grams_per_kwh", "gpu_watts"])
def test_factors_are_numbers_of_at_least_0(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name.replace("_", " ")):
        EnergyFactors(**{name: value})


def test_a_stopwatch_counts_this_process_and_its_children() -> None:
    watch = Stopwatch()
    while watch.cpu_seconds < 0.1:
        pass
    assert watch.seconds >= 0.09
    before = watch.cpu_seconds
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    assert watch.cpu_seconds >= before + 0.28


def test_the_time_of_a_run_that_went_on_is_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_record_episode", lambda *args: None)
    folder = tmp_path / "run"
    settings = {"num_envs": 32, "settings": ["n_steps=16", "batch_size=128"]}
    start_run("cartpole", "ppo", folder, "disabled", total_timesteps=2048, **settings)
    first = json.loads((folder / "run.json").read_text())
    assert 0.0 < first["training_seconds"] < first["run_seconds"]
    assert 0.0 < first["cpu_seconds"] < 4.0 * first["run_seconds"]
    assert cost_of(RunFolder(folder)).remarks == ()
    resume_run(str(folder), "disabled", total_timesteps=4096)
    both = json.loads((folder / "run.json").read_text())
    for name in ("run_seconds", "cpu_seconds"):
        assert both[name] > 1.2 * first[name]
