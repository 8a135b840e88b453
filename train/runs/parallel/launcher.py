"""The processes of ``palaestra train --processes K``: started on this machine without torchrun, and waited for.

1. The command that was typed only starts the others and imports no PyTorch. They are joined as those of torchrun are
   (:mod:`palaestra.train.runs.parallel.torchrun`), each with one thread unless ``--threads`` or ``OMP_NUM_THREADS``
   decides. A run goes on with as many as it began with, which its checkpoints tell.
2. Process 0 has the terminal, and signals go to it alone: what it is asked to do all do before the next iteration.
3. Where one ends, the others lose contact with it and end too, or by force after ``PATIENCE``. If it could not tell why
   itself, a line here does.
4. If the first command is killed, Linux sends the others a SIGTERM, by which they save and end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from palaestra.train.config.schema import ConfigError
from palaestra.train.interruptions import SIGNALS
from palaestra.train.runs.parallel.child_process import killed_by
from palaestra.train.runs.run_folder import RunFolder, processes_of

LOST = 75  # exit status of a process that has lost contact with another one, which is for the command to tell
PATIENCE = 10.0  # s from the end of one process to a SIGTERM for process 0, and from there to a SIGKILL
FOLLOWERS_PATIENCE = 3.0  # s from the end of process 0 to a SIGKILL for the others, which have nothing left to save
MOST = 4  # processes for each core; more of them only take memory

_MEETING = "PALAESTRA_MEETING"  # names the file in which process 0 leaves the path of the run folder
_TURN = 0.05  # s between two looks
_PR_SET_PDEATHSIG = 1  # prctl(2)


class ProcessDiedError(RuntimeError):
    """One of the processes has ended without a word; the message says how, and how to go on."""


def is_one_of_several(environ: Mapping[str, str] = os.environ) -> bool:
    """True in a process that this module, or torchrun, has started."""
    return "RANK" in environ and "WORLD_SIZE" in environ


def started_by_command(environ: Mapping[str, str] = os.environ) -> bool:
    """True in a process that this module has started."""
    return _MEETING in environ


def note_folder(folder: RunFolder) -> None:
    """Let the command know the run folder, for its last words."""
    if started_by_command():
        Path(os.environ[_MEETING]).write_text(str(folder.path), encoding="utf-8")


def number_of_processes(given: int | None, resume: str | None, goes_further: bool) -> int:
    """The number of processes to start; 1 if this one is to train itself.

    Args:
        given: what ``--processes`` says.
        resume: the run to go on with.
        goes_further: True if a finished one is to.

    Raises:
        ConfigError: if the run began with another number, that is too many, or torchrun has decided.
    """
    if is_one_of_several():
        if given is not None and not started_by_command():
            raise ConfigError(f"--processes {given}: torchrun has started this process, its --nproc-per-node decides")
        return 1
    began = None if resume is None else _began_with(resume, goes_further)
    if given is not None and began is not None and given != began:
        one = "1 process" if began == 1 else f"{began} processes"
        raise ConfigError(f"--processes {given}: {resume} was trained by {one}; leave --processes out to go on with it")
    count = given or began or 1
    from palaestra.envs.core.host import available_cores

    if count > (most := MOST * available_cores()):
        raise ConfigError(f"--processes {count}: at most {most}, {MOST} for each core that this machine lets you use")
    return count


def _began_with(name: str, goes_further: bool) -> int | None:
    """The number of processes that a run needs to go on; None if it does not matter."""
    from palaestra.train.runs.finding import find_unfinished

    source = find_unfinished(name)
    folder = RunFolder(source)
    if newest := source if source.is_file() else next(iter(folder.checkpoints()), None):
        return processes_of(newest)
    trained = folder.facts().get("processes")
    return trained if goes_further and isinstance(trained, int) and trained > 0 else None


def run_processes(count: int, arguments: Sequence[str]) -> int:
    """The exit status of ``palaestra ARGUMENTS`` in so many processes.

    Raises:
        ProcessDiedError: if one of them ends without a word.
    """
    with tempfile.TemporaryDirectory(prefix="palaestra-") as folder:
        meeting = Path(folder) / "run-folder"
        command = [sys.executable, "-P", "-m", "palaestra.train", *arguments]
        port = _free_port()
        processes: list[subprocess.Popen[bytes]] = []
        try:
            with _forwarded_signals(processes):
                processes.extend(_started(command, _environ(rank, count, port, meeting), rank) for rank in range(count))
                return _status(*_ended(processes), meeting)
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _environ(rank: int, count: int, port: int, meeting: Path) -> dict[str, str]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    usual = {"OMP_NUM_THREADS": "1", **({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {})}
    own = {"MASTER_ADDR": "127.0.0.1", _MEETING: str(meeting), **{name: str(value) for name, value in place.items()}}
    return {**usual, **os.environ, **own}


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _started(command: Sequence[str], environ: dict[str, str], rank: int) -> subprocess.Popen[bytes]:
    """Process 0 in this process's group, which the terminal's signals go to, any other in one of its own."""
    return subprocess.Popen(
        command,
        env=environ,
        stdin=None if rank == 0 else subprocess.DEVNULL,
        process_group=None if rank == 0 or sys.platform == "win32" else 0,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # this process has one thread
    )


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _forwarded_signals(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """A block in which signals go to process 0, which takes one that the terminal has sent it too for the same."""

    def forward(number: int, frame: FrameType | None) -> None:
        for process in processes[:1]:
            process.send_signal(number)

    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # which is nohup's
    before = {number: signal.signal(number, forward) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(processes: Sequence[subprocess.Popen[bytes]]) -> tuple[list[int], list[int]]:
    """The exit statuses in the order of the ranks, and the ranks in the order of their ends but for those of force."""
    leader, order, forced, asked = processes[0], list[int](), set[int](), False
    failed_at: float | None = None
    while running := [rank for rank, process in enumerate(processes) if process.poll() is None]:
        now = time.monotonic()
        for rank in range(len(processes)):
            if rank not in running and rank not in order:
                order.append(rank)
                if failed_at is None and (rank == 0 or processes[rank].returncode):
                    failed_at = now
        if failed_at is not None:
            waited = now - failed_at
            if leader.returncode is None and waited > PATIENCE and not asked:
                asked = True
                leader.terminate()
            if waited > (2 * PATIENCE if leader.returncode is None else FOLLOWERS_PATIENCE):
                forced |= set(running)
                for rank in running:
                    processes[rank].kill()
        time.sleep(_TURN)
    order += [rank for rank in range(len(processes)) if rank not in order]
    return [process.returncode for process in processes], [rank for rank in order if rank not in forced]


def _status(statuses: Sequence[int], order: Sequence[int], meeting: Path) -> int:
    """The status of them all: that of the first one which has told why it ended.

    Raises:
        ProcessDiedError: if there is none.
    """
    statuses = [130 if -status in SIGNALS else status for status in statuses]  # one that had told all, and was leaving
    silent = [rank for rank in order if statuses[rank] < 0 or statuses[rank] not in (0, 1, 2, LOST, 130)]
    if silent:
        rank, status = silent[0], statuses[silent[0]]
        how = f"was {killed_by(status)}" if status < 0 else f"ended without a word, status {status}"
        raise ProcessDiedError(f"process {rank} of {len(statuses)} {how}{_way_on(meeting)}")
    if 0 not in order or {statuses[rank] for rank in order} == {LOST}:
        raise ProcessDiedError(f"the {len(statuses)} processes have lost contact with each other{_way_on(meeting)}")
    return next((status for status in (2, 130, 1) if status in statuses), 0)


def _way_on(meeting: Path) -> str:
    """The command that goes on with the run, if it can."""
    folder = None
    with contextlib.suppress(OSError):  # it was not made yet
        folder = RunFolder(Path(meeting.read_text(encoding="utf-8")))
    newest = None if folder is None else next(iter(folder.checkpoints()), None)
    if folder is None or newest is None:
        return "; there was no checkpoint yet"
    return f"; go on from step {int(newest.stem):,} with: palaestra train --resume {shlex.quote(str(folder.path))}"
