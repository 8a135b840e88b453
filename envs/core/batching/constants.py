"""Numbers and tables that calls on few elements take: made once, outside of any mode of their first caller.

In a call on few elements a Python number costs as much again as the work, since PyTorch makes a tensor of it. A tensor
of no dimension on the CPU costs nothing and goes with tensors of any device.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from palaestra.envs.core.batching.records import side_by_side

_MANY = 2048  # rows
_HOST = torch.device("cpu")


@functools.lru_cache(maxsize=4096)
def kept_number(value: float, device: torch.device = _HOST) -> Tensor:
    """A number as a float32 tensor of no dimension.

    On the host it goes with tensors of any device in operations of two operands; those of three want it on theirs.
    """
    return kept_table((value,), device)[0]


@functools.lru_cache(maxsize=1024)
def kept_table(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers as a float32 tensor [K]."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)


@functools.lru_cache(maxsize=16)
def _interleaving(fields: int, rows: int) -> Tensor:
    """Where the numbers of a matrix [rows, fields] stand in its transpose, int64 [rows · fields]."""
    with torch.inference_mode(False):
        return torch.arange(fields * rows).view(fields, rows).t().flatten()


def columns(tensors: Sequence[Tensor]) -> Tensor:
    """``torch.stack(tensors, 1)`` of tensors [N], in half the time for many rows on the CPU."""
    if tensors[0].device.type != "cpu" or tensors[0].shape[0] < _MANY:
        return torch.stack(tuple(tensors), 1)
    together = side_by_side(tensors)
    if together is None or not together.is_contiguous():
        together = torch.stack(tuple(tensors))
    fields, rows = together.shape
    return together.view(-1).index_select(0, _interleaving(fields, rows)).view(rows, fields)
