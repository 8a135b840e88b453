"""Maximum likelihood for units sold: Poisson and negative binomial, censored where all was sold, truncated at zero.

1. The log of the mean is x · β + offset, and for some price curves a part that is not linear in its coefficients.
   Units are Poisson or have the variance μ + a μ² (NB2; log a is the last coefficient, ``log_dispersion``).
2. A censored row says that at least so many were wanted: its likelihood is P(Y ≥ units). Where rows without sales are
   missing from the data, every row's likelihood is divided by P(Y ≥ 1).
3. Newton's method with analytic derivatives (:func:`~palaestra.envs.pricing.demand.estimation.maximise`).

Source: Cameron and Trivedi, "Regression Analysis of Count Data", 2013, chapters 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import lgamma
from typing import NamedTuple

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.counts.demand_curves import nonlinear
from palaestra.envs.pricing.demand.counts.tails import Tail, log_tail
from palaestra.envs.pricing.demand.estimation import LOG_DISPERSION, Estimate, EstimationError, Likelihood, estimate

_OVERDISPERSED = 2.705543  # 5 % point of the likelihood ratio at the boundary a = 0: half a χ² with one degree
_CLEARLY_LESS = 1.3  # standard deviations of the score, whose square is nearly the likelihood ratio
_SMALLEST_START = 1e-4  # of the dispersion


@dataclass(frozen=True)
class Counts:
    """Units sold, and what the rows say of the units wanted."""

    units: Array  # float64 [n]
    censored: Array | None = None  # bool [n], at least ``units`` (not 0) were wanted
    truncated: bool = False  # True if rows without sales are missing

    @cached_property
    def log_factorials(self) -> float:
        """Σ log y! over the rows that are not censored."""
        y = self.units if self.censored is None else self.units[~self.censored]
        values, times = np.unique(y, return_counts=True)
        return float(sum(n * lgamma(v + 1.0) for v, n in zip(values.tolist(), times.tolist(), strict=True)))


@dataclass(frozen=True)
class LogMean:
    """The log of the mean as a function of the coefficients: of x, then of the curve if it is not linear in them."""

    x: Array  # float64 [n, K]
    names: tuple[str, ...]  # of the coefficients
    offset: Array | float = 0.0
    curve: str = "exponential"
    price: Array | None = None  # [n], for a curve that is not linear
    reference: float = 0.0

    def __call__(self, beta: Array) -> tuple[Array, Array, Array | None]:
        """Value [n], Jacobian [n, K + k] and the second derivatives of the curve [n, k, k]."""
        k = self.x.shape[1]
        eta = self.x @ beta[:k] + self.offset
        if self.price is None:
            return eta, self.x, None
        value, gradient, second = nonlinear(self.curve, beta[k:], self.price, self.reference)
        return eta + value, np.hstack((self.x, gradient)), second

    def with_columns(self, columns: Array, names: Sequence[str]) -> LogMean:
        """More columns of x, behind the others."""
        k = self.x.shape[1]
        named = (*self.names[:k], *names, *self.names[k:])
        return replace(self, x=np.hstack((self.x, columns)), names=named)


class RowDerivatives(NamedTuple):
    """Derivatives of the rows' log-likelihoods in the log of the mean, float64 [n], and of their sum in log a."""

    value: float
    slope: Array
    curvature: Array
    by_log_a: float = 0.0
    by_log_a_twice: float = 0.0
    cross: Array | None = None


def count_rows(eta: Array, counts: Counts, a: float = 0.0) -> RowDerivatives:
    """The log-likelihood of all rows and its derivatives, at the log of the mean [n] and the dispersion."""
    y = counts.units
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean = np.exp(eta)
        rows = _negative_binomial_rows(y, eta, mean, a, counts) if a else _poisson_rows(y, eta, mean, counts)
        if counts.censored is not None and counts.censored.any():
            which = counts.censored
            rows = _with_tail(rows, log_tail(y[which], mean[which], a), which, a, 1.0)
        if counts.truncated:
            rows = _with_tail(rows, log_tail(np.ones_like(y), mean, a), slice(None), a, -1.0)
    return rows


def count_likelihood(mean: LogMean, counts: Counts, *, dispersed: bool = False) -> Likelihood:
    """The log-likelihood of the coefficients, and with ``dispersed`` of log a behind them."""

    def likelihood(theta: Array) -> tuple[float, Array, Array]:
        beta, a = (theta[:-1], float(np.exp(np.clip(theta[-1], -30.0, 30.0)))) if dispersed else (theta, 0.0)
        eta, jacobian, second = mean(beta)
        rows = count_rows(eta, counts, a)
        gradient = jacobian.T @ rows.slope
        hessian = jacobian.T @ (rows.curvature[:, None] * jacobian)
        if second is not None:
            k = second.shape[1]
            hessian[-k:, -k:] += np.tensordot(rows.slope, second, 1)
        if not dispersed:
            return rows.value, gradient, hessian
        assert rows.cross is not None
        cross = jacobian.T @ rows.cross
        full = np.block([[hessian, cross[:, None]], [cross[None], np.array([[rows.by_log_a_twice]])]])
        return rows.value, np.append(gradient, rows.by_log_a), full

    return likelihood


