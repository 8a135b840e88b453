"""Choices of buyers between alternatives, as one conditional logit.

1. The utility of an alternative is a constant of its own and the sum of price, feature, display and the attributes that
   the user names, each times a coefficient that all alternatives share. Where occasions without a purchase are in the
   data, leaving has the utility 0; else the first alternative has no constant.
2. The Poisson buyers of a period are those that a date had on average, or as many as the user says.
3. Alternatives that were not available are no part of an occasion. Occasions are taken as independent.
4. An attribute tells something where it differs between the alternatives of an occasion (or, with leaving, between
   occasions) and is not the same for an alternative at all of them, which its constant holds.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import product

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.choices.conditional_logit import conditional_logit
from palaestra.envs.pricing.demand.counts.demand_curves import CONSTANT, PRICE
from palaestra.envs.pricing.demand.estimation import Estimate, EstimationError, check_slope
from palaestra.envs.pricing.demand.history import charged_prices, coming_cost
from palaestra.envs.pricing.demand.model import DISPLAY, FEATURE, Demand, Product
from palaestra.envs.pricing.sales.sales_table import SalesError, SalesTable, first_repeat, refuse

_APART = 2.0  # nearly all prices of a group over nearly all others
_FEWEST = 20  # prices of a group that are compared
_BETTER = "an alternative that costs more may be better in what the file leaves out"

Groups = Iterable[tuple[str, Array, Array, Sequence[str]]]


def fit_choices(
    table: SalesTable, buyers: float | None, notes: list[str], groups: Callable[[Collection[str]], Groups]
) -> Demand:
    """The demand behind choices.

    Args:
        table: of the shape ``choices``.
        buyers: per period; the mean number of occasions per date unless given.
        notes: what the user should know is added to them.
        groups: what groups the rows of the file, of columns by their names; see :func:`read_groups`.

    Raises:
        SalesError: if the choices do not tell how buyers answer to the price.
    """
    columns, names = table.columns, table.labels["alternative"]
    occasions, periods = len(table.labels["occasion_id"]), len(table.labels.get("date", ())) or None
    if buyers is None and periods is None:
        raise SalesError("choices without dates do not tell how many buyers come: give --buyers, per period")
    outside = _check_choices(table)
    if "available" in columns:
        columns = {name: column[columns["available"] > 0.0] for name, column in columns.items()}
    if outside:
        notes.append("occasions without a purchase are buyers who left: an outside option is estimated")
    elif len(names) < 2:
        raise SalesError("needs at least two alternatives, or occasions where nothing was chosen")
    if "household_id" in columns:
        notes.append("household_id is not used: occasions are taken as independent")
    for name in table.attributes:
        if reason := _tells_nothing(columns, columns[name], outside):
            raise SalesError(f"--attribute {name}: {reason}")
    features, kept = _choice_features(columns, names, table.attributes, outside, notes)
    try:
        estimate = conditional_logit(features, columns["occasion_id"], columns["chosen"] > 0.0, kept, outside=outside)
        check_slope(*estimate[PRICE], _BETTER + _what_else(table, columns) + _other_prices(table, groups))
    except EstimationError as error:
        raise SalesError(str(error)) from None
    if table.attributes:
        notes.append(f"a season keeps each alternative at its mean of {', '.join(table.attributes)}")
    products = {
        name: _product_of_choices(
            {key: column[columns["alternative"] == k] for key, column in columns.items()}, table.attributes, estimate
        )
        for k, name in enumerate(names)
    }
    per_period = buyers if buyers is not None else occasions / (periods or 1)
    return Demand("logit", products, periods, per_period, outside, table.file, table.rows)


def _check_choices(table: SalesTable) -> bool:
    """True if there are occasions without a purchase."""
    columns, names = table.columns, table.labels["alternative"]
    if repeat := first_repeat(columns["occasion_id"], columns["alternative"]):
        raise SalesError(
            f"row {table.row(repeat[0])} repeats the occasion and alternative of row {table.row(repeat[1])}; "
            "--column household_id=COLUMN keeps occasions of different buyers apart"
        )
    available = columns["available"] > 0.0 if "available" in columns else np.ones(table.rows, bool)
    chosen = columns["chosen"] > 0.0
    if (chosen & ~available).any():
        raise SalesError(f"row {table.row((chosen & ~available).argmax())}: chosen, but not available")
    choices = np.bincount(columns["occasion_id"], chosen)
    if choices.max() > 1:
        raise SalesError(f"occasion {table.labels['occasion_id'][int(choices.argmax())]} has more than one choice")
    problems = []
    for k, name in enumerate(names):
        own = (columns["alternative"] == k) & available
        try:
            if not own.any() or np.ptp(columns["price"][own]) == 0.0:
                raise SalesError("its price never changed, so that nothing tells how buyers answer to it")
            if not chosen[own].any():
                raise SalesError("it was never chosen; leave its rows out")
        except SalesError as error:
            problems.append(f"{name}: {error}")
    refuse(problems)
    offered = np.bincount(columns["occasion_id"][available], minlength=len(choices)) > 0
    return bool((choices[offered] == 0).any())


def _tells_nothing(columns: Mapping[str, Array], attribute: Array, outside: bool) -> str | None:
    """Why an attribute, [rows], cannot tell what is chosen; None if it may."""
    if (not outside or np.ptp(attribute) == 0.0) and _same_within(columns["occasion_id"], attribute):
        return "it never differs between the alternatives of an occasion, and cannot tell why one of them was chosen"
    if _same_within(columns["alternative"], attribute):
        return "it never changes for any alternative: their constants hold it already"
    return None


def _same_within(group: Array, values: Array) -> bool:
    """True if the values of each group are all the same; both [rows]."""
    _, first, code = np.unique(group, return_index=True, return_inverse=True)
    return bool((values == values[first][code]).all())


def _what_else(table: SalesTable, columns: Mapping[str, Array]) -> str:
    """The columns that could make an alternative better, with the option that uses them."""
    names = [name for name in table.further if not _tells_nothing(columns, columns[name], outside=False)]
    if not names:
        return ""
    ways = " ".join(f"--attribute {shlex.quote(name)}" for name in names)
    return (
        f", or in columns that are not used: {ways} use{'s' * (len(names) == 1)} {'it' if len(names) == 1 else 'them'}"
    )


def _other_prices(table: SalesTable, groups: Callable[[Collection[str]], Groups]) -> str:
    """A group of rows whose prices seem to be of another kind, such as those of season tickets; "" if there is none."""
    columns, names = table.columns, table.labels["alternative"]
    there = columns["available"] > 0.0 if "available" in columns else np.ones(table.rows, bool)
    rows = np.arange(2, table.rows + 2) if table.file_rows is None else table.file_rows
    best, said = _APART, ""
    for column, file_rows, codes, labels in groups({*table.ignored, *table.further}):
        group = codes[np.searchsorted(file_rows, rows)]
        for k, g in product(range(len(names)), range(len(labels))):
            own = there & (columns["alternative"] == k)
            price, inside = columns["price"][own], group[own] == g
            apart, times = _times_as_high(price[inside], price[~inside])
            if apart > best:
                others = f"{column}={labels[1 - g]}" if len(labels) == 2 else f"{column}!={labels[g]}"
                best, said = apart, f"; where {column} is {labels[g]}, {names[k]} costs {times:,.0f} times as much"
                said += f", which may be another kind of price: --where {shlex.quote(others)} leaves those rows out"
    return said


def _times_as_high(prices: Array, others: Array) -> tuple[float, float]:
    """Nearly the lowest of some prices over nearly the highest of others, and their medians; 0 if there are too few."""
    if min(len(prices), len(others)) < _FEWEST or np.median(others) <= 0.0:
        return 0.0, 0.0
    apart = float(np.quantile(prices, 0.05) / np.quantile(others, 0.95))
    return apart, float(np.median(prices) / np.median(others))


def _choice_features(
    columns: Mapping[str, Array], names: Sequence[str], attributes: Sequence[str], outside: bool, notes: list[str]
) -> tuple[Array, list[str]]:
    """Features [rows, K] and their names; without an outside option the first alternative is the base."""
    features, kept = [columns["price"]], [PRICE]
    for name in (FEATURE, DISPLAY):
        if name in columns and np.ptp(columns[name]) > 0.0:
            features.append(columns[name])
            kept.append(name)
        elif name in columns:
            notes.append(f"{name} never varies and is left out")
    features += [columns[name] for name in attributes]
    kept += attributes
    for k, name in list(enumerate(names))[0 if outside else 1 :]:
        features.append((columns["alternative"] == k).astype(np.float64))
        kept.append(f"{CONSTANT}:{name}")
    return np.column_stack(features), kept


def _product_of_choices(columns: Mapping[str, Array], attributes: Sequence[str], estimate: Estimate) -> Product:
    means = {name: float(columns[name].mean()) for name in (PRICE, FEATURE, DISPLAY, *attributes) if name in columns}
    cost, _ = coming_cost(columns)
    price = columns[PRICE]
    prices, shares = charged_prices(price)
    return Product(
        price_range=(float(price.min()), float(price.max())),
        prices=prices,
        shares=shares,
        means=means,
        unit_cost=cost,
        units_sold=int(columns["chosen"].sum()),
        sold_out=0,
        estimate=estimate,
    )
