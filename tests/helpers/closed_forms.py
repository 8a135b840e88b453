"""Optimal prices that can be written down, as independent references for the solvers of ``palaestra.envs.pricing``."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from palaestra.envs.core import Array


class StockValue(NamedTuple):
    value: float  # expected revenue of n units with the time that is left
    price: float  # the best price now


def gallego_van_ryzin(units: int, arrivals: float, sensitivity: float = 1.0) -> StockValue:
    """Optimal revenue and price in continuous time, with sales at the rate a · exp(−α p).

    J*(n) = (1/α) ln Σ_{i ≤ n} (a t / e)^i / i! and p* = 1/α + J*(n) − J*(n − 1).

    Args:
        units: n, at least 1.
        arrivals: a · t, the expected number of customers in the time that is left, at least 0.
        sensitivity: α > 0, per money.

    Raises:
        ValueError: if an argument is out of range.

    Source: Gallego and van Ryzin, Management Science 1994, section 2.3.
    """
    if units < 1 or arrivals < 0.0 or sensitivity <= 0.0:
        raise ValueError(f"need units ≥ 1, arrivals ≥ 0, sensitivity > 0, got {units}, {arrivals}, {sensitivity}")
    terms = [1.0]
    for i in range(1, units + 1):
        terms.append(terms[-1] * arrivals / math.e / i)
    value, without_one = math.log(math.fsum(terms)) / sensitivity, math.log(math.fsum(terms[:-1])) / sensitivity
    return StockValue(value, 1.0 / sensitivity + value - without_one)


class EqualMarkup(NamedTuple):
    w: float
    prices: Array  # [J]
    profit: float  # per customer


def equal_markup_logit(quality: Any, cost: Any, sensitivity: float) -> EqualMarkup:
    """Optimal prices of several products under multinomial logit demand, without limits of stock.

    All products have the same markup m = (1 + W) / b with W exp(W) = Σ exp(a_i − b c_i − 1); the profit is W / b.

    Args:
        quality: a_i [J].
        cost: c_i [J].
        sensitivity: b > 0, per money.

    Raises:
        ValueError: if the lengths differ or the sensitivity is not positive.

    Source: Anderson and de Palma, "Multiproduct firms: a nested logit approach", Journal of Industrial Economics 1992.
    """
    quality, cost = np.asarray(quality, np.float64), np.asarray(cost, np.float64)
    if quality.shape != cost.shape or quality.ndim != 1 or sensitivity <= 0.0:
        raise ValueError("quality and cost must be lists of one length, and sensitivity positive")
    w = lambert_w(float(np.exp(quality - sensitivity * cost - 1.0).sum()))
    return EqualMarkup(w, cost + (1.0 + w) / sensitivity, w / sensitivity)


def lambert_w(x: float) -> float:
    """W ≥ 0 with W exp(W) = x, for x ≥ 0, by Newton's method."""
    w = math.log1p(x)
    for _ in range(50):
        w -= (w - x * math.exp(-w)) / (1.0 + w)
    return w
