"""Customers who are 20 % more sensitive to the price: the curves turn about the mean price."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from palaestra.envs.pricing import Pricing
from palaestra.envs.pricing.demand.estimation import Estimate
from palaestra.envs.pricing.demand.model import Demand, Product

MEAN = 5.0


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + np.exp(-x))


CURVES: dict[str, tuple[dict[str, float], Callable[[float, float], float]]] = {  # coefficients; units from p and times
    "exponential": ({"constant": 2.0, "price": -0.3}, lambda p, s: np.exp(2.0 - 0.3 * MEAN - 0.3 * s * (p - MEAN))),
    "constant elasticity": (
        {"constant": 2.0, "log_price": -1.5},
        lambda p, s: np.exp(2.0) * MEAN**-1.5 * (p / MEAN) ** (-1.5 * s),
    ),
    "linear": ({"constant": 1.0, "price": -0.15}, lambda p, s: np.exp(1.0) * (1.0 - 0.15 * s * (p - MEAN))),
    "logit": (
        {"constant": 1.5, "price": -0.8, "logit_constant": 4.5},
        lambda p, s: np.exp(1.5) * sigmoid(4.5 - 0.8 * MEAN - 0.8 * s * (p - MEAN)),
    ),
    "choices": ({"price": -0.8, "constant:tea": 3.0}, lambda p, s: 6.0 * sigmoid(3.0 - 0.8 * (MEAN + s * (p - MEAN)))),
}


@pytest.mark.parametrize("curve", CURVES)
def test_more_sensitive_customers_buy_as_much_at_the_mean_price(curve: str) -> None:
    coefficients, units = CURVES[curve]
    values = np.array(list(coefficients.values()))
    estimate = Estimate(tuple(coefficients), values, np.eye(len(values)) * 1e-6, -1.0, 100)
    choices = curve == "choices"
    product = Product(
        (2.0, 8.0), np.array([2.0, 8.0]), np.array([0.5, 0.5]), {"price": MEAN}, 0.0, 1, 0, estimate,
        curve="exponential" if choices else curve,
    )  # fmt: skip
    kind, buyers = ("logit", 6.0) if choices else ("counts", None)
    demand = Demand(kind, {"tea": product}, None, buyers, choices, "x", 1)  # type: ignore[arg-type]
    prices = np.array([2.0, 3.5, 5.0, 8.0])
    for times in (1.0, 1.2):
        wanted = demand.wanted("tea", prices, 300, sensitivity=times)
        assert wanted @ np.arange(wanted.shape[1]) == pytest.approx([units(p, times) for p in prices], rel=1e-9)
    market = Pricing(3, 4, prices=prices, demand=demand)
    steeper = market.stresses()["sensitivity_plus_20"]
    middle = np.zeros((3, 5), np.int64) + 2
    assert steeper.policy_value(middle) == pytest.approx(market.policy_value(middle), rel=1e-9)
