"""Demand from data: maximum-likelihood estimates of how sales answer to prices, with their uncertainty.

1. :mod:`palaestra.envs.pricing.demand.choices` explains which alternative a buyer took,
   :mod:`palaestra.envs.pricing.demand.counts` how many units were sold; they bring the likelihood maximised here.
2. The likelihoods are concave, or nearly so, in the coefficients: Newton's method with a line search finds the maximum
   to machine precision in a handful of steps; an optimiser library (scipy) would add a dependency and no accuracy.
   Where a curvature is not negative, away from a maximum, its sign is turned.
3. Gradients and Hessians are analytic. The covariance is the inverse of the negative Hessian at the maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from palaestra.envs.core import Array

_STEPS = 100
_SINGULAR = 1e-12  # ratio of the smallest to the largest curvature, in units in which each coefficient's own is 1
_WELL_CONDITIONED = 1e-3  # of the Cholesky factor's diagonal, in the same units
_VANISHED = 1e-8  # information left on a coefficient, over that at the start
_LEAST_T = 2.0
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


def estimate(likelihood: Likelihood, start: Array, names: Sequence[str], n: int) -> Estimate:
    """The maximum of a likelihood of n observations, from ``start``.

    Raises:
        EstimationError: if it is not a single point, or there is none.
    """
    names = tuple(names) or tuple(f"x{k}" for k in range(len(start)))
    if len(names) != len(start):
        raise ValueError(f"{len(start)} coefficients need as many names, got {names}")
    beta, value, hessian = maximise(likelihood, start, names)
    covariance = np.linalg.inv(-hessian)
    if not (np.diag(covariance) > 0.0).all():
        raise EstimationError("the likelihood has no maximum that Newton's method finds")
    return Estimate(names, beta, covariance, value, n)


def check_slope(slope: float, error: float, else_perhaps: str = "perhaps prices followed demand") -> None:
    """Raise an EstimationError if a coefficient of the price is not significantly negative."""
    if slope >= 0.0:
        raise EstimationError(
            f"demand does not fall with the price (coefficient {slope:.4g}, s.e. {error:.2g}); {else_perhaps}"
        )
    if -slope < _LEAST_T * error:
        raise EstimationError(
            f"the price coefficient {slope:.4g} (s.e. {error:.2g}, t {slope / error:.2f}) "
            "is not significantly negative: more rows or more different prices are needed"
        )


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
    scaled = -hessian * scale[:, None] * scale
    try:
        if np.diag(np.linalg.cholesky(scaled)).min() > _WELL_CONDITIONED:
            return scale * np.linalg.solve(scaled, scale * gradient), np.zeros(len(scale), bool)
    except np.linalg.LinAlgError:  # not positive definite
        pass
    curvature, axes = np.linalg.eigh(scaled)
    flat = axes[:, curvature <= _SINGULAR * curvature.max()]
    unknown: Array = (np.abs(flat) > 0.1).any(1)
    positive = np.maximum(np.abs(curvature), _SINGULAR * np.abs(curvature).max())
    step: Array = scale * (axes @ ((axes.T @ (scale * gradient)) / positive))
    return step, unknown
