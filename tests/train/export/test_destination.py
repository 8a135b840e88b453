"""Exported policies replace their own kind: all other files stay, and two files are written or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palaestra.agents.export.policy_network import ExportError
from palaestra.train.export import destination
from palaestra.train.export.destination import check_destination, write_both
from palaestra.train.export.policy_file import FORMAT


def policy(path: Path) -> None:
    """An exported policy, as far as its files tell."""
    write_both(path, b"weights", json.dumps({"format": FORMAT, "file": path.name}))


def test_new_files_and_policies_that_are_written_again(tmp_path: Path) -> None:
    check_destination(tmp_path / "made" / "later" / "p.onnx")
    policy(tmp_path / "p.onnx")
    check_destination(tmp_path / "p.onnx")
    (tmp_path / "p.onnx").unlink()
    check_destination(tmp_path / "p.pt2")  # the contract that is left belongs to nothing


@pytest.mark.parametrize(
    "name", ["model.zip", "run.onnx", "new.onnx", "videos/new.onnx", "../other/../run/config.onnx"]
)
def test_a_run_keeps_its_files(tmp_path: Path, name: str) -> None:
    (run := tmp_path / "run").mkdir()
    for file in ("config.yaml", "run.json", "model.zip"):
        (run / file).write_text("{}")
    with pytest.raises(ExportError, match="is inside the run folder"):
        check_destination(run / name)


def test_a_link_into_a_run_leads_into_it(tmp_path: Path) -> None:
    (run := tmp_path / "run").mkdir()
    for file in ("config.yaml", "model.zip"):
        (run / file).write_text("{}")
    (tmp_path / "link").symlink_to(run)
    with pytest.raises(ExportError, match="is inside the run folder"):
        check_destination(tmp_path / "link" / "model.zip")


@pytest.mark.parametrize("content", ["{}", "[]", "settings = 1", '{"format": "another"}', "[" * 100_000])
def test_a_file_of_settings_stays(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ExportError, match=r"config.json, where the contract is written, is no contract"):
        check_destination(tmp_path / "config.onnx")


def test_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_text("mine")
    with pytest.raises(ExportError, match=r"mine.onnx is there, and no mine.json says that it is a policy"):
        check_destination(tmp_path / "mine.onnx")
    policy(tmp_path / "p.onnx")
    with pytest.raises(ExportError, match=r"p.json is the contract of p.onnx"):
        check_destination(tmp_path / "p.pt2")
    (tmp_path / "p.zip").write_text("mine")
    (tmp_path / "p.onnx").unlink()
    with pytest.raises(ExportError, match=r"p.json is the contract of p.onnx"):
        check_destination(tmp_path / "p.zip")


@pytest.mark.parametrize("folder", ["p.onnx", "p.json"])
def test_folders_stay(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    with pytest.raises(ExportError, match=f"{folder} is no file"):
        check_destination(tmp_path / "p.onnx")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match=r"nothing can be written in .*file"):
        check_destination(tmp_path / "file" / "p.onnx")


def test_a_full_disk_changes_neither_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy(tmp_path / "p.onnx")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:  # the second file
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(destination.os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write the file .No space left on device.*p.onnx"):
        write_both(tmp_path / "p.onnx", b"other", "{}")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
