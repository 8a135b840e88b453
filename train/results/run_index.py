"""What is known of thousands of runs without opening their files: ``runs/.index``, made where reading is too slow.

1. A run's row is taken from the index if its folder, its checkpoints' folder and its evaluation have the times of
   modification that they had when it was read. Whatever palaestra writes there is put in place by renaming, which
   changes the folder's.
2. A row is noted if all these times are older than the clock's step by far, so that no later change has the same time.
3. The index is written anew, beside the old one and renamed, when many rows have been read; where it is damaged, of
   another form or may not be written, runs are read as without it.

Ten thousand runs take 2 s to read and 0.1 s to look up, on the machine of ``train/RESULTS.md``.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from palaestra.train.runs.run_folder import ROOT, RunFolder

INDEX = ROOT / ".index"
MANY = 300  # rows read without the index; a tenth of a second
_FORM = "palaestra runs 1"  # of the file: a line with that and a checksum, then JSON
_SETTLED = 2 * 10**9  # ns

RunRow = dict[str, Any]
Times = list[int]
_Entry = tuple[Times, list[Any]]
_NOTHING: _Entry = ([0, 0, 0], [])


def indexed(paths: Iterable[str], read: Callable[[str], RunRow]) -> list[RunRow]:
    """The row of every run folder in that order: from the index, or as ``read`` gives it.

    Args:
        paths: of run folders.
        read: the row of one as plain data.
    """
    keys, known = _load()
    noted: dict[str, _Entry] = {}
    rows, latest, fresh = [], time.time_ns() - _SETTLED, 0
    for path in paths:
        entry = known.get(path, _NOTHING)
        if entry[0] == _times(path, entry[0][1] > 0):
            row = dict(zip(keys, entry[1], strict=True))
        else:
            times, row = _times(path), read(path)
            entry, fresh = (times, [*row.values()]), fresh + 1
        if max(entry[0]) < latest:
            noted[path] = entry
        rows.append(row)
    if fresh > MANY:
        _write([*rows[0]], noted)
    return rows


_CHECKPOINTS, _EVALUATION = RunFolder(ROOT).checkpoints_folder.name, RunFolder(ROOT).evaluation_file.name


def _times(path: str, has_checkpoints: bool = True) -> Times:
    """When the folder, its checkpoints' folder (0 if there is none, which it is not asked then) and its evaluation were
    changed last, in ns."""
    return [_time(path), _time(f"{path}/{_CHECKPOINTS}") if has_checkpoints else 0, _time(f"{path}/{_EVALUATION}")]


def _time(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _load() -> tuple[list[str], dict[str, _Entry]]:
    with suppress(OSError, ValueError, RecursionError):
        head, _, content = INDEX.read_bytes().partition(b"\n")
        if head.decode() == f"{_FORM} {zlib.crc32(content)}":
            keys, entries = json.loads(content)
            return keys, entries
    return [], {}


def _write(keys: list[str], entries: dict[str, _Entry]) -> None:
    from palaestra.envs.core.atomic_write import write_whole

    content = json.dumps([keys, entries], separators=(",", ":")).encode()
    with suppress(OSError):  # a folder of other people, or a full disk
        write_whole(INDEX, f"{_FORM} {zlib.crc32(content)}\n".encode() + content)
