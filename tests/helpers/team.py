"""Several processes of one training, for tests: forked from a server that has imported everything once."""

from __future__ import annotations

import io
import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_command import FORKS, ForkedCommand
from garbage import leave_imports_alone

from palaestra.agents.distributed.process_group import joined


def _environ(rank: int, size: int, port: int) -> dict[str, str]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    return {**{name: str(value) for name, value in place.items()}, "MASTER_ADDR": "127.0.0.1"}


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def start(size: int, target: Callable[..., None], *arguments: Any) -> list[Any]:
    """``size`` processes that run ``target(environ, rank, *arguments)``."""
    port = _free_port()
    return start_functions(target, *((_environ(rank, size, port), rank, *arguments) for rank in range(size)))


def start_functions(target: Callable[..., None], *arguments: tuple[Any, ...]) -> list[Any]:
    """A process for each tuple of arguments, which runs ``target`` with them."""
    processes = [FORKS.Process(target=target, args=each) for each in arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2])])  # they import the module of ``target``
        for process in processes:
            process.start()
    return processes


def wait(processes: list[Any], timeout: float = 60.0) -> list[int]:
    """Their exit codes; an AssertionError if one does not end."""
    for process in processes:
        process.join(timeout)
    late = [process for process in processes if process.exitcode is None]
    for process in late:
        process.kill()
        process.join()
    assert not late, "a process does not end"
    return [process.exitcode for process in processes]


# ---------------------------------------------------------------------------------------------------- functions


def results(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``function(*arguments)`` gives in each of the processes, once they are joined."""
    pipes = [FORKS.Pipe(duplex=False) for _ in range(size)]
    processes = start(size, _call, [sender for _, sender in pipes], function, arguments)
    for _, sender in pipes:
        sender.close()
    found = []
    for receiver, _ in pipes:
        good, content = receiver.recv() if receiver.poll(60.0) else (False, "no result")
        assert good, content
        found.append(torch.load(io.BytesIO(content), weights_only=True))
    assert wait(processes) == [0] * size
    return found


def _call(environ: dict[str, str], rank: int, senders: list[Any], function: Any, arguments: Any) -> None:
    leave_imports_alone()
    os.environ.update(environ)
    torch.set_num_threads(1)
    try:
        with joined() as group:
            answer = function(*arguments)
            group.barrier()
        content = io.BytesIO()
        torch.save(answer, content)
        senders[rank].send((True, content.getvalue()))
    except BaseException:
        senders[rank].send((False, traceback.format_exc()))


# ---------------------------------------------------------------------------------------------------- commands


def start_command(size: int, arguments: list[str], folder: Path, evaluations: int | None = 2) -> list[ForkedCommand]:
    """``palaestra ARGUMENTS`` in every process, with so many evaluations; process r writes to ``folder/r.log``."""
    port = _free_port()
    places = [{**os.environ, **_environ(rank, size, port)} for rank in range(size)]
    return [
        ForkedCommand(arguments, folder / f"{rank}.log", environ=place, evaluations=evaluations)
        for rank, place in enumerate(places)
    ]


def command(size: int, arguments: list[str], folder: Path, evaluations: int | None = 2) -> tuple[list[int], str]:
    """The exit codes, and all that the processes have written."""
    codes = [process.wait(60.0) for process in start_command(size, arguments, folder, evaluations)]
    return codes, said(size, folder)


def said(size: int, folder: Path) -> str:
    return "".join((folder / f"{rank}.log").read_text() for rank in range(size))
