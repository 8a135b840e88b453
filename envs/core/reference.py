"""Facts about environments that need no PyTorch: the scale of their returns, the meaning of their numbers, figures for
the report of a run as plain data (``TensorEnv.report_figures`` makes them, whoever shows a report draws them), and the
type of NumPy's arrays; and which values of a file are numbers."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def is_finite_number(value: Any) -> bool:
    """True for a number that JSON or YAML gave and float64 holds; true and false, infinity and NaN are none."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


@dataclass(frozen=True)
class Reference:
    """The scale of returns: mean returns of known policies, and the source of the figures.

    ``optimum`` is the best attainable mean return (exact, or that of the documented expert), ``random`` the uniform
    random policy's, ``heuristic`` that of a simple rule named in ``source``. None where it is not known.
    ``solved_at`` is the mean return from which the environment counts as solved.
    """

    optimum: float | None = None
    random: float | None = None
    heuristic: float | None = None
    solved_at: float | None = None
    source: str = ""

    def percent_of_optimal(self, mean_return: float) -> float | None:
        """100 (score − random) / (optimum − random); None where either is unknown."""
        if self.optimum is None or self.random is None or self.optimum == self.random:
            return None
        return 100.0 * (mean_return - self.random) / (self.optimum - self.random)


@dataclass(frozen=True)
class Quantity:
    """The meaning of a number of an observation or an action: x stands for ``offset + scale * x`` in ``unit``.

    Attributes:
        name: in letters, digits and underscores, unlike the others of the environment.
        unit: of the quantity; "" for a share, a count or a direction.
        scale, offset: in that unit.
        meaning: what the name leaves open, such as the sign.
        count: how many numbers in a row are of this kind, as the cells of a board.
    """

    name: str
    unit: str = ""
    scale: float = 1.0
    offset: float = 0.0
    meaning: str = ""
    count: int = 1


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


@dataclass(frozen=True)
class LineFigure:
    """Curves over one axis.

    Attributes:
        x_label, y_label: the quantities, with their units.
        x: of the points of every curve.
        curves: y of each point by the curve's name; None leaves a gap.
        bands: the low and the high ends of what a curve stands for, by its name.
        levels: (name, y) of lines across.
        from_zero: whether the axis of y begins at 0.
        note: a sentence below.
    """

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    curves: Mapping[str, Sequence[float | None]]
    bands: Mapping[str, tuple[Sequence[float | None], Sequence[float | None]]] = field(default_factory=dict)
    levels: Sequence[tuple[str, float]] = ()
    from_zero: bool = False
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"kind": "lines", **_plain(self)}


@dataclass(frozen=True)
class RowFigure:
    """Numbers below each other, a bar with its name for each.

    Attributes:
        x_label: the quantity, with its unit.
        values: by their names.
        compared: names of those that are only there to compare with.
        levels: (name, x) of lines from top to bottom.
        note: a sentence below.
    """

    title: str
    x_label: str
    values: Mapping[str, float]
    compared: Sequence[str] = ()
    levels: Sequence[tuple[str, float]] = ()
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"kind": "rows", **_plain(self)}


def _plain(figure: LineFigure | RowFigure) -> dict[str, Any]:
    values = {part.name: getattr(figure, part.name) for part in fields(figure)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


ReportFigure = BarFigure | MapFigure | LineFigure | RowFigure
FIGURE_KINDS = ("bars", "maps", "lines", "rows")  # as ``as_dict`` names them


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
