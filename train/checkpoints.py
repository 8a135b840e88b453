"""The checkpoints of a run: files ``checkpoints/STEPS.zip`` from which training goes on exactly where it was.

1. They are written between two iterations and hold everything (see :mod:`palaestra.agents.on_device`). Each is there
   whole or not at all, and the one before is kept, so that a run killed at any moment has one.
2. A finished run needs none; they are deleted when its evaluation is written.
3. One process at a time works in a run folder.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from palaestra.agents import CheckpointError
from palaestra.envs.core import BatchedEnv
from palaestra.train.environment import Agent
from palaestra.train.settings import ConfigError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

KEPT = 2
_FOLDER, _LOCK = "checkpoints", ".lock"


def save(model: Agent, run_dir: Path) -> None:
    """Write a checkpoint and delete those that it makes needless.

    Raises:
        OSError: if it cannot be written, or the folder has vanished; what is there stays.
    """
    check_there(run_dir)
    model.save_checkpoint(run_dir / _FOLDER / f"{model.num_timesteps:015d}.zip")
    for old in checkpoints(run_dir)[KEPT:]:
        old.unlink()


def check_there(run_dir: Path) -> None:
    """Raise an OSError if somebody has removed the run folder: what is written there would make a new one."""
    if not (run_dir / "config.yaml").is_file():
        raise FileNotFoundError(errno.ENOENT, "the run folder has vanished", str(run_dir))


def checkpoints(run_dir: Path) -> list[Path]:
    """All of a run, the newest first."""
    return sorted((run_dir / _FOLDER).glob("*.zip"), reverse=True)


def discard(run_dir: Path) -> None:
    """Delete them all."""
    shutil.rmtree(run_dir / _FOLDER, ignore_errors=True)


def resumed(kind: type[Agent], source: Path, env: BatchedEnv, tell: Callable[[str], None]) -> Agent:
    """The agent as it was.

    Args:
        kind: its class.
        source: a run folder, whose newest whole checkpoint is taken, else its model; or one of these files.
        env: the environments of the run.
        tell: takes a line for the user.

    Raises:
        CheckpointError: if there is nothing to go on from.
        MemoryError: if the newest checkpoint does not fit.
    """
    for path in [source] if source.is_file() else checkpoints(source):
        try:
            return kind.resume(path, env)
        except CheckpointError as error:
            if isinstance(error.__cause__, MemoryError):  # the file is good, and an earlier one would not fit either
                raise error.__cause__ from None
            tell(f"{path.name} is not used: {error}")
    model_file = source if source.is_file() else source / "model.zip"
    if not model_file.is_file():
        raise CheckpointError(f"{source} holds neither a whole checkpoint nor a model")
    tell(f"going on from the weights in {model_file.name}: episodes and replay memory begin anew")
    return kind.load(model_file, env=env)


@contextmanager
def only_process(run_dir: Path) -> Iterator[None]:
    """Keep other processes out of the run folder.

    Raises:
        ConfigError: if another one works there, or nothing may be written there.
    """
    try:
        lock = (run_dir / _LOCK).open("w")
    except OSError as error:
        raise ConfigError(f"cannot work in {run_dir}: {error.strerror}") from error
    with lock as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(f"{run_dir} is in use by another process") from error
        yield
