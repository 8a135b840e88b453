"""A policy's actions for a table of observations: CSV, Parquet, or NumPy's arrays.

A table has a column for each number of the policy's inputs, by the contract's names and in its units, in any order;
others are passed over. Rows become actions in their order, by their names and in their units. An ``.npz`` file has an
array [N, *shape] by the name of each input, as the network sees it, and its answer is one of the outputs.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs.core.atomic_write import write_whole
from palaestra.train.export.observation_reader import MOST_ROWS, ObservationError, ObservationReader, elements_of
from palaestra.train.export.policy_file import PolicyFile, choice_of
from palaestra.train.table_file import check_table_file, write_table

TABLES, ARRAYS = (".csv", ".parquet"), ".npz"


class TableError(ValueError):
    """A file of observations that the policy cannot act on; the message names the file and the place."""


def act_on_table(policy: PolicyFile, source: Path, out: Path, clamp: bool = False) -> int:
    """Write the actions for the observations of a file, and return how many there are.

    Args:
        policy: the policy.
        source: a .csv, .parquet or .npz file.
        out: a .csv or .xlsx file for tables, .npz for arrays; it must not be there yet.
        clamp: whether numbers beyond their bounds become the bound.

    Raises:
        TableError: if a column or a cell is missing or wrong.
        TableFileError: if ``out`` cannot be written.
    """
    kind = source.suffix.lower()
    if kind not in (*TABLES, ARRAYS):
        raise TableError(f"{source}: observations are in a {', '.join(TABLES)} or {ARRAYS} file")
    if not source.is_file():
        raise TableError(f"there is no file {source}")
    reader = ObservationReader(policy.inputs, clamp)
    if kind == ARRAYS:
        return _arrays(policy, reader, source, out)
    check_table_file(out)
    names = _columns_of(policy)
    rows: list[list[Any]] = []
    for start, block in _blocks(source, names, _most_rows(reader)):
        rows += _acted(policy, reader, source, start, block)
    if not rows:
        raise TableError(f"{source} has no rows")
    return write_table(out, _heads(policy), rows)


def _columns_of(policy: PolicyFile) -> dict[str, list[str]]:
    """The columns of each input."""
    columns = {}
    for end in policy.inputs:
        elements = [element.name for element in elements_of(end)]
        if not elements and len(end["shape"]) > 1:
            raise TableError(
                f"{policy.path}: its input {end['name']} is no vector, which rows could hold: use {ARRAYS}"
            )
        count = end["shape"][0] if end["shape"] else 1
        numbered = [end["name"]] if not end["shape"] else [f"{end['name']}_{i}" for i in range(count)]
        columns[end["name"]] = elements or numbered
    return columns


def _most_rows(reader: ObservationReader) -> int:
    """Rows of one run of the policy; fewer where an observation has many numbers."""
    return min(MOST_ROWS, reader.most_rows)


def _blocks(source: Path, columns: dict[str, list[str]], most: int) -> Iterator[tuple[int, dict[str, list[str]]]]:
    """The cells of the columns, as text, in blocks of rows with the number of their first row."""
    wanted = [name for names in columns.values() for name in names]
    if source.suffix.lower() == ".parquet":
        yield from _parquet(source, wanted, most)
        return
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            places = _places(source, next(rows, []), wanted)
            block: list[list[str]] = []
            start = 1
            for row in rows:
                if not row:
                    continue
                if len(row) <= max(places):
                    raise TableError(f"{source}, line {rows.line_num}: it has {len(row)} cells, fewer than its head")
                block.append([row[place] for place in places])
                if len(block) == most:
                    yield start, _transposed(wanted, block)
                    start, block = start + len(block), []
            if block:
                yield start, _transposed(wanted, block)
    except (csv.Error, UnicodeDecodeError) as error:
        raise TableError(f"{source} is no CSV file in UTF-8: {error}") from None


def _places(source: Path, head: list[str], wanted: list[str]) -> list[int]:
    if twice := next((name for name in wanted if head.count(name) > 1), None):
        raise TableError(f"{source} has two columns {twice!r}")
    missing = [name for name in wanted if name not in head]
    if missing and len(head) == 1 and (other := next((sign for sign in (";", "\t") if sign in head[0]), None)):
        kind = {";": "semicolons", "\t": "tabs"}[other]
        raise TableError(f"{source}: its columns are separated by {kind}: save it with commas, and points in numbers")
    if missing:
        raise TableError(f"{source} lacks the columns {', '.join(missing[:8])}; it has {', '.join(head[:8]) or 'none'}")
    return [head.index(name) for name in wanted]


def _transposed(names: list[str], block: list[list[str]]) -> dict[str, list[str]]:
    return {name: [row[i] for row in block] for i, name in enumerate(names)}


def _parquet(source: Path, wanted: list[str], most: int) -> Iterator[tuple[int, dict[str, list[Any]]]]:
    try:
        import polars
    except ImportError:
        raise TableError(f"{source}: Parquet needs pip install 'palaestra[data]'") from None
    try:
        table = polars.read_parquet(source)
    except Exception as error:  # polars' errors have several bases
        raise TableError(f"{source} is no Parquet file: {str(error).splitlines()[0]}") from None
    _places(source, table.columns, wanted)
    for start in range(0, table.height, most):
        yield start + 1, table.select(wanted).slice(start, most).to_dict(as_series=False)


def _acted(
    policy: PolicyFile, reader: ObservationReader, source: Path, start: int, block: dict[str, list[Any]]
) -> list[list[Any]]:
    """The rows of the answer for a block."""
    body: dict[str, Any] = {}
    for end, names in zip(policy.inputs, _columns_of(policy).values(), strict=True):
        truths = end["dtype"] == "bool"
        numbers = [
            [_number(source, start + i, name, cell, truths) for i, cell in enumerate(block[name])] for name in names
        ]
        if end.get("elements"):
            body[end["name"]] = [dict(zip(names, row, strict=True)) for row in zip(*numbers, strict=True)]
        else:
            body[end["name"]] = [list(row) for row in zip(*numbers, strict=True)] if end["shape"] else numbers[0]
    try:
        feed, _ = reader(body)
    except ObservationError as error:
        input_name, *place = error.place
        at = f", row {start + int(place[0])}" if place and isinstance(place[0], int) else ""
        column = f", {place[-1] if isinstance(place[-1], str) else input_name}" if place else f", {input_name}"
        raise TableError(f"{source}{at}{column}: {error}") from None
    found = policy(feed)
    rows: list[list[Any]] = [[] for _ in range(len(next(iter(found.values()))))]
    for end in policy.contract["outputs"]:
        values_of = found[end["name"]].reshape(len(rows), -1)
        if elements := elements_of(end):
            columns = zip(elements, values_of.astype(np.float64).T, strict=True)
            values_of = np.stack([element.quantity(column) for element, column in columns], 1)
        for row, values in zip(rows, values_of.tolist(), strict=True):
            row += values
            if choices := end.get("choices"):
                row.append(choice_of(choices, values[0] - end.get("first", 0)))
    return rows


def _number(source: Path, row: int, column: str, cell: Any, truths: bool) -> Any:
    """A cell as JSON has it."""
    if isinstance(cell, str):
        text = cell.strip()
        if truths and text.lower() in ("true", "false", "1", "0"):
            return text.lower() in ("true", "1")
        try:
            if "_" in text:  # which Python passes over
                raise ValueError
            return int(text) if text.lstrip("+-").isdecimal() and len(text) < 400 else float(text)
        except ValueError:
            raise TableError(f"{source}, row {row}, {column}: {cell[:40]!r} is no number") from None
    if truths and cell in (0, 1):
        return bool(cell)
    return cell


def _heads(policy: PolicyFile) -> list[str]:
    heads: list[str] = []
    for end in policy.contract["outputs"]:
        count = int(np.prod(end["shape"]))
        names = [element.name for element in elements_of(end)]
        heads += names or ([end["name"]] if count == 1 else [f"{end['name']}_{i}" for i in range(count)])
        if end.get("choices"):
            heads.append("choice")
    return heads


def _arrays(policy: PolicyFile, reader: ObservationReader, source: Path, out: Path) -> int:
    if out.suffix.lower() != ARRAYS:
        raise TableError(f"{out}: the actions for arrays are in a file {ARRAYS}")
    if out.exists():
        raise TableError(f"{out} is there already: remove it, or choose another name")
    if not out.parent.is_dir():
        raise TableError(f"{out}: there is no folder {out.parent}")
    try:
        with np.load(source, allow_pickle=False) as file:
            given = {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise TableError(f"{source} is no file of arrays: {str(error).splitlines()[0]}") from None
    wanted = {end["name"]: [*end["shape"]] for end in policy.inputs}
    if given.keys() != wanted.keys():
        raise TableError(f"{source} has the arrays {', '.join(given) or 'none'}; the inputs are {', '.join(wanted)}")
    counts = {len(array) if array.ndim else 0 for array in given.values()}
    shapes = {name: [*array.shape[1:]] for name, array in given.items()}
    if shapes != wanted or len(counts) > 1 or counts == {0}:
        raise TableError(
            f"{source}: its arrays have the shapes {shapes} after the first dimension, wanted are {wanted}"
        )
    (count,) = counts
    parts: list[dict[str, Any]] = []
    most = _most_rows(reader)
    for start in range(0, count, most):
        try:
            feed = reader.checked({name: array[start : start + most] for name, array in given.items()})
        except ObservationError as error:
            rows = [f", row {start + place + 1}" for place in error.place[1:2] if isinstance(place, int)]
            raise TableError(f"{source}, {error.place[0]}{''.join(rows)}: {error}") from None
        parts.append(policy(feed))
    content = io.BytesIO()
    found: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    np.savez(content, **found)
    write_whole(out, content.getvalue())
    return count
