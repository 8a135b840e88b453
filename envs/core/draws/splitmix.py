"""SplitMix64's output function on tensors, and keys as a tree of counters.

int64 additions, multiplications, shifts and xors wrap modulo 2^64 on every device, and the meta device works. Constants
are tensors of no dimension on the CPU, which any device takes: in calls on few elements a Python number costs as much
again as the work.

Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from palaestra.envs.core.batching.constants import kept_number

_BITS = 64
MASK = (1 << _BITS) - 1
_GAMMA = 0x9E3779B97F4A7C15
_M1 = 0xBF58476D1CE4E5B9
_M2 = 0x94D049BB133111EB


def signed(value: int) -> int:
    """The int64 with the same 64 bits as ``value`` modulo 2^64."""
    value &= MASK
    return value - (1 << _BITS) if value >> (_BITS - 1) else value


GAMMA = signed(_GAMMA)


_integer = functools.partial(kept_number, dtype=torch.int64)
# The steps of the output function: how far to shift, what a logical shift leaves of 64 bits (int64's own drags the sign
# in), and the multiplier.
(_SHIFT_1, _LEFT_1, _FACTOR_1), (_SHIFT_2, _LEFT_2, _FACTOR_2), (_SHIFT_3, _LEFT_3, _) = (
    (_integer(shift), _integer((1 << (_BITS - shift)) - 1), _integer(signed(factor)))
    for shift, factor in ((30, _M1), (27, _M2), (31, 1))
)
_GAMMA_TENSOR = _integer(GAMMA)
_TOP = {digits: (_integer(_BITS - digits), _integer((1 << digits) - 1)) for digits in (24, 32, 53)}
UNTOUCHED = 31  # upper bits that the last step of the output function leaves as they are


def mix_int(z: int) -> int:
    """The output function of a Python integer (unsigned, 64 bits)."""
    z = ((z ^ (z >> 30)) * _M1) & MASK
    z = ((z ^ (z >> 27)) * _M2) & MASK
    return z ^ (z >> 31)


def stirred(z: Tensor) -> Tensor:
    """The output function but for its last step."""
    # written out: this runs several times a step, on few numbers, where every call counts
    z = (z >> _SHIFT_1).bitwise_and_(_LEFT_1).bitwise_xor_(z).mul_(_FACTOR_1)
    return (z >> _SHIFT_2).bitwise_and_(_LEFT_2).bitwise_xor_(z).mul_(_FACTOR_2)


def mix(z: Tensor) -> Tensor:
    """The output function, elementwise on int64; equals :func:`mix_int` bit for bit."""
    z = stirred(z)
    return (z >> _SHIFT_3).bitwise_and_(_LEFT_3).bitwise_xor_(z)


def top(bits: Tensor, digits: int) -> Tensor:
    """The uppermost 24, 32 or 53 bits as a number from 0, int64."""
    shift, left = _TOP[digits]
    if bits.is_contiguous():
        return (bits >> shift).bitwise_and_(left)
    result = torch.empty(bits.shape, dtype=bits.dtype, device=bits.device)  # laid out as any other draw
    return torch.bitwise_right_shift(bits, shift, out=result).bitwise_and_(left)


def multiple(counter: int) -> int:
    """``counter`` · γ modulo 2^64, as an int64."""
    return signed(counter * _GAMMA)


def child_key(key: Tensor, counter: Tensor | int) -> Tensor:
    """Key of the ``counter``-th child (0, 1, …) of each key. Both int64, [N]."""
    if isinstance(counter, int):
        return mix(key + multiple(counter + 1))
    return mix(torch.add(key, counter, alpha=GAMMA).add_(_GAMMA_TENSOR))


@functools.lru_cache(maxsize=256)
def lane_offsets(count: int, device: torch.device) -> Tensor:
    """What is added to the bits of a draw for each of its numbers, int64 [count]."""
    with torch.inference_mode(False):  # as the first caller's mode must not stay in them
        return torch.arange(1, count + 1, device=device) * GAMMA
