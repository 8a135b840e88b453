"""A policy as a list of prices: rounding, units of time, and what a worse policy loses."""

from __future__ import annotations

import numpy as np
import pytest

from palaestra.envs.pricing import Pricing, Season, Yogurt
from palaestra.envs.pricing.price_list import PriceList, money


@pytest.mark.parametrize(
    ("amount", "rounded"),
    [(1234.5678, 1234.57), (0.061234, 0.06123), (0.5, 0.5), (0.0, 0.0), (-1e-9, 0.0), (12.3456, 12.35), (3e-5, 3e-5)],
)
def test_money_has_cents_or_four_digits(amount: float, rounded: float) -> None:
    assert money(amount) == rounded
    assert np.copysign(1.0, money(amount)) == 1.0 or rounded < 0.0


@pytest.mark.parametrize(
    ("menu", "decimals", "prices"),
    [([10, 20], 0, [20, 20]), ([1.5, 3.0], 2, [3.0, 3.0]), ([0.125, 0.25], 3, [0.25, 0.25])],
)
def test_prices_are_those_of_the_menu(menu: list[float], decimals: int, prices: list[float]) -> None:
    found = PriceList(Pricing(2, 1, 0.5, menu, 1000.0))
    assert found.decimals == decimals
    rows = list(found.rows())
    assert [row[2] for row in rows] == prices
    assert [type(row[2]) for row in rows] == [int if decimals == 0 else float] * 2


def test_a_policy_beside_the_optimum() -> None:
    """The lowest price for ever, whose value is known: that of the best price that never changes, among one."""
    market = Pricing(6, 3)
    low = np.zeros((6, 4), np.int64)
    found = PriceList(market, low)
    assert found.value == pytest.approx(market.fixed_price_values()[0], rel=1e-12)
    assert found.lost_percent == pytest.approx(100 * (1 - found.value / market.optimal_value()), rel=1e-12)
    assert (found.price == market.prices[0]).all()
    assert (found.expected <= found.optimal + 1e-9).all()
    assert found.shadow.cumsum(1) == pytest.approx(found.optimal, rel=1e-12)
    assert (found.shadow >= -1e-9).all()
    assert found.heads() == [
        *("period", "stock", "price", "optimal_price", "expected_revenue", "optimal_revenue", "shadow_price"),
        "price_depends_on",
    ]
    assert PriceList(market, market.optimal_policy()).lost_percent == 0.0


def test_periods_are_weeks_where_the_market_or_its_dates_say_so() -> None:
    assert PriceList(Yogurt(periods=2, stock=3)).time_unit == "week"
    market = Season([1.0, 2.0], np.full((2, 2, 2), 0.5), 1)
    for step, unit in ((1, "day"), (7, "week"), (30, "period")):
        market.dates = 739_000 + step * np.arange(2)
        assert PriceList(market).time_unit == unit


def test_a_unit_cost_that_changes_has_a_column() -> None:
    """The last period by hand: half of the customers buy at 4, a quarter at 8."""
    market = Pricing(2, 1, 1.0, [4, 8], 4.0 / np.log(2.0), unit_cost=[1, 3])
    for policy, heads in (
        (None, ["price", "expected_margin", "shadow_price"]),
        (market.optimal_policy(), ["price", "optimal_price", "expected_margin", "optimal_margin", "shadow_price"]),
    ):
        found = PriceList(market, policy)
        assert found.heads() == ["period", "stock", "unit_cost", *heads, "price_depends_on"]
        rows = list(found.rows())
        assert [row[:4] for row in rows] == [[1, 1, 1.0, 8], [2, 1, 3.0, 8]]
        assert rows[1][-3:] == [1.25, 1.25, "period + stock"]
    assert PriceList(Pricing(2, 1, unit_cost=[1, 1])).unit_cost is None


def test_rules_that_look_back_add_the_last_price() -> None:
    """Rows for every last price that the rules lead to, with the values of those states; only where it may change."""
    market = Pricing(5, 2, 0.9, [2, 3, 4], 3.0, max_change=1, hold=2, current_price=2, replenish={4: 1})
    found = PriceList(market)
    assert found.heads() == ["period", "stock", "last_price", "price", "expected_revenue", *found.heads()[5:]]
    rows = list(found.rows())
    free = {(row[0], row[2]) for row in rows}
    # 2 was asked before: it may go on or rise by 1, and then stays for 2 periods
    assert free == {(t, 2) for t in range(1, 6)} | {(t, 3) for t in (3, 4, 5)} | {(5, 4)}
    assert {row[1] for row in rows if row[0] == 3} == {0, 1, 2}
    assert {row[1] for row in rows if row[0] == 4} == {0, 1, 2, 3}
    value = market.solution.value.reshape(6, 4, -1)
    for period, stock, last, price, expected, shadow, depends_on in rows:
        memory = 0 if period == 1 else 1 + 2 * (last - 2)
        assert expected == money(value[period - 1, stock, memory])
        assert shadow == money(
            value[period - 1, stock, memory] - value[period - 1, stock - 1, memory] if stock else 0.0
        )
        assert abs(price - last) <= 1
        assert depends_on == "period + stock + last_price"
    assert PriceList(market, market.myopic_policy()).value == pytest.approx(market.policy_value(market.myopic_policy()))


def test_deliveries_alone_need_no_last_price() -> None:
    market = Pricing(3, 1, replenish={3: 2})
    rows = list(PriceList(market).rows())
    assert [row[:2] for row in rows] == [[1, 1], [2, 1], [3, 1], [3, 2], [3, 3]]
    assert rows[0][3] == money(market.optimal_value())
