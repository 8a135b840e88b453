"""A file of sales, as a spreadsheet, a till or a shop exports it, read and checked cell by cell into a table.

1. Columns go by our names, or by those that the user maps (``--column price=Preis``).
2. The file passes in blocks; a column holds 8 bytes a cell, a text column each text once.
3. What a cell cannot tell is asked: the error names row, column, value and the option that decides.
4. A line total divided by units is a price, a share times the size of the market a number of units.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.sales.calendar_dates import read_days, split_times
from palaestra.envs.pricing.sales.choices.attributes import find_attributes
from palaestra.envs.pricing.sales.choices.wide_choices import alternatives, long_columns
from palaestra.envs.pricing.sales.column_names import find_columns
from palaestra.envs.pricing.sales.reading import Reading, RowFilter
from palaestra.envs.pricing.sales.receipts import keep_rows, to_periods, with_days
from palaestra.envs.pricing.sales.sales_table import SKIP, Labels, ReadOptions, SalesError, SalesTable
from palaestra.envs.pricing.sales.spreadsheets import COLUMNAR, SPREADSHEETS, SheetRows
from palaestra.envs.pricing.sales.text_cells import TextColumn, factorise
from palaestra.envs.pricing.sales.text_rows import TextRows

# beyond these the likelihoods take too much memory, or lose the digits that tell one row from another
_LARGEST, _LARGEST_OF_OTHERS = {"units": 1e6}, 1e9
_ABOVE_ZERO = ("price", "competitor_price")
_CHECKED = ("price", "competitor_price", "units", "visitors", "unit_cost", "stock", "feature", "display")
_GROUPS = 10  # most different texts of a column that groups rows
_TOTALS = 20  # rows with one unit and with two that tell a line total from a price


def read_sales(path: Path, options: ReadOptions | None = None) -> SalesTable:
    """Read and check a file.

    Raises:
        SalesError: naming the row, the column and the value that is wrong, and the option that would accept it.
    """
    if not path.is_file():
        raise SalesError(f"no such file: {path}")
    try:
        return _read(path, options or ReadOptions())
    except csv.Error as error:
        raise SalesError(f"{path} is not a CSV file: {error}") from None
    except SalesError as error:
        raise SalesError(f"{path}: {error}") from None


def _read(path: Path, options: ReadOptions) -> SalesTable:
    source = _source(path, options)
    found = find_attributes(source.header, find_columns(source.header, options), options)
    reading = Reading(source.header, found, options)
    where = RowFilter(source.header, options.where)
    for block in source.blocks(sorted({k for k, _ in reading.places()} | where.columns)):
        if len((wanted := where.rows_of(block) if options.where else block).rows):
            reading.read(wanted)
    left = where.note()
    if not reading.rows:
        raise SalesError("the file has a header but no rows")
    table = reading.table(path)
    bad = reading.bad
    if options.where:
        table.notes.append(left)
        table.ignored = [name for name in table.ignored if source.header.index(name) not in where.columns]
    if source.short_rows:
        table.notes.append(f"{source.short_rows:,} rows that have not as many cells as the header are left out")
    if reading.map.wide:
        table, bad = _long(table, reading, options, bad)
    timed = False
    if "date" in table.columns:
        table, undated, timed = _dated(table, reading.first_rows["date"], options)
        bad |= undated
    if table.shape == "choices":
        bad |= _out_of_range(table, options, bad)
        return _households(_left_out(table, bad))
    table, undone = _priced(table, options, bad)
    bad = undone | _out_of_range(table, options, undone)
    table = _with_product(_left_out(table, bad), path, options)
    _check_totals(table, reading, options)
    _check_sums(table)
    return to_periods(table, options, timed=timed)


def read_groups(
    path: Path, options: ReadOptions, names: Collection[str]
) -> Iterator[tuple[str, Array, Array, Sequence[str]]]:
    """Columns that have few different texts, of those names: what could group the rows of a file.

    Yields:
        The name, the rows of the file int64 [n], ascending, the text that each has int64 [n], and the texts.
    """
    source = _source(path, options)
    where = RowFilter(source.header, options.where)
    groups = {k: TextColumn(name) for k, name in enumerate(source.header) if name in names}
    rows = []
    for block in source.blocks(sorted({*groups, *where.columns})):
        wanted = where.rows_of(block) if options.where else block
        rows.append(wanted.rows)
        for k, column in list(groups.items()):
            column.read(wanted.cells[k], wanted.rows)
            if len(column.texts[-1]) > _GROUPS:
                del groups[k]
    for column in groups.values():
        codes, labels, _ = column.finish()
        if 1 < len(labels) <= _GROUPS:
            yield column.name, np.concatenate(rows), codes, labels


def _source(path: Path, options: ReadOptions) -> SheetRows | TextRows:
    return SheetRows(path, options) if path.suffix.lower() in (*SPREADSHEETS, *COLUMNAR) else TextRows(path, options)


def _left_out(table: SalesTable, bad: Array) -> SalesTable:
    """Without the bad rows; of choices, without their occasions."""
    if not bad.any():
        return table
    if "occasion_id" in table.columns:
        bad = (np.bincount(table.columns["occasion_id"], bad) > 0.0)[table.columns["occasion_id"]]
    if bad.all():
        raise SalesError("no row is left when bad ones are skipped")
    table.notes.append(f"{bad.sum():,} of {table.rows:,} rows are bad and left out")
    return keep_rows(table, ~bad)


def _dated(table: SalesTable, first_rows: Array, options: ReadOptions) -> tuple[SalesTable, Array, bool]:
    """A table with days where its dates are in the calendar, rows without, and True if there are times of day."""
    nowhere = np.zeros(table.rows, bool)
    labels = table.labels["date"]
    assert isinstance(labels, Labels)
    cut, likely, timed = split_times(labels.texts)
    days = None
    if likely.any():
        texts, places, code_of = factorise(cut)
        days = read_days(Labels(texts), first_rows[places], options.dates, skip=options.skip_bad_rows)
    if days is None:
        if options.dates is not None:
            raise SalesError(f"row {table.row(0)}: --dates {options.dates}, but {labels[0]!r} is no date")
        return table, nowhere, False
    days = days[code_of][table.columns["date"]]
    nowhere = days < 0
    return with_days(table, np.where(nowhere, days.max(), days)), nowhere, timed


def _priced(table: SalesTable, options: ReadOptions, bad: Array) -> tuple[SalesTable, Array]:
    """With price and units where a file has line totals or shares instead; and the rows that are bad now."""
    columns = dict(table.columns)
    if "share" in columns and "units" not in columns:
        if options.market_size is None:
            raise SalesError("shares need the number of buyers of a period: --market-size 10000")
        share = columns.pop("share")
        if (wrong := ~bad & ((share < 0.0) | (share > 1.0))).any():
            i = int(wrong.argmax())
            raise SalesError(f"row {table.row(i)}: share must be between 0 and 1, got {share[i]:g}; {SKIP}")
        columns["units"] = np.rint(share * options.market_size)
        columns.setdefault("visitors", np.full(table.rows, options.market_size))
        table.notes.append(f"units are the shares of {options.market_size:,.0f} buyers, rounded")
    elif options.market_size is not None:
        raise SalesError("--market-size is for a column share; this file has units")
    if "total" in columns:
        total = columns.pop("total")
        if np.isnan(columns["price"]).all():
            units, nothing = columns["units"], (columns["units"] == 0.0) & (total == 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                columns["price"] = np.where(units == 0.0, np.nan, total / units)
            if (wrong := ~bad & (units == 0.0) & ~nothing).any() and not options.skip_bad_rows:
                i = int(wrong.argmax())
                raise SalesError(f"row {table.row(i)}: total is {total[i]:g} for 0 units, which tells no price; {SKIP}")
            bad = bad | (units == 0.0)
            table.notes.append("the price is the total divided by the units")
            if nothing.any():
                table.notes.append(f"{nothing.sum():,} rows without units have no price")
        else:
            table.ignored.append("total")
    if options.round_units:
        rounded = np.rint(columns["units"])
        table.notes.append(
            f"units are rounded to whole ones, which changes their sum {_change(columns['units'], rounded)}"
        )
        columns["units"] = rounded
    return replace(table, columns=columns), bad


def _change(units: Array, rounded: Array) -> str:
    return f"by {100.0 * (np.nansum(rounded) / max(np.nansum(units), 1e-300) - 1.0):.2g} %"


def _out_of_range(table: SalesTable, options: ReadOptions, bad: Array) -> Array:
    """Rows with a number that cannot be; one that is not bad already is refused unless such rows are left out."""
    wrong_rows = np.zeros(table.rows, bool)
    gone = table.columns["available"] == 0.0 if "available" in table.columns else wrong_rows
    for name in (each for each in (*_CHECKED, *table.attributes) if each in table.columns):
        values = table.columns[name]
        free = table.shape == "choices" and name == "price"
        low = -np.inf if name == "units" or name in table.attributes else 0.0
        largest = _LARGEST.get(name, _LARGEST_OF_OTHERS)
        over = np.abs(values) > largest
        wrong = over | (values < low)
        if name in _ABOVE_ZERO and not free:
            wrong |= values == 0.0
        if name == "units":
            wrong |= values != np.floor(values)
        wrong &= ~bad & ~(gone & (free or name in table.attributes))
        if wrong.any() and not options.skip_bad_rows:
            i = int(wrong.argmax())
            rule = (
                "above 0" if name in _ABOVE_ZERO and not free else "a whole number" if name == "units" else "at least 0"
            )
            rule = f"at most {largest:,.0f}" if over[i] else rule
            way = "--round-units rounds, " if rule == "a whole number" else ""
            raise SalesError(f"row {table.row(i)}: {name} must be {rule}, got {values[i]:.15g}; {way}{SKIP}")
        wrong_rows |= wrong
    return bad | wrong_rows


def _with_product(table: SalesTable, path: Path, options: ReadOptions) -> SalesTable:
    """A file that names no product has one."""
    if "product" in table.columns:
        return table
    if table.ignored and (
        texts := [name for name in table.ignored if name.lower() not in map(str.lower, options.ignore)]
    ):
        ways = " or ".join(f"--column product={name!r}" for name in texts[:3])
        raise SalesError(
            f"no column product; {ways} names it, or --ignore {texts[0]!r}{' ...' if len(texts) > 1 else ''} if all "
            "rows are one product"
        )
    table.notes.append(f"no column says which product: all rows are one, called {path.stem}")
    columns = {**table.columns, "product": np.zeros(table.rows, np.int64)}
    return replace(table, columns=columns, labels={**table.labels, "product": [path.stem]})


def _check_totals(table: SalesTable, reading: Reading, options: ReadOptions) -> None:
    """Refuse prices that are twice as high where two units were sold: those of a whole line."""
    if options.price_per_unit:
        return
    units, price, product = (table.columns[name] for name in ("units", "price", "product"))
    logs = {k: np.flatnonzero(units == k) for k in (1.0, 2.0)}
    if min(map(len, logs.values())) < _TOTALS:
        return
    n = len(table.labels["product"])
    counts = {k: np.bincount(product[rows], minlength=n) for k, rows in logs.items()}
    means = {k: np.bincount(product[r], np.log(price[r]), n) / np.maximum(counts[k], 1) for k, r in logs.items()}
    both = np.minimum(counts[1.0], counts[2.0])
    if both.sum() < _TOTALS:
        return
    ratio = float(np.exp(np.average(means[2.0] - means[1.0], weights=both)))
    i = int(logs[2.0][0])
    given = "total" in reading.map.columns and "price" not in reading.map.columns
    if 1.8 < ratio < 2.2 and not given:
        column = reading.header[reading.map.columns["price"]]
        raise SalesError(
            f"row {table.row(i)}: price is {price[i]:g}; for 2 units it is {ratio:.2f} times that for 1, so "
            f"it seems to be the total of the line: --column total={column!r}; --price-per-unit if it is not"
        )
    if 0.45 < ratio < 0.55 and given:
        column = reading.header[reading.map.columns["total"]]
        raise SalesError(
            f"row {table.row(i)}: the total divided by 2 units is {ratio:.2f} times the price of 1, so it seems to be "
            f"the price of a unit: --column price={column!r}; --price-per-unit if it is not"
        )


def _check_sums(table: SalesTable) -> None:
    columns = table.columns
    if "stock" in columns and (over := columns["units"] > columns["stock"]).any():
        i = int(over.argmax())
        raise SalesError(
            f"row {table.row(i)}: more units were sold than were in stock, {columns['units'][i]:g} of "
            f"{columns['stock'][i]:g}; --ignore stock leaves the column out"
        )
    if "visitors" in columns and (ghost := (columns["visitors"] == 0.0) & (columns["units"] > 0.0)).any():
        i = int(ghost.argmax())
        raise SalesError(
            f"row {table.row(i)}: {columns['units'][i]:g} units were sold without visitors; --ignore visitors leaves "
            "the column out"
        )


def _households(table: SalesTable) -> SalesTable:
    """Occasions of different households kept apart where their numbers start anew."""
    if "household_id" not in table.columns:
        return table
    household, occasion = table.columns["household_id"], table.columns["occasion_id"]
    pair = household * (int(occasion.max()) + 1) + occasion
    if len(np.unique(pair)) == len(table.labels["occasion_id"]):
        return table
    _, first, codes = np.unique(pair, return_index=True, return_inverse=True)
    names = [
        f"{table.labels['household_id'][household[i]]} / {table.labels['occasion_id'][occasion[i]]}" for i in first
    ]
    table.notes.append("occasions are numbered anew for each household")
    columns = {**table.columns, "occasion_id": codes}
    return replace(table, columns=columns, labels={**table.labels, "occasion_id": names})


def _long(table: SalesTable, reading: Reading, options: ReadOptions, bad: Array) -> tuple[SalesTable, Array]:
    """Choices with a column for each alternative, made a row for each; and the bad rows of that."""
    by_name: dict[str, dict[str, Array]] = {}
    for (name, of), values in reading.wide_values.items():
        by_name.setdefault(name, {})[of] = values
    texts = list(table.labels["chosen"])
    names = list(by_name["price"])
    if "*" in options.columns.get("price", ""):  # a pattern may hold other columns too
        names = [name for name in names if name in texts] or names
    rows = np.arange(2, table.rows + 2) if table.file_rows is None else table.file_rows
    meant = alternatives(texts, reading.first_rows["chosen"], names, options)
    place = np.array([-2 if name == "" else -1 if name is None else names.index(name) for name in meant])
    chosen = place[table.columns["chosen"]]
    bad = bad | (chosen == -2)
    for name, parts in by_name.items():
        if lost := [of for of in names if of not in parts]:
            raise SalesError(f"{name} has no column for the alternative {lost[0]}")
    attributes = {name: [parts[of] for of in names] for name, parts in by_name.items()}
    columns, labels, file_rows = long_columns(attributes, chosen, rows, names)
    for name in ("date", "household_id"):
        if name in table.columns:
            columns[name] = np.repeat(table.columns[name], len(names))
            labels[name] = table.labels[name]
    further = [name for name in by_name if name not in (*_CHECKED, "available", *table.attributes)]
    notes = [*table.notes, f"each row is a buyer with {len(names)} alternatives: {', '.join(names)}"]
    return replace(table, columns=columns, labels=labels, further=further, notes=notes, file_rows=file_rows), np.repeat(
        bad, len(names)
    )
