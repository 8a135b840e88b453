"""Operations in NumPy and with ``out=`` give PyTorch's own bits, on odd numbers too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from replay_operations import OPERATIONS, B, F, G
from torch import Tensor

from palaestra.envs.core.replay.program import Program, reserved, tensor_at
from palaestra.envs.core.replay.recording import Recording, ReplayError


def same(a: Tensor, b: Tensor) -> bool:
    """True for the same bits, but for those of a NaN."""
    if not a.dtype.is_floating_point:
        return torch.equal(a, b)
    whole = torch.int32 if a.dtype == torch.float32 else torch.int64
    bits = a.contiguous().view(whole) == b.contiguous().view(whole)
    return a.shape == b.shape and bool((bits | (a.isnan() & b.isnan())).all())


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_has_the_bits_that_it_had(name: str) -> None:
    recording = Recording()
    with recording:
        expected = OPERATIONS[name]()
    result = recording.copied(recording.place(expected))
    program = Program(recording, set(), {result.memory})
    memory = reserved(4096)
    with np.errstate(all="ignore"):
        for function, arguments in program.steps({result.memory: memory}, run=True):
            function(*arguments)  # once more: what has been computed is not needed again
    assert same(tensor_at(result, memory), expected)


@pytest.mark.parametrize(("threads", "in_numpy"), [(1, True), (2, True), (4, False)])
def test_many_numbers_are_left_to_many_threads(threads: int, in_numpy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    many = torch.ones(1 << 17)
    recording = Recording()
    with recording:
        result = recording.place(many * 2.0)
    ((function, _),) = Program(recording, set(), {result.memory}).steps({result.memory: reserved(1 << 19)})
    assert (function is np.multiply) == in_numpy


def test_what_nobody_reads_is_not_computed() -> None:
    recording = Recording()
    with recording:
        kept, _ = F * 2.0, (G * 3.0).sin()
    program = Program(recording, set(), {recording.place(kept).memory})
    assert [call.name for call in program.calls] == ["mul"]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: torch.stack(x.unbind(0)) * torch.stack((x[2], x[1], x[0])), ["stack", "mul"]),
        (lambda x: torch.stack(x[1:].unbind(0))[1] + torch.stack(x.unbind(0))[0], ["add"]),
        (lambda x: torch.stack(x.unbind(0)).mul_(2.0), ["stack", "mul_"]),  # what was copied stays
        (lambda x: torch.stack(x.unbind(0)).view(torch.int32) + 1, ["stack", "add"]),
        (lambda x: torch.stack(x.unbind(0), 1) + 1.0, ["stack", "add"]),
        (lambda x: torch.stack(x.unbind(0)), ["stack"]),  # the result has memory of its own
    ],
)
def test_a_stack_of_what_lies_so_already_is_no_copy(function: Callable[[Tensor], Tensor], names: list[str]) -> None:
    given, recording = torch.arange(12.0).view(3, 4), Recording()
    place = recording.place(given)
    with recording:
        expected = function(given)
    result = recording.place(expected)
    program = Program(recording, {place.memory}, {result.memory})
    assert [call.name for call in program.calls] == names
    memory = reserved(4096)
    bytes_given = torch.empty(0, dtype=torch.uint8).set_(given.untyped_storage())
    for step, arguments in program.steps({result.memory: memory, place.memory: bytes_given}, run=True):
        step(*arguments)
    assert torch.equal(tensor_at(result, memory), expected)


def test_a_stack_of_what_is_changed_later_is_a_copy() -> None:
    given, recording = torch.arange(12.0).view(3, 4), Recording()
    with recording:
        made = given * 2.0
        stacked = torch.stack(made.unbind(0))
        made.add_(1.0)
        expected = stacked + made
    program = Program(recording, set(), {recording.place(expected).memory})
    assert [call.name for call in program.calls] == ["mul", "stack", "add_", "add"]


def test_memory_is_given_by_turns() -> None:
    recording = Recording()
    with recording:
        value = F
        for _ in range(20):
            value = value * 0.5
    program = Program(recording, set(), {recording.place(value).memory})
    assert len({memory.data_ptr() for memory in program._own.values()}) == 2


@pytest.mark.parametrize(
    "function",
    [
        lambda: F.tolist(),
        lambda: F.numpy(),
        lambda: bool(B.any()),
        lambda: float(F[3]),
        lambda: B.nonzero(),
        lambda: F[B],
        lambda: torch.rand(3),
        lambda: F.clone().uniform_(),
        lambda: torch.equal(F, G),
    ],
)
def test_what_depends_on_more_than_tensors_is_refused(function: Callable[[], Any]) -> None:
    with pytest.raises(ReplayError), Recording():
        function()
