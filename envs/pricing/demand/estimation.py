"""Demand from data: maximum-likelihood estimates of how sales answer to prices, with their uncertainty.

1. :func:`conditional_logit` explains which alternative a buyer took, :func:`poisson_loglinear` how many units were
   sold, and :func:`negative_binomial` the same where sales vary more than a Poisson distribution allows (NB2: variance
   μ + a μ², with the dispersion a estimated as its logarithm).
2. The logit and the Poisson likelihoods are concave, so Newton's method with a line search finds the maximum from
   anywhere, to machine precision, in a handful of steps; an optimiser library (scipy) would add a dependency and no
   accuracy. The negative binomial is concave in the coefficients for each a; away from the maximum its curvature is
   made positive, and it starts near the Poisson solution.
3. Gradients and Hessians are analytic. The covariance is the inverse of the negative Hessian at the maximum.

Sources: McFadden, "Conditional logit analysis of qualitative choice behavior", 1974; Cameron and Trivedi, "Regression
Analysis of Count Data", 2013, sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lgamma
from typing import Any

import numpy as np

from palaestra.envs.core import Array

_STEPS = 100
_SINGULAR = 1e-12  # ratio of the smallest to the largest curvature, in units in which each coefficient's own is 1
_VANISHED = 1e-8  # information left on a coefficient, over that at the start
_OVERDISPERSED = 2.705543  # 5 % point of the likelihood ratio at the boundary a = 0: half a χ² with one degree
LOG_DISPERSION = "log_dispersion"

Likelihood = Callable[[Array], tuple[float, Array, Array]]  # coefficients → value, gradient [K], Hessian [K, K]


class EstimationError(ValueError):
    """The data do not determine the coefficients."""


@dataclass(frozen=True)
class Estimate:
    """Coefficients of a model and what is known of them."""

    names: tuple[str, ...]
    coefficients: Array  # float64 [K]
    covariance: Array  # float64 [K, K]
    log_likelihood: float
    n: int  # observations: choices made, or rows

    @property
    def standard_errors(self) -> Array:
        """Standard errors of the coefficients, float64 [K]."""
        errors: Array = np.sqrt(np.diag(self.covariance))
        return errors

    def __getitem__(self, name: str) -> tuple[float, float]:
        """A coefficient and its standard error."""
        k = self.names.index(name)
        return float(self.coefficients[k]), float(self.standard_errors[k])


def conditional_logit(
    features: Any, occasion: Any, chosen: Any, names: Sequence[str] = (), *, outside: bool = False
) -> Estimate:
    """P(i) = exp(x_i · β) / Σ_j exp(x_j · β) over the alternatives j of an occasion.

    Args:
        features: x, float [rows, K], a row for each alternative of each occasion, in any order.
        occasion: which occasion a row belongs to, [rows], anything that can be sorted.
        chosen: True if the alternative was taken, bool [rows]: once per occasion, or with ``outside`` at most once.
        names: of the features.
        outside: True if a buyer could also take nothing, with the utility 0.

    Raises:
        ValueError: if an occasion has no choice or several.
        EstimationError: if the features are collinear or predict choices perfectly.
    """
    likelihood, occasions = logit_likelihood(features, occasion, chosen, outside=outside)
    return _estimate(likelihood, np.zeros(np.shape(features)[1]), names, occasions)


def logit_likelihood(features: Any, occasion: Any, chosen: Any, *, outside: bool = False) -> tuple[Likelihood, int]:
    """The log-likelihood of :func:`conditional_logit`, and the number of occasions."""
    _, group = np.unique(occasion, return_inverse=True)
    order = np.argsort(group, kind="stable")
    x, group, taken = np.asarray(features, np.float64)[order], group[order], np.asarray(chosen, bool)[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    choices = np.add.reduceat(taken.astype(np.int64), starts)
    if choices.max() > 1 or (choices.min() < 1 and not outside):
        raise ValueError(f"each occasion needs one choice, got {choices.min()} … {choices.max()}")

    def likelihood(beta: Array) -> tuple[float, Array, Array]:
        utility = x @ beta
        largest = np.maximum.reduceat(utility, starts)
        if outside:
            largest = np.maximum(largest, 0.0)
        weight = np.exp(utility - largest[group])
        total = np.add.reduceat(weight, starts) + (np.exp(-largest) if outside else 0.0)
        share = weight / total[group]
        mean = np.add.reduceat(share[:, None] * x, starts)  # [occasions, K]
        value = float(utility[taken].sum() - (largest + np.log(total)).sum())
        return value, x.T @ (taken - share), mean.T @ mean - x.T @ (share[:, None] * x)

    return likelihood, len(starts)


def poisson_loglinear(features: Any, units: Any, offset: Any = 0.0, names: Sequence[str] = ()) -> Estimate:
    """Units ~ Poisson(exp(x · β + offset)).

    Args:
        features: x, float [rows, K].
        units: whole numbers [rows].
        offset: a known part of the logarithm of the mean, a number or [rows].
        names: of the features.

    Raises:
        EstimationError: if the features are collinear, or nothing was sold.
    """
    x, y, offset = _counts(features, units, offset)
    start = np.linalg.lstsq(x, np.log(np.maximum(y, 0.5)) - offset, rcond=None)[0]
    return _estimate(poisson_likelihood(x, y, offset), start, names, len(y))


def poisson_likelihood(features: Any, units: Any, offset: Any = 0.0) -> Likelihood:
    """The log-likelihood of :func:`poisson_loglinear`."""
    x, y, offset = _counts(features, units, offset)
    constant = _log_factorials(y)

    def likelihood(beta: Array) -> tuple[float, Array, Array]:
        log_mean = x @ beta + offset
        with np.errstate(over="ignore"):  # a step far too long gives −∞, which shortens it
            mean = np.exp(log_mean)
        return float(y @ log_mean - mean.sum() - constant), x.T @ (y - mean), -(x.T @ (mean[:, None] * x))

    return likelihood


def negative_binomial(features: Any, units: Any, offset: Any = 0.0, names: Sequence[str] = ()) -> Estimate | None:
    """The same mean with the variance μ + a μ²; log a comes last, as ``log_dispersion``.

    Returns:
        None unless a > 0 is significant at 5 % (likelihood ratio against :func:`poisson_loglinear`).

    Raises:
        EstimationError: if the features are collinear, or nothing was sold.
    """
    x, y, offset = _counts(features, units, offset)
    poisson = poisson_loglinear(x, y, offset)
    mean = np.exp(x @ poisson.coefficients + offset)
    excess = float(((y - mean) ** 2 - y).sum())
    if excess <= 0.0:  # the slope of the likelihood at a = 0 does not rise: Poisson is the maximum
        return None
    start = np.append(poisson.coefficients, np.log(excess / (mean @ mean)))
    named = (*names, LOG_DISPERSION) if names else ()
    estimate = _estimate(negative_binomial_likelihood(x, y, offset), start, named, len(y))
    ratio = 2.0 * (estimate.log_likelihood - poisson.log_likelihood)
    return estimate if ratio > _OVERDISPERSED else None


def negative_binomial_likelihood(features: Any, units: Any, offset: Any = 0.0) -> Likelihood:
    """The log-likelihood of :func:`negative_binomial`, of (β, log a)."""
    x, y, offset = _counts(features, units, offset)
    constant = _log_factorials(y)
    j = np.arange(int(y.max()))
    above = len(y) - np.cumsum(np.bincount(y.astype(np.int64)))[:-1]  # [j] rows with more than j units

    def likelihood(beta: Array) -> tuple[float, Array, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            a = float(np.exp(beta[-1]))
            log_mean = x @ beta[:-1] + offset
            mean = np.exp(log_mean)
            one = 1.0 + a * mean
            log_one = np.log1p(a * mean)
            value = above @ np.log1p(a * j) + y @ log_mean - ((y + 1.0 / a) * log_one).sum() - constant
            by_a = above @ (j / (1.0 + a * j)) + (log_one / a**2 - mean * (y + 1.0 / a) / one).sum()
            curve = 2.0 * mean / (a**2 * one) - 2.0 * log_one / a**3 + (y + 1.0 / a) * (mean / one) ** 2
            by_aa = curve.sum() - above @ (j / (1.0 + a * j)) ** 2
            gradient = np.append(x.T @ ((y - mean) / one), a * by_a)
            hessian = np.empty((len(beta), len(beta)))
            hessian[:-1, :-1] = -(x.T @ ((mean * (1.0 + a * y) / one**2)[:, None] * x))
            hessian[-1, :-1] = hessian[:-1, -1] = -a * (x.T @ ((y - mean) * mean / one**2))
            hessian[-1, -1] = a * a * by_aa + a * by_a
        return float(value), gradient, hessian

    return likelihood


def _counts(features: Any, units: Any, offset: Any) -> tuple[Array, Array, Array]:
    x, y = np.asarray(features, np.float64), np.asarray(units, np.float64)
    if not y.any():
        raise EstimationError("nothing was sold")
    return x, y, np.broadcast_to(np.asarray(offset, np.float64), y.shape)


def _log_factorials(y: Array) -> float:
    values, counts = np.unique(y, return_counts=True)
    return float(sum(n * lgamma(v + 1.0) for v, n in zip(values, counts, strict=True)))


def _estimate(likelihood: Likelihood, start: Array, names: Sequence[str], n: int) -> Estimate:
    names = tuple(names) or tuple(f"x{k}" for k in range(len(start)))
    if len(names) != len(start):
        raise ValueError(f"{len(start)} coefficients need as many names, got {names}")
    beta, value, hessian = maximise(likelihood, start, names)
    return Estimate(names, beta, np.linalg.inv(-hessian), value, n)


def maximise(likelihood: Likelihood, start: Array, names: Sequence[str]) -> tuple[Array, float, Array]:
    """Newton's method with a line search; the maximum, its value and its Hessian.

    Raises:
        EstimationError: if the maximum is not a single point, or there is none.
    """
    beta = np.asarray(start, np.float64)
    value, gradient, hessian = likelihood(beta)
    known_at_start = np.abs(np.diag(hessian))
    for _ in range(_STEPS):
        direction, unknown = _direction(gradient, hessian)
        gain = float(gradient @ direction)
        length, new = 1.0, likelihood(beta + direction)
        while not new[0] >= value + 1e-4 * length * gain and length > 1e-10:
            length /= 2.0
            new = likelihood(beta + length * direction)
        if gain <= 1e-14 * max(1.0, abs(value)) or length <= 1e-10:  # the gain is below rounding
            if unknown.any():
                vague = [name for name, flag in zip(names, unknown, strict=True) if flag]
                raise EstimationError(f"the data do not determine {' and '.join(vague)}")
            if (np.abs(np.diag(hessian)) < _VANISHED * known_at_start).any():  # on the way to infinity
                break
            end = beta + direction  # Newton's last step still adds digits that the value cannot show
            value, _, hessian = likelihood(end)
            return end, value, hessian
        beta, (value, gradient, hessian) = beta + length * direction, new
    raise EstimationError("the likelihood has no maximum: the prices or features predict the sales perfectly")


def _direction(gradient: Array, hessian: Array) -> tuple[Array, Array]:
    """Newton's step [K], in units in which each coefficient has the curvature 1, and which it does not know [K]."""
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-300))
    curvature, axes = np.linalg.eigh(-hessian * scale[:, None] * scale)
    flat = axes[:, curvature <= _SINGULAR * curvature.max()]
    unknown: Array = (np.abs(flat) > 0.1).any(1)
    positive = np.maximum(np.abs(curvature), _SINGULAR * np.abs(curvature).max())
    step: Array = scale * (axes @ ((axes.T @ (scale * gradient)) / positive))
    return step, unknown
