"""The curves of a run as columns, read in whatever state ``progress.csv`` is, and thinned for charts.

1. A row that cannot be read is left out and counted. An empty cell, NaN and infinity are no numbers; the latter two are
   counted by column. What is too large to be drawn counts as infinite.
2. A chart has room for ``MOST_POINTS`` of a curve. Of a longer one each point stands for as many rows after each other:
   their mean, over the last one's step, in a band from the least to the greatest, in seven digits.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from palaestra.train.loggers.metric_names import ITERATION, STEP
from palaestra.train.plain_json import LARGEST
from palaestra.train.report.charts import Curve

MOST_POINTS = 400
MOST_ROWS = 1000  # in the data of a page


@dataclass
class CurveTable:
    """Columns of numbers, None where there is none, by their names; ``steps`` are those of the rows.

    Attributes:
        unread: how many rows could not be read.
        broken: how many cells were NaN or infinite, by column, and the step of the first one.
        iterations: whether each row is that of an iteration, and not of the final evaluation.
    """

    steps: list[int] = field(default_factory=list)
    columns: dict[str, list[float | None]] = field(default_factory=dict)
    iterations: list[bool] = field(default_factory=list)
    unread: int = 0
    broken: dict[str, tuple[int, int]] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """True if the column has a number anywhere."""
        return any(value is not None for value in self.columns.get(name, ()))

    def points(
        self, name: str, factor: float = 1.0, training_only: bool = False
    ) -> tuple[list[int], list[float | None]]:
        """Steps and numbers of a column, without empty cells but with None for those that were NaN or infinite."""
        x: list[int] = []
        y: list[float | None] = []
        for step, value, iteration in zip(self.steps, self.columns.get(name, ()), self.iterations, strict=False):
            if value is None or (training_only and not iteration):
                continue
            x.append(step)
            y.append(value * factor if math.isfinite(value) else None)
        return x, y

    def curve(self, name: str, title: str, colour: int = 0, dots: bool = False, factor: float = 1.0) -> Curve:
        """A column as a curve with at most ``MOST_POINTS`` points; ``factor`` is applied to its numbers."""
        x, y = self.points(name, factor, training_only=dots)
        if len(x) <= MOST_POINTS:
            return Curve(title, x, y, dots=dots, colour=colour)
        ends: list[int] = []
        means: list[float | None] = []
        low: list[float | None] = []
        high: list[float | None] = []
        size = math.ceil(len(x) / MOST_POINTS)
        for begin in range(0, len(x), size):
            part = list(zip(x[begin : begin + size], y[begin : begin + size], strict=True))
            known = [value for _, value in part if value is not None]
            ends.append(part[-1][0])
            means.append(_seven_digits(sum(known) / len(known)) if known else None)
            low.append(_seven_digits(min(known)) if known else None)
            high.append(_seven_digits(max(known)) if known else None)
        return Curve(title, ends, means, low, high, colour=colour)

    def rows_for_data(self) -> dict[str, object]:
        """Every row, or at most ``MOST_ROWS`` of them, evenly chosen and with all evaluations, as plain data."""
        every = max(1, math.ceil(len(self.steps) / MOST_ROWS))
        scores = self.columns.get("eval/mean_reward", [])
        evaluated = {n for n, value in enumerate(scores) if value is not None}
        chosen = sorted({*range(0, len(self.steps), every), *evaluated, *([len(self.steps) - 1] if self.steps else [])})
        columns = {name: [values[n] for n in chosen] for name, values in self.columns.items()}
        return {"every": every, "rows": len(self.steps), "columns": {STEP: [self.steps[n] for n in chosen], **columns}}


def _seven_digits(number: float) -> float:
    return float(f"{number:.7g}")


def read_curves(file: Path) -> CurveTable:
    """The table in the file; an empty one if it has no such table.

    Raises:
        OSError: if it cannot be read.
    """
    found = CurveTable()
    with file.open(newline="", encoding="utf-8", errors="replace") as lines:
        rows = list(_rows(lines))
    heads = rows[0] if rows else []
    if STEP not in heads or len({*heads}) < len(heads):
        found.unread = len(rows)
        return found
    place, last = heads.index(STEP), heads.index(ITERATION) if ITERATION in heads else None
    found.columns = {name: [] for name in heads if name != STEP}
    for row in rows[1:]:
        try:
            step, numbers = int(row[place]), [_number(cell) for cell in row]
        except (IndexError, ValueError):
            found.unread += 1
            continue
        if len(row) != len(heads) or not 0 <= step < 2**63:
            found.unread += 1
            continue
        found.steps.append(step)
        found.iterations.append(last is None or bool(row[last]))
        for name, value in zip(heads, numbers, strict=True):
            if name == STEP:
                continue
            found.columns[name].append(value)
            if value is not None and not math.isfinite(value):
                first, count = found.broken.get(name, (step, 0))
                found.broken[name] = first, count + 1
    return found


def _number(cell: str) -> float | None:
    if not cell:
        return None
    number = float(cell)
    return math.copysign(math.inf, number) if abs(number) > LARGEST else number


def _rows(lines: Iterable[str]) -> Iterator[list[str]]:
    """Rows of a CSV file, without a last one that is only half written; what is no row is an empty one."""
    for line in lines:
        if not line.endswith("\n"):
            return
        try:
            yield next(csv.reader([line.replace("\0", "")]), [])
        except csv.Error:
            yield []
