"""95 % intervals that hold the choice of the model: a parametric bootstrap through the whole estimation.

1. Sales are drawn from the fitted demand at the file's own dates, prices, stocks and regressors, and each draw is
   fitted as the file was: what to do about missing zeros, regressors, dispersion and control function is chosen anew.
   Rows without sales that a truncated fit leaves out are in each draw as they are in the file: they decide that it is.
2. A file that does not show how its demand bends does not show it in a draw either, so that choosing the curve anew
   would pass its own mistake on. Instead every curve is fitted to the file, and those with a chance over 5 %, by
   exp(−AIC / 2), are drawn from and fitted to their draws (the likeliest where that has no maximum). The interval spans
   those of these curves.
3. What is compared means the same under every curve: the elasticity at the mean price, and the best fixed price.
4. Draws are turned about their truth and studentized: (truth − (draw − truth) · s.e. of the truth / s.e. of the draw)
   is what the truth may be, for the slope at the mean price and so for the coefficients of the curve, and 95 % of these
   are the interval. So it keeps what standard errors know and draws do not, shocks that last beside a control function.
   A straight line that ends at the highest price has no standard error, and its draw is turned without.
   The best price is that of such a curve, within the observed prices.
5. A sold-out day is drawn with the stock that it had. The stock of other days, where the file only says which days
   were sold out, is drawn from the Kaplan–Meier distribution of stocks beyond what was sold.
6. Draws are seeded: a file has one interval. A draw that cannot be fitted is left out and counted.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, sections 6.5 and 12.5; for 2. Buckland, Burnham
and Augustin, "Model selection: an integral part of inference", Biometrics 1997; for 5. Kaplan and Meier 1958.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.counts.demand_curves import PARAMETERS, PRICE
from palaestra.envs.pricing.demand.counts.sales_model import SalesModel
from palaestra.envs.pricing.demand.estimation import LOG_DISPERSION, EstimationError
from palaestra.envs.pricing.demand.model import Demand, Product

DRAWS = 200
_MOST_ROWS = 5_000  # of a product; beyond, fits take seconds and the data leave little choice
_POSSIBLE, _FEWEST = 0.05, 20  # chance of a curve that is drawn from, and draws that make its interval
_POINTS, _NORMAL = (0.025, 0.975), 1.959964
_COMPARABLE = 100.0  # times another standard error, from which on one is none: at the edge of what a curve can be
_LARGEST_MEAN, _MOST_DRAWN = 1e9, 100  # units; times that a row is drawn until it sold something

SalesFitter = Callable[[Mapping[str, Array], str | None], SalesModel]  # columns, and the curve if it is given


class Intervals(NamedTuple):
    """95 % intervals of one product."""

    elasticity: tuple[float, float]  # at the mean price
    best_price: tuple[float, float] | None  # fixed, with stock enough; None without draws
    draws: int  # that were fitted; 0 where the chosen model is taken as right
    failed: int  # draws that could not be fitted


def bootstrap_intervals(demand: Demand, name: str, model: SalesModel, refit: SalesFitter) -> Intervals:
    """The intervals of a product that was fitted to sales per period.

    Args:
        demand: the estimated market.
        name: of the product.
        model: its model.
        refit: fits columns of sales as those of the file were, on a curve or on the likeliest.
    """
    product = demand.products[name]
    reference = product.means[PRICE]
    rng = np.random.default_rng(0)
    models = _possible_models(model, refit) if len(model.fitted) <= _MOST_ROWS else []
    slopes: list[Array] = []  # ends of each curve
    prices: list[Array] = []
    fitted = failed = 0
    for truth in models:
        turned = [_turned_draw(product, truth, rng, refit) for _ in range(DRAWS // len(models))]
        drawn = [each for each in turned if each is not None]
        failed += len(turned) - len(drawn)
        if len(drawn) >= _FEWEST:
            fitted += len(drawn)
            slopes.append(np.quantile([slope for slope, _ in drawn], _POINTS))
            with np.errstate(over="ignore"):
                best = [replace(demand, products={name: curve}).best_fixed(name)[0] for _, curve in drawn]
            prices.append(np.quantile(best, _POINTS))
    slope, error = product.slope()
    if not slopes:
        elasticity = (slope - _NORMAL * error) * reference, (slope + _NORMAL * error) * reference
        return Intervals(elasticity, None, 0, failed)
    low, high = _span(slopes, slope)
    return Intervals((low * reference, high * reference), _span(prices, demand.best_fixed(name)[0]), fitted, failed)


def _span(ends: Sequence[Array], estimate: float) -> tuple[float, float]:
    return min(float(np.min(ends)), estimate), max(float(np.max(ends)), estimate)


def _possible_models(model: SalesModel, refit: SalesFitter) -> list[SalesModel]:
    """The file's demand on each curve that the data leave possible."""
    models: list[SalesModel] = []
    for curve in PARAMETERS:
        try:
            found = refit(_rows_of_file(model.columns, model), curve)
        except (EstimationError, np.linalg.LinAlgError):
            continue
        models += [found] if found.curve == curve else []  # a user or an instrument decides it
    worth = np.array([m.estimate.log_likelihood - len(m.estimate.names) for m in models])
    chances = np.exp(worth - worth.max(initial=-np.inf))
    return [m for m, chance in zip(models, chances, strict=True) if chance > _POSSIBLE * chances.sum()]


