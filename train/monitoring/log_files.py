"""Lines of a log in their order, from its rotated files: ``LOG.2``, ``LOG.1``, then ``LOG``.

All files are opened before the first is read, so that one which is rotated meanwhile is neither lost nor read twice.
Lines stream through: the longest one is bounded, and so is the memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

LONGEST = 2**26  # bytes of a line


class MonitorError(ValueError):
    """What cannot be compared; the message says why, and the way out."""


@dataclass
class LinesRead:
    """What was found in the files; grows while they are read.

    Attributes:
        files: in the order in which they are read.
        lines: that are not empty.
        damaged: lines that are no JSON object.
        first_damaged: the place of the first of them.
        half: whether the last line is still being written.
    """

    files: list[Path] = field(default_factory=list)
    lines: int = 0
    damaged: int = 0
    first_damaged: str | None = None
    half: bool = False


def files_of(path: Path) -> list[Path]:
    """The files of a log, the oldest first.

    Raises:
        MonitorError: if there are none.
    """
    if path.is_dir():
        raise MonitorError(f"{path} is a folder: name the log in it, as palaestra serve --log does")
    numbered = {}
    if path.parent.is_dir():
        pattern = re.compile(re.escape(path.name) + r"\.([1-9]\d{0,3})")
        numbered = {int(match[1]): file for file in path.parent.iterdir() if (match := pattern.fullmatch(file.name))}
    found = [numbered[number] for number in sorted(numbered, reverse=True)] + ([path] if path.exists() else [])
    if not found:
        raise MonitorError(f"there is no log {path}")
    return found


def read_lines(path: Path, read: LinesRead) -> Iterator[tuple[str, dict[str, Any]]]:
    """The place of each line, for messages, and what it holds; ``read`` counts.

    Raises:
        MonitorError: if there is no such log.
        OSError: if a file cannot be read.
    """
    with ExitStack() as stack:
        files: list[IO[bytes]] = []
        seen = set()
        for name in files_of(path):
            file: IO[bytes] = stack.enter_context(name.open("rb"))
            status = name.stat()
            if (status.st_dev, status.st_ino) not in seen:  # renamed between two looks
                seen.add((status.st_dev, status.st_ino))
                files.append(file)
                read.files.append(name)
        for name, opened in zip(read.files, files, strict=True):
            last = opened is files[-1]
            for number, line in enumerate(_lines(opened), 1):
                if not line.strip():
                    continue
                read.lines += 1
                entry = _object(line)
                if entry is not None:
                    yield f"{name}, line {number}", entry
                elif last and not line.endswith(b"\n") and len(line) <= LONGEST:
                    read.half, read.lines = True, read.lines - 1
                else:
                    read.damaged += 1
                    read.first_damaged = read.first_damaged or f"{name}, line {number}"


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines; of one that is too long only a part, which is no JSON."""
    while line := file.readline(LONGEST + 1):
        rest = line
        while len(rest) > LONGEST and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST + 1)
        yield line


def _object(line: bytes) -> dict[str, Any] | None:
    if len(line) > LONGEST:
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
