"""A run that goes on with other threads or on another processor is told so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from palaestra.train.config.run_config import resolve_config
from palaestra.train.runs import machine
from palaestra.train.runs.machine import arithmetic
from palaestra.train.runs.run_folder import RunFolder


def told(folder: RunFolder) -> list[str]:
    lines: list[str] = []
    folder.check_environment(resolve_config("cartpole", "ppo", device="cpu"), lines.append, trains=True)
    return lines


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    began = RunFolder(tmp_path)
    began.write_environment(resolve_config("cartpole", "ppo", device="cpu"))
    return began


def test_the_same_machine_is_not_mentioned(folder: RunFolder) -> None:
    assert told(folder) == []


def test_other_threads_are(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    count = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: count + 3)
    text = f"training began with threads {count} and goes on with threads {count + 3}: "
    assert told(folder) == [text + "the result is not the same to the last bit"]
    evaluated: list[str] = []
    folder.check_environment(resolve_config("cartpole", "ppo", device="cpu"), evaluated.append)
    assert evaluated == []


def test_another_processor_is(folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Abacus 9\nmodel name\t: Abacus 10\n")
    before = arithmetic()["processor"]
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    kind = torch.backends.cpu.get_cpu_capability()
    (line,) = told(folder)
    assert line.startswith(f"training began with processor {before} and goes on with processor Abacus 9 ({kind}): ")


@pytest.mark.parametrize("noted", [None, 3, [], {}, {"threads": torch.get_num_threads()}], ids=str)
def test_older_and_damaged_notes_tell_nothing(folder: RunFolder, noted: Any) -> None:
    content = json.loads(folder.environment_file.read_text())
    content["arithmetic"] = noted
    folder.environment_file.write_text(json.dumps(content))
    assert told(folder) == []


def test_a_processor_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "none")
    assert arithmetic()["processor"].split(" (")[0]
