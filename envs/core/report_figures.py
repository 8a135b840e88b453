"""Figures that an environment adds to the report of a run, as plain data; whoever shows a report draws them.

``TensorEnv.report_figures`` makes them from the held-out episodes and the agent; see there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from palaestra.envs.core.reference import Array


@dataclass(frozen=True)
class BarFigure:
    """How often something was found: counts between edges, of which there is one more.

    Attributes:
        x_label, y_label: the quantities, with their units.
        marked: numbers of bars that stand out.
        names: of the bars; their edges unless given.
        levels: (name, x) of lines.
        note: a sentence below.
    """

    title: str
    x_label: str
    y_label: str
    edges: Sequence[float]
    counts: Sequence[float]
    marked: Sequence[int] = ()
    names: Sequence[str] = ()
    levels: Sequence[tuple[str, float]] = ()
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"kind": "bars", **asdict(self)}


@dataclass(frozen=True)
class MapFigure:
    """Maps side by side, numbers in rows that begin at the bottom, in the same colours; None leaves a hole.

    Attributes:
        x_label, y_label, value_label: the quantities, with their units.
        maps: the rows by the map's name.
        first: x of the first column and y of the first row.
        steps: from one column and one row to the next.
        note: a sentence below.
    """

    title: str
    x_label: str
    y_label: str
    value_label: str
    maps: dict[str, Sequence[Sequence[float | None]]]
    first: tuple[float, float] = (0.0, 0.0)
    steps: tuple[float, float] = (1.0, 1.0)
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"kind": "maps", **asdict(self)}


ReportFigure = BarFigure | MapFigure


def counts_of_whole(
    values: Array, title: str, x_label: str, y_label: str, marked: Sequence[int] = (), note: str = ""
) -> BarFigure:
    """How often each whole number occurs among the values, from least to greatest; ``marked`` ones stand out."""
    low, high = int(values.min()), int(values.max())
    counts = np.bincount(values.astype(np.int64) - low)
    edges, names = (np.arange(low, high + 2) - 0.5).tolist(), [str(number) for number in range(low, high + 1)]
    bars = [number - low for number in marked if low <= number <= high]
    return BarFigure(title, x_label, y_label, edges, counts.tolist(), bars, names, note=note)


def counts_between(values: Array, title: str, x_label: str, y_label: str, bars: int = 30, **more: Any) -> BarFigure:
    """How many of the values lie in each of so many intervals of the same length."""
    counts, edges = np.histogram(values, bars)
    return BarFigure(title, x_label, y_label, edges.tolist(), counts.tolist(), **more)
