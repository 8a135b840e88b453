"""A sparkline of a run: one block of text for each of its evaluations, as high as what was measured there.

1. Evaluation k of a run takes place at the first end of an iteration at ``k · apart`` steps or above, and has cell k.
   Training has the same cells: what an iteration measures stands in those that its steps lie in, the newest counts.
2. Cells without a number, those to come and those whose evaluation failed, are dots.
3. Percentages of the optimum have the scale 0 to 100 % and are cut off there. Where there is no optimum the scale is
   that of the numbers on display.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

BLOCKS = "▁▂▃▄▅▆▇█"
NO_BLOCK = "·"


class Sparkline:
    """Numbers by the steps at which they were measured; NaN is no number."""

    def __init__(self, cells: int, apart: int) -> None:
        """``cells`` of ``apart`` steps each."""
        self._apart = apart
        self._values = [math.nan] * cells

    def evaluation(self, step: int, value: float) -> None:
        """The evaluation after that many steps."""
        self._values[self._within(step // self._apart - 1)] = value

    def iteration(self, start: int, end: int, value: float) -> None:
        """What the steps ``start`` + 1 to ``end`` have measured."""
        first, last = (self._within((step - 1) // self._apart) for step in (start + 1, end))
        self._values[first : last + 1] = [value] * (last + 1 - first)

    def numbers(self) -> list[float]:
        """The known ones, in their order."""
        return [value for value in self._values if math.isfinite(value)]

    def text(self, low: float, high: float) -> str:
        """A block or dot for each cell; ``low`` and what is below it has the lowest one, ``high`` the highest."""
        return "".join(block(value, low, high) for value in self._values)

    def _within(self, cell: int) -> int:
        return min(max(cell, 0), len(self._values) - 1)


def block(value: float, low: float, high: float) -> str:
    """The nearest of the eight heights; without a number a dot, without a scale the lowest."""
    if not math.isfinite(value):
        return NO_BLOCK
    share = min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.0
    return BLOCKS[round(share * (len(BLOCKS) - 1))]


def scale(lines: Iterable[Sparkline]) -> tuple[float, float]:
    """Least and greatest number of the lines; 0 and 0 without any."""
    numbers = [number for line in lines for number in line.numbers()]
    return (min(numbers), max(numbers)) if numbers else (0.0, 0.0)
