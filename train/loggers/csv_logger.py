"""``progress.csv``: one row for each dump of SB3's logger.

1. ``global_step`` comes first, then a column for each metric in the order of appearance, under SB3's names.
2. Every row is handed to the operating system at once, so that a killed run loses none.
3. A metric that appears later widens the table: the file is written anew beside the old one and put in its place.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter
from torch import Tensor

from palaestra.envs.core.atomic_write import write_whole
from palaestra.train.config.schema import ConfigError
from palaestra.train.loggers.metric_names import ITERATION, STEP

ScalarRow = dict[str, int | float]


def scalar_row(key_values: Mapping[str, Any], key_excluded: Mapping[str, tuple[str, ...]], step: int) -> ScalarRow:
    """The row that every output gets: ``global_step``, then the numbers of a logger's dump in its order.

    Pictures, texts and histograms are no columns; a key that its caller excludes from "csv" is excluded everywhere.
    """
    row: ScalarRow = {STEP: step}
    for key, value in key_values.items():
        if isinstance(value, np.generic | np.ndarray | Tensor) and value.ndim == 0:
            value = value.item()
        if isinstance(value, int | float) and "csv" not in (key_excluded.get(key) or ()):
            row[key] = value
    return row


class CsvOutput(KVWriter):
    """``progress.csv``: a column for ``global_step``, then one for each metric in the order of appearance.

    Floats are written so that reading them gives the same bits; a metric that a row lacks is an empty cell.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        """Start a new file, or go on with the rows of an old one.

        Args:
            path: of the file.
            resume_step: None for a new run. Else rows after this step (of a killed run, ahead of its checkpoint), a
                line cut off in the middle and the row of the final evaluation, which is made again, are dropped.

        Raises:
            FileExistsError: the file exists and ``resume_step`` is None.
        """
        self._path = path
        self._columns = [STEP]
        if resume_step is not None and path.exists():
            self._columns, rows = _read_csv(path)
            self._replace(row for row in rows if self._precedes(row, resume_step))
        else:
            with _named(path), path.open("x", newline="", encoding="utf-8") as file:
                _csv_writer(file).writerow(self._columns)
        self._file = path.open("a", newline="", encoding="utf-8")

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        row = scalar_row(key_values, key_excluded, step)
        new = [key for key in row if key not in self._columns]
        with _named(self._path):
            if new:
                self._add_columns(new)
            _csv_writer(self._file).writerow([row.get(column, "") for column in self._columns])
            self._file.flush()

    def rows(self) -> list[ScalarRow]:
        """The rows that are in the file."""
        columns, rows = _read_csv(self._path)
        return [{key: _number(cell) for key, cell in zip(columns, row, strict=True) if cell} for row in rows]

    def close(self) -> None:
        with suppress(OSError):  # what cannot be written now could not be when its row came, which told
            self._file.close()

    def _precedes(self, row: list[str], step: int) -> bool:
        """True if it was written before the checkpoint of that step; only the final evaluation's row tells no steps."""
        final = ITERATION in self._columns and not row[self._columns.index(ITERATION)]
        return int(row[0]) < step or (int(row[0]) == step and not final)

    def _add_columns(self, new: list[str]) -> None:
        self._file.close()
        columns, rows = _read_csv(self._path)
        self._columns = columns + new
        self._replace(row + [""] * len(new) for row in rows)
        self._file = self._path.open("a", newline="", encoding="utf-8")

    def _replace(self, rows: Iterable[list[str]]) -> None:
        text = io.StringIO(newline="")
        _csv_writer(text).writerows([self._columns, *rows])
        write_whole(self._path, text.getvalue())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors name the file, which those of writing into an open one do not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _number(cell: str) -> int | float:
    return int(cell) if cell.removeprefix("-").isdecimal() else float(cell)


def _csv_writer(file: Any) -> Any:
    return csv.writer(file, lineterminator="\n")


def _read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the complete rows.

    Raises:
        ConfigError: if another program has changed the file.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("\n")]
        columns, *rows = csv.reader(lines) if lines else [[STEP]]
        for row in rows:
            int(row[0])
            for cell in row:
                float(cell or "nan")
        if columns[:1] != [STEP] or any(len(row) != len(columns) for row in rows):
            raise ValueError("its columns are others")
    except (csv.Error, IndexError, ValueError) as error:
        raise ConfigError(f"{path} is damaged ({error}); put it away to go on without it") from error
    return columns, rows
