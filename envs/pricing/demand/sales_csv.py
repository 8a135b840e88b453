"""Sales as people have them: a CSV file in one of two shapes, read into arrays and checked cell by cell.

1. Sales per period: ``date, product, price, units`` and perhaps ``visitors, unit_cost, stock, competitor_price``; a row
   for each product and date. A period is a date, whatever its length.
2. Choices: ``occasion_id, alternative, chosen, price`` and perhaps ``feature, display, available, household_id, date,
   unit_cost``; a row for each alternative that a buyer had. An occasion where nothing was chosen is a buyer who left.

The file is UTF-8 with a header and commas. It is read in pieces into 8 bytes a cell, so a million rows are no matter.
Rows are counted as spreadsheets do: the header is row 1.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.core.suggest import closest

SALES = ("date", "product", "price", "units")
SALES_MORE = ("visitors", "unit_cost", "stock", "competitor_price")
CHOICES = ("occasion_id", "alternative", "chosen", "price")
CHOICES_MORE = ("feature", "display", "available", "household_id", "date", "unit_cost")
_TEXTS = ("date", "product", "occasion_id", "alternative", "household_id")
_FLAGS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0, "0.0": 0.0, "1.0": 1.0}
_FLAG_COLUMNS = ("chosen", "available")
_PIECE = 20_000  # rows
# beyond these the likelihoods take too much memory, or lose the digits that tell one row from another
_LARGEST, _LARGEST_OF_OTHERS = {"units": 1e6}, 1e9


class SalesError(ValueError):
    """The sales cannot be used; the message says why."""


@dataclass
class SalesTable:
    """Columns of a file; a text column holds numbers that stand for the texts in ``labels``."""

    file: str
    shape: str  # "sales" or "choices"
    columns: dict[str, Array]  # float64 or, of texts, int64 [rows]
    labels: dict[str, list[str]]
    ignored: list[str]  # columns of other names

    @property
    def rows(self) -> int:
        return len(self.columns["price"])


def read_sales(path: Path) -> SalesTable:
    """Read and check a file.

    Raises:
        SalesError: naming the first row or column that is wrong.
    """
    if not path.is_file():
        raise SalesError(f"no such file: {path}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(path.name, csv.reader(file, strict=True))
    except UnicodeDecodeError:
        raise SalesError(f"{path} is not UTF-8 text: save it as CSV UTF-8") from None
    except csv.Error as error:
        raise SalesError(f"{path} is not a CSV file: {error}") from None
    except SalesError as error:
        raise SalesError(f"{path}: {error}") from None


def _read(file: str, reader: Iterator[list[str]]) -> SalesTable:
    header = [name.strip().lower() for name in next(reader, [])]
    if not any(header):
        raise SalesError("the file is empty")
    shape, used = _shape(header)
    index: dict[str, dict[str, int]] = {name: {} for name in used if name in _TEXTS}
    pieces: dict[str, list[Array]] = {name: [] for name in used}
    row, blank = 2, 0
    while piece := list(islice(reader, _PIECE)):
        if blank:
            raise SalesError(f"row {row - blank} is empty")
        read = len(piece)
        while piece and not piece[-1]:  # empty lines at the end
            piece.pop()
        blank = read - len(piece)
        _check_widths(piece, len(header), row)
        for name, cells in zip(header, zip(*piece, strict=True), strict=False):
            if name in pieces:
                pieces[name].append(_column(name, cells, index, row))
        row += read
    if not pieces["price"]:
        raise SalesError("the file has a header but no rows")
    columns = {name: np.concatenate(parts) for name, parts in pieces.items()}
    ignored = [name for name in header if name and name not in pieces]
    return SalesTable(file, shape, columns, {name: list(texts) for name, texts in index.items()}, ignored)


def _shape(header: Sequence[str]) -> tuple[str, list[str]]:
    """The shape of a header, one of the two, and its columns that are used."""
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise SalesError(f"the column {twice[0]} is there twice")
    wanted = {"sales": (SALES, SALES_MORE), "choices": (CHOICES, CHOICES_MORE)}
    lacking = {shape: [name for name in needed if name not in header] for shape, (needed, _) in wanted.items()}
    shape = min(lacking, key=lambda name: len(lacking[name]))
    if lacking[shape]:
        if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
            raise SalesError("the columns must be separated by commas")
        if len(lacking[shape]) > 2:
            raise SalesError(f"needs the columns {', '.join(SALES)}, or {', '.join(CHOICES)}; has {', '.join(header)}")
        close = closest(lacking[shape][0], header, 0.6)
        hint = f"; is {close!r} meant?" if close else f" (it has {', '.join(header)})"
        raise SalesError(f"the column {' and the column '.join(lacking[shape])} is missing{hint}")
    needed, more = wanted[shape]
    return shape, [name for name in header if name in needed or name in more]


def _check_widths(piece: list[list[str]], width: int, first: int) -> None:
    if set(map(len, piece)) - {width}:
        i, cells = next((i, cells) for i, cells in enumerate(piece) if len(cells) != width)
        raise SalesError(f"row {first + i} has {len(cells)} cells, the header {width}")


def _column(name: str, cells: Sequence[str], index: dict[str, dict[str, int]], first: int) -> Array:
    """One column of a piece whose first row is ``first``."""
    if name in _TEXTS:
        known = index[name]
        texts = [text.strip() for text in cells]
        if "" in texts:
            raise SalesError(f"row {first + texts.index('')}: {name} is empty")
        return np.fromiter((known.setdefault(text, len(known)) for text in texts), np.int64, len(texts))
    try:
        if name in _FLAG_COLUMNS:
            return np.fromiter((_FLAGS[cell.strip().lower()] for cell in cells), np.float64, len(cells))
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except (ValueError, KeyError):
        raise _wrong_cell(name, cells, first) from None
    whole = name == "units"
    wrong = ~np.isfinite(values) | (values < 0.0) | ((values <= 0.0) & (name in ("price", "competitor_price")))
    if whole:
        wrong |= values != np.floor(values)
    if wrong.any():
        i = int(wrong.argmax())
        rule = "above 0" if name in ("price", "competitor_price") else "a whole number" if whole else "a number"
        raise SalesError(f"row {first + i}: {name} must be {rule}, finite and not negative, got {cells[i].strip()!r}")
    largest = _LARGEST.get(name, _LARGEST_OF_OTHERS)
    if (values > largest).any():
        i = int((values > largest).argmax())
        raise SalesError(f"row {first + i}: {name} must be at most {largest:,.0f}, got {cells[i].strip()!r}")
    return values


def _wrong_cell(name: str, cells: Sequence[str], first: int) -> SalesError:
    def fits(cell: str) -> bool:
        if name in _FLAG_COLUMNS:
            return cell.strip().lower() in _FLAGS
        try:
            float(cell)
        except ValueError:
            return False
        return True

    i, cell = next((i, cell) for i, cell in enumerate(cells) if not fits(cell))
    kind = "0 or 1" if name in _FLAG_COLUMNS else "a number"
    return SalesError(f"row {first + i}: {name} must be {kind}, got {cell.strip()!r}")


def first_repeat(*keys: Any) -> tuple[int, int] | None:
    """The first row whose keys have been there before, and the row where, as indices; None if there is none."""
    order = np.lexsort(keys[::-1])
    same = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
    if not same.any():
        return None
    repeats = np.flatnonzero(same)
    i = repeats[order[repeats + 1].argmin()]
    return int(order[i + 1]), int(order[i])
