"""Recorded operations as assignments: a target, and an expression of operands, for every index of a size.

An operand is a tensor (stretched to the size), a number, or elements of a tensor that other operands choose. Every
assignment is independent of the order of its indices, but for a scatter, whose later elements count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.compiled import roundings
from palaestra.envs.compiled.expressions import COMPARISONS, TYPES, converted, expression, literal
from palaestra.envs.core.replay.program import tensor_at
from palaestra.envs.core.replay.recording import Call, Region

_FILLED = {"zeros": 0, "zeros_like": 0, "zero": 0, "new_zeros": 0, "ones": 1, "ones_like": 1, "new_ones": 1}
_FULL = {"full": 1, "full_like": 1, "fill": 1, "new_full": 2}  # where the number stands
_MOST_REDUCED = 16  # numbers of one result


@dataclass(frozen=True)
class Chooser:
    """A number that chooses along one dimension of a tensor: the tensor of it, and what it may be."""

    place: Region
    step: int  # elements from one to the next
    count: int
    wraps: bool  # below zero it counts from the end


@dataclass(frozen=True)
class Chosen:
    """Elements of a tensor that numbers choose; ``place`` is where the first lies, for every index."""

    place: Region
    by: tuple[Chooser, ...]


Operand = Region | Chosen | str


@dataclass(frozen=True)
class Assignment:
    """``target[i] = text(operands[i]…)`` for every i."""

    target: Region | Chosen
    operands: tuple[Operand, ...]
    text: Callable[..., str]

    @property
    def size(self) -> tuple[int, ...]:
        return self.written.size

    @property
    def written(self) -> Region:
        return self.target.place if isinstance(self.target, Chosen) else self.target

    def read(self) -> list[Region]:
        """The tensors that it reads, but for those that elements are chosen of."""
        found = [operand for operand in self.operands if isinstance(operand, Region)]
        chosen = [operand for operand in (*self.operands, self.target) if isinstance(operand, Chosen)]
        return found + [chooser.place for each in chosen for chooser in each.by]

    def chosen_of(self) -> list[Region]:
        """The tensors that elements are read of by choice."""
        return [operand.place for operand in self.operands if isinstance(operand, Chosen)]


def stretched(place: Region, size: Sequence[int]) -> Region:
    """A tensor broadcast to a size."""
    added = len(size) - len(place.size)
    strides = [0] * added + [0 if n == 1 else s for n, s in zip(place.size, place.stride, strict=True)]
    return place._replace(size=tuple(size), stride=tuple(strides))


def _copied(place: Operand, target: Region) -> Assignment | None:
    source = place.place if isinstance(place, Chosen) else place
    assert isinstance(source, Region)
    if source.dtype not in TYPES or converted("", source.dtype, target.dtype) is None:
        return None
    operand = place if isinstance(place, Chosen) else stretched(source, target.size)
    return Assignment(target, (operand,), lambda a: converted(a, source.dtype, target.dtype) or "")


def assignments_of(call: Call, constants: Mapping[int, Tensor]) -> list[Assignment] | None:
    """An operation as assignments, one after another; None where it is not one that C++ is made of."""
    out = call.named.get("out", call.results[0]) if len(call.results) == 1 else None
    if not isinstance(out, Region) or call.name == "host_call":
        return None
    name = call.name if "out" in call.named else call.name.removesuffix("_") if call.in_place else call.name
    if out.dtype not in TYPES or any(place.dtype not in TYPES for place in call.places()):
        return None
    if 0 in out.size:
        return []
    found = [each for each in _found(name, call, out, constants) if each is None or 0 not in each.size]
    return None if None in found else [each for each in found if each is not None]


def _found(name: str, call: Call, out: Region, constants: Mapping[int, Tensor]) -> list[Assignment | None]:
    arguments = call.arguments
    if name in _FILLED:
        return [_filled(out, _FILLED[name])]
    if name in _FULL and isinstance(arguments[_FULL[name]], bool | int | float):
        return [_filled(out, arguments[_FULL[name]])]
    if name in ("clone", "_to_copy", "copy"):
        source = arguments[1 if name == "copy" else 0]
        return [_copied(source, out)] if isinstance(source, Region) else [None]
    if name in ("stack", "cat"):
        return _joined(name, arguments, out)
    if name in ("index_select", "gather", "index"):
        return [_picked(name, arguments, out)]
    if name == "scatter":
        return [_scattered(call, out)]
    if name in ("any", "all", "sum"):
        return [_reduced(name, call, out)]
    return [_elementwise(name, call, out, constants)]


def _filled(out: Region, value: Any) -> Assignment | None:
    text = literal(value, out.dtype)
    return None if text is None else Assignment(out, (text,), lambda a: str(a))


def _joined(name: str, arguments: Sequence[Any], out: Region) -> list[Assignment | None]:
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
        found.append(_copied(part, out._replace(size=size, stride=stride, offset=offset)))
    return found


def _picked(name: str, arguments: Sequence[Any], out: Region) -> Assignment | None:
    table, rank = arguments[0], len(out.size)
    if name == "index":
        return _indexed(table, arguments[1], out)
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
    return _copied(Chosen(start, (Chooser(place, table.stride[dim], table.size[dim], False),)), out)


def _indexed(table: Region, indices: Sequence[Any], out: Region) -> Assignment | None:
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
    return _copied(Chosen(start, tuple(choosers)), out)


def _scattered(call: Call, out: Region) -> Assignment | None:
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


def _reduced(name: str, call: Call, out: Region) -> Assignment | None:
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


def _elementwise(name: str, call: Call, out: Region, constants: Mapping[int, Tensor]) -> Assignment | None:
    arguments = list(call.arguments)
    named = {key: value for key, value in call.named.items() if key != "out"}
    if name == "masked_fill":
        name, arguments = "where", [arguments[1], arguments[2], arguments[0]]
        return _where(arguments, out, constants) if not named else None
    if name == "where":
        return _where(arguments, out, constants) if not named and len(arguments) == 3 else None
    if name == "pow" and len(arguments) == 2 and not isinstance(arguments[1], bool) and arguments[1] == 2:
        name, arguments = "square", arguments[:1]
    if name == "rsub" and len(arguments) == 2:
        name, arguments = "sub", [arguments[1], arguments[0]]
    if name.startswith("clamp"):
        return _clamped(name, call, out, constants)
    if set(named) - {"alpha", "value"}:
        return None
    value = named.get("alpha", named.get("value", 1))
    if not isinstance(value, bool | int | float):
        return None
    return _operation(name, arguments, value, call, out, constants)


def _operation(
    name: str, arguments: Sequence[Any], value: Any, call: Call, out: Region, constants: Mapping[int, Tensor]
) -> Assignment | None:
    places = [argument for argument in arguments if isinstance(argument, Region)]
    if not places or any(not isinstance(a, Region | bool | int | float) for a in arguments):
        return None
    common = _common(arguments)
    if common not in TYPES or (name not in COMPARISONS and common != out.dtype and name != "div"):
        return None
    if name == "div" and not common.is_floating_point:
        common = torch.get_default_dtype()
    is_scaled = name in ("addcmul", "addcdiv") or (name in ("add", "sub") and value != 1)
    chosen = common.is_floating_point and (is_scaled or name in ("minimum", "maximum"))
    if chosen:
        if len(places) < len(arguments) or any(place.dtype != common for place in places) or out.dtype != common:
            return None
        text = roundings.formula(name, call, places, value)
    elif is_scaled:
        if name in ("addcmul", "addcdiv"):
            return None
        text = roundings.scaled_sum(name, value, common, once=False)
    else:
        text = expression(name, common)
    return None if text is None else _assigned(arguments, common, text, name in COMPARISONS, out, constants)


def _assigned(
    arguments: Sequence[Any],
    common: torch.dtype,
    text: Callable[..., str],
    is_comparison: bool,
    out: Region,
    constants: Mapping[int, Tensor],
) -> Assignment | None:
    """An operation on numbers of a common type."""
    operands = [_operand(argument, common, out, constants) for argument in arguments]
    kinds = [argument.dtype if isinstance(argument, Region) else common for argument in arguments]
    if any(operand is None for operand in operands):
        return None
    if any(converted("", kind, common) is None for kind in kinds):
        return None
    given = torch.bool if is_comparison else common
    if converted("", given, out.dtype) is None:
        return None

    def whole(*numbers: str) -> str:
        parts = [
            number if isinstance(operand, str) else converted(number, kind, common) or ""
            for number, operand, kind in zip(numbers, operands, kinds, strict=True)
        ]
        return converted(text(*parts), given, out.dtype) or ""

    return Assignment(out, tuple(operand for operand in operands if operand is not None), whole)


def _operand(argument: Any, common: torch.dtype, out: Region, constants: Mapping[int, Tensor]) -> Operand | None:
    """A number of the common type, as text if it never changes."""
    if not isinstance(argument, Region):
        return literal(argument, common)
    if argument.memory in constants and not argument.size:
        return literal(tensor_at(argument, constants[argument.memory]).item(), common)
    return stretched(argument, out.size)


def _common(arguments: Sequence[Any]) -> torch.dtype:
    """The type that an operation converts its operands to."""

    def example(argument: Any) -> Any:
        if isinstance(argument, Region):
            return torch.empty((1,) if argument.size else (), dtype=argument.dtype)
        return argument

    examples = [example(argument) for argument in arguments]
    if len(examples) == 1:
        return examples[0].dtype  # type: ignore[no-any-return]
    common = examples[0]
    dtype = torch.result_type(common, examples[1])
    return dtype if len(examples) == 2 else torch.promote_types(dtype, examples[2].dtype)


def _where(arguments: Sequence[Any], out: Region, constants: Mapping[int, Tensor]) -> Assignment | None:
    condition = arguments[0]
    if not isinstance(condition, Region) or condition.dtype != torch.bool:
        return None
    sides = [_operand(argument, out.dtype, out, constants) for argument in arguments[1:]]
    kinds = [argument.dtype if isinstance(argument, Region) else out.dtype for argument in arguments[1:]]
    if any(side is None for side in sides) or any(converted("", kind, out.dtype) is None for kind in kinds):
        return None

    def text(truth: str, *numbers: str) -> str:
        one, other = (
            number if isinstance(side, str) else converted(number, kind, out.dtype) or ""
            for number, side, kind in zip(numbers, sides, kinds, strict=True)
        )
        return f"({truth} ? {one} : {other})"

    operands = (stretched(condition, out.size), *(side for side in sides if side is not None))
    return Assignment(out, operands, text)


def _clamped(name: str, call: Call, out: Region, constants: Mapping[int, Tensor]) -> Assignment | None:
    number, *limits = call.arguments
    given = {key: value for key, value in call.named.items() if key != "out"}
    if name == "clamp_max":
        limits = [None, *limits]
    limits = [limits[0] if limits else given.get("min"), limits[1] if len(limits) > 1 else given.get("max")]
    there = tuple(limit is not None for limit in limits)
    present = [limit for limit in limits if limit is not None]
    in_tensors = [isinstance(limit, Region) for limit in present]
    if not isinstance(number, Region) or number.dtype != out.dtype or len(set(in_tensors)) != 1:
        return None
    if out.dtype == torch.bool or any(
        tensor and limit.dtype != out.dtype for tensor, limit in zip(in_tensors, present)
    ):
        return None
    operands = [_operand(value, out.dtype, out, constants) for value in (number, *present)]
    if any(operand is None for operand in operands):
        return None
    if out.dtype.is_floating_point:
        places = [number, *(present if in_tensors[0] else ())]
        text = roundings.formula(name, call, places, (there, None if in_tensors[0] else tuple(present)))
    else:
        text = roundings.clamped(there)
    return None if text is None else Assignment(out, tuple(o for o in operands if o is not None), text)
