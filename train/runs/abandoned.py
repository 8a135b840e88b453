"""Going on from an earlier file of a run: what was trained after it is set aside, in a run folder within the run's.

1. Files are moved by their name, and the curves are copied before they are cut; nothing is deleted, links are left.
2. The order is such that a run killed in between goes on, from the earlier file or on the line that is being left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from palaestra.envs.core.atomic_write import write_whole
from palaestra.train.config.compatibility import Agent
from palaestra.train.runs.run_folder import RunFolder


def set_aside(folder: RunFolder, source: Path, model: Agent, tell: Callable[[str], None]) -> None:
    """Make the line of ``model``, which was read from the file ``source`` of the run, the run's only one.

    Args:
        folder: of the run, locked.
        source: the file.
        model: as it was read.
        tell: takes a line for the user.

    Raises:
        OSError: if a file cannot be moved or written.
    """
    step, last = model.num_timesteps, folder.curves.last_step()
    own = source.stem if source in folder.checkpoints() else ""
    later = [path for path in folder.checkpoint_files() if path.stem > f"{step:015d}"]
    if source == folder.model_file and not later:
        return  # it is as new as the newest checkpoint
    if not later and last <= step and not folder.is_evaluated():
        return
    best = folder.curves.best()
    files = [*folder.evaluation_files(), folder.facts_file, folder.video_file]
    files += [folder.best_file] if source != folder.best_file and best is not None and best.step > step else []
    checkpoints = sorted((path for path in folder.checkpoint_files() if path.stem > own), reverse=True)
    files, checkpoints = ([p for p in group if p.is_file() and not p.is_symlink()] for group in (files, checkpoints))
    aside = _new_folder(folder, max(last, step), [*files, *checkpoints])
    for path in (folder.config_file, folder.environment_file, folder.progress_file, folder.model_file):
        if path.is_file() and not (aside / path.name).exists():
            write_whole(aside / path.name, path.read_bytes())
    for path in files:
        _move(path, folder.path, aside)
    model.save(folder.model_file)
    for path in checkpoints:
        _move(path, folder.path, aside)
    tell(f"going on from step {step:,}; what was trained after it is in {aside}")


def _new_folder(folder: RunFolder, step: int, moved: list[Path]) -> Path:
    """A folder in which none of these files is yet; that of a process killed before it had moved them all, if any."""
    names = (f"abandoned-{step}{'' if count == 1 else f'.{count}'}" for count in itertools.count(1))
    places = (folder.path / name for name in names)
    return next(p for p in places if not any((p / path.relative_to(folder.path)).exists() for path in moved))


def _move(path: Path, folder: Path, aside: Path) -> None:
    target = aside / path.relative_to(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
