"""Folders that all workers of pytest-xdist share: what is slow to make is made by the first that wants it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder ``name`` of this session of tests, which ``make`` fills; others wait meanwhile and only read it."""
    base = factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # a worker's own folder lies in the session's
    folder, finished = root / name, root / f"{name}.finished"
    with FileLock(f"{folder}.lock"):
        if not finished.exists():
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder
