"""Operations that join tensors, choose elements or reduce few numbers to one, as assignments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from palaestra.envs.compiled.assignments import Assignment, Chooser, Chosen, copy_of, stretched
from palaestra.envs.compiled.expressions import converted, expression, literal
from palaestra.envs.core.replay.recording import Call, Region

_MOST_REDUCED = 16  # numbers of one result


def joined(name: str, arguments: Sequence[Any], out: Region) -> list[Assignment | None]:
    """``stack`` and ``cat``: each part where it belongs."""
    parts, dim = arguments[0], (arguments[1] if len(arguments) > 1 else 0) % len(out.size)
    found: list[Assignment | None] = []
    first = 0
    for part in parts:
        count = 1 if name == "stack" else part.size[dim]
        offset = out.offset + first * out.stride[dim]
        first += count
        if name == "stack":
            size, stride = (form[:dim] + form[dim + 1 :] for form in (out.size, out.stride))
        elif part.size == (0,):
            continue
        else:
            size, stride = (*out.size[:dim], count, *out.size[dim + 1 :]), out.stride
        found.append(copy_of(part, out._replace(size=size, stride=stride, offset=offset)))
    return found


def picked(name: str, arguments: Sequence[Any], out: Region) -> Assignment | None:
    """``index_select``, ``gather`` and ``index``: elements of a table by numbers."""
    table, rank = arguments[0], len(out.size)
    if name == "index":
        return indexed(table, arguments[1], out)
    dim, index = arguments[1], arguments[2]
    if not table.size or not index.size:
        return None
    dim %= len(table.size)
    if name == "index_select":  # the index lies along one dimension, the table along the others
        along = tuple(index.stride[0] if i == dim else 0 for i in range(rank))
        place = index._replace(size=out.size, stride=along)
    else:
        place = index
    rest = tuple(0 if i == dim else stride for i, stride in enumerate(table.stride))
    start = table._replace(size=out.size, stride=rest)
    return copy_of(Chosen(start, (Chooser(place, table.stride[dim], table.size[dim], False),)), out)


def indexed(table: Region, indices: Sequence[Any], out: Region) -> Assignment | None:
    """Elements by numbers along the first dimensions, as ``table[a, b, …]``."""
    count = len(indices)
    if any(not isinstance(index, Region) or index.dtype.is_floating_point for index in indices):
        return None
    shape = out.size[: len(out.size) - (len(table.size) - count)]
    added = len(out.size) - len(shape)
    choosers = []
    for i, index in enumerate(indices):
        wide = stretched(index, shape)
        place = wide._replace(size=out.size, stride=(*wide.stride, *(0,) * added))
        choosers.append(Chooser(place, table.stride[i], table.size[i], True))
    start = table._replace(size=out.size, stride=(*(0,) * len(shape), *table.stride[count:]))
    return copy_of(Chosen(start, tuple(choosers)), out)


def scattered(call: Call, out: Region) -> Assignment | None:
    """``scatter_`` of a tensor or a number; None for other forms of it."""
    arguments = call.arguments
    if not call.in_place or len(arguments) != 4 or call.named or not arguments[2].size:
        return None
    dim, index, source = arguments[1] % len(out.size), arguments[2], arguments[3]
    rest = tuple(0 if i == dim else stride for i, stride in enumerate(out.stride))
    start = out._replace(size=index.size, stride=rest)
    target = Chosen(start, (Chooser(index, out.stride[dim], out.size[dim], False),))
    if isinstance(source, Region):
        if source.dtype != out.dtype or len(source.size) != len(index.size):
            return None
        return Assignment(target, (source._replace(size=index.size),), str)
    number = literal(source, out.dtype)
    return None if number is None else Assignment(target, (number,), str)


def reduced(name: str, call: Call, out: Region) -> Assignment | None:
    """What few numbers along one dimension have in common; of fractions the order of additions is PyTorch's."""
    if len(call.arguments) < 2 or set(call.named) - {"dtype"}:
        return None
    source, dims = call.arguments[0], call.arguments[1]
    keeps = bool(call.arguments[2]) if len(call.arguments) > 2 else False
    dims = [dims] if isinstance(dims, int) else dims
    if not isinstance(source, Region) or not dims or len(dims) != 1 or not source.size:
        return None
    dim = dims[0] % len(source.size)
    count = source.size[dim]
    sign = {"any": "|", "all": "&", "sum": "+"}.get(name)
    if not 0 < count <= _MOST_REDUCED or sign is None or source.dtype.is_floating_point:
        return None
    if name != "sum" and out.dtype != torch.bool:
        return None
    shape = [(n, s) for i, (n, s) in enumerate(zip(source.size, source.stride, strict=True)) if i != dim or keeps]
    stride = tuple(0 if keeps and i == dim else s for i, (_, s) in enumerate(shape))
    parts = tuple(
        source._replace(size=out.size, stride=stride, offset=source.offset + k * source.stride[dim])
        for k in range(count)
    )
    one = expression({"|": "logical_or", "&": "logical_and", "+": "add"}[sign], out.dtype)

    def text(*numbers: str) -> str:
        assert one is not None
        total, *rest = (converted(number, source.dtype, out.dtype) or "" for number in numbers)
        for number in rest:
            total = one(total, number)
        return total

    return None if one is None else Assignment(out, parts, text)
