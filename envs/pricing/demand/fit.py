"""``palaestra fit-demand``: from a sales table to ``demand.json``, a market to train in.

1. Sales per period give each product a demand of its own, as
   :mod:`palaestra.envs.pricing.demand.counts.sales_model` says. Choices give one conditional logit; the Poisson buyers
   of a period are those that a date had on average.
2. A product is left out, with its reason, whose prices cannot tell what demand does: a price that never changed, or a
   slope at the mean price that is not significantly negative (t > −2). A file without any product to fit is refused.
3. Rows without stock, or without visitors, say nothing and are left out.
4. Standard errors take the rows as independent and the model as right; with a control function they know of both steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.choices.fit_choices import fit_choices
from palaestra.envs.pricing.demand.counts.gaps import Gaps
from palaestra.envs.pricing.demand.counts.intervals import Intervals, SalesFitter
from palaestra.envs.pricing.demand.counts.sales_model import (
    COMPETITOR,
    UNIT_COST,
    SalesModel,
    SalesOptions,
    model_sales,
    prices_follow_demand,
)
from palaestra.envs.pricing.demand.effects import STORE, Calendar
from palaestra.envs.pricing.demand.estimation import EstimationError, check_slope
from palaestra.envs.pricing.demand.history import charged_prices, coming_cost, history_of
from palaestra.envs.pricing.demand.model import Demand, Product
from palaestra.envs.pricing.sales.sales_file import read_groups, read_sales
from palaestra.envs.pricing.sales.sales_table import ReadOptions, SalesError, SalesTable, refuse

_FOLLOWS = (
    "its prices seem to follow demand, being high where the days around sold more than expected: it looks less "
    "sensitive than it is (an instrument, such as a unit_cost that varies, sets that right)"
)


@dataclass(frozen=True)
class FitOptions:
    """What a user may say about the estimation."""

    buyers: float | None = None  # per period; of choices only, for the mean number of occasions per date
    products: tuple[str, ...] = ()  # to fit; all unless given
    gaps: Gaps = "auto"
    instrument: str | None = None
    curve: str | None = None


@dataclass
class Fitting:
    """A demand, and how it was found."""

    demand: Demand
    notes: list[str]
    models: dict[str, SalesModel] = field(default_factory=dict)  # of sales per period
    left_out: dict[str, str] = field(default_factory=dict)  # products, and the reasons
    refit: SalesFitter | None = None
    intervals: dict[str, Intervals] = field(default_factory=dict)  # of products, where they were asked for


def fit(path: Path, options: FitOptions = FitOptions(), reading: ReadOptions | None = None) -> Fitting:
    """The demand behind a file of sales.

    Args:
        path: of the file, see :mod:`palaestra.envs.pricing.sales.sales_file`.
        options: of the estimation.
        reading: how the file is read.

    Raises:
        SalesError: if the sales cannot be used.
    """
    table = read_sales(path, reading)
    notes = list(table.notes)
    if unused := [*table.ignored, *(table.further if table.shape == "choices" else ())]:
        notes.append(f"columns that are not used: {', '.join(unused)}")
    try:
        if table.shape == "sales":
            return _with_seasons(_fit_sales(table, options, notes))
        for option in ("instrument", "curve"):
            if getattr(options, option) is not None:
                raise SalesError(f"--{option} is for sales per period; these are choices")
        if options.products:
            raise SalesError("--product is for sales per period; choices between products are estimated together")
        groups = partial(read_groups, path, reading or ReadOptions())
        return _with_seasons(Fitting(fit_choices(table, options.buyers, notes, groups), notes))
    except SalesError as error:
        raise SalesError(f"{path}: {error}") from None


def _with_seasons(fitting: Fitting) -> Fitting:
    """With lots for large volumes, and a note where revenue is the goal."""
    demand = fitting.demand
    products = {name: replace(product, lot=demand.suitable_lot(name)) for name, product in demand.products.items()}
    fitting.demand = replace(demand, products=products)
    if not any(product.unit_cost for product in fitting.demand.products.values()):
        fitting.notes.append("without unit_cost revenue is the goal: the lowest price seen may be best")
    return fitting


def _fit_sales(table: SalesTable, options: FitOptions, notes: list[str]) -> Fitting:
    columns, names = table.columns, table.labels["product"]
    if options.buyers is not None:
        raise SalesError("--buyers is for choices; these are sales per period")
    wanted = dict.fromkeys(options.products or names)
    if unknown := sorted(wanted.keys() - {*names}):
        raise SalesError(f"there is no product {unknown[0]!r}; the file has {', '.join(names[:10])}")
    if options.gaps == "zero" and table.days is None:
        raise SalesError("--gaps zero fills missing dates, and needs dates such as 2024-01-31")
    instruments = [name for name in (UNIT_COST, COMPETITOR, *table.further) if name in columns]
    if options.instrument is not None and options.instrument not in instruments:
        those = f"it has {', '.join(instruments[:10])}" if instruments else "the file has none"
        raise SalesError(f"--instrument {options.instrument}: no column that can be one; {those}")
    informative = np.ones(table.rows, bool)
    for name in ("stock", "visitors"):
        if name in columns:
            informative &= columns[name] > 0.0
    if "sold_out" in columns:  # sold out before the first unit: there was none
        informative &= (columns["sold_out"] == 0.0) | (columns["units"] > 0.0)
    if not informative.all():
        notes.append(f"{(~informative).sum():,} rows without stock or visitors are left out")
        columns = {name: column[informative] for name, column in columns.items()}
    calendar = None
    if table.days is not None:
        columns = {**columns, "day": table.days[columns["date"]].astype(np.float64)}
        calendar = _calendar(table.days)
    fitting = Fitting(_demand_of(table, {}, calendar), notes)
    regressors = [name for name in (COMPETITOR, *table.further) if name in columns]
    how = SalesOptions(tuple(regressors), options.gaps, options.instrument, options.curve)
    of = columns["product"]
    if (of[1:] < of[:-1]).any():
        by_product = np.argsort(of, kind="stable")
        columns = {key: column[by_product] for key, column in columns.items()}
    ends = np.cumsum(np.bincount(of, minlength=len(names))).tolist()

    def refit(own: Mapping[str, Array], curve: str | None = None) -> SalesModel:
        asked = replace(how, curve=how.curve or curve)
        return model_sales(own, table.labels.get(STORE, ()), calendar, asked)

    fitting.refit = refit
    products: dict[str, Product] = {}
    for name, begin, end in zip(names, [0, *ends], ends, strict=False):
        if name not in wanted:
            continue
        try:
            if begin == end:
                raise EstimationError("it has no rows with stock and visitors")
            own = {key: column[begin:end] for key, column in columns.items() if key != "product"}
            model = refit(own)
            products[name] = _product_of_sales(model)
            fitting.models[name] = model
        except (SalesError, EstimationError) as error:
            fitting.left_out[name] = str(error)
    if not products:
        refuse([f"{name}: {reason}" for name, reason in fitting.left_out.items()])
    fitting.demand = _demand_of(table, products, calendar)
    _note_sales(fitting)
    return fitting


def _demand_of(table: SalesTable, products: Mapping[str, Product], calendar: Calendar | None) -> Demand:
    periods = len(table.labels["date"])
    return Demand("counts", products, periods, None, False, table.file, table.rows, calendar)


def _calendar(days: Array) -> Calendar | None:
    """The calendar of the dates of a file; their usual distance is the length of a period."""
    different = np.unique(days)
    if len(different) < 2:
        return None
    step = int(np.median(np.diff(different)))
    return Calendar(date.fromordinal(int(different[0])), date.fromordinal(int(different[-1])), max(1, step))


def _product_of_sales(model: SalesModel) -> Product:
    cost, note = coming_cost(model.columns)
    model.notes += [note] if note else []
    units, history = int(model.columns["units"].sum()), history_of(model.columns) if "day" in model.columns else None
    price = model.columns["price"]
    prices, shares = charged_prices(price)
    product = Product(
        price_range=(float(price.min()), float(price.max())),
        prices=prices,
        shares=shares,
        means=model.means,
        unit_cost=cost,
        units_sold=units,
        sold_out=model.sold_out,
        estimate=model.estimate,
        curve=model.curve,
        flags=model.flags,
        history=history,
    )
    try:
        check_slope(*product.slope())
    except EstimationError as error:
        if prices_follow_demand(model):
            raise EstimationError(f"{error}; {_FOLLOWS}") from None
        raise
    return product


def _note_sales(fitting: Fitting) -> None:
    """Notes on the products, the same note on several of them only once."""
    said: dict[str, list[str]] = {}
    for name, model in fitting.models.items():
        for note in model.notes:
            said.setdefault(note, []).append(name)
        if model.sold_out:
            share = 100.0 * model.sold_out / len(model.columns["price"])
            said.setdefault(
                f"{model.sold_out:,} rows ({share:.1f}%) sold all their stock: at least so many were wanted", []
            ).append(name)
        if len(np.unique(model.columns["price"])) == 2:
            text = "two prices tell a slope, but neither the shape of the curve nor what lies beyond them"
            said.setdefault(text, []).append(name)
        if prices_follow_demand(model):
            said.setdefault(_FOLLOWS, []).append(name)
    for text, names in said.items():
        many = f" and {len(names) - 3} more" if len(names) > 3 else ""
        fitting.notes.append(f"{', '.join(names[:3])}{many}: {text}")
