"""Operations on single numbers as C++ expressions that give PyTorch's bits.

Sums, products, quotients and comparisons leave no choice (IEEE 754), nor do integers, which wrap. Where PyTorch has a
choice of its own (one rounding or two, the sign of a zero) :mod:`palaestra.envs.compiled.roundings` finds it out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

TYPES: dict[torch.dtype, str] = {
    torch.float32: "float",
    torch.float64: "double",
    torch.int64: "int64_t",
    torch.int32: "int32_t",
    torch.int16: "int16_t",
    torch.int8: "int8_t",
    torch.uint8: "uint8_t",
    torch.bool: "bool",
}
_WRAPPING = {torch.int64: "uint64_t", torch.int32: "uint32_t"}  # signed overflow means nothing in C++
_INFIX = {"add": "+", "sub": "-", "mul": "*", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^"}
_INFIX |= {"__and__": "&", "__or__": "|", "__xor__": "^"}
_COMPARED = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_LOGICAL = {"logical_and": "&", "logical_or": "|", "logical_xor": "^"}
_SHIFTS = {"__rshift__": ">>", "bitwise_right_shift": ">>", "__lshift__": "<<", "bitwise_left_shift": "<<"}
_ONE = {"abs", "neg", "logical_not", "bitwise_not", "square", "floor", "ceil"}
COMPARISONS = frozenset(_COMPARED) | frozenset(_LOGICAL) | {"logical_not"}


def literal(value: Any, dtype: torch.dtype) -> str | None:
    """A number in C++; None if the type does not hold it."""
    if dtype == torch.bool:
        return "true" if value else "false"
    if not dtype.is_floating_point:
        limits = torch.iinfo(dtype)
        if isinstance(value, float) or not limits.min <= value <= limits.max:
            return None
        if value == torch.iinfo(torch.int64).min:
            return "INT64_MIN"
        return f"{TYPES[dtype]}({int(value)}{'LL' if dtype == torch.int64 else ''})"
    number = torch.tensor(value, dtype=dtype).item()
    suffix = "f" if dtype == torch.float32 else ""
    if math.isnan(number):
        return f'__builtin_nan{suffix}("")'
    if math.isinf(number):
        return f"({'-' if number < 0 else ''}__builtin_inf{suffix}())"
    return f"({float(number).hex()}{suffix})"


def converted(text: str, source: torch.dtype, target: torch.dtype) -> str | None:
    """An expression as another type; None where what a NaN becomes is the compiler's choice."""
    if source == target:
        return text
    if target == torch.bool:
        return f"({text} != 0)"
    if source.is_floating_point and not target.is_floating_point:
        return None
    return f"{TYPES[target]}({text})"


def expression(name: str, dtype: torch.dtype) -> Callable[..., str] | None:
    """An operation on numbers of one type as C++ text of the texts of its operands; None if there is none."""
    whole, truth = not dtype.is_floating_point, dtype == torch.bool
    if name in _COMPARED:
        return lambda a, b: f"({a} {_COMPARED[name]} {b})"
    if name in _LOGICAL:
        return (lambda a, b: f"bool({a} {_LOGICAL[name]} {b})") if truth else None
    if name in _INFIX:
        sign = _INFIX[name]
        if (sign in "&|^" and not whole) or (truth and sign in "+-*"):
            return None
        return lambda a, b: _wrapped(f"{{0}} {sign} {{1}}", dtype, a, b)
    if name in _SHIFTS and whole and not truth:
        return lambda a, b: _shifted(_SHIFTS[name], dtype, a, b)
    if name == "div" and not whole:
        return lambda a, b: f"({a} / {b})"
    if name in ("minimum", "maximum") and whole:
        sign = "<" if name == "minimum" else ">"
        return lambda a, b: f"({b} {sign} {a} ? {b} : {a})"
    return _of_one(name, dtype)


def _of_one(name: str, dtype: torch.dtype) -> Callable[..., str] | None:
    whole, truth = not dtype.is_floating_point, dtype == torch.bool
    suffix = "f" if dtype == torch.float32 else ""
    if name == "logical_not" or (name == "bitwise_not" and truth):
        return (lambda a: f"(!{a})") if truth else None
    if truth or name not in _ONE:
        return None
    if name == "square":
        return lambda a: _wrapped("{0} * {1}", dtype, a, a)
    if name == "neg":
        return (lambda a: _wrapped("{0} - {1}", dtype, "0", a)) if whole else (lambda a: f"(-{a})")
    if name == "abs":
        if whole:
            return lambda a: f"({a} < 0 ? {_wrapped('{0} - {1}', dtype, '0', a)} : {a})"
        return lambda a: f"__builtin_fabs{suffix}({a})"
    if name == "bitwise_not":
        return (lambda a: f"{TYPES[dtype]}(~{a})") if whole else None
    return None if whole else lambda a: f"__builtin_{name}{suffix}({a})"


def _wrapped(form: str, dtype: torch.dtype, *operands: str) -> str:
    """Arithmetic that wraps where the type is of whole numbers."""
    kind = _WRAPPING.get(dtype)
    parts = operands if kind is None else [f"{kind}({operand})" for operand in operands]
    text = f"({form.format(*parts)})"
    return text if dtype.is_floating_point else f"{TYPES[dtype]}{text}"


def _shifted(sign: str, dtype: torch.dtype, number: str, places: str) -> str:
    bits, unsigned = torch.iinfo(dtype).bits, _WRAPPING.get(dtype, "uint32_t")
    inside = f"({places} >= 0 && {places} < {bits})"
    if sign == ">>":
        return f"{TYPES[dtype]}({number} >> ({inside} ? {places} : {bits - 1}))"
    return f"({inside} ? {TYPES[dtype]}({unsigned}({number}) << ({inside} ? {places} : 0)) : 0)"


def scaled_sum(name: str, value: float, dtype: torch.dtype, once: bool) -> Callable[..., str] | None:
    """``add``, ``sub`` and ``addcmul`` with a factor, rounded once at their sum or twice; ``addcdiv``."""
    factor = literal(-value if name == "sub" else value, dtype)
    if factor is None:
        return None
    fma = "__builtin_fmaf" if dtype == torch.float32 else "__builtin_fma"
    if name in ("add", "sub"):
        if once:
            return lambda a, b: f"{fma}({b}, {factor}, {a})"
        return lambda a, b: _wrapped("{0} + {1}", dtype, a, _wrapped("{0} * {1}", dtype, b, factor))
    if name == "addcdiv":
        return lambda a, b, c: f"({a} + ({factor} * {b}) / {c})"
    if once:
        return lambda a, b, c: f"{fma}({factor} * {b}, {c}, {a})"
    return lambda a, b, c: f"({a} + ({factor} * {b}) * {c})"


def extreme(name: str, first_of_equals: bool) -> Callable[..., str]:
    """The minimum or maximum of floating numbers, NaN if one is; of zeros of either sign, the first or second."""
    sign = ("<=" if name == "minimum" else ">=") if first_of_equals else ("<" if name == "minimum" else ">")
    return lambda a, b: f"({a} != {a} ? {a} : {b} != {b} ? {b} : {a} {sign} {b} ? {a} : {b})"


def clamped(bounds: Sequence[bool]) -> Callable[..., str]:
    """``clamp`` with numbers as bounds, which are there or not: a NaN stays, and what is equal to a bound too."""

    def text(number: str, *limits: str) -> str:
        rest = list(limits)
        if bounds[0]:
            number = f"({number} < {rest[0]} ? {rest.pop(0)} : {number})"
        return f"({rest[0]} < {number} ? {rest[0]} : {number})" if bounds[1] else number

    return text
