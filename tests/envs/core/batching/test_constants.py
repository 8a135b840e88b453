"""Kept numbers, and columns of a matrix."""

from __future__ import annotations

import pytest
import torch

from palaestra.envs.core.batching.constants import kept_number, kept_table
from palaestra.envs.core.batching.records import columns


@pytest.mark.parametrize("rows", [1, 5, 3000])
def test_columns_are_those_of_stack(rows: int) -> None:
    memory = torch.arange(12.0 * rows).view(4, 3 * rows)
    for tensors in (
        [*memory[:, :rows].unbind(0)],
        [m.clone() for m in memory[:, :rows]],
        [*memory.view(-1, 4).unbind(1)],
    ):
        matrix = columns(tensors)
        assert torch.equal(matrix, torch.stack(tensors, 1))
        assert matrix.is_contiguous()
        assert matrix.untyped_storage().data_ptr() != tensors[0].untyped_storage().data_ptr()


def test_what_is_kept_in_inference_mode_can_be_differentiated_through_later() -> None:
    with torch.inference_mode():
        kept_number(0.12345), kept_table((0.5, 1.5), torch.device("cpu"))
    x = torch.ones(3, requires_grad=True)
    (x * x * kept_number(0.12345) * kept_table((0.5, 1.5), torch.device("cpu"))[1]).sum().backward()
    assert x.grad is not None
    assert not kept_number(0.12345).is_inference()
