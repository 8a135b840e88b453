"""A list of tensor operations on fixed memory: recorded once, then run in every time step.

Views, shapes and memory are settled when an operation is recorded, so that a run is one call of PyTorch for each: no
view is made, nothing is allocated, and what one operation wrote is still in the processor's cache for the next one.

A vector has five rows or six, (x, y, z, x, y, z), in ``[…, 5, L, N]``: (y, z, x) and (z, x, y) are parts of it without
a copy, so that a cross product is two operations for all its components, links and environments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

Calls = list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]


def once_on(vector: Tensor) -> Tensor:
    """(y, z, x) of a vector [..., 5, L, N], a view [..., 3, L, N]."""
    return vector[..., 1:4, :, :]


def twice_on(vector: Tensor) -> Tensor:
    """(z, x, y) of a vector [..., 5, L, N], a view [..., 3, L, N]."""
    return vector[..., 2:5, :, :]


def in_two(vector: Tensor) -> Tensor:
    """(x, y, z) twice of a vector [6, …], a view [2, 3, …]."""
    return vector.view(2, 3, *vector.shape[1:])


class Operations:
    """Operations in order. Each method records one or more, and takes the memory that they write to as ``out``.

    Attributes:
        at_once: run everything as it is recorded, and keep nothing: for what stays the same in all time steps.
        fewest: take as few operations as possible, even if they compute more than is needed, as a GPU takes about as
            long for any. A running sum is one: a GPU's adds one term after the other, as the loop over the links does
            (a CPU's is slower than that loop, and computes with another precision).
    """

    def __init__(self, at_once: bool = False, fewest: bool = False) -> None:
        self.at_once, self.fewest = at_once, fewest
        self._calls: Calls = []

    def run(self) -> None:
        """All operations, in the order in which they were recorded."""
        for function, arguments, options in self._calls:
            function(*arguments, **options)

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Any function, for what it writes."""
        if self.at_once:
            function(*arguments, **options)
        else:
            self._calls.append((function, arguments, options))

    def multiply(self, a: Tensor, b: Tensor | float, out: Tensor) -> None:
        self.call(torch.mul, a.expand_as(out), b, out=out)

    def add(self, a: Tensor, b: Tensor, out: Tensor, share: float = 1.0) -> None:
        """a + share · b"""
        a = a.expand_as(out)
        if share == 1.0:
            self.call(torch.add, a, b, out=out)
        else:
            self.call(torch.add, a, b, alpha=share, out=out)

    def subtract(self, a: Tensor, b: Tensor | float, out: Tensor) -> None:
        self.call(torch.sub, a.expand_as(out), b, out=out)

    def add_product(self, out: Tensor, a: Tensor, b: Tensor, sign: float = 1.0, start: Tensor | None = None) -> None:
        """``out`` = ``start`` ± a b; without a start, ``out`` ± a b."""
        start = out if start is None else start.expand_as(out)
        if sign == 1.0:
            self.call(torch.addcmul, start, a, b, out=out)
        else:
            self.call(torch.addcmul, start, a, b, value=sign, out=out)

    def copy(self, source: Tensor, out: Tensor) -> None:
        self.call(out.copy_, source)

    def wrap(self, vector: Tensor) -> None:
        """Rows 3 and 4 of a vector from its first two."""
        self.copy(vector[..., 0:2, :, :], vector[..., 3:5, :, :])

    def dot(self, a: Sequence[Tensor], b: Sequence[Tensor], out: Tensor) -> None:
        """Σ a_i b_i, term by term."""
        self.multiply(a[0], b[0], out)
        for i in range(1, len(a)):
            self.add_product(out, a[i], b[i])

    def cross(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """a × b of vectors [..., 5, L, N], in [..., 3, L, N]."""
        self.multiply(once_on(a), twice_on(b), out)
        self.add_product(out, twice_on(a), once_on(b), sign=-1.0)

    def whole_cross(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """a × b of vectors [5, L, N], in all rows of [6, L, N]."""
        first = torch.empty_like(out[:3])
        self.multiply(once_on(a), twice_on(b), first)
        self.add_product(in_two(out), twice_on(a), once_on(b), sign=-1.0, start=first)

    def add_cross(self, out: Tensor, a: Tensor, b: Tensor) -> None:
        """``out`` [..., 3, L, N] + a × b."""
        self.add_product(out, once_on(a), twice_on(b))
        self.add_product(out, twice_on(a), once_on(b), sign=-1.0)

    def running_sum(self, values: Tensor, out: Tensor) -> None:
        """Sums over the links (dimension −2) from the first up to each, one after the other."""
        if self.fewest:
            self.call(torch.cumsum, values, -2, out=out)
            return
        if out is not values:
            self.copy(values[..., 0, :], out[..., 0, :])
        for before, i in pairwise(range(values.shape[-2])):
            self.add(values[..., i, :], out[..., before, :], out[..., i, :])

    def sum_from_the_last(self, memory: Tensor) -> None:
        """Sums from the last link up to each of what is in the second half of ``memory`` [K, 2 L, N], in place.

        The first half may get any numbers.
        """
        links = memory.shape[1] // 2
        values = memory[:, links:]
        if not self.fewest:
            for before, i in pairwise(reversed(range(links))):
                self.add(values[:, i], values[:, before], values[:, i])
            return
        order = torch.arange(links - 1, -1, -1, device=memory.device)
        reverse = torch.empty_like(values, memory_format=torch.contiguous_format)
        self.call(torch.index_select, values, 1, order, out=reverse)
        self.call(torch.cumsum, reverse, 1, out=reverse)
        self.call(torch.index_select, reverse, 1, order.repeat(2), out=memory)
