"""Sums through shared memory, between real processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import team
import torch

from palaestra.agents.distributed import shared_memory
from palaestra.agents.distributed.process_group import DistributedGroup, LostContactError, process_group
from palaestra.agents.distributed.shared_memory import GoneError, SharedMemoryGroup

pytestmark = pytest.mark.skipif(not shared_memory._is_possible(), reason="a machine without such a board")


def many_turns() -> dict[str, Any]:
    """Sums of changing forms, without a pause, each process at times ahead of the others and at times behind."""
    group = process_group()
    assert isinstance(group, DistributedGroup)
    assert group._shared_memory is not None
    wrong = 0
    for turn in range(3000):
        if turn % 500 == 100 * group.rank:
            time.sleep(0.003)
        length = 1 + turn % 7
        total = group.sum(torch.full((length,), float(turn + 1000 * group.rank)))
        expected = sum(turn + 1000 * rank for rank in range(group.size))
        wrong += int((total != expected).sum()) + (len(total) != length)
    large = torch.arange(700_000, dtype=torch.float32) * (1 + group.rank)  # 2.8 MB: three pieces
    whole = group.sum(large.view(700, 1000))
    return {
        "wrong": wrong,
        "large": bool((whole.flatten() == torch.arange(700_000, dtype=torch.float32) * 6).all()),
        "integers": group.sum(torch.tensor([group.rank, 2**40])),
        "double": group.sum(torch.tensor(0.1, dtype=torch.float64)),
        "strided": group.sum(torch.arange(6.0).view(2, 3).t()),
        "gathered": [part[0] for part in group.gather(torch.tensor(float(group.rank)))],
        "last bits": group.sum(torch.randn(1000, generator=torch.Generator().manual_seed(group.rank))),
    }


def test_three_processes_see_the_same_sums() -> None:
    found = team.results(3, many_turns)
    for part in found:
        assert part["wrong"] == 0
        assert part["large"]
        assert part["integers"].tolist() == [3, 3 * 2**40]
        assert part["double"].dtype == torch.float64
        assert float(part["double"]) == pytest.approx(0.3, rel=1e-15)
        assert part["strided"].tolist() == [[0.0, 9.0], [3.0, 12.0], [6.0, 15.0]]
        assert [float(value) for value in part["gathered"]] == [0.0, 1.0, 2.0]
        assert torch.equal(part["last bits"], found[0]["last bits"])
    there = [*Path("/dev/shm").glob("palaestra-*")]  # also those of tests that run beside this one, which soon go
    deadline = time.monotonic() + 10
    while any(path.exists() for path in there) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [path for path in there if path.exists()]


def without_a_board() -> dict[str, Any]:
    group = process_group()
    assert isinstance(group, DistributedGroup)
    values = torch.arange(5.0) + group.rank
    shown = [group.sum(values), group.lowest(values), torch.stack([part[0] for part in group.gather(values)])]
    group._shared_memory, kept = None, group._shared_memory
    sent = [group.sum(values), group.lowest(values), torch.stack([part[0] for part in group.gather(values)])]
    group._shared_memory = kept
    return {"shown": shown, "sent": sent}


def test_gloo_says_the_same() -> None:
    for part in team.results(2, without_a_board):
        torch.testing.assert_close(part["shown"], part["sent"], rtol=0, atol=0)


@pytest.mark.parametrize("why", ["not possible", "no memory", "cannot be mapped"])
def test_where_it_cannot_be_the_processes_go_without(why: str) -> None:
    for part in team.results(2, hindered, why):
        assert part["board"] is False
        assert part["sum"].tolist() == [3.0]


def hindered(why: str) -> dict[str, Any]:
    """Another meeting, in which one of the processes has no such memory."""
    group = process_group()
    assert isinstance(group, DistributedGroup)
    rank = group.rank
    if why == "not possible" and rank == 1:
        shared_memory._is_possible = lambda: False  # type: ignore[assignment]
    if why == "no memory":
        os.posix_fallocate = _full
    if why == "cannot be mapped" and rank == 1:
        shared_memory._FOLDER = Path("/nowhere")
        shared_memory._is_possible = lambda: True  # type: ignore[assignment]
    again = SharedMemoryGroup.shared(f"palaestra-test-{why.replace(' ', '-')}", rank, 2, group._all_say)
    return {"board": again is not None, "sum": group.sum(torch.tensor([1.0 + rank]))}


def _full(*arguments: Any) -> None:
    raise OSError(28, "No space left on device")


def dies(folder: str) -> str:
    """Process 1 is killed while process 0 waits for it."""
    group = process_group()
    if group.rank == 1:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    begun = time.monotonic()
    with pytest.raises(LostContactError, match="process 0 of 2 has lost contact"):
        group.sum(torch.ones(3))
    (Path(folder) / "noticed").write_text(str(time.monotonic() - begun))
    os._exit(0)  # the barrier at the end has nobody to wait for


def test_a_death_is_noticed_soon(tmp_path: Path) -> None:
    processes = team.start(2, team._call, [None, None], dies, (str(tmp_path),))
    assert team.wait(processes) == [0, -signal.SIGKILL]
    assert 0.4 < float((tmp_path / "noticed").read_text()) < 5.0  # seconds, of which it lives the first half


def test_who_has_come_and_ended_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter is believed before a lock; and a lock that somebody holds is no sign of death."""
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path)
    assert shared_memory._is_made(tmp_path / "board", 2)
    one = SharedMemoryGroup(tmp_path / "board", 0, 2)
    one._turn = 1
    one._counters[8] = 1
    one._try_locks([1])
    one._turn = 2
    with pytest.raises(GoneError, match="process 1 has ended"):
        one._try_locks([1])
    assert one.first_to_fail()
    assert not one.first_to_fail()
    one.close()
    assert not shared_memory._is_made(tmp_path / "board", 2)  # never another's file
