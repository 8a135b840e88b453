"""Operations in NumPy and with ``out=`` give PyTorch's own bits, on odd numbers too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from palaestra.envs.core.replay.program import Program, reserved, tensor_at
from palaestra.envs.core.replay.recording import Recording, ReplayError, host_call

SPECIAL = [0.0, -0.0, 1.0, -1.5, 1e-42, -1e-42, 3e38, -3e38, float("inf"), float("-inf"), float("nan"), 2.0**-126]
F = torch.cat((torch.tensor(SPECIAL), torch.linspace(-3, 3, 101)))
G = F.roll(5)
N = torch.cat((torch.tensor([0, 1, -1, 2**62, -(2**63), 2**63 - 1]), torch.arange(-50, 57)))
SMALL = (N % 61).to(torch.int16)
B = F > 0.5
GAMMA = torch.tensor(-7046029254386353131)
SHIFT, LEFT = torch.tensor(30), torch.tensor((1 << 34) - 1)
HALF, ZERO = torch.tensor(0.3), torch.tensor(0.0)

OPERATIONS: dict[str, Callable[[], Tensor]] = {
    "sums": lambda: F + G - 0.1,
    "products": lambda: (F * G) * 0.7 * HALF,
    "quotients": lambda: F / G / 3.0,
    "squares": lambda: F.square() + F**2,
    "roots": lambda: F.abs().sqrt(),
    "sines": lambda: F.sin() + F.cos().exp(),
    "reversed": lambda: 1.0 - F,
    "scaled": lambda: torch.add(F, G, alpha=0.3) + torch.addcmul(F, G, F, value=0.3),
    "scaled product": lambda: torch.addcmul(ZERO, F, G, value=0.3),
    "scaled quotient": lambda: torch.addcdiv(F, G, F, value=-0.3) + torch.addcdiv(HALF, F, G, value=0.1),
    "scaled in place": lambda: F.clone().addcdiv_(G, F, value=0.2).addcmul_(G, G, value=0.1),
    "in place": lambda: F.clone().mul_(G).add_(0.1).sub_(HALF).div_(3.0).clamp_(-1.0, 1.0),
    "minima": lambda: torch.minimum(F, G) + torch.maximum(F, -G) + F.clamp(max=0.0),
    "integers": lambda: (N * GAMMA + 7 - N * 3).bitwise_xor(N >> SHIFT).bitwise_and_(LEFT) | 5,
    "mixing": lambda: (N >> SHIFT).bitwise_and_(LEFT).bitwise_xor_(N).mul_(GAMMA),
    "integers scaled": lambda: torch.add(N, N.roll(1), alpha=-7046029254386353131),
    "least integers": lambda: torch.minimum(N, N.flip(0)) + torch.maximum(SMALL, SMALL.flip(0)),
    "small integers": lambda: SMALL + B + SMALL * 2,
    "small integers and a fraction": lambda: SMALL * 0.5 + SMALL / 7,
    "mixed": lambda: N + B,
    "comparisons": lambda: (F < G) | (F >= 0.1) & (N == 3) ^ (N != SMALL),
    "comparison with a fraction": lambda: (SMALL > 1.5) | (N <= 2.5),
    "truths": lambda: torch.logical_and(B, F > 0).logical_or_(G > 0).logical_not(),
    "truths greater": lambda: (N > 3).gt(B),
    "negated": lambda: -F + (-N).abs(),
    "filled": lambda: torch.zeros_like(F) + torch.ones_like(F) + torch.full_like(F, 2.5) + torch.zeros(113).fill_(3.0),
    "cast": lambda: N.float() + B.float() + SMALL.double().float() + N.to(torch.int16).float(),
    "cast down": lambda: F.clamp(-100.0, 100.0).nan_to_num().long(),
    "stacked": lambda: torch.stack((F, G, F * G)),
    "stacked in columns": lambda: torch.stack((F, G, F * G), 1),
    "views stacked": lambda: torch.stack([*torch.stack((F, G, F * G)).unbind(0)], 1),
    "joined": lambda: torch.cat((F.unsqueeze(1), torch.stack((F, G), 1)), 1),
    "chosen": lambda: torch.where(B, F, G) + F.masked_fill(B, 2.0) + F.clone().masked_fill_(B, 3.0),
    "gathered": lambda: F.index_select(0, N.abs() % 100) + F[N.abs() % 100] + F.gather(0, N.abs() % 100),
    "written": lambda: torch.zeros(113).index_copy(0, torch.arange(113).flip(0), F).scatter_(0, N.abs() % 100, 1.0),
    "reduced": lambda: torch.stack((F, G)).sum(0) + torch.stack((B, B)).any(0) + torch.stack((F, G)).amax(0),
    "searched": lambda: torch.searchsorted(torch.linspace(-2, 2, 9), F.nan_to_num(), right=True),
    "two results": lambda: torch.stack((F, G)).max(0).values + torch.stack((F, G)).max(0).indices,
    "parts": lambda: _parts(),
    "a call of the host": lambda: host_call(_of_rows, F, B) * 2.0,
}


def _parts() -> Tensor:
    whole = torch.empty(3, 113)
    torch.add(F, G, out=whole[0])
    torch.gt(whole[0], 0.5, out=whole[1])
    torch.div(SMALL, 60, out=whole[2])
    return whole[:, ::2]


def _of_rows(values: Tensor, where: Tensor) -> Tensor:
    rows = where.nonzero().squeeze(1)
    return values.index_fill(0, rows, 5.0)


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
