"""Atomic writes: a file is there whole or not at all, whenever the process dies or the disk is full.

A file is written beside its target, flushed to the disk and renamed; then the folder is flushed. What a killed writer
left beside it is removed by the next one: living writers hold a lock on theirs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has no such locks; leftovers stay there
    fcntl = None  # type: ignore[assignment]

_SUFFIX = ".unfinished"
_UNLOCKED_SECONDS = 60.0  # a file this young and still empty may be a writer's that has not locked it yet


def write_whole(path: pathlib.Path, content: bytes | memoryview | str) -> None:
    """Put ``content`` (text as UTF-8) at ``path``; its folder is made if it is missing.

    Raises:
        OSError: with the path and the reason in one line; the earlier file is intact then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_file(path) as (file, _):
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno or 0, f"cannot write the file ({reason})", str(path)) from error


@contextlib.contextmanager
def unfinished_file(path: pathlib.Path) -> Iterator[tuple[IO[bytes], pathlib.Path]]:
    """A file beside ``path``, open and by name, that replaces it at the end, and vanishes if something goes wrong."""
    if fcntl is not None:
        _remove_leftovers(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_SUFFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # some network file systems have no locks
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file, pathlib.Path(temporary)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the folder has vanished, or the disk is gone: the first error tells
            os.unlink(temporary)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: pathlib.Path) -> None:
    """Make the new name survive a power failure too."""
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems flush by themselves
            raise
    finally:
        os.close(handle)


def _remove_leftovers(folder: pathlib.Path) -> None:
    for leftover in folder.glob(f".*{_SUFFIX}"):
        # suppressed: another writer's, or gone meanwhile
        with contextlib.suppress(OSError), leftover.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(file.fileno())
            if status.st_size > 0 or time.time() - status.st_mtime > _UNLOCKED_SECONDS:
                leftover.unlink()
