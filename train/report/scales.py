"""Scales of charts: round ticks, short labels, and positions on a linear or logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
_HUGE = 1e15
_UNITS = ((1e9, " G"), (1e6, " M"), (1e3, " k"))


def finite(values: Iterable[float | None]) -> list[float]:
    """The finite numbers among the values."""
    return [value for value in values if value is not None and math.isfinite(value)]


def short_number(value: float, step: float = 0.0) -> str:
    """A label like 1.5 M, 20 k, 0.25 or −3, with the digits that tell ticks apart which are ``step`` apart.

    Without a step it has four significant digits, or a longer whole part. From ``_HUGE`` on it is a power of ten.
    """
    if value == 0.0:
        return "0"
    sign, size = ("−" if value < 0 else ""), abs(value)
    if step <= 0.0:
        text = f"{size:,.0f}" if 9999.5 <= size < _HUGE else f"{size:.4g}"
        return sign + _readable_power(text)
    if max(size, step) >= _HUGE:
        return sign + _readable_power(f"{size:.3g}")
    for unit, name in _UNITS:
        if max(size, step) >= 10 * unit or (size >= unit and step >= unit / 2):
            return f"{sign}{_digits(size / unit, step / unit)}{name}"
    return sign + _readable_power(f"{size:.1e}" if size < 1e-4 else _digits(size, step))


def _digits(size: float, step: float) -> str:
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
        decimals += 1  # steps of 0.25, and of 2.5 k
    return f"{size:.{min(decimals, 9)}f}"


def _readable_power(text: str) -> str:
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}".replace("e-", "e−") if e else text


@dataclass(frozen=True)
class Scale:
    """Values from ``low`` to ``high`` on pixels from ``start`` to ``end``; on a logarithmic one all are positive."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The position of a value, in pixels."""
        low, high = self._power(self.low), self._power(self.high)
        return self.start + (self.end - self.start) * (self._power(value) - low) / (high - low)

    def _power(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """At most so many round values with their labels."""
        if self.logarithmic:
            return self._powers_of_ten(most)
        step = round_step((self.high - self.low) / max(1, most - 1))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(number * step, short_number(number * step, step)) for number in range(first, last + 1)]

    def _powers_of_ten(self, most: int) -> list[tuple[float, str]]:
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        stride = max(1, math.ceil((last - first + 1) / most))
        return [(10.0**power, short_number(10.0**power)) for power in range(first, last + 1, stride)]


def round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5 (but 2.5 itself) or 5 times a power of ten that is at least ``least`` > 0."""
    power = 10.0 ** math.floor(math.log10(least))
    steps = (nice * power for nice in _NICE if nice * power != 2.5)  # whole numbers are to have whole steps
    return next(step for step in steps if step >= least * (1 - 1e-9))


def scale_for(
    values: Iterable[float | None], start: float, end: float, *, logarithmic: bool = False, from_zero: bool = False
) -> Scale:
    """A scale with room for the finite ones of the values, to round ends; 0 … 1 if there are none."""
    known = finite(values)
    if logarithmic:
        known = [value for value in known if value > 0.0]
        low, high = min(known, default=0.1), max(known, default=1.0)
        low, high = 10.0 ** math.floor(math.log10(low) + 1e-9), 10.0 ** math.ceil(math.log10(high) - 1e-9)
        return Scale(low, high if high > low else 10.0 * low, start, end, True)
    low, high = min(known, default=0.0), max(known, default=1.0)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = abs(low) / 10 or 1.0
        low, high = low - (0.0 if from_zero and low == 0.0 else room), high + room
    step = round_step((high - low) / 4)
    return Scale(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, start, end)
