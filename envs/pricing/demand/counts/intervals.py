"""95 % intervals that hold the choice of the model: a parametric bootstrap through the whole estimation.

1. Sales are drawn from the fitted demand at the file's own dates, prices, stocks and regressors, and each draw is
   fitted as the file was: what to do about missing zeros, regressors, dispersion and control function is chosen anew.
2. A file that does not show how its demand bends does not show it in a draw either, so that choosing the curve anew
   would pass its own mistake on. Instead every curve is fitted to the file, and each draw comes from one of them, by
   chances of exp(−AIC / 2), and is fitted with it (chosen anew where that has no maximum).
3. What is compared means the same under every curve: the elasticity at the mean price, and the best fixed price.
4. The elasticity is studentized: draw by draw its curve's estimate − (draw − estimate) · (s.e. / s.e. of the draw), and
   the 2.5 and 97.5 % points of these. So it keeps what standard errors know and draws do not, shocks that last beside
   a control function.
5. A best price at an end of the observed prices has no standard error; its interval is that of the draws. With a
   control function, on an exponential curve, it is that of the elasticity, written as prices.
6. A sold-out day is drawn with the stock that it had. The stock of other days, where the file only says which days
   were sold out, is drawn from the Kaplan–Meier distribution of stocks beyond what was sold.
7. Draws are seeded: a file has one interval. A draw that cannot be fitted is left out and counted.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, sections 6.5 and 12.5; for 2. Buckland, Burnham
and Augustin, "Model selection: an integral part of inference", Biometrics 1997; for 6. Kaplan and Meier 1958.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
_FEWEST = 50  # draws that make an interval
_POINTS, _NORMAL = (0.025, 0.975), 1.959964
_LARGEST_MEAN, _MOST_DRAWN = 1e9, 100  # units; times that a row is drawn until it sold something

Refit = Callable[[Mapping[str, Array], str | None], SalesModel]  # columns, and the curve if it is given


class Intervals(NamedTuple):
    """95 % intervals of one product."""

    elasticity: tuple[float, float]  # at the mean price
    best_price: tuple[float, float] | None  # fixed, with stock enough; None without draws
    draws: int  # that were fitted; 0 where the chosen model is taken as right
    failed: int  # draws that could not be fitted


def bootstrap_intervals(demand: Demand, name: str, model: SalesModel, refit: Refit) -> Intervals:
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
    models, chances = _models(model, refit)
    slopes: list[float] = []
    prices: list[float] = []
    failed = 0
    for _ in range(DRAWS if len(model.fitted) <= _MOST_ROWS else 0):
        truth = models[int(rng.choice(len(models), p=chances))]
        found = _fitted_draw(draw_sales(truth, rng), truth.curve, refit)
        if found is None:
            failed += 1
            continue
        (slope, error), (drawn, spread) = (_with_model(product, m).slope(reference) for m in (truth, found))
        slopes.append(slope - (drawn - slope) * error / spread)
        prices.append(replace(demand, products={name: _with_model(product, found)}).best_fixed(name)[0])
    if len(slopes) < _FEWEST:
        slope, error = product.slope()
        elasticity = (slope - _NORMAL * error) * reference, (slope + _NORMAL * error) * reference
        return Intervals(elasticity, None, 0, failed)
    low, high = (float(end) * reference for end in np.quantile(slopes, _POINTS))
    ends = np.quantile(prices, _POINTS)
    if model.controlled is not None:
        ends = np.array([product.unit_cost - reference / end if end < 0.0 else np.inf for end in (low, high)])
    best, _ = demand.best_fixed(name)  # lies inside, also where most draws have another curve
    ends = np.clip(ends, *product.price_range)
    return Intervals((low, high), (min(best, float(ends[0])), max(best, float(ends[1]))), len(slopes), failed)


def _models(model: SalesModel, refit: Refit) -> tuple[list[SalesModel], Array]:
    """The file's demand on each curve that fits it, and their chances."""
    models = []
    for curve in PARAMETERS:
        try:
            models.append(refit(_rows_of_file(model.columns, model), curve))
        except (EstimationError, np.linalg.LinAlgError):
            continue
    models = models or [model]
    worth = np.array([m.estimate.log_likelihood - len(m.estimate.names) for m in models])
    chances = np.exp(worth - worth.max())
    return models, chances / chances.sum()


def _fitted_draw(columns: Mapping[str, Array], curve: str, refit: Refit) -> SalesModel | None:
    for how in (curve, None):
        try:
            return refit(columns, how)
        except (EstimationError, np.linalg.LinAlgError):
            continue
    return None


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
    """The rows without those of days without sales, where the file has none."""
    if not model.filled:
        return columns
    sold = columns["units"] > 0.0
    return {name: column[sold] for name, column in columns.items()}


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
