"""Distributions of the number of units wanted, as tables, and choices between products."""

from __future__ import annotations

from math import ceil, lgamma
from typing import Any

import numpy as np

from palaestra.envs.core import Array

_POINTS, _AT_ONCE = 250, 4_000_000
_WIDE = 0.01  # dispersion: a standard deviation of a tenth of the mean
_LEAST_DISPERSION = 1e-8


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


def lots(mean: Any, dispersion: Any, most: int, lot: int) -> Array:
    """Probabilities of 0 … ``most`` lots or more, where a number of units between two lots is rounded at random.

    A part of a lot is a whole one with the probability of its size, so that the mean is that of the units; a value is
    then taken between the lots along a straight line. Units are Poisson or, with a ``dispersion`` above 0, negative
    binomial. Large numbers are summed by the trapezoidal rule, in steps of a tenth of the standard deviation or of a
    hundredth of the number.
    """
    mean, a = np.broadcast_arrays(np.asarray(mean, np.float64), np.asarray(dispersion, np.float64))
    shape, mean, a = mean.shape, mean.reshape(-1, 1), a.reshape(-1, 1)
    deviation = np.sqrt(mean + a * mean**2)
    span = 22.0 * deviation + 40.0 * a * mean + 30.0
    last = int(min(most, (mean + span).max() // lot + 1))
    if a.max() > _WIDE:
        doubling = np.repeat(2.0 ** np.arange(max(1, np.log2(span.max() / 100.0) + 1)), 100)
        x, step = np.cumsum(np.append(0.0, doubling[:-1]))[None], doubling[None]
    else:
        step = np.ceil(span / _POINTS)
        least = np.floor(np.maximum(0.0, mean - 10.0 * deviation))
        x = least + step * np.arange(ceil((span / step).max()) + 1)
    before = np.roll(np.broadcast_to(step, x.shape), 1, 1)
    before[:, 0] = np.where(x[:, 0] == 0.0, 1.0, before[:, 0])  # no half unit is lost at 0
    block = max(1, _AT_ONCE // x.shape[1])
    tables = []
    for k in range(0, len(mean), block):
        own = slice(k, k + block)
        near, weight = (t if len(t) == 1 else t[own] for t in (x, (step + before) / 2.0))
        p = weight * _count_weights(mean[own], a[own], near)
        tables.append(_rounded_at_random(p / p.sum(1, keepdims=True), near / lot, last))
    return np.concatenate(tables).reshape(*shape, last + 1)


def _count_weights(mean: Array, a: Array, x: Array) -> Array:
    """Probabilities of x units, [n, points], up to a factor of each row."""
    log_p = x * np.log(mean / (1.0 + a * mean)) - _log_gamma(x + 1.0)
    if a.any():
        a = np.maximum(a, _LEAST_DISPERSION)
        log_p = log_p + _log_gamma(x + 1.0 / a) + x * np.log(a)
    weights: Array = np.exp(log_p - log_p.max(1, keepdims=True))
    return weights


def _rounded_at_random(p: Array, x: Array, last: int) -> Array:
    """Probabilities of 0 … ``last`` lots or more, [n, last + 1], from those of x lots, [n or 1, points]."""
    whole = np.minimum(x, last).astype(np.int64)
    part = np.where(whole < last, x - whole, 0.0)
    place = whole + (last + 1) * np.arange(len(p))[:, None]
    table = np.bincount(place.ravel(), (p * (1.0 - part)).ravel(), (last + 1) * len(p) + 1)
    table += np.bincount((place + 1).ravel(), (p * part).ravel(), len(table))
    return table[:-1].reshape(len(p), -1)


def _log_gamma(x: Array) -> Array:
    """log Γ(x) for x > 0 by Stirling's series, of x + 8 where x is small."""
    small = x < 16.0
    z = np.where(small, x + 8.0, x)
    series = (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * z**2)) / z**2) / z**2) / z
    result: Array = (z - 0.5) * np.log(z) - z + 0.5 * np.log(2.0 * np.pi) + series
    if small.any():
        result[small] -= np.log(x[small][:, None] + np.arange(8.0)).sum(1)
    return result


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
