"""The order in which a CUDA graph is made, without a GPU: a stand-in for ``torch.cuda`` notes the calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from palaestra.agents.graphs import cuda_graph
from palaestra.agents.graphs.cuda_graph import CudaGraph
from palaestra.agents.graphs.recorder import Recorder
from palaestra.agents.graphs.slots import GraphError


class Stream:
    def __init__(self, notes: list[str], name: str) -> None:
        self.notes, self.name = notes, name

    def wait_stream(self, other: Stream) -> None:
        self.notes.append(f"{self.name} waits for {other.name}")


class StandIn:
    """``torch.cuda`` as far as it is used; ``fails`` ends a recording with an error of its own, as CUDA does."""

    def __init__(self, fails: bool = False) -> None:
        self.notes: list[str] = []
        self.fails = fails
        self.usual = Stream(self.notes, "usual")

    def Stream(self) -> Stream:  # noqa: N802
        return Stream(self.notes, "side")

    def CUDAGraph(self) -> Any:  # noqa: N802
        return SimpleNamespace(replay=lambda: self.notes.append("replay"))

    def current_stream(self) -> Stream:
        return self.usual

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        self.notes.append(f"on {stream.name}")
        yield

    @contextmanager
    def graph(self, graph: Any) -> Iterator[None]:
        self.notes.append("recording")
        try:
            yield
        finally:
            self.notes.append("recorded")
            if self.fails:
                raise RuntimeError("operation failed due to a previous error during capture")


def stand_in(monkeypatch: pytest.MonkeyPatch, fails: bool = False) -> StandIn:
    cuda = StandIn(fails)
    monkeypatch.setattr(cuda_graph, "torch", SimpleNamespace(cuda=cuda))
    return cuda


def test_it_is_warmed_up_recorded_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = stand_in(monkeypatch)
    owner = SimpleNamespace(x=torch.zeros(2))

    def step(amount: Any) -> Any:
        cuda.notes.append("step")
        owner.x = owner.x + amount
        return owner.x * 2

    recorder = Recorder(torch.device("cpu"), CudaGraph)
    recorder.begin(lambda: [(owner, "x")], None)
    for amount in (1.0, 2.0, 3.0, 4.0, 5.0):
        recorder(step, amount)
    warm_up = ["side waits for usual", "on side", "step", "usual waits for side"]
    assert cuda.notes == [*warm_up * 3, "recording", "step", "recorded", "replay", "replay"]


def test_the_first_error_is_told_and_nothing_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA raises once more where a recording that has failed ends."""
    cuda = stand_in(monkeypatch, fails=True)

    def step() -> None:
        raise ValueError("Cannot copy between CPU and CUDA tensors during CUDA graph capture")

    with pytest.raises(GraphError, match=r"^Cannot copy between CPU and CUDA tensors"):
        CudaGraph().record(step, [])
    assert cuda.notes == ["recording", "recorded"]


def test_a_recording_that_fails_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, fails=True)
    owner = SimpleNamespace(x=torch.zeros(2), count=0)

    def step() -> Any:
        owner.x = owner.x + 1.0
        owner.count += 1
        return owner.x

    recorder = Recorder(torch.device("cpu"), CudaGraph)
    recorder.begin(lambda: [(owner, "x")], None)
    for _ in range(3):
        recorder(step)
    with pytest.warns(UserWarning, match="called one by one: step: a number changes that is no tensor: .*count is 3"):
        recorder(step)
    recorder(step)
    assert (owner.x.tolist(), owner.count) == ([5.0, 5.0], 5)
