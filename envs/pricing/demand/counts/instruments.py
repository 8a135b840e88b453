"""Prices that follow demand: a control function where there is an instrument, a diagnosis where there is none.

1. A seller who knows of a shock to demand, and prices by it, makes demand look less sensitive than it is. An instrument
   moves the price and has nothing to do with the shock: a cost. The part of the price that the instrument and the
   regressors do not explain, a residual, then stands for the shock beside the price.
2. Standard errors are those of the two steps together: a sandwich of both steps' moments, with sums of their products
   over some lags (Newey and West) because shocks last.
3. Without an instrument, prices that are set by shocks which last can be told: a price is high where the days before
   and after it sold more than expected. Days in a row with one price are taken together, because the price itself
   explains what they sold. The covariance is tested at 2.5 %, one-sided, with Bartlett's variance for the product of
   two series that both last. Shocks that last no longer than a price leave no trace: nothing but an instrument tells.

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
_ALARM = 0.05  # of the p value, on the side of prices that are high where more was sold
_NOTHING = 1e-12  # of the price's variance
_LAGS = 10
_AROUND, _MEMORY = 6, 0.6  # spells before and after a price, weight of a spell over that of the one nearer to it
_LONG_LAGS = 28


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
    """The p value of "what other prices sold tells nothing of a price"; None where there are too few prices in a row.

    Args:
        price: [n], in the order of the dates.
        surprise: Pearson residuals of the demand, [n].
        controls: columns that may explain the price, [n, k]: weekday, month, trend and further regressors.
    """
    starts = np.flatnonzero(np.diff(price, prepend=np.nan) != 0.0)
    n, days = len(starts), np.diff(starts, append=len(price))
    if n <= 2 * (2 * _AROUND + controls.shape[1] + 1):
        return None
    sold = np.add.reduceat(surprise - surprise.mean(), starts) / np.sqrt(days)
    others = np.column_stack((np.ones(n), np.add.reduceat(controls, starts) / days[:, None]))
    away = np.abs(np.arange(-_AROUND, _AROUND + 1))
    around = np.convolve(sold, np.where(away, _MEMORY**away, 0.0), "same")  # not the spell itself
    rest, around = unexplained(np.column_stack((price[starts], around)), others).T
    lags = np.arange(min(_LONG_LAGS, n // 4) + 1)
    products = autocovariance(rest, len(lags)) * autocovariance(around, len(lags))
    variance = float(products @ np.where(lags, 2.0 * (1.0 - lags / len(lags)), 1.0))
    if not variance > 0.0:
        return None
    together = float(rest @ around)
    return chi_square_tail(n * together**2 / variance, 1) if together > 0.0 else 1.0


def autocovariance(series: Array, lags: int) -> Array:
    """Sums of the products of a series [n] with itself 0, 1, … rows later, float64 [lags]."""
    sums: Array = np.correlate(np.append(series, np.zeros(lags - 1)), series, "valid")
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
