"""The cells of a file, block by block, into columns: each by its kind, with the first cell that is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.sales.column_names import ID_WORDS, TOTAL_WORDS, ColumnMap, place_of, words_of
from palaestra.envs.pricing.sales.number_cells import EMPTY, NumberColumn, read_flags
from palaestra.envs.pricing.sales.sales_table import FLAGS, KNOWN, SKIP, TEXTS, ReadOptions, SalesError, SalesTable
from palaestra.envs.pricing.sales.text_cells import TextColumn, text_of_numbers
from palaestra.envs.pricing.sales.text_rows import Block

_LISTED = 10  # values of a column, in an error


class RowFilter:
    """The rows that are read, by what the user says of their columns: COLUMN=VALUE or COLUMN!=VALUE.

    Attributes:
        columns: that must be read for it, counted from 0.
    """

    def __init__(self, header: list[str], conditions: Sequence[str]) -> None:
        self._conditions: list[tuple[int, bytes, bool]] = []
        self._seen: list[dict[bytes, None]] = [{} for _ in conditions]  # texts of each column, for the error
        self._texts = conditions
        self._all = self._kept = 0
        for condition in conditions:
            name, sign, value = condition.partition("!=" if "!=" in condition else "=")
            name, value = name.strip(), value.strip()
            if not (sign and name):
                raise SalesError(f"--where {condition}: expected COLUMN=VALUE or COLUMN!=VALUE")
            try:
                self._conditions.append((place_of(name, header), value.encode(), sign == "="))
            except SalesError as error:
                raise SalesError(f"--where {condition}: {error}") from None
        self.columns = {k for k, *_ in self._conditions}

    def rows_of(self, block: Block) -> Block:
        """The rows of a block that are wanted."""
        wanted = np.ones(len(block.rows), bool)
        for (k, value, equal), seen in zip(self._conditions, self._seen, strict=True):
            cells = block.cells[k]
            texts = np.char.strip(text_of_numbers(cells) if cells.dtype.kind == "f" else cells)
            wanted &= (texts == value) == equal
            if len(seen) <= _LISTED:
                seen |= dict.fromkeys(np.unique(texts).tolist()[: _LISTED + 1])
        self._all += len(wanted)
        self._kept += int(wanted.sum())
        return block.kept(wanted)

    def note(self) -> str:
        """How many rows are left.

        Raises:
            SalesError: if there are none.
        """
        if self._all and not self._kept:
            seen = [text.decode() or "nothing" for text in self._seen[0]]
            has = f"{', '.join(seen[:_LISTED])}{', ...' if len(seen) > _LISTED else ''}"
            raise SalesError(f"--where {' --where '.join(self._texts)}: there is no such row; the column has {has}")
        return f"rows where {' and '.join(self._texts)}: {self._kept:,} of {self._all:,}"


class Reading:
    """The columns of a file while its blocks pass."""

    def __init__(self, header: list[str], found: ColumnMap, options: ReadOptions) -> None:
        self.header, self.map, self._options = header, found, options
        self.rows: list[Array] = []
        self._bad: list[Array] = []
        mapped = dict(found.columns)
        self.texts = {name: TextColumn(name) for name in mapped if name in TEXTS or (found.wide and name == "chosen")}
        self.flags: dict[str, list[Array]] = {n: [] for n in mapped if n in FLAGS and n not in self.texts}
        self.numbers = {
            name: NumberColumn(name, options.decimal)
            for name in mapped
            if name not in self.texts and name not in self.flags
        }
        self.wide = {
            (name, of): NumberColumn(header[k], options.decimal)
            for name, by in found.wide.items()
            for of, k in by.items()
        }
        self.possible = {
            (name, of): NumberColumn(header[k], options.decimal)
            for name, by in found.possible.items()
            for of, k in by.items()
        }
        ignored = {name.lower() for name in options.ignore}
        taken = {*mapped.values(), *(k for by in found.wide.values() for k in by.values())}
        self.further = {
            k: NumberColumn(name, options.decimal)
            for k, name in enumerate(header)
            if k not in taken and name and name.lower() not in ignored and not found.wide and _explains(name)
        }

    def places(self) -> Iterator[tuple[int, str]]:
        """All columns that are read, with their names."""
        yield from ((self.map.columns[name], name) for name in (*self.texts, *self.flags, *self.numbers))
        yield from ((self.map.wide[name][of], column.name) for (name, of), column in self.wide.items())
        yield from ((self.map.possible[name][of], column.name) for (name, of), column in self.possible.items())
        yield from ((k, column.name) for k, column in self.further.items())

    def read(self, block: Block) -> None:
        """Take the cells of a block.

        Raises:
            SalesError: naming the first cell that is wrong, unless such rows are left out.
        """
        bad: dict[str, tuple[Array, Array]] = {}  # name of the column → where, and its cells
        for name, text in self.texts.items():
            cells = block.cells[self.map.columns[name]]
            empty = text.read(cells, block.rows)
            bad[name] = (empty & (name != "chosen"), cells)
        for name, parts in self.flags.items():
            cells = block.cells[self.map.columns[name]]
            parts.append(read_flags(cells))
            bad[name] = np.isnan(parts[-1]), cells
        for name, column in self.numbers.items():
            k = self.map.columns[name]
            bad[name] = column.read(block, k), block.cells[k]
        there = self.flags["available"][-1] != 0.0 if "available" in self.flags else np.ones(len(block.rows), bool)
        for name in ("price", *self.map.attributes):
            if name in bad:
                bad[name] = bad[name][0] & there, bad[name][1]
        self._read_wide(block, bad)
        for k, column in list(self.further.items()):
            if (column.read(block, k) & there).any():
                del self.further[k]
        self.rows.append(block.rows)
        self._bad.append(np.logical_or.reduce([where for where, _ in bad.values()]))
        if self._bad[-1].any() and not self._options.skip_bad_rows:
            self._refuse(bad, block.rows)

    def _read_wide(self, block: Block, bad: dict[str, tuple[Array, Array]]) -> None:
        gone = {}
        for (name, of), column in self.wide.items():
            k = self.map.wide[name][of]
            bad[column.name] = column.read(block, k), block.cells[k]
            if name == "available":
                gone[of] = column.values[-1] == 0.0
        for (name, of), column in self.wide.items():
            if of in gone and name != "available":
                where, cells = bad[column.name]
                bad[column.name] = where & ~gone[of], cells
        for (name, of), column in list(self.possible.items()):
            where = column.read(block, self.map.possible[name][of])
            if (where & ~gone[of] if of in gone else where).any():
                self.possible = {key: each for key, each in self.possible.items() if key[0] != name}

    def _refuse(self, bad: dict[str, tuple[Array, Array]], rows: Array) -> None:
        first = {name: int(where.argmax()) for name, (where, _) in bad.items() if where.any()}
        name = min(first, key=lambda each: first[each])
        i, cells = first[name], bad[name][1]
        text = cells[i].decode().strip() if cells.dtype.kind == "S" else "" if np.isnan(cells[i]) else f"{cells[i]:g}"
        kind = "0 or 1" if name in self.flags else "a number"
        if text.encode() in EMPTY:
            raise SalesError(f"row {rows[i]}: {name} is empty{f', {text!r}' if text else ''}; {SKIP}")
        sign = f" with --decimal {self._options.decimal}" if self._options.decimal and kind == "a number" else ""
        raise SalesError(f"row {rows[i]}: {name} must be {kind}, got {text!r}{sign}; {SKIP}")

    def table(self, path: Path) -> SalesTable:
        """What was read, before dates, receipts and choices are made of it."""
        columns: dict[str, Array] = {name: np.concatenate(parts) for name, parts in self.flags.items()}
        numbers = [*self.numbers.values(), *self.wide.values()]
        decided = [set(column.seen) for column in (*numbers, *self.further.values()) if len(column.seen) == 1]
        others = set().union(*decided)
        columns |= {name: column.finish(others) for name, column in self.numbers.items()}
        labels, first_rows = {}, {}
        for name, text in self.texts.items():
            columns[name], labels[name], first_rows[name] = text.finish()
        self.first_rows = first_rows
        self.wide_values = {key: column.finish(others) for key, column in self.wide.items()}
        self.wide_values |= self._possible_values(others)
        rows, bad = np.concatenate(self.rows), np.concatenate(self._bad)
        self.bad, notes, further = bad, self._notes(), []
        for column in self.further.values():
            try:
                values = column.finish(others)
            except SalesError:
                continue
            known = values[np.isfinite(values)] if "available" in columns else values
            if known.size and np.ptp(known) > 0.0 and np.abs(known).max() <= 1e9 and not (np.diff(known) == 1.0).all():
                columns[column.name] = values
                further.append(column.name)
        further += [name for name in self.numbers if name not in KNOWN and name not in self.map.attributes]
        used = {k for k, name in self.places() if name in columns or k not in self.further}
        ignored = [name for k, name in enumerate(self.header) if name and k not in used]
        contiguous = len(rows) == rows[-1] - 1
        table = SalesTable(
            path.name,
            self.map.shape,
            columns,
            dict(labels),
            ignored,
            further,
            list(self.map.attributes),
            notes,
            file_rows=None if contiguous else rows,
        )
        if not self.map.wide:
            table.columns.setdefault("price", np.full(len(rows), np.nan))
        return table

    def _possible_values(self, others: set[str]) -> dict[tuple[str, str], Array]:
        """Those of columns that could be attributes; where a number is not clear they are given up."""
        values: dict[tuple[str, str], Array] = {}
        for name in dict.fromkeys(name for name, _ in self.possible):
            own = {key: column for key, column in self.possible.items() if key[0] == name}
            try:
                values |= {key: column.finish(others) for key, column in own.items()}
            except SalesError:
                self.possible = {key: column for key, column in self.possible.items() if key[0] != name}
        return values

    def _notes(self) -> list[str]:
        named = [
            f"{ours} is {self.header[k]}" for ours, k in self.map.columns.items() if self.header[k].lower() != ours
        ]
        notes = [f"columns: {', '.join(named)}"] if named else []
        for by in (self.numbers, self.wide):
            for column in by.values():
                if "," in column.seen:
                    row, cell = column.seen[","]
                    notes.append(f"{column.name} has decimal commas, such as {cell!r} in row {row}")
                    break
        return notes


def _explains(name: str) -> bool:
    """False of numbers of receipts and articles, and of what a sale results in."""
    words = set(words_of(name).split())
    return not words & (ID_WORDS | TOTAL_WORDS) and name.lower() not in KNOWN
