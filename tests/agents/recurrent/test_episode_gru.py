"""The gated recurrent unit beside PyTorch's, step by step, in sequences with episodes that end and begin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from palaestra.agents.recurrent.episode_gru import EpisodeGru


def made(inputs: int, hidden: int, dtype: torch.dtype) -> tuple[EpisodeGru, nn.GRUCell]:
    torch.manual_seed(0)
    unit, cell = EpisodeGru(inputs, hidden).to(dtype), nn.GRUCell(inputs, hidden).to(dtype)
    cell.load_state_dict(unit.state_dict())
    return unit, cell


def slow(cell: nn.GRUCell, x: Tensor, memory: Tensor, starts: Tensor) -> Tensor:
    """The memories after each step, by PyTorch's cell and autograd."""
    after = []
    for step, begins in zip(x, starts, strict=True):
        memory = cell(step, torch.where(begins.unsqueeze(1), 0.0, memory))
        after.append(memory)
    return torch.stack(after)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("length", "rows", "inputs", "hidden"), [(1, 1, 1, 1), (7, 5, 3, 4), (33, 16, 8, 12)])
def test_memories_and_all_gradients_equal_pytorchs(
    length: int, rows: int, inputs: int, hidden: int, dtype: torch.dtype, close: float
) -> None:
    unit, cell = made(inputs, hidden, dtype)
    given = [torch.randn(length, rows, inputs, dtype=dtype), torch.randn(rows, hidden, dtype=dtype)]
    starts = torch.rand(length, rows) < 0.25
    weight = torch.randn(length, rows, hidden, dtype=dtype)
    gradients = []
    for module, run in ((unit, unit.sequences), (cell, lambda *a: slow(cell, *a))):
        x, memory = (tensor.clone().requires_grad_() for tensor in given)
        after = run(x, memory, starts)
        (after * weight).sum().backward()
        gradients.append([after.detach(), x.grad, memory.grad, *(p.grad for p in module.parameters())])
    for ours, theirs in zip(*gradients, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, theirs, rtol=close, atol=close * length)


def test_acting_takes_the_steps_that_are_learned_from() -> None:
    unit, cell = made(6, 9, torch.float64)
    x, memory = torch.randn(11, 4, 6, dtype=torch.float64), torch.randn(4, 9, dtype=torch.float64)
    expected = slow(cell, x, memory, torch.zeros(11, 4, dtype=torch.bool))
    for step, after in zip(x, expected, strict=True):
        memory = unit.step(step, memory)
        torch.testing.assert_close(memory, after, rtol=1e-12, atol=1e-12)


def test_nothing_passes_over_the_beginning_of_an_episode() -> None:
    unit, _ = made(2, 3, torch.float32)
    x, memory = torch.randn(4, 1, 2, requires_grad=True), torch.randn(1, 3, requires_grad=True)
    starts = torch.tensor([[False], [False], [True], [False]])
    unit.sequences(x, memory, starts)[3].sum().backward()
    assert x.grad is not None
    assert memory.grad is not None
    assert (x.grad[:2] == 0).all()
    assert (memory.grad == 0).all()
    assert (x.grad[2:] != 0).all()


def test_orthogonal_gates() -> None:
    unit, _ = made(5, 5, torch.float64)
    unit.make_orthogonal()
    for weight in (unit.weight_ih, unit.weight_hh):
        for gate in weight.chunk(3):
            torch.testing.assert_close(gate @ gate.t(), torch.eye(5, dtype=torch.float64))
    assert not unit.bias_ih.any()
    assert not unit.bias_hh.any()
