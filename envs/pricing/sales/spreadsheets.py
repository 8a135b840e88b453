"""Excel files and Parquet as blocks of cells, by polars and its reader of spreadsheets (the extra ``data``).

1. The header is read by itself, as text, so that doubled names stay doubled; the rows below it as the numbers, dates
   and texts that they are, and only in columns that are asked for: hours beside a text in a column ([h]:mm, a total's
   label) make the reader give up all columns of a load.
2. Numbers in a column that has texts too come as texts of the reader's own, with a decimal point. What was a number
   stays one, so that 1.125 beside a text "3,50" is not 1125.
3. Polars and not pandas: pandas reads a text cell "007" as the number 7 and makes 1.0 of a yes beside an empty cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.core.suggest import closest
from palaestra.envs.pricing.sales.sales_table import ReadOptions, SalesError
from palaestra.envs.pricing.sales.text_rows import Block, cells_of

SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
COLUMNAR = (".parquet", ".pq")
_FRACTION = r"^-?\d+\.\d+$"


class SheetRows:
    """A sheet or a Parquet file: its header, and its rows as often as they are asked for."""

    short_rows = 0

    def __init__(self, path: Path, options: ReadOptions) -> None:
        try:
            import fastexcel
            import polars
        except ImportError:
            raise SalesError(f"{path.suffix} files need pip install 'palaestra[data]'; or export it as CSV") from None
        self._kind, self._mixed = path.suffix, fastexcel.UnsupportedColumnTypeCombinationError
        self._frame: Any = None  # of Parquet
        if path.suffix.lower() in COLUMNAR:
            with self._told():
                self._frame = polars.read_parquet(path)
            self.header, self._first_row = list(self._frame.columns), 2
            return
        with self._told():
            self._book = fastexcel.read_excel(path)
        self._sheet = _sheet(self._book.sheet_names, options.sheet)
        row = options.header_row
        self._first_row = row + 1
        top = self._loaded(skip_rows=row - 1, n_rows=1, dtypes="string")
        self.header = [str(name or "").strip() for name in (top.row(0) if top.height else ())]
        if not any(self.header):
            raise SalesError(
                f"sheet {self._sheet!r} has no names of columns in row {row}: --header-row N or --sheet NAME"
            )

    def blocks(self, columns: Sequence[int]) -> Iterator[Block]:
        """The rows, of those columns, in one block."""
        series = dict(zip(columns, self._series(columns), strict=True))
        n = len(next(iter(series.values()))) if series else 0
        if not n:
            return
        rows = np.arange(self._first_row, self._first_row + n)
        cells = {k: _cells(each, rows, self.header[k]) for k, each in series.items()}
        numbers = {k: known for k, each in series.items() if (known := self._numbers(k, each)) is not None}
        filled = np.logical_or.reduce([~np.isnan(c) if c.dtype.kind == "f" else c != b"" for c in cells.values()])
        yield Block(rows, cells, numbers).kept(filled)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A broken file in one line: both libraries have many kinds of errors of their own."""
        try:
            yield
        except self._mixed:
            raise
        except Exception as error:
            raise SalesError(f"it cannot be read as {self._kind}: {str(error).splitlines()[0]}") from None

    def _loaded(self, **arguments: Any) -> Any:
        """A frame of the sheet's cells."""
        arguments = {"skip_rows": self._first_row - 1, "schema_sample_rows": None, **arguments}
        with self._told():
            return self._book.load_sheet(self._sheet, header_row=None, **arguments).to_polars()

    def _series(self, columns: Sequence[int]) -> list[Any]:
        if self._frame is not None:
            return [self._frame.to_series(k) for k in columns]
        if not columns:
            return []
        try:
            return list(self._loaded(use_columns=list(columns)).get_columns())
        except self._mixed:
            if len(columns) > 1:
                return [self._series([k])[0] for k in columns]
            return [self._loaded(use_columns=list(columns), dtypes="string").to_series(0)]

    def _numbers(self, column: int, series: Any) -> Array | None:
        """The cells that are numbers in a column of texts, NaN elsewhere; None if no fraction is among them."""
        import polars

        if self._frame is not None or series.dtype != polars.String or not series.str.contains(_FRACTION).any():
            return None
        # asked for whole numbers, the reader cuts a number's fraction off, and takes no text that has one
        whole, real = (
            self._loaded(use_columns=[column], dtypes=kind).to_series(0).to_numpy() for kind in ("int", "float")
        )
        return np.where(np.isnan(np.asarray(whole, np.float64)), np.nan, np.asarray(real, np.float64))


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
    if series.dtype == polars.Duration:
        series = series.dt.total_milliseconds() / 3_600_000  # hours
    if series.dtype.is_numeric() or series.dtype == polars.Boolean:
        return np.asarray(series.cast(polars.Float64).fill_null(float("nan")).to_numpy(), np.float64)
    if series.dtype == polars.Null:
        return np.full(len(rows), np.nan)
    if series.dtype == polars.Datetime:
        series = series.dt.strftime("%Y-%m-%d %H:%M:%S")
    if series.dtype.is_nested():  # lists, which polars does not make texts of
        return cells_of(["" if each is None else str(each) for each in series.to_list()], rows, name)
    return cells_of(series.cast(polars.String).fill_null("").to_list(), rows, name)
