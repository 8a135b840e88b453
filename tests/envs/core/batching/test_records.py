"""State records: which fields lie in one memory, and selecting rows of them together."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from palaestra.envs.core.batching.records import select, side_by_side, state_fields


def test_tensors_side_by_side_are_seen_as_one_without_a_copy() -> None:
    memory = torch.arange(40.0)
    rows, columns = memory.view(4, 10), memory.view(10, 4)
    for tensors in (rows.unbind(0), columns.unbind(1), rows.unbind(0)[1:], columns.unbind(1)[::2]):
        view = side_by_side(tensors)
        assert view is not None
        assert torch.equal(view, torch.stack(tensors))
        assert view.untyped_storage().data_ptr() == memory.untyped_storage().data_ptr()
    constants = [c.expand(7) for c in torch.tensor([1, 5, -1]).unbind()]
    view = side_by_side(constants)
    assert view is not None
    assert view.tolist() == [[1] * 7, [5] * 7, [-1] * 7]


@pytest.mark.parametrize(
    "tensors",
    [
        (torch.zeros(4), torch.zeros(4)),
        torch.zeros(4, 4).unbind(0)[::-1],
        [torch.zeros(4, 4)[i] for i in (0, 1, 3)],
        (torch.zeros(4, 4)[0], torch.zeros(4, 4)[1]),
        (torch.zeros(8)[:4], torch.zeros(8).double()[4:]),
    ],
    ids=["two memories", "backwards", "unequal distances", "two memories, as distances are", "types"],
)
def test_other_tensors_are_not(tensors: list[Tensor]) -> None:
    assert side_by_side(tensors) is None


def test_a_field_that_needs_its_gradient_is_not_taken_by_its_memory() -> None:
    weight = torch.zeros(3, 5, requires_grad=True)
    assert side_by_side(weight.unbind(0)) is None


@dataclass(frozen=True)
class Mixed:
    a: Tensor
    b: Tensor
    c: Tensor
    d: Tensor
    board: Tensor
    flag: Tensor


def made(offset: int, together: bool) -> Mixed:
    numbers = torch.arange(offset, offset + 20).view(4, 5)
    rows = numbers.unbind(0) if together else [row.clone() for row in numbers.unbind(0)]
    return Mixed(*rows, torch.full((5, 2), float(offset)), torch.full((5,), offset > 0))


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("theirs", [False, True])
def test_rows_are_selected_whatever_lies_where(ours: bool, theirs: bool) -> None:
    mask = torch.tensor([True, False, False, True, False])
    chosen, other = made(100, ours), made(0, theirs)
    for earlier in (None, other):
        result = state_fields(select(mask, chosen, other, earlier))
        for name, value in result.items():
            a, b = getattr(chosen, name), getattr(other, name)
            assert value.dtype == b.dtype
            for row in range(5):
                assert torch.equal(value[row], (a if mask[row] else b)[row])
