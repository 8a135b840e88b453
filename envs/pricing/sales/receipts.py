"""Receipts as sales per period: rows of one product and day (or week) become one.

1. Units are added up; negative ones are returns, netted in their period or left out.
2. The price of a period is the mean of its rows, weighted by units: what a unit cost on average. So are all other
   columns but stock, where the most counts, and visitors, who are counted once where all rows of a period agree.
3. A week begins on Monday. Weeks of which the file has only a part, at its two ends, are left out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.sales.calendar_dates import iso_dates
from palaestra.envs.pricing.sales.sales_table import Labels, ReadOptions, SalesError, SalesTable
from palaestra.envs.pricing.sales.text_cells import factorise

_KEYS = ("date", "product", "store")


def to_periods(table: SalesTable, options: ReadOptions, *, timed: bool) -> SalesTable:
    """One row for each period, product and store.

    Args:
        timed: True if the dates had times of day.

    Raises:
        SalesError: if returns make a period negative, or weeks are asked for without calendar dates.
    """
    notes: list[str] = []
    table = _without_returns(table, options, notes)
    if options.per == "week":
        table = _weeks(table, notes)
    elif options.per == "day" and table.days is None:
        label = table.labels["date"][0]
        raise SalesError(f"--per day needs calendar dates; row {table.row(0)} has the date {label!r}")
    keys = [table.columns[name] for name in _KEYS if name in table.columns]
    key = keys[0].copy()
    for other in keys[1:]:
        key = key * (int(other.max()) + 1) + other
    if (np.diff(key) > 0).all():
        group, first = np.arange(len(key)), np.arange(len(key))
    else:
        _, first, group = np.unique(key, return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")  # in the order of the file
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        first, group = first[order], rank[group]
    if len(first) < table.rows:
        table = _add_up(table, options, first, group, notes, timed=timed)
    if (negative := table.columns["units"] < 0.0).any():
        i = int(negative.argmax())
        of = table.labels["product"][int(table.columns["product"][i])]
        when = table.labels["date"][int(table.columns["date"][i])]
        raise SalesError(
            f"row {table.row(i)}: the units of {of} on {when} add up to {table.columns['units'][i]:g}, more were "
            "returned than sold; --returns drop leaves returns out, --per week may net them"
        )
    return replace(table, notes=[*table.notes, *notes])


def _without_returns(table: SalesTable, options: ReadOptions, notes: list[str]) -> SalesTable:
    returned = table.columns["units"] < 0.0
    if not returned.any():
        return table
    if returned.all():
        raise SalesError("all units are negative: there are returns only, and no sales")
    units = -table.columns["units"][returned].sum()
    rows = f"{returned.sum():,} row{'s' * int(returned.sum() > 1)} with negative units (returns of {units:,.0f})"
    if options.returns == "net":
        notes.append(f"{rows} are netted with the sales of their period")
        return table
    notes.append(f"{rows} are left out")
    return keep_rows(table, ~returned)


def keep_rows(table: SalesTable, keep: Array) -> SalesTable:
    """Those rows of a table."""
    rows = np.arange(2, table.rows + 2) if table.file_rows is None else table.file_rows
    columns = {name: column[keep] for name, column in table.columns.items()}
    return _compact(replace(table, columns=columns, file_rows=rows[keep]))


def _compact(table: SalesTable) -> SalesTable:
    """Without labels that no row has any more."""
    columns, labels, days = dict(table.columns), dict(table.labels), table.days
    for name, texts in table.labels.items():
        used = np.bincount(columns[name], minlength=len(texts)) > 0
        if not used.all():
            columns[name] = (np.cumsum(used) - 1)[columns[name]]
            labels[name] = Labels(texts.texts[used]) if isinstance(texts, Labels) else [
                text for text, kept in zip(texts, used, strict=True) if kept
            ]  # fmt: skip
            days = days[used] if name == "date" and days is not None else days
    return replace(table, columns=columns, labels=labels, days=days)


def with_days(table: SalesTable, days: Array) -> SalesTable:
    """A table whose dates are these days, int64 [rows], labelled in the order in which they appear."""
    texts, places, codes = factorise(iso_dates(days))
    columns = {**table.columns, "date": codes}
    return replace(table, columns=columns, labels={**table.labels, "date": Labels(texts)}, days=days[places])


def _weeks(table: SalesTable, notes: list[str]) -> SalesTable:
    if table.days is None:
        raise SalesError(
            f"--per week needs calendar dates; row {table.row(0)} has the date {table.labels['date'][0]!r}"
        )
    days = table.days[table.columns["date"]]
    monday = days - (days - 1) % 7  # the ordinal 1 is a Monday
    first, last = int(days.min()), int(days.max())
    whole = (monday >= first) & (monday + 6 <= last)
    if not whole.any():
        raise SalesError(f"--per week needs a whole week from Monday to Sunday; the dates span {last - first + 1} days")
    table = with_days(table, monday)
    if not whole.all():
        weeks = len(np.unique(monday[~whole]))
        notes.append(f"{weeks} week{'s' * (weeks > 1)} at the ends of the file, of which it has a part, are left out")
        table = keep_rows(table, whole)
    return table


def _add_up(
    table: SalesTable, options: ReadOptions, first: Array, group: Array, notes: list[str], *, timed: bool
) -> SalesTable:
    columns, n = table.columns, len(first)
    units, price = columns["units"], columns["price"]
    counts = np.bincount(group, minlength=n)
    _refuse_doubled(table, options, first, group, counts)
    weight = np.maximum(units, 0.0)
    weight = np.where(np.bincount(group, weight, n)[group] > 0.0, weight, 1.0)
    total = np.bincount(group, weight, n)
    out: dict[str, Array] = {}
    for name, column in columns.items():
        if name in table.labels:
            out[name] = column[first]
        elif name == "units":
            out[name] = np.bincount(group, units, n)
        elif name in ("stock", "sold_out"):
            most = np.full(n, -np.inf)
            np.maximum.at(most, group, column)
            out[name] = most
        elif name == "visitors":
            if (differ := column != column[first][group]).any():
                i = int(differ.argmax())
                raise SalesError(
                    f"row {table.row(i)}: visitors is {column[i]:g} and in row {table.row(first[group[i]])} of the "
                    f"same period {column[first[group[i]]]:g}; --ignore visitors leaves the column out"
                )
            out[name] = column[first]
        else:
            out[name] = mean_of_groups(column, weight, total, group)
    span = "week" if options.per == "week" else "day" if table.days is not None else "date"
    why = "the dates have times of day" if timed else f"several rows of a product and {span}"
    notes.append(
        f"{table.rows:,} rows are added up to {n:,}, one for each product and {span} ({why}); the price is "
        "the mean by units"
    )
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(low, group, price)
    np.maximum.at(high, group, price)
    if several := int((high > low).sum()):
        notes.append(f"{several:,} of them had more than one price")
    rows = first + 2 if table.file_rows is None else table.file_rows[first]
    return replace(table, columns=out, file_rows=rows)


def mean_of_groups(column: Array, weight: Array, total: Array, group: Array) -> Array:
    """Weighted means of groups; where a column does not vary in a group, its value to the last bit."""
    n = len(total)
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(low, group, column)
    np.maximum.at(high, group, column)
    mean = np.bincount(group, weight * column, n) / total
    return np.where(low == high, low, np.clip(mean, low, high))


def _refuse_doubled(table: SalesTable, options: ReadOptions, first: Array, group: Array, counts: Array) -> None:
    """Refuse a file that holds every row as often as every other: it was probably put together twice."""
    if options.per or len(first) < 20 or counts.min() != counts.max():
        return
    if all((column == column[first][group]).all() for column in table.columns.values()):
        i, again = 0, int(np.flatnonzero(group == group[first[0]])[1])
        raise SalesError(
            f"row {table.row(again)} is the same as row {table.row(first[i])}, and every row is there {counts[0]} "
            "times: take the copies out; if they are separate receipts, --per day adds them up"
        )
