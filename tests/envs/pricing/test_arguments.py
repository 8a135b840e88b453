"""Pricing: demand by hand, and arguments that make no sense."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from closed_forms import equal_markup_logit, gallego_van_ryzin
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.pricing import Pricing, Season, TwoProducts, Yogurt
from palaestra.envs.pricing.demand.count_distributions import logit_shares, poisson
from palaestra.envs.pricing.yogurt import share


def test_yoghurt_shares_by_hand() -> None:
    """At 8 cents the weights e^u: Yoplait 0.1110134, Dannon 0.0501567, Hiland 0.0034082, Weight Watchers 0.0285758."""
    dannon, hiland, weight = 0.081634744, 0.053629354, 0.079490882
    rivals = [-36.658447 * dannon, -3.7156 - 36.658447 * hiland, -0.641184 - 36.658447 * weight]
    for price in (0.06, 0.08, 0.16):
        own = math.exp(0.734571 - 36.658447 * price)
        assert share(np.array(price)) == pytest.approx(own / (own + sum(map(math.exp, rivals))), rel=1e-12)
    assert share(np.array(0.08)) == pytest.approx(0.57474001, abs=1e-8)
    market = Yogurt()
    assert market.wanted[3, 2] @ np.arange(market.wanted.shape[2]) == pytest.approx(20 * 0.57474001, abs=1e-5)


@given(st.floats(0, 60), st.integers(1, 40))
def test_poisson_table(mean: float, most: int) -> None:
    table, chance = poisson(np.array([mean]), most)[0], math.exp(-mean)
    assert table.sum() == pytest.approx(1.0, abs=1e-12)
    assert len(table) <= most + 1
    for k in range(len(table) - 1):
        assert table[k] == pytest.approx(chance, rel=1e-9, abs=1e-300)
        chance *= mean / (k + 1)
    whole = poisson(np.array([mean]), 10_000)[0]
    k = np.arange(len(whole))
    assert (whole @ k, whole @ (k - mean) ** 2) == pytest.approx((mean, mean), rel=1e-9, abs=1e-12)


def test_poisson_of_extreme_means() -> None:
    assert poisson(np.array([0.0, 1e-300]), 3) == pytest.approx(np.array([[1, 0, 0, 0], [1, 1e-300, 0, 0]]), abs=1e-312)
    assert poisson(np.array([1e6, 700.0]), 3) == pytest.approx(np.array([[0, 0, 0, 1.0]] * 2), abs=1e-290)
    assert poisson(np.array([1e-12]), 2)[0, 1] == pytest.approx(1e-12)


def test_logit_shares_do_not_overflow() -> None:
    assert logit_shares([[1000.0, 1000.0], [-1000.0, 0.0], [0.0, 0.0]]) == pytest.approx(
        np.array([[0.5, 0.5], [0.0, 0.5], [1 / 3, 1 / 3]])
    )


# ------------------------------------------------------------------------------------------- arguments

TABLE = np.full((2, 2, 2), 0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pricing(periods=0), "periods must be a whole number of at least 1, got 0"),
        (lambda: Pricing(periods=2.5), "periods must be a whole number"),
        (lambda: Pricing(periods=math.inf), "periods must be a whole number"),
        (lambda: Pricing(periods="many"), "periods must be a whole number"),
        (lambda: Pricing(stock=0), "stock must be a whole number of at least 1, got 0"),
        (lambda: Pricing(stock=math.nan), "stock must be a whole number"),
        (lambda: Pricing(arrival_rate=1.1), r"arrival_rate must be a probability, 0 … 1, got 1\.1"),
        (lambda: Pricing(arrival_rate=[0.5, 0.5]), "arrival_rate must be a number or a list of 100"),
        (lambda: Pricing(arrival_rate="often"), "arrival_rate must be a number or a list of 100"),
        (lambda: Pricing(willingness=0), "willingness must be positive, got 0"),
        (lambda: Pricing(willingness=math.nan), "willingness must be a number or a list of 100"),
        (lambda: Pricing(prices=[10]), "prices must be a list of at least two"),
        (lambda: Pricing(prices=[10, 10]), "prices must be positive and ascending"),
        (lambda: Pricing(prices=[0, 10]), "prices must be positive and ascending"),
        (lambda: Pricing(prices=["a", "b"]), "prices must be numbers"),
        (lambda: Pricing(prices=[1, math.inf]), "prices must be positive and ascending"),
        (lambda: Season([1, 2], TABLE, 3, unit_cost=-1), "unit_cost must be at least 0"),
        (lambda: Season([1, 2], TABLE, 3, unit_cost="x"), "unit_cost must be a number or a list of 2, got 'x'"),
        (lambda: Season([1, 2], TABLE, 3, unit_cost=[1, 2, 3]), "unit_cost must be a number or a list of 2"),
        (lambda: Season([1, 2], TABLE, 3, unit_cost=[1, math.nan]), "unit_cost must be a number or a list of 2"),
        (lambda: Season([1, 2], TABLE, 3, unit_cost=[1, 1e300]), "unit_cost must be at least 0 and at most 1e.12"),
        (lambda: Pricing(unit_cost=600), "no price is above the unit cost, 600"),
        (lambda: Pricing(periods=2, unit_cost=[600, 700]), "no price is above the unit cost, 600"),
        (
            lambda: Season([1, 2, 3], TABLE, 3),
            r"wanted must have shape \[periods, 3 prices, .*\], got \(2, 2, 2\)",
        ),
        (lambda: Season([1, 2], TABLE * 0.9, 3), "wanted must hold probabilities that sum to 1"),
        (lambda: TwoProducts(stock=3), "stock and quality must be pairs, got 3"),
        (lambda: TwoProducts(stock=(3, 0)), "stock must be a whole number of at least 1, got 0"),
        (lambda: TwoProducts(arrival_rate=0), "arrival_rate must be above 0 and at most 1, got 0"),
        (lambda: TwoProducts(arrival_rate="often"), "arrival_rate must be above 0 and at most 1"),
        (lambda: TwoProducts(sensitivity=-1), "sensitivity must be above 0"),
        (lambda: TwoProducts(quality=(math.nan, 1)), "quality must be a number or a list of 2"),
        (lambda: TwoProducts(quality=("a", "b")), "quality must be a number or a list of 2"),
        (lambda: TwoProducts(periods=0), "periods must be a whole number"),
        (lambda: Yogurt(buyers=0), "buyers must be above 0"),
        (lambda: Yogurt(buyers=None), "buyers must be above 0"),
        (lambda: Yogurt(stock=-1), "stock must be a whole number"),
        (lambda: gallego_van_ryzin(0, 1.0), "need units ≥ 1"),
        (lambda: equal_markup_logit([1, 2], [1], 1.0), "lists of one length"),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
