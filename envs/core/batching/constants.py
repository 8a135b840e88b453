"""Numbers and tables that calls on few elements take: made once, outside of any mode of their first caller.

In a call on few elements a Python number costs as much again as the work, since PyTorch makes a tensor of it. A tensor
of no dimension on the CPU costs nothing and goes with tensors of any device.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_HOST = torch.device("cpu")


@functools.lru_cache(maxsize=4096)
def kept_number(value: float, device: torch.device = _HOST, dtype: torch.dtype = torch.float32) -> Tensor:
    """A number as a tensor of no dimension, to be read only.

    On the host it goes with tensors of any device in operations of two operands; those of three want it on theirs.
    """
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=dtype, device=device)


ONE = kept_number(1, dtype=torch.int64)


@functools.lru_cache(maxsize=1024)
def kept_table(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers as a float32 tensor [K]."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)
