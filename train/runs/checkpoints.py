"""The checkpoints of a run: files ``checkpoints/STEPS.zip`` from which training goes on exactly where it was.

1. They are written between two iterations and hold everything (see :mod:`palaestra.agents.base`). Each is there
   whole or not at all, and the one before is kept, so that a run killed at any moment has one.
2. A finished run needs none; they are deleted when its evaluation is written.
3. Of K processes that train together each writes its own state, the second one ``STEPS.rank1ofK``. When all those are
   whole, the first writes ``STEPS.zip``, which makes it a checkpoint. The run goes on with K processes only.
4. One process at a time works in a run folder, or one such group.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path

from palaestra.agents import CheckpointError
from palaestra.agents.distributed.process_group import process_group
from palaestra.agents.training.stages import StagedVecEnv
from palaestra.envs.core import BatchedEnv
from palaestra.train.config.compatibility import Agent
from palaestra.train.runs.run_folder import RunFolder, processes_of

KEPT = 2
_SHARE = ".rank{}of{}"


def save(model: Agent, folder: RunFolder) -> None:
    """Write a checkpoint and delete those that it makes needless.

    Raises:
        OSError: if it cannot be written, or the folder has vanished; what is there stays.
    """
    check_there(folder)
    path = folder.checkpoint_file(model.num_timesteps)
    if process_group().rank > 0:
        model.save_checkpoint(_share(path, process_group().rank, process_group().size))
    process_group().barrier()
    if process_group().rank > 0:
        return
    model.save_checkpoint(path)
    for old in folder.checkpoints()[KEPT:]:
        old.unlink()
    kept = {checkpoint.stem for checkpoint in folder.checkpoints()}
    for file in folder.checkpoint_files():
        if file.suffix.startswith(".rank") and file.stem not in kept:
            file.unlink()


def _share(checkpoint: Path, rank: int, size: int) -> Path:
    """The file in which process ``rank`` of ``size`` keeps its state."""
    return checkpoint if rank == 0 else checkpoint.with_suffix(_SHARE.format(rank, size))


def check_there(folder: RunFolder) -> None:
    """Raise an OSError if the run folder was deleted, since writing would silently recreate it, or leads elsewhere."""
    if folder.checkpoints_folder.is_symlink():
        raise OSError(errno.ELOOP, "a link is not followed", str(folder.checkpoints_folder))
    if not folder.config_file.is_file():
        raise FileNotFoundError(errno.ENOENT, "the run folder has vanished", str(folder.path))


def discard(folder: RunFolder) -> None:
    """Delete all checkpoints, and their folder if nothing else is in it."""
    with contextlib.suppress(OSError):  # the run is finished all the same
        for path in (*folder.checkpoints(), *folder.checkpoint_files()):  # without its .zip a share counts for nothing
            path.unlink(missing_ok=True)
        folder.checkpoints_folder.rmdir()


def resumed(kind: type[Agent], source: Path, env: BatchedEnv | StagedVecEnv, tell: Callable[[str], None]) -> Agent:
    """The agent as it was.

    Args:
        kind: its class.
        source: a run folder, whose newest whole checkpoint is taken, else its model; or one of these files.
        env: the environments of the run.
        tell: takes a line for the user.

    Raises:
        CheckpointError: if there is nothing to go on from, or another number of processes began it.
        MemoryError: if the newest checkpoint does not fit.
    """
    group = process_group()
    for path in [source] if source.is_file() else RunFolder(source).checkpoints():
        if (began := processes_of(path)) != group.size:
            raise CheckpointError(f"{path} was written by {began} processes, and {group.size} cannot go on from it")
        model, problem = None, ""
        try:
            model = kind.resume(_share(path, group.rank, group.size), env)
        except (CheckpointError, FileNotFoundError) as error:
            if isinstance(error.__cause__, MemoryError):  # the file is good, and an earlier one would not fit either
                raise error.__cause__ from None
            problem = str(error)
        problem = next((text for text in group.all_gather_text(problem) if text), "")
        if model is not None and not problem:
            return model
        tell(f"{path.name} is not used: {problem}")
    model_file = source if source.is_file() else RunFolder(source).model_file
    if not model_file.is_file():
        raise CheckpointError(f"{source} holds neither a whole checkpoint nor a model")
    tell(f"going on from the weights in {model_file.name}: episodes and replay memory begin anew")
    return kind.load(model_file, env=env)
