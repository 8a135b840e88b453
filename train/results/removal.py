"""Deleting a run's folder.

1. Only a folder with the configuration of a run is deleted, and none that other runs lie in, unless those are what it
   set aside itself (``abandoned-STEP/``). Links are removed, not followed.
2. The run's lock is held meanwhile, so that no process works in it, nor begins to.
3. The configuration goes last: if the deletion is cut short the rest is a run still, which can be deleted again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from palaestra.train.config.schema import ConfigError
from palaestra.train.formatting import two_digits
from palaestra.train.runs.finding import find_run
from palaestra.train.runs.run_folder import RunFolder, only_process


def removable(name: str) -> RunFolder:
    """The run of that name (:func:`palaestra.train.runs.finding.find_run`), if it may be deleted.

    Raises:
        ConfigError: if there is none, it is a link or no run's folder, or other runs lie in it.
    """
    folder = find_run(name)
    path = folder.path
    if path.is_symlink():
        raise ConfigError(f"{path} is a link to {path.resolve()}: name that, or delete the link")
    if not path.is_dir():
        what = "a file: name a run's folder" if path.exists() else "not there; palaestra runs lists the runs"
        raise ConfigError(f"{path} is {what}")
    if not folder.config_file.is_file():
        raise ConfigError(f"{path} is no run's folder: it has no {folder.config_file.name}")
    if (inner := _run_within(folder)) is not None:
        raise ConfigError(f"{path} holds another run, {inner}: delete that first")
    return folder


def _run_within(folder: RunFolder) -> Path | None:
    """A run inside that is none of what this one set aside."""
    for file in folder.path.rglob(folder.config_file.name):
        inside = file.relative_to(folder.path).parts[:-1]
        if inside and not (inside[0].startswith("abandoned-") or inside[0] == folder.wandb_folder.name):
            return file.parent
    return None


def contents(folder: RunFolder) -> str:
    """How many files it holds, and of what size in all."""
    sizes = [os.lstat(file).st_size for file in _files(folder.path)]
    number = "1 file" if len(sizes) == 1 else f"{len(sizes):,} files"
    total = two_digits(sum(sizes))
    return f"{number}, {total}{'B' if ' ' in total else ' B'}"


def _files(path: Path) -> Iterator[str]:
    for place, _, names in os.walk(path):
        yield from (os.path.join(place, name) for name in names)


def remove(folder: RunFolder) -> None:
    """Delete it.

    Raises:
        ConfigError: if a process works in it.
        OSError: if something in it cannot be deleted.
    """
    with only_process(folder.path):
        last = (folder.config_file, folder.lock_file)
        for path in sorted(folder.path.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path not in last:
                path.unlink()
        for path in last:
            path.unlink(missing_ok=True)
    folder.path.rmdir()
