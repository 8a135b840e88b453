"""Tables as CSV and Excel files: whole or not at all."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import pytest

from palaestra.train import table_file
from palaestra.train.table_file import TableFileError, write_table


def test_dates_before_excel_began_are_text(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    days = [datetime.date(1850, 3, 1), datetime.date(1899, 12, 31)]
    assert write_table(tmp_path / "old.XLSX", ["date"], [[day] for day in days]) == 2
    assert polars.read_excel(tmp_path / "old.XLSX")["date"].to_list() == ["1850-03-01", "1899-12-31"]


def test_more_rows_than_a_sheet_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_file, "MOST_ROWS", 2)
    with pytest.raises(TableFileError, match=r"^3 rows are more than an Excel sheet has: write a \.csv file$"):
        write_table(tmp_path / "a.xlsx", ["n"], [[1], [2], [3]])
    assert list(tmp_path.iterdir()) == []
    assert write_table(tmp_path / "a.csv", ["n"], [[1], [2], [3]]) == 3
    assert (tmp_path / "a.csv").read_bytes() == b"n\n1\n2\n3\n"


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(TableFileError, match=r"pip install 'palaestra\[data\]'"):
        table_file.check_table_file(tmp_path / "a.xlsx")
    table_file.check_table_file(tmp_path / "a.csv")


def test_a_file_or_a_link_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(tmp_path / "nowhere.csv")
    with pytest.raises(TableFileError, match="is there already"):
        write_table(tmp_path / "a.csv", ["n"], [[1]])
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
