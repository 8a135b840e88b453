"""What ``palaestra fit-demand`` says of its estimates: coefficients and tests for a few products, a table for many."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs.pricing.demand.counts.demand_curves import PRICE
from palaestra.envs.pricing.demand.counts.instruments import RESIDUAL
from palaestra.envs.pricing.demand.counts.intervals import Intervals, bootstrap_intervals
from palaestra.envs.pricing.demand.counts.sales_model import SalesModel, prices_follow_demand
from palaestra.envs.pricing.demand.counts.selection import GroupTest
from palaestra.envs.pricing.demand.estimation import LOG_DISPERSION, Estimate
from palaestra.envs.pricing.demand.fit import FitOptions, Fitting, fit
from palaestra.envs.pricing.demand.json_file import demand_data, demand_text
from palaestra.envs.pricing.demand.model import Demand
from palaestra.envs.pricing.demand.season_problem import dynamic_gain
from palaestra.envs.pricing.price_list import money_decimals
from palaestra.envs.pricing.sales.sales_table import ReadOptions, SalesError

_IN_DETAIL = 3  # products; more are a table
_ROWS = 20  # of the table, unless all are asked for
_WIDTH = 80


def fit_demand(
    sales: Path,
    out: Path,
    options: FitOptions,
    reading: ReadOptions,
    *,
    every: bool = False,
    as_json: bool = False,
    width: int | None = None,
) -> None:
    """Estimate, write ``out`` and print a summary in lines of a terminal's ``width``, where there is one.

    Raises:
        SalesError: if the sales cannot be used, or ``out`` is there already.
    """
    if out.exists():
        raise SalesError(f"{out} is there already: remove it, or choose another --out")
    fitting = fit(sales, options, reading)
    if len(fitting.models) <= _IN_DETAIL and fitting.refit is not None:
        fitting.intervals = {
            name: bootstrap_intervals(fitting.demand, name, model, fitting.refit)
            for name, model in fitting.models.items()
        }
    with out.open("x", encoding="utf-8") as file:
        file.writelines(demand_text(demand_data(fitting.demand)))
        file.write("\n")
    if as_json:
        print(json.dumps({**summary_data(fitting), "written": str(out)}, indent=1))
        return
    print(summary(fitting, every=every, width=min(width or _WIDTH, _WIDTH)))
    product = " --set env.product=NAME" if len(fitting.demand.products) > 1 else ""
    following = f"palaestra train pricing --set env.demand={out}{product}"
    line = f"written: {out}; next: {following}"
    print(line if width is None or len(line) <= width else f"written: {out}; next:\n  {following}")


def summary(fitting: Fitting, *, every: bool = False, width: int = _WIDTH) -> str:
    """Coefficients with their uncertainty, and what they imply, for people to read; rows of tables stay whole."""
    demand = fitting.demand
    dates = f", {demand.periods:,} dates" if demand.periods else ""
    count = len(demand.products)
    products = f"{count:,} product{'s' if count > 1 else ''}"
    left_out = f" fitted, {len(fitting.left_out):,} left out" if fitting.left_out else ""
    lines = [f"{demand.file}: {demand.rows:,} rows{dates}, {products}{left_out}"]
    if demand.kind == "logit":
        lines.append(f"conditional logit, {demand.buyers:g} buyers per period")
        lines += _table(next(iter(demand.products.values())).estimate)
    if demand.kind == "logit" or count <= _IN_DETAIL:
        for name in demand.products:
            lines += _product_lines(demand, name, fitting.models.get(name), fitting.intervals.get(name))
    else:
        lines += _product_table(demand, every)
    for name in gained(demand):
        lines.append(f"{name}: {_gain_line(demand, name)}")
    if count > _IN_DETAIL:
        another = "" if demand.kind == "logit" else "; --product NAME tells it for another, with intervals"
        lines.append(f"(of the {_IN_DETAIL} best-selling products{another})")
    reasons = list(fitting.left_out.items())
    for name, reason in reasons if every else reasons[:_ROWS]:
        lines.append(f"left out: {name}: {reason}")
    if len(reasons) > _ROWS and not every:
        lines.append(f"left out: and {len(reasons) - _ROWS:,} more (--all lists them)")
    for note in fitting.notes:
        lines.append(f"note: {note}")
    return "\n".join(part for line in lines for part in _fitted(line, width))


def gained(demand: Demand) -> list[str]:
    """The products of which is said what dynamic pricing can win: the best-selling, since that takes its time."""
    return sorted(demand.products, key=lambda name: -demand.products[name].units_sold)[:_IN_DETAIL]


def _gain_line(demand: Demand, name: str) -> str:
    """What dynamic pricing can win over the best fixed price in the default season."""
    try:
        gain = dynamic_gain(demand, name)
    except ValueError as error:
        return f"no season to price: {error}"
    season = f"in a season of {gain.periods} period{'s' * (gain.periods > 1)} with {gain.stock:,} units"
    season += f", in lots of {gain.lot:,}," if gain.lot > 1 else ""
    fixed = f"the best fixed price, {gain.fixed_price:.4g}, earns {_money(gain.fixed)}"
    if gain.nothing:
        return f"dynamic pricing has nothing to win {season}: {fixed}, and the optimum {gain.percent:.2f}% more"
    more = f"{_money(gain.optimum - gain.fixed)} ({gain.percent:.1f}%) more"
    return f"{season} {fixed}, and dynamic pricing up to {more}; with stock enough nothing more"


def summary_data(fitting: Fitting) -> dict[str, Any]:
    """The same as plain data."""
    demand = fitting.demand
    products, gains = {}, gained(demand)
    for name, product in demand.products.items():
        price, at_end = demand.best_fixed(name)
        estimate = product.estimate
        errors = zip(estimate.coefficients.tolist(), estimate.standard_errors.tolist(), strict=True)
        entry: dict[str, Any] = {
            "units_sold": product.units_sold,
            "price_range": list(product.price_range),
            "curve": product.curve if demand.kind == "counts" else "logit choice",
            "coefficients": {
                n: {"value": value, "standard_error": error}
                for n, (value, error) in zip(estimate.names, errors, strict=True)
            },
            "best_fixed_price": price,
            "best_at_end_of_range": at_end,
        }
        if model := fitting.models.get(name):
            entry |= _model_data(model)
            entry["slope_at_mean_price"], entry["slope_standard_error"] = product.slope()
            entry["elasticity_at_mean_price"] = entry["slope_at_mean_price"] * product.means[PRICE]
        if found := fitting.intervals.get(name):
            entry["elasticity_interval"], entry["best_fixed_price_interval"] = found.elasticity, found.best_price
            entry |= {"interval_draws": found.draws, "draws_not_fitted": found.failed}
        if name in gains:
            entry["default_season"] = _gain_data(demand, name)
        products[name] = entry
    top = {"file": demand.file, "rows": demand.rows, "periods": demand.periods, "kind": demand.kind}
    return {**top, "products": products, "left_out": fitting.left_out, "notes": fitting.notes}


def _money(amount: float) -> str:
    return f"{amount:,.{money_decimals(amount)}f}"


def _gain_data(demand: Demand, name: str) -> dict[str, Any]:
    try:
        gain = dynamic_gain(demand, name)
    except ValueError as error:
        return {"error": str(error)}
    return {**asdict(gain), "gain": gain.optimum - gain.fixed, "gain_percent": gain.percent}


def _model_data(model: SalesModel) -> dict[str, Any]:
    tests = {v.title: {"kept": v.kept, "chi2": v.statistic, "df": v.degrees, "p": v.p} for v in model.verdicts}
    data: dict[str, Any] = {"tests": tests, "log_likelihood_of_curves": model.curves}
    data |= {"zero_truncated": model.truncated, "censored_rows": model.sold_out, "follows_demand_p": model.follows}
    if model.controlled is not None and model.naive is not None:
        data["without_instrument"] = dict(zip(("value", "standard_error"), model.naive[PRICE], strict=True))
        data["first_stage_F"] = model.controlled.first_stage
    return data


def _product_lines(demand: Demand, name: str, model: SalesModel | None, intervals: Intervals | None) -> list[str]:
    product = demand.products[name]
    low, high = product.price_range
    seen = f"prices {low:g} to {high:g}, mean {product.means[PRICE]:.4g}; {product.units_sold:,} units sold"
    lines = [f"{name}: {seen}"]
    if model is not None:
        over = LOG_DISPERSION in product.estimate.names
        kind = "negative binomial (sales vary more than Poisson)" if over else "Poisson"
        curve = "" if product.curve == "exponential" else f", {product.curve} curve"
        lines += [f"  {kind} demand{curve}", *_table(product.estimate), *_model_lines(model)]
        slope, _ = product.slope()
        ends = _ends(intervals.elasticity, ".2f") if intervals else ""
        lines.append(f"  elasticity at the mean price: {slope * product.means[PRICE]:.2f}{ends}")
    lines.append(f"  {_best(demand, name, intervals)}")
    follow = model is not None and prices_follow_demand(model)
    return [*lines, *([f"  {_origin(intervals, follow)}"] if intervals else [])]


def _ends(ends: tuple[float, float], form: str) -> str:
    return f" (95 % interval {ends[0]:{form}} to {ends[1]:{form}})"


def _origin(intervals: Intervals, follow: bool) -> str:
    """Where the intervals come from."""
    more = f"; {intervals.failed} more could not be fitted" if intervals.failed else ""
    more += ", if prices do not follow demand" if follow else ""
    if not intervals.draws:
        return f"95 % interval of the chosen model, as if no other had been possible{more}"
    return f"95 % intervals over all models that the sales allow, from {intervals.draws} draws{more}"


def _model_lines(model: SalesModel) -> Iterator[str]:
    """What was tested and compared."""
    if model.verdicts:
        yield f"  tested: {'; '.join(map(_verdict, model.verdicts))}"
    if len(model.curves) > 1:
        best = max(model.curves.values())
        others = ", ".join(f"{curve} {value - best:+.1f}" for curve, value in model.curves.items() if value < best)
        first = max(model.curves, key=lambda curve: model.curves[curve])
        yield f"  log-likelihood of the curves: {first} {best:.1f}, {others}"
    if model.controlled is not None and model.naive is not None:
        (naive, naive_error), (slope, error) = model.naive[PRICE], model.controlled.estimate[PRICE]
        residual, residual_error = model.controlled.estimate[RESIDUAL]
        yield (
            f"  price with the instrument {slope:.4g} (s.e. {error:.2g}), without {naive:.4g} "
            f"(s.e. {naive_error:.2g}); residual {residual:.4g} (s.e. {residual_error:.2g}), "
            f"first stage F {model.controlled.first_stage:.4g}"
        )
    elif model.follows is not None and not prices_follow_demand(model):
        yield f"  no sign that prices follow demand (p {model.follows:.2g})"


def _verdict(verdict: GroupTest) -> str:
    p = f"p {verdict.p:.2g}" if verdict.p >= 1e-4 else "p < 0.0001"
    kept = "kept" if verdict.kept else "left out"
    return f"{verdict.title} {kept} (χ² {verdict.statistic:.1f} of {verdict.degrees}, {p})"


def _product_table(demand: Demand, every: bool) -> list[str]:
    """A row for each product, the best-selling first."""
    names = sorted(demand.products, key=lambda name: -demand.products[name].units_sold)
    rows = [("product", "units", "mean price", "slope", "s.e.", "best price", "model")]
    for name in names if every else names[:_ROWS]:
        product = demand.products[name]
        slope, error = product.slope()
        price, at_end = demand.best_fixed(name)
        law = "NB" if LOG_DISPERSION in product.estimate.names else "Poisson"
        curve = "" if product.curve == "exponential" else f" {product.curve.split()[-1]}"
        cells = (f"{product.units_sold:,}", f"{product.means[PRICE]:.4g}", f"{slope:.3g}", f"{error:.2g}")
        rows.append((_short(name, 22), *cells, f"{price:.4g}{'*' if at_end else ''}", f"{law}{curve}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(c.ljust(w) if i in (0, 6) else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    if len(names) > len(rows) - 1:
        lines.append(f"and {len(names) - len(rows) + 1:,} more (--all lists them)")
    ends = " *: an end of the observed prices" if any("*" in row[5] for row in rows) else ""
    lines.append(f"slope: d log demand / d price at the mean price; best price: fixed, with stock enough.{ends}")
    return [line.rstrip() for line in lines]


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _best(demand: Demand, name: str, intervals: Intervals | None) -> str:
    product = demand.products[name]
    price, at_end = demand.best_fixed(name)
    mean = float(demand.mean_units(name, np.array([price]), product.estimate.coefficients)[0])
    earned = f"{(price - product.unit_cost) * mean:.4g} per period"
    cost = f" over the unit cost {product.unit_cost:g}" if product.unit_cost else ""
    end = ", an end of the observed prices: the best may lie beyond" if at_end else ""
    ends = _ends(intervals.best_price, ".4g") if intervals and intervals.best_price else ""
    return f"best fixed price with stock enough: {price:.4g}{ends}, which earns {earned}{cost}{end}"


def _table(estimate: Estimate) -> list[str]:
    rows = [("", "coefficient", "s.e.", "t")]
    for name, value, error in zip(estimate.names, estimate.coefficients, estimate.standard_errors, strict=True):
        rows.append((name, f"{value:.6g}", f"{error:.4g}", f"{value / error:.2f}"))
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [f"  {row[0]:<{first}}  {'  '.join(map(str.rjust, row[1:], others))}" for row in rows]
    return [*lines, f"  log-likelihood {estimate.log_likelihood:.4f}, {estimate.n:,} observations"]


def _fitted(line: str, width: int) -> list[str]:
    """The line in lines of that width, the further ones indented; a row of a table, which has gaps, as it is."""
    start = len(line) - len(line.lstrip())
    if len(line) <= width or "  " in line[start:]:
        return [line]
    indent = " " * (start + 2)
    return textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
