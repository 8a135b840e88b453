"""How mean demand answers to the price, in four curves; each is the logarithm of the mean, up to a constant.

1. ``exponential``: b p. Every unit of money loses the same share of the buyers.
2. ``constant elasticity``: e log p. Every percent does.
3. ``linear``: log(1 + b (p − p̄)), with p̄ the mean price of the data: every unit of money loses the same number.
4. ``logit``: log σ(k + b p): of a market of a limited size (the constant) each buyer has a limit that is logistic.

b is the coefficient ``price``, e ``log_price``, k ``logit_constant``. The first two are linear in their coefficient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from palaestra.envs.core import Array

CONSTANT, PRICE, LOG_PRICE, LOGIT_CONSTANT = "constant", "price", "log_price", "logit_constant"
PARAMETERS = {
    "exponential": (PRICE,),
    "constant elasticity": (LOG_PRICE,),
    "linear": (PRICE,),
    "logit": (PRICE, LOGIT_CONSTANT),
}
_LEAST = 1e-9  # of 1 + b (p − p̄), where a drawn coefficient makes a straight line reach 0


def log_curve(curve: str, value: Mapping[str, Any], prices: Array, reference: float) -> Array:
    """The curve at ``prices`` [P], float64 [..., P].

    Args:
        curve: its name.
        value: coefficients by name, [...] each.
        prices: [P].
        reference: p̄.
    """
    if curve == "constant elasticity":
        elastic: Array = value[LOG_PRICE][..., None] * np.log(prices)
        return elastic
    slope = value[PRICE][..., None]
    if curve == "exponential":
        falling: Array = slope * prices
        return falling
    if curve == "linear":
        straight: Array = np.log(np.maximum(1.0 + slope * (prices - reference), _LEAST))
        return straight
    saturating: Array = -np.logaddexp(0.0, -(value[LOGIT_CONSTANT][..., None] + slope * prices))
    return saturating


def felt_prices(curve: str, prices: Array, reference: float, sensitivity: float) -> Array:
    """Prices [P] at which the curve is what ``prices`` would make it with a coefficient ``sensitivity`` times as large.

    The curve is turned about the ``reference``, whose demand stays. Choices by a logit turn like the exponential.
    """
    if curve == "constant elasticity":
        elastic: Array = reference * (prices / reference) ** sensitivity
        return elastic
    felt: Array = reference + sensitivity * (prices - reference)
    return felt


def slope_at(curve: str, value: Mapping[str, float], price: float, reference: float) -> tuple[float, dict[str, float]]:
    """d log mean / d price, and its gradient in the coefficients of the curve."""
    if curve == "constant elasticity":
        return value[LOG_PRICE] / price, {LOG_PRICE: 1.0 / price}
    b = value[PRICE]
    if curve == "exponential":
        return b, {PRICE: 1.0}
    if curve == "linear":
        one = 1.0 + b * (price - reference)
        return b / one, {PRICE: 1.0 / one**2}
    share = float(np.exp(log_curve(curve, {k: np.array(v) for k, v in value.items()}, np.array([price]), reference))[0])
    bend = b * share * (1.0 - share)
    return b * (1.0 - share), {PRICE: 1.0 - share - bend * price, LOGIT_CONSTANT: -bend}


def nonlinear(curve: str, theta: Array, price: Array, reference: float) -> tuple[Array, Array, Array]:
    """Of a curve that is not linear in its coefficients: values [n], gradients [n, k], second derivatives [n, k, k].

    Where a straight line is not above 0 its logarithm is NaN.
    """
    if curve == "linear":
        away = price - reference
        with np.errstate(invalid="ignore", divide="ignore"):
            value = np.log(1.0 + theta[0] * away)
            gradient = (away / (1.0 + theta[0] * away))[:, None]
        return value, gradient, -(gradient**2)[:, :, None]
    u = theta[1] + theta[0] * price
    left = 1.0 / (1.0 + np.exp(np.clip(u, -700.0, 700.0)))  # 1 − σ(u)
    direction = np.column_stack((price, np.ones_like(price)))
    bend = -(left * (1.0 - left))[:, None, None] * (direction[:, :, None] * direction[:, None, :])
    return -np.logaddexp(0.0, -u), left[:, None] * direction, bend
