"""Atomic writes: text and bytes, files that another program fills, and leftovers (failures: test_hostile_files)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from palaestra.envs.core.atomic_write import unfinished_file, write_whole


@pytest.mark.parametrize(
    ("content", "written"), [("a\nμ", b"a\n\xce\xbc"), (b"\x00", b"\x00"), (memoryview(b"x"), b"x")]
)
def test_text_and_bytes(content: str | bytes | memoryview, written: bytes, tmp_path: Path) -> None:
    write_whole(tmp_path / "deep" / "file.txt", content)
    assert (tmp_path / "deep" / "file.txt").read_bytes() == written


def test_a_file_filled_by_name_replaces_the_old_one_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_text("old")
    with unfinished_file(path) as (_, beside):
        beside.write_text("new")  # as another program does
        assert path.read_text() == "old"
        write_whole(tmp_path / "other", "")  # removes leftovers, of which this is none
        assert beside.exists()
    assert path.read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["film.mp4", "other"]


def test_an_error_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_text("old")

    def fail() -> None:
        with unfinished_file(path) as (file, _):
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["film.mp4"]
