"""A table of numbers and dates as a CSV file or an Excel sheet, whole or not at all."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from palaestra.envs.core.atomic_write import write_whole

KINDS = (".csv", ".xlsx")
MOST_ROWS = 1_048_575  # of an Excel sheet, below the header
_OLDEST = 1900  # year of Excel's first date; older ones are text


class TableFileError(ValueError):
    """The table cannot be written to such a file; the message says why."""


def check_table_file(path: Path) -> None:
    """Raise a TableFileError unless a table can be written to ``path``."""
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise TableFileError(f"{path}: the name of a table ends in {' or '.join(KINDS)}")
    if os.path.lexists(path):
        raise TableFileError(f"{path} is there already: remove it, or choose another name")
    if not path.parent.is_dir():
        raise TableFileError(f"{path}: there is no folder {path.parent}")
    if kind == ".xlsx":
        _xlsxwriter()


def write_table(path: Path, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Write the rows below the names of their columns, and return how many there are.

    Raises:
        TableFileError: if the file is there already, or Excel has not so many rows.
        OSError: if the disk fails; nothing is left then.
    """
    check_table_file(path)
    table = list(rows)
    content = _sheet(heads, table) if path.suffix.lower() == ".xlsx" else _text(heads, table)
    write_whole(path, content)
    return len(table)


def _text(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return text.getvalue()


def _sheet(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    if len(rows) > MOST_ROWS:
        raise TableFileError(f"{len(rows):,} rows are more than an Excel sheet has: write a .csv file")
    content = io.BytesIO()
    with _xlsxwriter().Workbook(content, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        bold, day = book.add_format({"bold": True}), book.add_format({"num_format": "yyyy-mm-dd"})
        sheet.write_row(0, 0, heads, bold)
        for place, row in enumerate(rows, 1):
            for column, cell in enumerate(row):
                if isinstance(cell, date) and cell.year >= _OLDEST:
                    sheet.write_datetime(place, column, cell, day)
                else:
                    sheet.write(place, column, str(cell) if isinstance(cell, date) else cell)
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, len(rows), len(heads) - 1)
        for column, head in enumerate(heads):
            sheet.set_column(column, column, max(10, len(head) + 3))
    return content.getvalue()


def _xlsxwriter() -> Any:
    try:
        import xlsxwriter
    except ImportError:
        raise TableFileError(".xlsx files need pip install 'palaestra[data]'; or write a .csv file") from None
    return xlsxwriter
