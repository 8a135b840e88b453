"""PyTorch's choices where arithmetic leaves one, found out by trying.

A product and a sum may be rounded together or one by one, and a minimum of zeros of either sign may be either of them:
that depends on the processor, the version and how the numbers lie. So the operation itself is called on numbers in the
form that it will have (sizes and strides), odd ones among them, and the formula is taken that gives its bits; where
none does it stays PyTorch's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.compiled.expressions import clamped, extreme, scaled_sum
from palaestra.envs.core.reference import Array
from palaestra.envs.core.replay.recording import Call, Region

Formula = tuple[Callable[..., str], Callable[..., Array]]  # in C++, and in NumPy
NAMES = frozenset(("add", "sub", "addcmul", "addcdiv", "minimum", "maximum", "clamp", "clamp_min", "clamp_max"))
_ODD = (0.0, -0.0, 1.0, -1.0, 1e-42, 3e38, np.inf, -np.inf, np.nan, 1.0 / 3.0)
_COMBINED = np.array([*itertools.product(_ODD, repeat=3)])
_TRIED = 4096  # results, at least
_found: dict[Any, Callable[..., str] | None] = {}


def formula(name: str, call: Call, operands: Sequence[Region], details: Any) -> Callable[..., str] | None:
    """How PyTorch computes a call on floating numbers of one type, in C++; None if no formula gives its bits.

    Args:
        name: of :data:`NAMES`.
        call: the operation.
        operands: its tensors.
        details: the factor of a sum; of a clamp, which bounds there are, and their values if those are numbers.
    """
    forms = tuple((place.dtype, place.size, place.stride) for place in (*operands, call.results[0]))
    key = (name, forms, str(details), call.in_place, torch.backends.cpu.get_cpu_capability())
    if key not in _found:
        _found[key] = next(_that_fit(name, call, operands, details), None)
    return _found[key]


def _that_fit(name: str, call: Call, operands: Sequence[Region], details: Any) -> Iterator[Callable[..., str]]:
    tries = []
    rounds = min(max(_TRIED // max(math.prod(call.results[0].size), 1), 2), _TRIED // 32)
    for seed in range(rounds):
        numbers = _numbers(operands, np.random.default_rng(seed))
        before = [numbers[place].clone().numpy() for place in operands]
        tries.append((before, _called(call, numbers).clone().numpy()))
    with np.errstate(all="ignore"):
        for text, compute in _formulas(name, operands[0].dtype, details):
            if all(_same(expected, compute(*inputs)) for inputs, expected in tries):
                yield text


def _numbers(operands: Sequence[Region], generator: np.random.Generator) -> dict[Region, Tensor]:
    """Numbers in the form of each operand: odd ones in many combinations, and as many of usual size."""
    odd = generator.permutation(_COMBINED).T
    found: dict[Region, Tensor] = {}
    for i, place in enumerate(dict.fromkeys(operands)):
        own = tuple(1 if stride == 0 else n for n, stride in zip(place.size, place.stride, strict=True))
        tensor = torch.empty_strided(own, place.stride, dtype=place.dtype)
        count = tensor.numel()
        values = generator.standard_normal(count) * 2.0 ** generator.integers(-2, 3, count)
        few = odd[i % 3][: count // 2]
        values[: len(few)] = few
        tensor.copy_(torch.from_numpy(values.reshape(own)))
        found[place] = tensor.expand(place.size)
    return found


def _called(call: Call, numbers: dict[Region, Tensor]) -> Tensor:
    def value(argument: Any) -> Any:
        return numbers[argument] if isinstance(argument, Region) else argument

    named = {key: value(argument) for key, argument in call.named.items() if key != "out"}
    arguments = [value(argument) for argument in call.arguments]
    out = call.results[0]
    if call.in_place and "out" not in call.named:
        return call.function(*arguments, **named)  # type: ignore[no-any-return]
    target = torch.empty_strided(out.size, out.stride, dtype=out.dtype)
    return getattr(torch, call.name)(*arguments, **named, out=target)  # type: ignore[no-any-return]


def _formulas(name: str, dtype: torch.dtype, details: Any) -> Iterator[Formula]:
    kind = np.float32 if dtype == torch.float32 else np.float64
    if name in ("minimum", "maximum"):
        for first in (False, True):
            yield extreme(name, first), _extreme(name, first)
    elif name.startswith("clamp"):
        yield from _clamps(dtype, details)
    elif name == "addcdiv":
        text = scaled_sum(name, details, dtype, once=False)
        if text is not None:
            yield text, lambda a, b, c: a + (kind(details) * b) / c
    else:
        factor = kind(-details if name == "sub" else details)
        for once in (False, True):
            text = scaled_sum(name, details, dtype, once)
            if text is not None and not (once and kind is np.float64):
                yield text, _sum(name, factor, once)


def _sum(name: str, factor: Any, once: bool) -> Callable[..., Array]:
    def compute(a: Array, b: Array, c: Array | None = None) -> Array:
        x, y = (factor, b) if c is None else (factor * b, c)
        if not once:
            sums: Array = a + x * y
            return sums
        # a product of two is exact in twice the digits; what the sum loses there hardly ever decides
        whole: Array = (a.astype(np.float64) + np.float64(x) * y.astype(np.float64)).astype(np.float32)
        return whole

    return compute


def _clamps(dtype: torch.dtype, details: Any) -> Iterator[Formula]:
    there, limits = details
    if limits is not None:
        yield clamped(there), _clamp(there, None, [np.float32(x) if dtype == torch.float32 else x for x in limits])
        return
    for first in (False, True):
        largest, least = extreme("maximum", first), extreme("minimum", first)

        def text(number: str, *limits: str, largest: Any = largest, least: Any = least) -> str:
            rest = list(limits)
            if there[0]:
                number = largest(number, rest.pop(0))
            return str(least(number, rest[0])) if there[1] else number

        yield text, _clamp(there, first)


def _clamp(there: Sequence[bool], first: bool | None, numbers: Sequence[Any] = ()) -> Callable[..., Array]:
    def compute(number: Array, *limits: Array) -> Array:
        rest = [*numbers, *limits]
        for is_there, name in zip(there, ("maximum", "minimum"), strict=True):
            if not is_there:
                continue
            bound = rest.pop(0)
            if first is None:
                number = np.where(number < bound if name == "maximum" else bound < number, bound, number)
            else:
                number = _extreme(name, first)(number, bound)
        return number

    return compute


def _extreme(name: str, first: bool) -> Callable[..., Array]:
    def compute(a: Array, b: Array) -> Array:
        one, other = (a, b) if name == "minimum" else (b, a)
        chosen = one <= other if first else one < other
        return np.where(np.isnan(a), a, np.where(np.isnan(b), b, np.where(chosen, a, b)))

    return compute


def _same(one: Array, other: Array) -> bool:
    """True for the same bits, but for those of a NaN."""
    kind = np.int32 if one.dtype == np.float32 else np.int64
    other = np.broadcast_to(other, one.shape).astype(one.dtype)
    bits = np.ascontiguousarray(one).view(kind) == np.ascontiguousarray(other).view(kind)
    return bool((bits | (np.isnan(one) & np.isnan(other))).all())
