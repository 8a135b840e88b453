"""Prices that follow demand: a control function where there is an instrument, a diagnosis where there is none.

1. A seller who knows of a shock to demand, and prices by it, makes demand look less sensitive than it is. An instrument
   moves the price and has nothing to do with the shock: a cost. The part of the price that the instrument and the
   regressors do not explain, a residual, then stands for the shock beside the price.
2. Standard errors are those of the two steps together: a sandwich of both steps' moments, with sums of their products
   over some lags (Newey and West) because shocks last.
3. Without an instrument, prices that are set by shocks which last can be told: a price is high where the days before
   and after it sold more than expected. The covariance of the two is tested at 1 %, with Bartlett's variance for the
   product of two series that both last.

Sources: Wooldridge, "Econometric Analysis of Cross Section and Panel Data", 2010, sections 12.4, 12.5 and 18.5; Newey
and West 1987; Bartlett 1935.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.counts.demand_curves import CONSTANT
from palaestra.envs.pricing.demand.counts.regression import Counts, LogMean, count_rows, poisson_regression
from palaestra.envs.pricing.demand.counts.selection import chi_square_tail, unexplained
from palaestra.envs.pricing.demand.estimation import Estimate, EstimationError

RESIDUAL = "price_residual"
STRONG = 10.0  # F of the instrument in the first stage
_ALARM = 0.01
_NOTHING = 1e-12  # of the price's variance
_LAGS = 10
_LONG_LAGS = 28
_MEMORY = 0.7  # weight of a day over that of the day nearer to today


class Controlled(NamedTuple):
    """A demand estimated with a control function."""

    estimate: Estimate  # with ``price_residual`` at the end
    folded: Estimate  # the same demand without it, averaged over the residuals
    first_stage: float  # F of the instrument
    fitted: Array  # mean units of the rows, with their residuals, [n]


def control_function(mean: LogMean, counts: Counts, price: Array, instrument: Array) -> Controlled:
    """The Poisson demand with the price's residual beside the price; ``mean`` has the price in its second column.

    Raises:
        EstimationError: if the instrument does not move the price.
    """
    exogenous = np.column_stack((np.delete(mean.x, 1, 1), instrument))
    if np.linalg.matrix_rank(exogenous) < exogenous.shape[1]:
        raise EstimationError("the instrument does not vary beside the regressors")
    first = np.linalg.lstsq(exogenous, price, rcond=None)[0]
    residual = price - exogenous @ first
    if float(residual @ residual) <= _NOTHING * float(((price - price.mean()) ** 2).sum()):
        raise EstimationError("the instrument says all of the price, so that there is nothing to correct")
    inverse = np.linalg.inv(exogenous.T @ exogenous)
    variance = float(residual @ residual) / (len(price) - exogenous.shape[1])
    strength = float(first[-1] ** 2 / (variance * inverse[-1, -1]))
    larger = mean.with_columns(residual[:, None], (RESIDUAL,))
    found = poisson_regression(larger, counts)
    rows = count_rows(larger(found.coefficients)[0], counts)
    own = float(found.coefficients[-1])  # the residual's coefficient
    weighted = larger.x.T @ (rows.curvature[:, None] * exogenous)
    cross = -own * weighted  # second derivative in (β, π): by the residual's own value …
    cross[-1] -= rows.slope @ exogenous  # … and as its column
    hessian = larger.x.T @ (rows.curvature[:, None] * larger.x)
    scores = rows.slope[:, None] * larger.x + (residual[:, None] * exogenous) @ inverse @ cross.T
    covariance = _long_run(-scores @ np.linalg.inv(hessian))
    estimate = Estimate(found.names, found.coefficients, covariance, found.log_likelihood, found.n)
    fitted = np.exp(larger(found.coefficients)[0])
    return Controlled(estimate, _fold(estimate, residual), strength, fitted)


def follows_demand(price: Array, surprise: Array, controls: Array) -> float | None:
    """The p value of "sales on the days around tell nothing of a day's price"; None where there are too few rows.

    Args:
        price: [n], in the order of the dates.
        surprise: Pearson residuals of the demand, [n].
        controls: columns that may explain the price, [n, k]: weekday, month, trend and further regressors.
    """
    n = len(price)
    if n <= 2 * (2 * _LAGS + controls.shape[1] + 1):
        return None
    others = np.column_stack((np.ones(n), controls))
    away = np.abs(np.arange(-_LAGS, _LAGS + 1))
    kernel = np.where(away, _MEMORY**away, 0.0)  # not the day itself: its sales answer to its price
    around = np.convolve(surprise - surprise.mean(), kernel, "same")
    rest, around = unexplained(np.column_stack((price, around)), others).T
    lags = np.arange(_LONG_LAGS + 1)  # n is larger
    products = autocovariance(rest) * autocovariance(around)
    variance = float(products @ np.where(lags, 2.0 * (1.0 - lags / (_LONG_LAGS + 1.0)), 1.0))
    if not variance > 0.0:
        return None
    together = float(rest @ around)
    return chi_square_tail(n * together**2 / variance, 1) if together > 0.0 else 1.0


def autocovariance(series: Array) -> Array:
    """Sums of the products of a series [n] with itself so many rows later, float64 [lags + 1]."""
    sums: Array = np.correlate(np.append(series, np.zeros(_LONG_LAGS)), series, "valid")
    return sums


def alarming(p: float | None) -> bool:
    """Whether the p value of :func:`follows_demand` is worth a warning."""
    return p is not None and p < _ALARM


def _long_run(influence: Array) -> Array:
    """Covariance of the sum of the rows, with Bartlett's weights over the lags, float64 [K, K]."""
    covariance: Array = influence.T @ influence
    for lag in range(1, min(_LAGS, len(influence) - 1) + 1):
        product = influence[lag:].T @ influence[:-lag]
        covariance += (1.0 - lag / (_LAGS + 1.0)) * (product + product.T)
    return covariance


def _fold(estimate: Estimate, residual: Array) -> Estimate:
    """The mean over the residuals, in the constant; a linear map of the coefficients near their estimates."""
    weight = np.exp(estimate.coefficients[-1] * residual)
    constant = estimate.names.index(CONSTANT)
    turn = np.eye(len(estimate.names))[:-1]
    turn[constant, -1] = float(residual @ weight / weight.sum())
    coefficients = estimate.coefficients[:-1].copy()
    coefficients[constant] += np.log(weight.mean())
    return Estimate(
        estimate.names[:-1], coefficients, turn @ estimate.covariance @ turn.T, estimate.log_likelihood, estimate.n
    )