def _turned_draw(
    product: Product, truth: SalesModel, rng: np.random.Generator, refit: SalesFitter
) -> tuple[float, Product] | None:
    """The slope and the curve that may be true by one draw; None where that cannot be fitted."""
    columns = draw_sales(truth, rng)
    for curve in (truth.curve, None):
        try:
            found = refit(columns, curve)
        except (EstimationError, np.linalg.LinAlgError):
            continue
        reference = product.means[PRICE]
        (slope, error), (drawn, spread) = (_with_model(product, m).slope(reference) for m in (truth, found))
        scale = error / spread if error < _COMPARABLE * spread and spread < _COMPARABLE * error else 1.0
        return slope - (drawn - slope) * scale, _with_model(product, _turned(truth, found, scale))
    return None


def _turned(truth: SalesModel, found: SalesModel, scale: float) -> SalesModel:
    """The truth with the coefficients of its curve turned; the draw itself where that has another curve."""
    if found.curve != truth.curve:
        return found
    coefficients = truth.estimate.coefficients.copy()
    for parameter in PARAMETERS[truth.curve]:
        k = truth.estimate.names.index(parameter)
        coefficients[k] -= (found.estimate[parameter][0] - coefficients[k]) * scale
    return replace(truth, estimate=replace(truth.estimate, coefficients=coefficients))


def _with_model(product: Product, model: SalesModel) -> Product:
    return replace(product, estimate=model.estimate, curve=model.curve, means=model.means, flags=model.flags)


def draw_sales(model: SalesModel, rng: np.random.Generator) -> dict[str, Array]:
    """Columns of the rows with units that the fitted demand draws, sold as far as the stock goes."""
    wanted = _wanted(model, rng)
    columns = dict(model.columns)
    capacity = _capacity(columns, rng)
    columns["units"] = np.minimum(wanted, capacity)
    if "sold_out" in columns:
        columns["sold_out"] = (wanted >= capacity).astype(np.float64)
    return _rows_of_file(columns, model)


def _rows_of_file(columns: dict[str, Array], model: SalesModel) -> dict[str, Array]:
    """The rows as the file has them: without those that were filled, and with those that the fit left out."""
    if model.filled:
        sold = columns["units"] > 0.0
        return {name: column[sold] for name, column in columns.items()}
    if model.truncated:
        return {name: np.append(column, model.unsold[name]) for name, column in columns.items()}
    return columns


def _wanted(model: SalesModel, rng: np.random.Generator) -> Array:
    """Units that are wanted, float64 [n]; at least one where rows without sales are missing from the file."""
    estimate, mean = model.estimate, np.minimum(model.fitted, _LARGEST_MEAN)
    a = float(np.exp(estimate[LOG_DISPERSION][0])) if LOG_DISPERSION in estimate.names else 0.0

    def draw(mean: Array) -> Array:
        units: Array = rng.poisson(mean * rng.gamma(1.0 / a, a, len(mean)) if a else mean).astype(np.float64)
        return units

    wanted = draw(mean)
    if model.truncated:
        for _ in range(_MOST_DRAWN):
            if (none := wanted == 0.0).any():
                wanted[none] = draw(mean[none])
        wanted = np.maximum(wanted, 1.0)  # where the mean is small, one unit is nearly certain
    return wanted


def _capacity(columns: Mapping[str, Array], rng: np.random.Generator) -> Array:
    """The stock of each row, float64 [n]; infinite where it never ran out."""
    units = columns["units"]
    capacity = columns["stock"].copy() if "stock" in columns else np.full(len(units), np.inf)
    if "sold_out" not in columns:
        return capacity
    empty = columns["sold_out"] > 0.0
    capacity[empty] = units[empty]
    if "stock" in columns or not empty.any():
        return capacity
    stocks, events = np.unique(units[empty], return_counts=True)
    at_risk = len(units) - np.searchsorted(np.sort(units), stocks)
    beyond = np.append(1.0, np.cumprod(1.0 - events / at_risk))  # P(stock > the k smallest)
    start = beyond[np.searchsorted(stocks, units[~empty], "right")]
    place = np.searchsorted(-beyond, -rng.random(len(start)) * start, "right") - 1
    capacity[~empty] = np.append(stocks, np.inf)[place]
    return capacity
