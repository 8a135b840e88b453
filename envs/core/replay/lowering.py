"""Operations on kept memory: in NumPy where that gives the same bits for less, else PyTorch's with ``out=``.

A call of PyTorch on a thousand numbers costs about a microsecond, one of NumPy a third of that, and integers and
comparisons are faster in NumPy for more numbers too, unless it takes many short rows one by one. IEEE 754 leaves no
choice in sums, products, quotients and comparisons; what does (sine, exponential, …), or is not rounded as it asks
(PyTorch's square roots come from vector libraries), and minima of floating numbers, whose zeros have signs, stay with
PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.core.replay.recording import Call, Region, with_each

_FEW, _MANY = 2, 1 << 17  # threads, and numbers that are worth dividing among more of them
_ROWS = 256  # from so many on PyTorch is faster where each row meets one number, or the same row
Step = tuple[Callable[..., Any], tuple[Any, ...]]
Locate = Callable[[Region], Tensor]

_ARITHMETIC: dict[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "__and__": np.bitwise_and,
    "__or__": np.bitwise_or,
    "__xor__": np.bitwise_xor,
    "__rshift__": np.right_shift,
    "bitwise_right_shift": np.right_shift,
    "__lshift__": np.left_shift,
    "bitwise_left_shift": np.left_shift,
}
_COMPARISONS: dict[str, Any] = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}
_UNARY: dict[str, Any] = {"abs": np.abs, "neg": np.negative, "logical_not": np.logical_not}
_INTEGERS: dict[str, Any] = {"minimum": np.minimum, "maximum": np.maximum}
_FILLED = {"zeros": 0, "zeros_like": 0, "zero": 0, "new_zeros": 0, "ones": 1, "ones_like": 1, "new_ones": 1}
_COPIES = {"clone", "_to_copy", "copy"}
_METHODS = {"clamp_", "masked_fill_", "scatter_", "addcmul_", "addcdiv_", "index_fill_", "index_copy_", "div_", "mul_"}
_METHODS |= {"add_", "sub_", "logical_or_", "logical_and_", "sqrt_", "log_", "cos_", "sin_", "exp_", "copy_", "abs_"}


def steps_of(call: Call, locate: Locate, constants: dict[int, Tensor]) -> list[Step]:
    """What to run for an operation.

    Args:
        call: the operation.
        locate: gives the tensor at a place.
        constants: memories that never change, by their number.
    """
    if call.name == "host_call":
        function, target, arguments = call.function, locate(call.results[0]), _located(call.arguments, locate)
        return [(_copy_result, (target, function, arguments))]
    return _in_numpy(call, locate, constants) or [_in_torch(call, locate)]


def may_warn(step: Step) -> bool:
    """True for NumPy's arithmetic, which warns of what is no number."""
    function = getattr(step[0], "func", step[0])
    return isinstance(function, np.ufunc) or function is np.copyto


def _copy_result(target: Tensor, function: Callable[..., Tensor], arguments: tuple[Any, ...]) -> None:
    target.copy_(function(*arguments))


def _copy_results(targets: list[Tensor], function: Callable[[], Any]) -> None:
    results = function()
    for target, result in zip(targets, [results] if isinstance(results, Tensor) else results, strict=True):
        target.copy_(result)


def _located(value: Any, locate: Locate) -> Any:
    return with_each(Region, value, locate)


def _in_torch(call: Call, locate: Locate) -> Step:
    arguments, named = _located(call.arguments, locate), {k: _located(v, locate) for k, v in call.named.items()}
    if call.in_place:
        if "out" in named and hasattr(torch, call.name):
            return partial(getattr(torch, call.name), *arguments, **named), ()
        if call.name in _METHODS and not named:
            return getattr(Tensor, call.name), arguments
        return partial(call.function, *arguments, **named), ()
    targets = [locate(place) for place in call.results]
    if call.name in ("masked_fill", "index") and len(targets) == 1:
        return _special(call.name, arguments, targets[0])
    function = getattr(torch, call.name, None)
    if function is not None and len(targets) == 1 and not call.has_no_out:
        return partial(function, *arguments, **named, out=targets[0]), ()
    return _copy_results, (targets, partial(call.function, *arguments, **named))


