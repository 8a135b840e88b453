"""Recorded operations as assignments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.compiled import rearranged, roundings
from palaestra.envs.compiled.assignments import Assignment, Operand, copy_of, stretched
from palaestra.envs.compiled.expressions import COMPARISONS, TYPES, clamped, converted, expression, literal, scaled_sum
from palaestra.envs.core.replay.program import tensor_at
from palaestra.envs.core.replay.recording import Call, Region

_FILLED = {"zeros": 0, "zeros_like": 0, "zero": 0, "new_zeros": 0, "ones": 1, "ones_like": 1, "new_ones": 1}
_FULL = {"full": 1, "full_like": 1, "fill": 1, "new_full": 2}  # where the number stands


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
        return [copy_of(source, out)] if isinstance(source, Region) else [None]
    if name in ("stack", "cat"):
        return rearranged.joined(name, arguments, out)
    if name in ("index_select", "gather", "index"):
        return [rearranged.picked(name, arguments, out)]
    if name == "scatter":
        return [rearranged.scattered(call, out)]
    if name in ("any", "all", "sum"):
        return [rearranged.reduced(name, call, out)]
    return [_elementwise(name, call, out, constants)]


def _filled(out: Region, value: Any) -> Assignment | None:
    text = literal(value, out.dtype)
    return None if text is None else Assignment(out, (text,), lambda a: str(a))


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
        text = scaled_sum(name, value, common, once=False)
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
    if out.dtype == torch.bool or any(isinstance(limit, Region) and limit.dtype != out.dtype for limit in present):
        return None
    operands = [_operand(value, out.dtype, out, constants) for value in (number, *present)]
    if any(operand is None for operand in operands):
        return None
    if out.dtype.is_floating_point:
        places = [number, *(present if in_tensors[0] else ())]
        text = roundings.formula(name, call, places, (there, None if in_tensors[0] else tuple(present)))
    else:
        text = clamped(there)
    return None if text is None else Assignment(out, tuple(o for o in operands if o is not None), text)
