"""log P(Y ≥ c) of a Poisson or negative binomial number, with derivatives, for censored and truncated likelihoods.

1. Y has the mean μ and the variance μ + a μ²; a = 0 is Poisson. Neighbouring probabilities have the ratio
   P(k + 1) / P(k) = (1 + a k) μ / ((k + 1) (1 + a μ)), so that a tail is its largest term times a sum of products.
2. Above the mean the upper tail is summed, below it the lower one and P(Y ≥ c) = 1 − P(Y < c): no digits are lost.
3. In the log of the mean, d P(Y ≥ c) / d log μ = c P(c): the Poisson is a gamma mixture, or by the recursion.

Source: Cameron and Trivedi, "Regression Analysis of Count Data", 2013, sections 4.3 and 4.4, for the likelihoods.
"""

from __future__ import annotations

from math import lgamma
from typing import NamedTuple

import numpy as np

from palaestra.envs.core import Array

_TERMS = 50_000
_NEGLIGIBLE = 1e-17
_BLOCK, _AT_ONCE = 32, 2**14  # terms of a row, and of all rows, that are computed together


class Tail(NamedTuple):
    """log P(Y ≥ c) of rows, each float64 [n], and its derivatives in η = log μ and in a (0 for Poisson)."""

    value: Array
    by_mean: Array
    by_mean_twice: Array
    by_a: Array
    by_a_twice: Array
    cross: Array


def log_tail(least: Array, mean: Array, a: float = 0.0) -> Tail:
    """log P(Y ≥ c) for c = ``least`` ≥ 1 and the mean, float64 [n] each."""
    upper = least > np.maximum(mean, 1.0)
    log_p, psi, psi_2 = log_probability(least - ~upper, mean, a)  # of the first term of the sum
    total, first, second = np.ones_like(mean), np.zeros_like(mean), np.zeros_like(mean)
    for above in (True, False):
        rows = upper == above
        if rows.any():
            total[rows], first[rows], second[rows] = _sums(least[rows], mean[rows], a, above)
    ratio = psi + first / total  # d log tail / d a
    ratio_2 = psi**2 + psi_2 + (2.0 * psi * first + second) / total  # d² tail / d a² over the tail
    log_sum = log_p + np.log(total)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(upper, log_sum, np.log(-np.expm1(np.minimum(log_sum, 0.0))))
        turned = np.where(upper, 1.0, -np.exp(log_sum - value))  # of the lower tail: −P(Y < c) / P(Y ≥ c)
        by_a, by_a_twice = ratio * turned, ratio_2 * turned
        log_c, psi_c, _ = log_probability(least, mean, a)
        hazard = least * np.exp(log_c - value)
        bend = (least - mean) / (1.0 + a * mean)
        return Tail(value, hazard, hazard * (bend - hazard), by_a, by_a_twice - by_a**2, hazard * (psi_c - by_a))


def log_probability(units: Array, mean: Array, a: float = 0.0) -> tuple[Array, Array, Array]:
    """log P(Y = units) and its first two derivatives in a, float64 [n] each."""
    values, place = np.unique(units, return_inverse=True)
    factorial = np.array([lgamma(value + 1.0) for value in values])[place]
    if a == 0.0:
        zero = np.zeros_like(mean)
        return units * np.log(mean) - mean - factorial, zero, zero
    j = np.arange(int(values[-1]) + 1)
    ends = values.astype(np.int64)
    share = j / (1.0 + a * j)
    rising, psi, psi_2 = (
        np.concatenate(([0.0], np.cumsum(terms)))[ends][place] for terms in (np.log1p(a * j), share, -(share**2))
    )
    one, log_one = 1.0 + a * mean, np.log1p(a * mean)
    log_p = rising - factorial + units * np.log(mean) - (units + 1.0 / a) * log_one
    psi = psi + log_one / a**2 - (units + 1.0 / a) * mean / one
    psi_2 = psi_2 + 2.0 * mean / (a**2 * one) - 2.0 * log_one / a**3 + (units + 1.0 / a) * (mean / one) ** 2
    return log_p, psi, psi_2


def _sums(least: Array, mean: Array, a: float, above: bool) -> tuple[Array, Array, Array]:
    """Σ t, Σ t d and Σ t (d² + e) over the terms t of a tail, relative to its first; d and e are (log t)' and (log t)''
    in a."""
    total, first, second = np.ones_like(mean), np.zeros_like(mean), np.zeros_like(mean)
    term, d, e = np.ones_like(mean), np.zeros_like(mean), np.zeros_like(mean)
    share, sign = mean / (1.0 + a * mean), 1.0 if above else -1.0
    block = min(max(_AT_ONCE // len(mean), 1), _BLOCK)
    k = (least if above else least - 2.0) + sign * np.arange(block)[:, None]  # [block, n]
    for _ in range(_TERMS // block):
        if above:
            ratio = (1.0 + a * k) * share / (k + 1.0)
        else:
            ratio = np.maximum(k + 1.0, 0.0) / ((1.0 + a * np.maximum(k, 0.0)) * share)
        terms = term * np.cumprod(ratio, 0)
        if a:
            own = k / (1.0 + a * np.maximum(k, 0.0))
            d_of_terms = d + sign * np.cumsum(own - share, 0)
            e_of_terms = e - sign * np.cumsum(own**2 - share**2, 0)
            first += (terms * d_of_terms).sum(0)
            second += (terms * (d_of_terms**2 + e_of_terms)).sum(0)
            d, e = d_of_terms[-1], e_of_terms[-1]
        total += terms.sum(0)
        term = terms[-1]
        if not (term > _NEGLIGIBLE * total).any():
            break
        k += sign * block
    return total, first, second