def _special(name: str, arguments: tuple[Any, ...], target: Tensor) -> Step:
    if name == "index":
        return partial(torch.ops.aten.index.Tensor_out, *arguments, out=target), ()
    values, mask, number = arguments
    if not isinstance(number, Tensor):
        number = torch.tensor(number, dtype=values.dtype)
    return partial(torch.where, mask, number.to(values.dtype), values, out=target), ()


def _in_numpy(call: Call, locate: Locate, constants: dict[int, Tensor]) -> list[Step]:
    """The steps in NumPy; none where PyTorch has to do it."""
    out = call.named.get("out", call.results[0]) if len(call.results) == 1 else None
    if not isinstance(out, Region) or out.dtype not in _KINDS:
        return []
    if torch.get_num_threads() > _FEW and math.prod(out.size) >= _MANY:
        return []  # more threads, which PyTorch has, are worth more than cheaper calls
    name = call.name if "out" in call.named else call.name.removesuffix("_") if call.in_place else call.name
    named = {key: value for key, value in call.named.items() if key != "out"}
    target = locate(out).numpy()
    if name in _FILLED:
        return [(target.fill, (_FILLED[name],))]
    if name in ("full", "full_like", "fill", "new_full") and isinstance(call.arguments[1], bool | int | float):
        return [(target.fill, (call.arguments[-1] if name != "new_full" else call.arguments[2],))]
    if name in _COPIES and isinstance(call.arguments[-1 if name == "copy" else 0], Region):
        return _copied(call.arguments[1 if name == "copy" else 0], out, target, locate)
    if name in ("stack", "cat") and isinstance(call.arguments[0], list):
        return _joined(name, call.arguments, target, out.dtype, locate)
    if name in ("addcmul", "addcdiv") and not call.in_place:
        return _scaled(name, call.arguments, call.named.get("value", 1), out, locate, constants)
    if any(key != "alpha" for key in named) or named.get("alpha", 1) != 1:
        return []
    return _elementwise(name, call.arguments, out, target, locate, constants)


_KINDS: dict[torch.dtype, Any] = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.int16: np.int16,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}


def _copied(source: Region, out: Region, target: Any, locate: Locate) -> list[Step]:
    if source.dtype not in _KINDS or (source.dtype.is_floating_point and not out.dtype.is_floating_point):
        return []  # what a NaN becomes as an integer is left to the compiler
    return [(np.copyto, (target, locate(source).numpy(), "unsafe"))]


def _joined(name: str, arguments: Sequence[Any], target: Any, dtype: torch.dtype, locate: Locate) -> list[Step]:
    parts, dim = arguments[0], (arguments[1] if len(arguments) > 1 else 0)
    if any(part.dtype != dtype for part in parts):
        return []
    moved = np.moveaxis(target, dim, 0)
    if name == "stack" and moved.flags.c_contiguous and (together := as_one_place(parts)) is not None:
        return [(np.copyto, (moved, locate(together).numpy()))]
    steps: list[Step] = []
    first = 0
    for i, part in enumerate(parts):
        source = locate(part).numpy()
        if name == "stack":
            steps.append((np.copyto, (moved[i], source)))
        else:
            source = np.moveaxis(source, dim, 0)
            steps.append((np.copyto, (moved[first : first + len(source)], source)))
            first += len(source)
    return steps


def as_one_place(parts: Sequence[Region]) -> Region | None:
    """Tensors of one form that lie at equal distances in one memory, as one."""
    first, distance = parts[0], parts[-1].offset - parts[0].offset
    if len(parts) < 2 or distance <= 0 or distance % (len(parts) - 1):
        return None
    distance //= len(parts) - 1
    if any(part != first._replace(offset=first.offset + i * distance) for i, part in enumerate(parts)):
        return None
    return first._replace(size=(len(parts), *first.size), stride=(distance, *first.stride))