def poisson_regression(mean: LogMean, counts: Counts, start: Array | None = None) -> Estimate:
    """The Poisson estimate.

    Raises:
        EstimationError: if the columns are collinear, nothing was sold, or there is no maximum.
    """
    if not counts.units.any():
        raise EstimationError("nothing was sold")
    if start is None:
        weight = counts.units + 0.5  # a step of iteratively reweighted least squares from there
        target = np.log(weight) - mean.offset + (counts.units - weight) / weight
        weighted = weight[:, None] * mean.x
        start = np.linalg.lstsq(mean.x.T @ weighted, weighted.T @ target, rcond=None)[0]
    return estimate(count_likelihood(mean, counts), start, mean.names, len(counts.units))


def negative_binomial_regression(mean: LogMean, counts: Counts, poisson: Estimate) -> Estimate | None:
    """The negative binomial estimate from the Poisson one; ``log_dispersion`` comes last.

    Returns:
        None unless a > 0 is significant at 5 % (likelihood ratio).
    """
    fitted = np.exp(mean(poisson.coefficients)[0])
    exact = ~counts.censored if counts.censored is not None else np.ones(len(fitted), bool)
    y, fitted = counts.units[exact], fitted[exact]
    excess, scale = float(((y - fitted) ** 2 - y).sum()), float((fitted**2).sum())
    if excess <= 0.0 and not counts.truncated:  # the slope of the likelihood at a = 0 does not rise
        return None
    likelihood = count_likelihood(mean, counts, dispersed=True)
    if counts.truncated or not exact.all():
        score = _dispersion_score(likelihood, poisson.coefficients)
    else:
        score = excess / np.sqrt(2.0 * scale)
    if score < _CLEARLY_LESS:
        return None
    start = np.append(poisson.coefficients, np.log(max(excess / scale, _SMALLEST_START)))
    try:
        found = estimate(likelihood, start, (*poisson.names, LOG_DISPERSION), len(counts.units))
    except EstimationError:  # a goes to 0
        return None
    return found if 2.0 * (found.log_likelihood - poisson.log_likelihood) > _OVERDISPERSED else None


def _dispersion_score(likelihood: Likelihood, beta: Array) -> float:
    """The slope of the likelihood in a over its standard deviation, close to a = 0."""
    a = _SMALLEST_START
    _, gradient, hessian = likelihood(np.append(beta, np.log(a)))
    slope, cross, bend = gradient[-1] / a, hessian[:-1, -1] / a, (hessian[-1, -1] - gradient[-1]) / a**2
    information = -bend + cross @ np.linalg.lstsq(hessian[:-1, :-1], cross, rcond=None)[0]
    return float(slope / np.sqrt(information)) if information > 0.0 else np.inf


def _poisson_rows(y: Array, eta: Array, mean: Array, counts: Counts) -> RowDerivatives:
    log_p = y * eta - mean
    value = log_p.sum() if counts.censored is None else log_p[~counts.censored].sum()
    return RowDerivatives(float(value) - counts.log_factorials, y - mean, -mean)


def _negative_binomial_rows(y: Array, eta: Array, mean: Array, a: float, counts: Counts) -> RowDerivatives:
    exact = slice(None) if counts.censored is None else ~counts.censored
    one, log_one = 1.0 + a * mean, np.log1p(a * mean)
    slope, curvature = (y - mean) / one, -mean * (1.0 + a * y) / one**2
    cross = -a * (y - mean) * mean / one**2
    y, eta, mean, one, log_one = y[exact], eta[exact], mean[exact], one[exact], log_one[exact]
    j = np.arange(int(y.max(initial=0.0)))
    above = len(y) - np.cumsum(np.bincount(y.astype(np.int64), minlength=1))[:-1]  # [j] rows with more than j units
    share = j / (1.0 + a * j)
    value = above @ np.log1p(a * j) + y @ eta - ((y + 1.0 / a) * log_one).sum() - counts.log_factorials
    by_a = above @ share + (log_one / a**2 - mean * (y + 1.0 / a) / one).sum()
    bend = 2.0 * mean / (a**2 * one) - 2.0 * log_one / a**3 + (y + 1.0 / a) * (mean / one) ** 2
    by_aa = bend.sum() - above @ share**2
    return RowDerivatives(float(value), slope, curvature, float(a * by_a), float(a * a * by_aa + a * by_a), cross)


def _with_tail(rows: RowDerivatives, tail: Tail, which: Array | slice, a: float, sign: float) -> RowDerivatives:
    """Rows with the tail's derivatives: in their place where they are censored (+), taken away where truncated (−)."""
    slope, curvature = rows.slope.copy(), rows.curvature.copy()
    cross = None if rows.cross is None else rows.cross.copy()
    changes = [(slope, tail.by_mean), (curvature, tail.by_mean_twice)]
    changes += [(cross, a * tail.cross)] if cross is not None else []
    for array, part in changes:
        array[which] = part if sign > 0.0 else array[which] - part
    by_a, by_aa = float(tail.by_a.sum()), float(tail.by_a_twice.sum())
    return RowDerivatives(
        rows.value + sign * float(tail.value.sum()),
        slope,
        curvature,
        rows.by_log_a + sign * a * by_a,
        rows.by_log_a_twice + sign * (a * a * by_aa + a * by_a),
        cross,
    )
