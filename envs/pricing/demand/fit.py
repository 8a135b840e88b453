"""``palaestra fit-demand``: from a sales table to ``demand.json``, a market to train in.

1. Sales per period give each product a demand of its own: Poisson, or negative binomial where the sales vary more than
   that (likelihood ratio, 5 %). Choices give one conditional logit; the Poisson buyers of a period are those that a
   date had on average.
2. A market is refused whose prices cannot tell what demand does: fewer than 3 different prices of a product, or a price
   coefficient that is not significantly negative (t > −2).
3. Where sales equalled the stock, demand may have been larger. Such rows are used as they are, which underestimates
   demand; they are counted and said. Rows without stock, or without visitors, say nothing and are left out.
4. Standard errors take the rows as independent and the model as right; prices that followed demand (dearer on
   holidays) make it look less sensitive than it is. Nothing here can find that out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.estimation import (
    LOG_DISPERSION,
    Estimate,
    EstimationError,
    conditional_logit,
    negative_binomial,
    poisson_loglinear,
)
from palaestra.envs.pricing.demand.json_file import demand_data
from palaestra.envs.pricing.demand.model import COMPETITOR, CONSTANT, DISPLAY, FEATURE, PRICE, VISITORS, Demand, Product
from palaestra.envs.pricing.sales.sales_file import read_sales
from palaestra.envs.pricing.sales.sales_table import ReadOptions, SalesError, SalesTable, first_repeat

_FEWEST_PRICES, _LEAST_T = 3, 2.0
_CHARGED_POINTS = 100  # points of the distribution of prices that were charged


def fit_demand(sales: Path, out: Path, buyers: float | None, options: ReadOptions | None = None) -> None:
    """Estimate, write ``out`` and print a summary.

    Raises:
        SalesError: if the sales cannot be used, or ``out`` is there already.
    """
    if out.exists():
        raise SalesError(f"{out} is there already: remove it, or choose another --out")
    demand, notes = fit(sales, buyers, options)
    with out.open("x", encoding="utf-8") as file:
        json.dump(demand_data(demand), file, indent=1)
        file.write("\n")
    print(summary(demand, notes))
    product = " --set env.product=NAME" if len(demand.products) > 1 else ""
    print(f"written: {out}; next: palaestra train pricing --set env.demand={out}{product}")


def fit(path: Path, buyers: float | None = None, options: ReadOptions | None = None) -> tuple[Demand, list[str]]:
    """The demand behind a file of sales, and notes on the data.

    Args:
        path: of a file, see :mod:`palaestra.envs.pricing.sales.sales_file`.
        buyers: per period; of choices only, where it stands for the mean number of occasions per date.

    Raises:
        SalesError: if the sales cannot be used.
    """
    table = read_sales(path, options)
    notes = [*table.notes]
    if unused := [*table.ignored, *table.further]:
        notes.append(f"columns that are not used: {', '.join(unused)}")
    try:
        return (_fit_sales if table.shape == "sales" else _fit_choices)(table, buyers, notes), notes
    except SalesError as error:
        raise SalesError(f"{path}: {error}") from None


def _fit_sales(table: SalesTable, buyers: float | None, notes: list[str]) -> Demand:
    columns, names = table.columns, table.labels["product"]
    if buyers is not None:
        raise SalesError("--buyers is for choices; these are sales per period")
    informative = np.ones(table.rows, bool)
    for name in ("stock", "visitors"):
        if name in columns:
            informative &= columns[name] > 0.0
    if not informative.all():
        notes.append(f"{(~informative).sum():,} rows without stock or visitors are left out")
    columns = {name: column[informative] for name, column in columns.items()}
    by_product = np.argsort(columns["product"], kind="stable")
    ends = np.cumsum(np.bincount(columns["product"], minlength=len(names)))
    products, problems = {}, []
    for name, rows in zip(names, np.split(by_product, ends[:-1]), strict=True):
        try:
            products[name] = _product_of_sales({key: column[rows] for key, column in columns.items()})
        except (SalesError, EstimationError) as error:
            problems.append(f"{name}: {error}")
    _refuse(problems)
    periods = len(table.labels["date"])
    _note_sales(products, columns, periods, names, notes)
    return Demand("exponential", products, periods, None, False, table.file, table.rows)


def _product_of_sales(columns: Mapping[str, Array]) -> Product:
    price, units = columns["price"], columns["units"]
    _check_prices(price)
    features, names = [np.ones_like(price), price], [CONSTANT, PRICE]
    means = {PRICE: float(price.mean())}
    if COMPETITOR in columns and np.ptp(columns[COMPETITOR]) > 0.0:
        features.append(columns[COMPETITOR])
        names.append(COMPETITOR)
        means[COMPETITOR] = float(columns[COMPETITOR].mean())
    offset: Array | float = 0.0
    if VISITORS in columns:
        offset = np.log(columns[VISITORS])
        means[VISITORS] = float(columns[VISITORS].mean())
    x = np.column_stack(features)
    estimate = negative_binomial(x, units, offset, names) or poisson_loglinear(x, units, offset, names)
    _check_slope(estimate)
    sold_out = int((units == columns["stock"]).sum()) if "stock" in columns else 0
    return _product(columns, means, int(units.sum()), sold_out, estimate)


def _note_sales(
    products: Mapping[str, Product], columns: Mapping[str, Array], periods: int, names: Sequence[str], notes: list[str]
) -> None:
    sold_out = sum(product.sold_out for product in products.values())
    if sold_out:
        share = 100.0 * sold_out / len(columns["price"])
        notes.append(
            f"{sold_out:,} rows ({share:.1f}%) sold all their stock; they are used as they are, "
            "so demand is underestimated"
        )
    if COMPETITOR in columns and any(COMPETITOR not in product.means for product in products.values()):
        notes.append("where competitor_price never varies it is left out")
    rows = np.bincount(columns["product"], minlength=len(names))
    without_sales = np.bincount(columns["product"], columns["units"] == 0.0, minlength=len(names))
    gaps = [name for name, n, zeros in zip(names, rows, without_sales, strict=True) if n < periods and not zeros]
    if gaps:
        notes.append(
            f"{gaps[0]} has no row on some dates and never 0 units: if it was on sale then, write rows with 0 units"
        )


def _fit_choices(table: SalesTable, buyers: float | None, notes: list[str]) -> Demand:
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
    features, kept = _choice_features(columns, names, outside, notes)
    try:
        estimate = conditional_logit(features, columns["occasion_id"], columns["chosen"] > 0.0, kept, outside=outside)
        _check_slope(estimate)
    except EstimationError as error:
        raise SalesError(str(error)) from None
    products = {
        name: _product_of_choices(
            {key: column[columns["alternative"] == k] for key, column in columns.items()}, estimate
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
            _check_prices(columns["price"][own])
            if not chosen[own].any():
                raise SalesError("it was never chosen; leave its rows out")
        except SalesError as error:
            problems.append(f"{name}: {error}")
    _refuse(problems)
    offered = np.bincount(columns["occasion_id"][available], minlength=len(choices)) > 0
    return bool((choices[offered] == 0).any())


def _choice_features(
    columns: Mapping[str, Array], names: Sequence[str], outside: bool, notes: list[str]
) -> tuple[Array, list[str]]:
    """Features [rows, K] and their names; without an outside option the first alternative is the base."""
    features, kept = [columns["price"]], [PRICE]
    for name in (FEATURE, DISPLAY):
        if name in columns and np.ptp(columns[name]) > 0.0:
            features.append(columns[name])
            kept.append(name)
        elif name in columns:
            notes.append(f"{name} never varies and is left out")
    for k, name in list(enumerate(names))[0 if outside else 1 :]:
        features.append((columns["alternative"] == k).astype(np.float64))
        kept.append(f"{CONSTANT}:{name}")
    return np.column_stack(features), kept


def _product_of_choices(columns: Mapping[str, Array], estimate: Estimate) -> Product:
    means = {name: float(columns[name].mean()) for name in (PRICE, FEATURE, DISPLAY) if name in columns}
    return _product(columns, means, int(columns["chosen"].sum()), 0, estimate)


def _check_prices(price: Array) -> None:
    different = len(np.unique(price))
    if different < _FEWEST_PRICES:
        raise SalesError(f"has {different} different prices; at least {_FEWEST_PRICES} are needed")


def _check_slope(estimate: Estimate) -> None:
    slope, error = estimate[PRICE]
    if slope >= 0.0:
        raise SalesError(
            f"demand does not fall with the price (coefficient {slope:.4g}, s.e. {error:.2g}); "
            "perhaps prices followed demand"
        )
    if -slope < _LEAST_T * error:
        raise SalesError(
            f"the price coefficient {slope:.4g} (s.e. {error:.2g}, t {slope / error:.2f}) "
            "is not significantly negative: more rows or more different prices are needed"
        )


def _refuse(problems: list[str]) -> None:
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise SalesError("; ".join(problems[:3]) + more)


def _product(
    columns: Mapping[str, Array], means: dict[str, float], units: int, sold_out: int, estimate: Estimate
) -> Product:
    price = columns["price"]
    points, counts = np.unique(price, return_counts=True)
    if len(points) > _CHARGED_POINTS:
        quantiles = np.quantile(price, (np.arange(_CHARGED_POINTS) + 0.5) / _CHARGED_POINTS)
        points, counts = np.unique(quantiles, return_counts=True)
    return Product(
        price_range=(float(price.min()), float(price.max())),
        prices=points,
        shares=counts / counts.sum(),
        means=means,
        unit_cost=float(columns["unit_cost"].mean()) if "unit_cost" in columns else 0.0,
        units_sold=units,
        sold_out=sold_out,
        estimate=estimate,
    )


def summary(demand: Demand, notes: list[str]) -> str:
    """Coefficients with their uncertainty, and what they imply, for people to read."""
    dates = f", {demand.periods:,} dates" if demand.periods else ""
    products = f"{len(demand.products):,} product{'s' if len(demand.products) > 1 else ''}"
    lines = [f"{demand.file}: {demand.rows:,} rows{dates}, {products}"]
    if demand.kind == "logit":
        lines.append(f"conditional logit, {demand.buyers:g} buyers per period")
        lines += _table(next(iter(demand.products.values())).estimate)
    for name, product in demand.products.items():
        low, high = product.price_range
        seen = f"prices {low:g} to {high:g}, mean {product.means[PRICE]:.4g}; {product.units_sold:,} units sold"
        lines.append(f"{name}: {seen}")
        if demand.kind == "exponential":
            over = LOG_DISPERSION in product.estimate.names
            kind = "negative binomial (sales vary more than Poisson)" if over else "Poisson"
            lines += [f"  {kind} demand", *_table(product.estimate)]
        lines.append(f"  {_best(demand, name)}")
    return "\n".join([*lines, *(f"note: {note}" for note in notes)])


def _best(demand: Demand, name: str) -> str:
    product = demand.products[name]
    price, at_end = demand.best_fixed(name)
    mean = float(demand.mean_units(name, np.array([price]), product.estimate.coefficients)[0])
    earned = f"{(price - product.unit_cost) * mean:.4g} per period"
    cost = f" over the unit cost {product.unit_cost:g}" if product.unit_cost else ""
    end = ", an end of the observed prices: the best may lie beyond" if at_end else ""
    return f"best fixed price with stock enough: {price:.4g}, which earns {earned}{cost}{end}"


def _table(estimate: Estimate) -> list[str]:
    width = max(map(len, estimate.names))
    rows: list[Any] = list(zip(estimate.names, estimate.coefficients, estimate.standard_errors, strict=True))
    return [
        f"  {'':<{width}}  {'coefficient':>12}  {'s.e.':>10}  {'t':>8}",
        *(f"  {name:<{width}}  {value:>12.6g}  {error:>10.4g}  {value / error:>8.2f}" for name, value, error in rows),
        f"  log-likelihood {estimate.log_likelihood:.4f}, {estimate.n:,} observations",
    ]