def _scaled(
    name: str, arguments: Sequence[Any], value: float, out: Region, locate: Locate, constants: dict[int, Tensor]
) -> list[Step]:
    """At most three operations where they round as often: a quotient is, and so is a product to which zero is added."""
    if out.dtype != torch.float32 or any(part.dtype != out.dtype for part in arguments):
        return []
    term, factor, other = (_operand(part, np.float32(0).dtype, locate, constants) for part in arguments)
    if name == "addcmul" and not (isinstance(term, np.float32) and term == 0.0):
        return []
    target = locate(out).numpy()
    if not isinstance(term, np.float32) and np.may_share_memory(term, target):
        return []
    product = np.multiply if name == "addcmul" else np.divide
    if abs(value) == 1:  # a sign is no rounding
        return [(product, (factor, other, target)), (np.add if value > 0 else np.subtract, (term, target, target))]
    return [
        (np.multiply, (factor, np.float32(value), target)),
        (product, (target, other, target)),
        (np.add, (term, target, target)),
    ]


def _elementwise(
    name: str, arguments: Sequence[Any], out: Region, target: Any, locate: Locate, constants: dict[int, Tensor]
) -> list[Step]:
    if name == "pow" and len(arguments) == 2 and arguments[1] == 2 and isinstance(arguments[0], Region):
        name, arguments = "mul", (arguments[0], arguments[0])
    if name == "rsub" and len(arguments) == 2:
        name, arguments = "sub", (arguments[1], arguments[0])
    places = [value for value in arguments if isinstance(value, Region)]
    if not places or len(places) < len([a for a in arguments if not isinstance(a, bool | int | float)]):
        return []
    wide = [place for place in places if place.size] or places
    common = np.result_type(*(_KINDS.get(place.dtype, object) for place in wide))
    kind = _KINDS[out.dtype]
    if name in _UNARY and len(arguments) == 1:
        fits = common == kind and (kind is not np.bool_ or name == "logical_not")
        return [(_UNARY[name], (locate(places[0]).numpy(), target))] if fits else []
    if len(arguments) != 2:
        return []
    function = _ARITHMETIC.get(name) or (_INTEGERS.get(name) if not out.dtype.is_floating_point else None)
    if name == "div" and out.dtype.is_floating_point:
        function = np.divide
    if function is not None and (common != kind or (kind is np.bool_ and name in ("add", "sub", "mul"))):
        return []
    if function is None:
        function = _COMPARISONS.get(name)
        if function is None or kind is not np.bool_ or (name.startswith("logical") and common != np.bool_):
            return []
    operands = [_operand(value, common, locate, constants) for value in arguments]
    if any(operand is None for operand in operands) or (kind is not np.bool_ and _goes_by_rows(target, operands)):
        return []
    if function in (np.minimum, np.maximum):  # where a third argument is deprecated
        return [(partial(function, out=target), tuple(operands))]
    return [(function, (*operands, target))]


def _goes_by_rows(target: Any, operands: Sequence[Any]) -> bool:
    """True for arithmetic that NumPy does row by row, in 2 to 8 times as long as PyTorch with enough rows."""
    if target.ndim < 2 or target.size < _ROWS * target.shape[-1]:
        return False
    spread = [operand for operand in operands if np.ndim(operand) and operand.shape != target.shape]
    return len(spread) == 2 or (len(spread) == 1 and target.dtype == np.float32)


def _operand(value: Any, common: Any, locate: Locate, constants: dict[int, Tensor]) -> Any:
    """An operand of NumPy's, of the type in which it is computed; None if there is none."""
    if isinstance(value, Region):
        if value.size:
            return locate(value).numpy()
        if value.memory not in constants:
            return locate(value).numpy() if _KINDS.get(value.dtype) == common else None
        value = locate(value).item()
    integral = np.issubdtype(common, np.integer) or common == np.bool_
    if integral and isinstance(value, float):
        return None
    if np.issubdtype(common, np.integer):
        limits = np.iinfo(common)
        if not limits.min <= value <= limits.max:
            return None
    return common.type(value)
