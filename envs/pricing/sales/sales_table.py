"""The table that every sales file becomes, in one of two shapes, and the options of its reading.

1. ``sales``: a row for each product (and store) and period, with ``date, product, price, units`` and perhaps
   ``visitors, unit_cost, stock, sold_out, competitor_price, store``.
2. ``choices``: a row for each alternative that a buyer had, with ``occasion_id, alternative, chosen, price`` and
   perhaps ``feature, display, available, household_id, date, unit_cost``. An occasion where nothing was chosen is a
   buyer who left.

Rows of a file are counted as spreadsheets do: the first line is row 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from palaestra.envs.core import Array

NEEDED = {"sales": ("date", "product", "price", "units"), "choices": ("occasion_id", "alternative", "chosen", "price")}
MORE = {
    "sales": ("visitors", "unit_cost", "stock", "sold_out", "competitor_price", "store", "total", "share"),
    "choices": ("feature", "display", "available", "household_id", "date", "unit_cost"),
}
TEXTS = ("date", "product", "store", "occasion_id", "alternative", "household_id")
FLAGS = ("chosen", "available", "sold_out")
KNOWN = tuple(dict.fromkeys(name for shape in NEEDED for name in (*NEEDED[shape], *MORE[shape])))
SKIP = "--skip-bad-rows leaves such rows out"


class SalesError(ValueError):
    """The sales cannot be used; the message says why."""


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about a file; what is None is found out or refused."""

    columns: Mapping[str, str] = field(default_factory=dict)  # our name → the column of the file
    ignore: Sequence[str] = ()  # columns of the file that are left out
    attributes: Sequence[str] = ()  # of choices: columns that describe the alternatives
    where: Sequence[str] = ()  # COLUMN=VALUE or COLUMN!=VALUE of the rows that are read
    decimal: Literal[".", ","] | None = None
    dates: Literal["dmy", "mdy", "ymd"] | None = None
    encoding: str | None = None
    sheet: str | None = None
    header_row: int = 1
    per: Literal["day", "week"] | None = None
    returns: Literal["net", "drop"] = "net"
    skip_bad_rows: bool = False
    round_units: bool = False
    price_per_unit: bool = False
    market_size: float | None = None  # buyers of a period, for shares
    outside: str | None = None  # the choice that means: bought nothing
    alternatives: Sequence[str] = ()  # names of the choices 1, 2, 3, ...


class Labels(Sequence[str]):
    """Texts, decoded where they are looked at: a million dates take 10 MB."""

    def __init__(self, texts: Array) -> None:
        self.texts = texts  # UTF-8 bytes, S [n]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return Labels(self.texts[place])
        return self.texts[place].decode()


@dataclass
class SalesTable:
    """Columns of a file; a text column holds numbers that stand for the texts in ``labels``."""

    file: str
    shape: str  # "sales" or "choices"
    columns: dict[str, Array]  # float64 or, of texts, int64 [rows]
    labels: dict[str, Sequence[str]]
    ignored: list[str] = field(default_factory=list)  # columns of the file that are not used
    further: list[str] = field(default_factory=list)  # numeric columns whose meaning is not known here
    attributes: list[str] = field(default_factory=list)  # of choices: columns that describe the alternatives
    notes: list[str] = field(default_factory=list)  # what the reader did, for the user
    days: Array | None = None  # int64 [dates] date.toordinal() of labels["date"], None if they are no calendar dates
    file_rows: Array | None = None  # int64 [rows] the row of the file at which each begins; None: they start at 2

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values())))

    def row(self, index: Any) -> int:
        """The row of the file behind a row of the table."""
        return int(index) + 2 if self.file_rows is None else int(self.file_rows[index])


def refuse(problems: Sequence[str]) -> None:
    """Raise a SalesError with the first three of several problems, if there are any."""
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise SalesError("; ".join(problems[:3]) + more)


def first_repeat(*keys: Any) -> tuple[int, int] | None:
    """The first row whose keys have been there before, and the row where, as indices; None if there is none."""
    order = np.lexsort(keys[::-1])
    same = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
    if not same.any():
        return None
    repeats = np.flatnonzero(same)
    i = repeats[order[repeats + 1].argmin()]
    return int(order[i + 1]), int(order[i])
