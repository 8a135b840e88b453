"""Distributions of the number of units wanted, as tables, and choices between products."""

from __future__ import annotations

from math import lgamma
from typing import Any

import numpy as np

from palaestra.envs.core import Array


def poisson(mean: Any, most: int) -> Array:
    """Probabilities of 0 … ``most`` − 1 events and of ``most`` or more, float64 [*mean.shape, K + 1].

    K is ``most`` or less, where less leaves out nothing but rounding.
    """
    mean = np.asarray(mean, np.float64)
    largest = float(mean.max())
    k = np.arange(min(most, int(largest + 12.0 * np.sqrt(largest) + 30.0)) + 1)
    log_factorial = np.array([lgamma(i + 1.0) for i in k])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = np.where(k == 0, 0.0, k * np.log(mean[..., None])) - mean[..., None] - log_factorial
    return _with_tail(np.exp(log_p))


def negative_binomial(mean: Any, dispersion: Any, most: int) -> Array:
    """The same for the variance μ + a μ² with the dispersion a > 0, which broadcasts against ``mean``; K = ``most``."""
    mean, a = np.broadcast_arrays(np.asarray(mean, np.float64), np.asarray(dispersion, np.float64))
    mean, a = mean[..., None], a[..., None]
    k = np.arange(most + 1)
    log_factorial = np.array([lgamma(i + 1.0) for i in k])
    rising = np.cumsum(np.log1p(a * np.maximum(k - 1, 0)), -1)  # Σ_{j < k} log(1 + a j)
    return _with_tail(np.exp(rising - log_factorial + k * np.log(mean) - (k + 1.0 / a) * np.log1p(a * mean)))


def logit_shares(utilities: Any) -> Array:
    """Choice probabilities of the products [..., J] beside an outside option with utility 0 (multinomial logit)."""
    utilities = np.asarray(utilities, np.float64)
    largest = np.maximum(utilities.max(-1, keepdims=True), 0.0)
    weights = np.exp(utilities - largest)
    shares: Array = weights / (np.exp(-largest) + weights.sum(-1, keepdims=True))
    return shares


def _with_tail(probabilities: Array) -> Array:
    """The last entry replaced by all that the others leave."""
    probabilities[..., -1] = np.maximum(0.0, 1.0 - probabilities[..., :-1].sum(-1))
    return probabilities
