"""Rotated files in their order, and lines that are damaged, half written or too long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palaestra.train.monitoring import log_files
from palaestra.train.monitoring.log_files import LinesRead, MonitorError, files_of, read_lines
from palaestra.train.serve.request_log import RequestLog


def numbers_in(path: Path, read: LinesRead | None = None) -> list[int]:
    return [entry["number"] for _, entry in read_lines(path, LinesRead() if read is None else read)]


def test_rotated_files_are_read_from_the_oldest_on(tmp_path: Path) -> None:
    """Twelve files, so that the order is that of numbers and not of letters."""
    log = RequestLog(tmp_path / "use.jsonl", largest=1000, files=12)
    for i in range(400):
        while log._waiting.full():
            pass
        log({"number": i, "text": "x" * 10}, 100)
    log.close()
    (tmp_path / "use.jsonl.bak").write_text('{"number": -1}\n')
    (tmp_path / "use.jsonl.0").write_text('{"number": -2}\n')
    files = files_of(tmp_path / "use.jsonl")
    assert len(files) == 12
    assert files[0].name == "use.jsonl.11"
    found = numbers_in(tmp_path / "use.jsonl")
    assert found == [*range(found[0], 400)]
    assert found[0] < 200


def test_a_log_of_which_only_rotated_files_are_left(tmp_path: Path) -> None:
    (tmp_path / "use.jsonl.1").write_text('{"number": 1}\n')
    assert numbers_in(tmp_path / "use.jsonl") == [1]


def test_a_file_that_is_rotated_while_it_is_read_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "use.jsonl"
    path.write_text('{"number": 1}\n{"number": 2}\n')
    lines = read_lines(path, LinesRead())
    assert next(lines)[1] == {"number": 1}
    path.rename(tmp_path / "use.jsonl.1")
    path.write_text('{"number": 3}\n')
    assert [entry["number"] for _, entry in lines] == [2]
    path.unlink()
    (tmp_path / "use.jsonl").hardlink_to(tmp_path / "use.jsonl.1")
    assert numbers_in(path) == [1, 2]


def test_damaged_lines_are_counted_with_the_first_place(tmp_path: Path) -> None:
    path = tmp_path / "use.jsonl"
    path.write_bytes(b'{"number": 1}\n\n{"number": \n\xff\xfe\n[1]\n3\n{"number": 2}\n' + b"[" * 100_000 + b"\n")
    read = LinesRead()
    assert numbers_in(path, read) == [1, 2]
    assert (read.lines, read.damaged, read.half) == (7, 5, False)
    assert read.first_damaged == f"{path}, line 3"


@pytest.mark.parametrize(("end", "expected", "half"), [('{"numb', [1], True), ('{"number": 2}', [1, 2], False)])
def test_a_last_line_without_its_end(tmp_path: Path, end: str, expected: list[int], half: bool) -> None:
    path = tmp_path / "use.jsonl"
    path.write_text('{"number": 1}\n' + end)
    read = LinesRead()
    assert numbers_in(path, read) == expected
    assert (read.half, read.damaged) == (half, 0)


def test_a_log_goes_on_after_half_a_line(tmp_path: Path) -> None:
    """A server was killed in the midst of a line; the next one loses that line alone."""
    path = tmp_path / "use.jsonl"
    path.write_text('{"number": 1}\n{"numb')
    log = RequestLog(path)
    log({"number": 3}, 100)
    log.close()
    read = LinesRead()
    assert numbers_in(path, read) == [1, 3]
    assert read.damaged == 1


def test_lines_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "LONGEST", 100)
    path = tmp_path / "use.jsonl"
    path.write_text(json.dumps({"number": 1}) + "\n" + json.dumps({"text": "x" * 1000}) + '\n{"number": 2}\n')
    read = LinesRead()
    assert numbers_in(path, read) == [1, 2]
    assert read.damaged == 1
    path.write_text('{"number": 1}\n' + "x" * 1000)
    read = LinesRead()
    assert numbers_in(path, read) == [1]
    assert (read.damaged, read.half) == (1, False)


def test_what_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match="there is no log"):
        numbers_in(tmp_path / "none.jsonl")
    with pytest.raises(MonitorError, match="there is no log"):
        numbers_in(tmp_path / "nowhere" / "none.jsonl")
    with pytest.raises(MonitorError, match="is a folder"):
        numbers_in(tmp_path)
