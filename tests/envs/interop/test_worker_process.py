"""Environments in processes: signals to all are the parent's, and no process outlives it or holds it up."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from palaestra.envs import make
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.interop.process_loop import ProcessLoop

PARENT = """
import os, signal, time
from palaestra.envs import make
batch = make("CartPole-v1", 3, "cpu", vectorization_mode="async")
batch.reset()
print(*(process.pid for process in batch.loop.processes), flush=True)
{end}
"""


def _runs(pid: int) -> bool:
    """False too for one that has ended and that nobody has asked how."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux which processes run")
@pytest.mark.parametrize(
    ("end", "status"),
    [("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL), ("", 0)],
    ids=["killed", "not closed"],
)
def test_processes_end_with_their_parent(end: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT.format(end=end)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (status, "")
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) == 3
    deadline = time.monotonic() + 20
    while any(map(_runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_runs, workers))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_the_parents(number: int) -> None:
    batch = make("CartPole-v1", 3, "cpu", vectorization_mode="async")
    assert isinstance(batch, GymnasiumAdapter)
    batch.reset(seed=0)
    for process in batch.loop.processes:
        os.kill(process.pid, number)
    time.sleep(0.1)
    batch.step(torch.zeros(3, dtype=torch.int64))
    batch.close()
    assert not multiprocessing.active_children()


def test_a_block_that_fails_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does while environments are made."""

    def interrupted(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ProcessLoop, "_answers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make("CartPole-v1", 3, "cpu", vectorization_mode="async")
    assert not multiprocessing.active_children()
