"""Excel files and Parquet as blocks of cells, by polars and its reader of spreadsheets (the extra ``data``).

The header is read by itself, as text, so that doubled names stay doubled; the rows below it as the numbers, dates and
texts that they are. Polars and not pandas: pandas reads a text cell "007" as the number 7 and makes 1.0 of a yes beside
an empty cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.core.suggest import closest
from palaestra.envs.pricing.sales.sales_table import ReadOptions, SalesError
from palaestra.envs.pricing.sales.text_rows import Block, cells_of

SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
COLUMNAR = (".parquet", ".pq")


class SheetRows:
    """A sheet or a Parquet file: its header, and its rows as often as they are asked for."""

    short_rows = 0

    def __init__(self, path: Path, options: ReadOptions) -> None:
        try:
            import fastexcel
            import polars
        except ImportError:
            raise SalesError(f"{path.suffix} files need pip install 'palaestra[data]'; or export it as CSV") from None
        try:
            if path.suffix.lower() in COLUMNAR:
                self._frame: Any = polars.read_parquet(path)
                self.header = list(self._frame.columns)
                self._first_row = 2
                return
            book = fastexcel.read_excel(path)
            sheet = _sheet(book.sheet_names, options.sheet)
            row = options.header_row
            top = book.load_sheet(sheet, header_row=None, skip_rows=row - 1, n_rows=1, dtypes="string").to_polars()
            self.header = [str(name or "").strip() for name in (top.row(0) if top.height else ())]
            below = book.load_sheet(sheet, header_row=None, skip_rows=row, schema_sample_rows=None)
            self._frame, self._first_row = below.to_polars(), row + 1
        except SalesError:
            raise
        except Exception as error:  # a broken file: both libraries have many kinds of errors of their own
            raise SalesError(f"it cannot be read as {path.suffix}: {str(error).splitlines()[0]}") from None
        if not any(self.header):
            raise SalesError(f"sheet {sheet!r} has no names of columns in row {row}: --header-row N or --sheet NAME")

    def blocks(self, columns: Sequence[int]) -> Iterator[Block]:
        """The rows, of those columns, in one block."""
        frame, rows = self._frame, np.arange(self._first_row, self._first_row + self._frame.height)
        if not frame.height or not frame.width:
            return
        cells = {}
        for k in columns:
            name = self.header[k]
            cells[k] = _cells(frame.to_series(k), rows, name) if k < frame.width else np.full(len(rows), b"", "S1")
        filled = np.logical_or.reduce([~np.isnan(c) if c.dtype.kind == "f" else c != b"" for c in cells.values()])
        if not filled.all():
            rows, cells = rows[filled], {k: array[filled] for k, array in cells.items()}
        yield Block(rows, cells)


def _sheet(names: Sequence[str], wanted: str | None) -> str:
    if wanted is None:
        if len(names) > 1:
            raise SalesError(f"the file has the sheets {', '.join(names)}: --sheet {names[0]!r} says which")
        return names[0]
    if wanted not in names:
        close = closest(wanted, names)
        raise SalesError(
            f"--sheet {wanted}: no such sheet; it has {', '.join(names)}" + (f"; is {close!r} meant?" if close else "")
        )
    return wanted


def _cells(series: Any, rows: Array, name: str) -> Array:
    """Numbers and yes or no as float64 with NaN, all else as text."""
    import polars

    if series.dtype.is_integer() and max(series.max() or 0, -(series.min() or 0)) >= 10**15:
        series = series.cast(polars.String)  # codes of articles, which a float would round
    if series.dtype.is_numeric() or series.dtype == polars.Boolean:
        return np.asarray(series.cast(polars.Float64).fill_null(float("nan")).to_numpy(), np.float64)
    if series.dtype == polars.Null:
        return np.full(len(rows), np.nan)
    if series.dtype == polars.Datetime:
        series = series.dt.strftime("%Y-%m-%d %H:%M:%S")
    return cells_of(series.cast(polars.String).fill_null("").to_list(), rows, name)
