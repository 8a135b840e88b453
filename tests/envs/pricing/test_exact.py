"""Exact pricing: the solvers against plain recursions and closed forms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from closed_forms import equal_markup_logit, gallego_van_ryzin, lambert_w
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.pricing import DuopolyPricing, Market, Pricing, Season, TwoProducts, Yogurt
from palaestra.envs.pricing.demand.count_distributions import poisson

Outcomes = Callable[[int, Any, int], Iterator[tuple[float, float, Any]]]
"""(period, stock, action) → (probability, revenue, stock afterwards)."""


def recursion(outcomes: Outcomes, periods: int, actions: int, weigh: Callable[..., float]) -> Callable[..., float]:
    """Value of (period, stock) in plain Python; ``weigh(period, stock, worths)`` is what the seller makes of them."""

    @cache
    def value(period: int, stock: Any) -> float:
        if period == periods:
            return 0.0
        worths = [
            sum(p * (revenue + value(period + 1, left)) for p, revenue, left in outcomes(period, stock, action))
            for action in range(actions)
        ]
        return weigh(period, stock, worths)

    return value


def best_of(period: int, stock: Any, worths: list[float]) -> float:
    return max(worths)


def mixed(policy: Any, index: Callable[[Any], int] = lambda stock: stock) -> Callable[..., float]:
    """The seller who plays a table of probabilities."""
    return lambda period, stock, worths: float(np.dot(policy[period, index(stock)], worths))


def agrees(market: Market[Any], outcomes: Outcomes, start: Any, seed: int, index: Any = lambda stock: stock) -> None:
    """Optimum, and a random stochastic policy, equal the recursion; the policy cannot beat the optimum."""
    actions = len(market.prices)
    policy = np.random.default_rng(seed).dirichlet(np.full(actions, 0.4), (market.stages, market.num_states))
    optimum = recursion(outcomes, market.stages, actions, best_of)(0, start)
    played = recursion(outcomes, market.stages, actions, mixed(policy, index))(0, start)
    assert market.optimal_value() == pytest.approx(optimum, rel=1e-10)
    assert market.policy_value(policy) == pytest.approx(played, rel=1e-10)
    assert (market.policy_values(policy) <= market.solution.value + 1e-9).all()
    assert market.policy_value(market.optimal_policy()) == pytest.approx(optimum, rel=1e-10)
    most = optimum + 1e-12 * abs(optimum)
    assert market.policy_value(market.myopic_policy()) <= most
    assert max(market.fixed_price_values()) <= most


menus = st.lists(st.integers(1, 400), min_size=2, max_size=4, unique=True).map(sorted)
seeds = st.integers(0, 2**32 - 1)


@given(menus, st.integers(1, 4), st.lists(st.tuples(st.floats(0, 1), st.floats(1, 500)), min_size=1, max_size=5), seeds)
def test_one_customer_at_a_time(menu: list[int], stock: int, periods: list[tuple[float, float]], seed: int) -> None:
    def outcomes(period: int, units: int, action: int) -> Iterator[tuple[float, float, int]]:
        rate, scale = periods[period]
        chance = rate * math.exp(-menu[action] / scale) if units else 0.0
        yield 1 - chance, 0.0, units
        if units:
            yield chance, menu[action], units - 1

    rates, scales = zip(*periods, strict=True)
    agrees(Pricing(len(periods), stock, rates, menu, scales), outcomes, stock, seed)


@given(
    menus,
    st.integers(1, 4),
    st.lists(st.floats(0, 300), min_size=1, max_size=3),
    st.lists(st.floats(0, 8), min_size=4, max_size=4),
    seeds,
)
def test_many_customers_in_a_period(
    menu: list[int], stock: int, costs: list[float], means: list[float], seed: int
) -> None:
    """Poisson demand, written out to 60 units and more; a sold unit costs what it does in its period."""

    def outcomes(period: int, units: int, action: int) -> Iterator[tuple[float, float, int]]:
        chance = math.exp(-means[action])
        for wanted in range(60):
            sold = min(wanted, units)
            yield chance, sold * (menu[action] - costs[period]), units - sold
            chance *= means[action] / (wanted + 1)

    wanted = np.tile(poisson(np.array(means[: len(menu)]), stock), (len(costs), 1, 1))
    agrees(Season(menu, wanted, stock, unit_cost=costs), outcomes, stock, seed)


@given(
    st.lists(st.integers(1, 90), min_size=2, max_size=3, unique=True).map(sorted),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 4),
    st.tuples(st.floats(0.1, 1), st.floats(0.01, 0.2), st.floats(-1, 5), st.floats(-1, 5)),
    seeds,
)
def test_two_products(menu: list[int], stock: Any, periods: int, numbers: tuple[float, ...], seed: int) -> None:
    rate, sensitivity, *quality = numbers
    pairs = list(itertools.product(menu, menu))

    def outcomes(period: int, units: tuple[int, int], action: int) -> Iterator[tuple[float, float, Any]]:
        weights = [
            math.exp(a - sensitivity * p) if left else 0.0
            for a, p, left in zip(quality, pairs[action], units, strict=True)
        ]
        total = 1 + sum(weights)
        yield 1 - rate * sum(weights) / total, 0.0, units
        if units[0]:
            yield rate * weights[0] / total, pairs[action][0], (units[0] - 1, units[1])
        if units[1]:
            yield rate * weights[1] / total, pairs[action][1], (units[0], units[1] - 1)

    market = TwoProducts(periods, stock, rate, quality, sensitivity, menu)
    agrees(market, outcomes, stock, seed, lambda units: units[0] * (stock[1] + 1) + units[1])


def test_more_stock_and_more_time_are_worth_more() -> None:
    for market in (Pricing(30, 6, 0.7, [10, 30, 90], 40.0), Yogurt(8, 30)):
        value = market.solution.value
        assert (np.diff(value[0]) > 0).all()
        assert (np.diff(value, axis=1) > -1e-12).all()
        assert (np.diff(value, axis=0)[:, 1:] < 0).all()
    one_at_a_time = Pricing(30, 6, 0.7, [10, 30, 90], 40.0).solution.value
    assert (np.diff(one_at_a_time, 2, axis=1) < 1e-9).all()  # each further unit is worth less than the one before
    value = TwoProducts(10, (2, 3), prices=(40, 90, 150)).solution.value[0].reshape(3, 4)
    assert (np.diff(value, axis=0) > 0).all()
    assert (np.diff(value, axis=1) > 0).all()


def test_the_myopic_price_maximises_the_revenue_of_its_own_period() -> None:
    """p exp(−p/w) is largest at p = w, whatever the stock and the time."""
    market = Pricing(5, 3, 0.5, range(10, 101, 10), [30, 50, 10, 100, 70])
    assert market.prices[market.myopic_policy()].tolist() == [[w] * 4 for w in (30, 50, 10, 100, 70)]


def test_certain_probabilities_are_the_actions_themselves() -> None:
    for market in (Pricing(9, 4), TwoProducts(3, (2, 2), prices=(40, 90)), Yogurt(3, 9)):
        actions = np.random.default_rng(5).integers(0, len(market.prices), (market.stages, market.num_states))
        table = np.eye(len(market.prices))[actions]
        assert market.policy_value(table) == pytest.approx(market.policy_value(actions), rel=1e-13)
        assert market.tabulate(market.expert).tolist() == market.optimal_policy().tolist()


def test_fixed_values_are_those_of_tables_with_one_action() -> None:
    markets = Pricing(9, 4), TwoProducts(5, (2, 2), prices=(40, 90)), Yogurt(3, 9), DuopolyPricing("undercut", 0.8)
    for market in markets:
        tables = [np.full((market.stages, market.num_states), action) for action in range(len(market.prices))]
        values = [market.policy_value(table) for table in tables]
        assert market.fixed_price_values() == pytest.approx(values, rel=1e-12)
        price, value = market.best_fixed_price()
        assert (np.array(price) == market.prices[int(np.argmax(values))]).all()
        assert value == pytest.approx(max(values), rel=1e-12)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.zeros((2, 3), int), r"must be integers \(2, 4\) or probabilities \(2, 4, 2\), got int64 \(2, 3\)"),
        (np.zeros((2, 4)), r"must be integers .* got float64 \(2, 4\)"),
        (np.zeros((2, 4, 2), int), "must be integers"),
        (np.full((2, 4), 2), r"actions must be 0 … 1, got 2 … 2"),
        (np.full((2, 4), -1), r"actions must be 0 … 1, got -1 … -1"),
        (np.full((2, 4, 2), 0.6), "must sum to 1"),
        (np.tile([1.5, -0.5], (2, 4, 1)), "must not be negative"),
        (np.full((2, 4, 2), math.nan), "must not be negative"),
    ],
)
def test_bad_tables_are_refused(policy: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pricing(2, 3, 0.5, [1.0, 2.0]).policy_value(policy)


# ------------------------------------------------------------------------------------------- closed forms


GALLEGO = {5: (10.459889, 2.445442), 10: (15.472875, 1.772111), 20: (19.418560, 1.173035)}


def test_continuous_time_values_are_known() -> None:
    for units, figures in GALLEGO.items():
        assert gallego_van_ryzin(units, 20 * math.e) == pytest.approx(figures, abs=6e-7)
        assert gallego_van_ryzin(units, 20 * math.e, 0.25).value == pytest.approx(4 * figures[0], abs=4e-6)


def test_many_short_periods_converge_to_continuous_time() -> None:
    """The error halves with the length of the periods; the prices are within a step of the menu."""
    menu, errors = np.arange(0.8, 8.0, 0.04), []
    for periods in (250, 500, 1000):
        market = Pricing(periods, 20, 20 * math.e / periods, menu, 1.0)
        value = market.solution.value[0]
        errors.append([GALLEGO[units][0] - value[units] for units in GALLEGO])
    assert np.abs(errors[-1]).max() < 0.02
    assert np.array(errors[:-1]) / errors[1:] == pytest.approx(np.full((2, 3), 2.0), abs=0.15)
    prices = market.prices[market.optimal_policy()[0]]
    assert all(abs(prices[units] - price) < 0.05 for units, (_, price) in GALLEGO.items())


def logit_profit(prices: Any, quality: Any, cost: Any, sensitivity: float) -> float:
    weights = [math.exp(a - sensitivity * p) for a, p in zip(quality, prices, strict=True)]
    earned = sum((p - c) * w for p, c, w in zip(prices, cost, weights, strict=True))
    return float(earned / (1 + sum(weights)))


def test_equal_markup_prices_are_known_and_cannot_be_improved() -> None:
    quality, cost, sensitivity = (2.0, 1.5, 1.0), (1.0, 0.8, 0.5), 1.2
    w, prices, profit = equal_markup_logit(quality, cost, sensitivity)
    assert (w, profit) == pytest.approx((0.852335, 0.710279), abs=6e-7)
    assert prices == pytest.approx([2.543613, 2.343613, 2.043613], abs=6e-7)
    assert logit_profit(prices, quality, cost, sensitivity) == pytest.approx(profit, rel=1e-13)
    for step in np.eye(3) * 1e-5:
        up, down = (logit_profit(prices + sign * step, quality, cost, sensitivity) for sign in (1, -1))
        assert (up - down) / 2e-5 == pytest.approx(0, abs=1e-8)
    for change in np.random.default_rng(0).normal(0, 0.5, (200, 3)):
        assert logit_profit(prices + change, quality, cost, sensitivity) < profit


@given(st.floats(0, 1e6))
def test_lambert_w(x: float) -> None:
    w = lambert_w(x)
    assert w * math.exp(w) == pytest.approx(x, rel=1e-12, abs=1e-15)
