"""Runs that are damaged in any way: what is left is told, or one line; a part of tests/stress/fuzz_looking.py."""

from __future__ import annotations

import json
from pathlib import Path

import fuzz_looking as fuzz
import pytest
from made_runs import made_run

from palaestra.train.results.cost import cost_of


@pytest.mark.parametrize("seed", [1, 3, 5, 21, 106, 120, 160])
def test_a_page_and_a_table_of_what_is_left_or_one_line(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fuzz.faults_with(seed) == []


def test_numbers_as_large_as_floats_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told as no numbers: sums, differences and squares of them are infinite."""
    monkeypatch.chdir(tmp_path)
    made_run("runs/a", evaluations=[(512, 1e308), (1024, -1e308), (2048, 60.0), (8192, 70.0)], scale=(0.0, 1e-300))
    made_run("runs/b", 1e308, agent="dqn", evaluations=[(512, 20.0), (8192, 100.0)])
    for words in (["compare", "runs", "--out", "c.html", "--json"], ["report", "runs/a", "runs/b", "--out", "r.html"]):
        assert fuzz.faults_of(words) == []
    status, out, _ = fuzz.call(["compare", "runs"])
    assert status == 0
    assert "has evaluations that are no finite numbers, which are left out (2)" in " ".join(out.split())


@pytest.mark.parametrize("value", [1e308, 10**300, 1e11, -1.0, float("inf")], ids="{:.0e}".format)
def test_times_that_cannot_be_are_not_known(value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = made_run("runs/a")
    facts = json.loads(run.facts_file.read_text())
    times = ("run_seconds", "cpu_seconds", "training_seconds", "solved_after_seconds", "threads")
    run.facts_file.write_text(json.dumps({**facts, **dict.fromkeys(times, value)}))
    run.progress_file.write_text(run.progress_file.read_text().replace("512,512,1,", f"512,512,{value},"))
    assert fuzz.faults_of(["report", "runs/a", "--no-player", "--out", "r.html"]) == []
    assert fuzz.faults_of(["compare", "runs"]) == []
    cost = cost_of(run)
    assert (cost.seconds, cost.cpu_hours) == (3.0, None)  # of the curves


def test_half_of_a_configuration_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made_run("runs/a")
    run = made_run("runs/b", agent="dqn")
    run.config_file.write_text(run.config_file.read_text().rpartition("total_timesteps")[0] + "total_ti")
    status, out, _ = fuzz.call(["compare", "runs"])
    assert status == 0
    assert "runs/b is left out: while scanning a simple key" in " ".join(out.split())


def test_a_table_of_names_that_are_no_text_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made_run("runs/\udcff")
    status, _, err = fuzz.call(["compare", "runs", "--csv", "c.csv", "--out", "c.html"])
    assert (status, err.count("\n")) == (0, 2)
    assert "runs/?" in Path("c.csv").read_text(encoding="utf-8")
