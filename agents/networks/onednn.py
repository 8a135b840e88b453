"""Products of dense layers by oneDNN, where it is faster than PyTorch's default library.

For matrices of float32 on a CPU, PyTorch's own products go to Intel's MKL, which does not use the AVX-512 of AMD's
processors; oneDNN, which is part of PyTorch too, does. On an EPYC of family 26 (Zen 5) with two cores (8,192 rows, 64
inputs and outputs) a product takes 150 µs instead of 330, and the sum over rows for a weight's gradient 220 instead of
360. AMD's processors before compute 512 bits in two halves. On one core of family 25 (Zen 4) updates of networks of
width 64 and 128 take 2 to 10 % longer with oneDNN than with MKL alone, those of width 256 take 4 % less.

1. Whether to use it depends on the processor and on the form of the matrices alone, never on a measurement, so that a
   run is repeated to the last bit.
2. Below the sizes here its calls, which cost more, are slower. It compiles code for every new number of rows, half a
   millisecond's work: hence multiples of 64 only, not any number of rows.
"""

from __future__ import annotations

import functools
import pathlib
import platform
import re

import torch
from torch import Tensor

_ZEN_5, _WIDE = 26, 256  # the family; the least width before it
_ROWS = 64
_PRODUCTS, _NARROW = 2**20, 16  # the least multiplications of a product, and columns
_SUM_PRODUCTS, _SUM_NARROW = 2**24, 32  # the same for a sum over rows, and both its sides


@functools.cache
def is_faster() -> bool:
    """True on an AMD processor with AVX-512, with a PyTorch that has both libraries."""
    libraries: bool = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    operations = hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(
        torch.ops.aten, "mkldnn_linear_backward_weights"
    )
    return (
        libraries and operations and torch.backends.cpu.get_cpu_capability() == "AVX512" and _is_made_by("AuthenticAMD")
    )


@functools.cache
def least_width() -> int:
    """The fewest inputs and outputs for which it is faster on this processor."""
    return 0 if _family() >= _ZEN_5 else _WIDE


@functools.cache
def has_fast_tanh() -> bool:
    """True where PyTorch's tanh is the one of MKL's that is made for the processor."""
    return torch.backends.mkl.is_available() and _is_made_by("GenuineIntel")  # type: ignore[no-untyped-call]


def _is_made_by(vendor: str) -> bool:
    return vendor in _description()


def _family() -> int:
    """The processor's family, as its maker counts; 0 where nothing tells of it."""
    found = re.search(r"^cpu family\s*:\s*(\d+)|\bFamily (\d+)\b", _description(), re.MULTILINE)
    return 0 if found is None else int(found[1] or found[2])


def _description() -> str:
    description = pathlib.Path("/proc/cpuinfo")
    return description.read_text(errors="replace") if description.exists() else platform.processor()


def _fits(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.shape[0] % _ROWS == 0


def multiplies(x: Tensor, columns: int) -> bool:
    """True if :func:`linear` is faster for a product of x [B, n] with n × ``columns`` numbers."""
    wide = columns >= _NARROW and min(x.shape[1], columns) >= least_width()
    return is_faster() and wide and x.numel() * columns > _PRODUCTS and _fits(x)


def sums(a: Tensor, b: Tensor) -> bool:
    """True if :func:`gradients` is faster for Σ a_i b_iᵀ over the rows of a [B, m] and b [B, n]."""
    thin = min(a.shape[1], b.shape[1])
    return (
        is_faster() and thin >= max(_SUM_NARROW, least_width()) and a.numel() * b.shape[1] >= _SUM_PRODUCTS and _fits(a)
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """activation(x weightᵀ + bias) [B, m] for x [B, n] and weight [m, n]; "none", "tanh" or "relu"."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "")
    return out


def gradients(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the weight [m, n] and bias [m] of a layer with input x [B, n], from its output's gradient [B, m]."""
    grad_weight, grad_bias = torch.ops.aten.mkldnn_linear_backward_weights(
        grad.to_mkldnn(), x.to_mkldnn(), weight, True
    )
    return grad_weight, grad_bias
