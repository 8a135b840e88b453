"""Fields of a state in kept memory, and their rows: those that lie side by side are read and written together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.core.batching.records import side_by_side
from palaestra.envs.core.reference import Array

_AS_WIDE = {4: np.int32, 8: np.int64, 16: np.complex128}  # by bytes


class Fields:
    """Named tensors [N, …] as a few arrays whose rows are taken together.

    Attributes:
        names: those of each array, which is [N, …] for one name and [names, N] for several.
        arrays: on the memory of the tensors.
    """

    def __init__(self, tensors: Mapping[str, Tensor], names: Sequence[tuple[str, ...]] | None = None) -> None:
        """``names`` are those of other fields that shall go with these, else what can be taken together is."""
        self.names = list(names) if names is not None else _together(tensors)
        self.arrays: list[Array] = []
        for group in self.names:
            if len(group) == 1:
                self.arrays.append(tensors[group[0]].numpy())
            else:
                parts = [tensors[name] for name in group]
                view = side_by_side(parts)
                self.arrays.append((torch.stack(parts) if view is None else view).numpy())

    def take(self, rows: Array) -> list[Array]:
        """Copies of some rows."""
        pairs = zip(self.names, self.arrays, strict=True)
        return [array.take(rows, 0 if len(group) == 1 else 1) for group, array in pairs]

    def put(self, rows: Array, values: Sequence[Array]) -> None:
        """Write some rows."""
        for group, array, value in zip(self.names, self.arrays, values, strict=True):
            if len(group) == 1:
                array[rows] = value
            else:
                array[:, rows] = value

    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


def row_kind(array: Array) -> Any:
    """The type of one number that is as wide as a row of this array [N, …]; None if there is none."""
    return _AS_WIDE.get(array.nbytes // max(len(array), 1)) if array.flags.c_contiguous else None


def as_rows(array: Array, kind: Any) -> Array:
    """The same memory as [N] numbers of this kind, which NumPy puts in place in a quarter of the time; None: as it is.

    Raises:
        ValueError: if rows are not as wide.
    """
    return array if kind is None else array.reshape(len(array), -1).view(kind).reshape(len(array))


def _together(tensors: Mapping[str, Tensor]) -> list[tuple[str, ...]]:
    """Names of tensors that lie side by side, as far as they follow each other."""
    names: list[tuple[str, ...]] = []
    for name, tensor in tensors.items():
        group = (*names[-1], name) if names else (name,)
        fits = len(group) > 1 and tensor.dim() == 1 and all(tensors[n].dim() == 1 for n in group)
        if fits and side_by_side([tensors[n] for n in group]) is not None:
            names[-1] = group
        else:
            names.append((name,))
    return names
