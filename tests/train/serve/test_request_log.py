"""The log of requests: files and memory are bounded, and what is lost is counted."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from palaestra.train.serve.request_log import RequestLog


def test_a_log_is_rotated_and_bounded(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "log.jsonl", largest=1000, files=3)
    for i in range(500):
        while log._waiting.full():
            time.sleep(0.001)
        log({"number": i, "text": "x" * 50}, 100)
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "log.jsonl.1", "log.jsonl.2"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["number"] == 499


def test_an_entry_larger_than_a_file_is_dropped(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "log.jsonl", largest=1000)
    for entry in ({"number": 0}, {"text": "x" * 1000}, {"text": "é" * 200}, {"number": 1}):
        log(entry, 100)
    log.close()
    (file,) = tmp_path.iterdir()
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"number": 0},
        {"number": 1, "dropped_before": 2},
    ]


def test_entries_that_wait_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RequestLog(tmp_path / "log.jsonl")
    began, go_on = threading.Event(), threading.Event()
    real = log._handler.format
    monkeypatch.setattr(log._handler, "format", lambda record: (began.set(), go_on.wait(20), real(record))[2])
    log({"number": 0}, 100)
    assert began.wait(20)  # and is on its way to the disk
    for i in range(1, 6):
        log({"number": i}, 2**26)
    assert log.dropped == 3
    go_on.set()
    log.close()
    numbers = [json.loads(line)["number"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert numbers == [0, 1, 2]


def test_lines_that_cannot_be_written_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RequestLog(tmp_path / "log.jsonl")
    real = log._handler.format
    failing = [True] * 3

    def broken(record: Any) -> str:
        if failing:
            failing.pop()
            raise OSError(28, "No space left on device")
        return real(record)

    monkeypatch.setattr(log._handler, "format", broken)
    for i in range(5):
        log({"number": i}, 100)
    log.close()
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert entries == [{"number": 3, "dropped_before": 3}, {"number": 4}]
