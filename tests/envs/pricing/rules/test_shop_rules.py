"""The settings of the shop: menus, and what contradicts itself, in one line that says which."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from palaestra.envs.pricing import Pricing
from palaestra.envs.pricing.rules.shop_rules import ShopRules, read_rules


@pytest.mark.parametrize(
    ("endings", "prices", "kept"),
    [
        ((0.99,), [3.99, 4.0, 4.49, 19.99, 0.99], [3.99, 19.99, 0.99]),
        ((0.99, 0.49), [3.99, 4.0, 4.49], [3.99, 4.49]),
        ((9,), [9, 19, 20, 29.5, 99], [9, 19, 99]),
        ((95,), [95, 9.5, 195, 95.5, 1095], [95, 195, 1095]),
        ((0,), [3, 3.5, 10], [3, 10]),
        ((9.99,), [9.99, 19.99, 4.99], [9.99, 19.99]),
    ],
)
def test_endings_are_the_last_digits(endings: Any, prices: Any, kept: Any) -> None:
    menu = np.array(prices, float)
    assert menu[ShopRules(endings=endings).kept(menu)].tolist() == kept


@pytest.mark.parametrize("endings", [(0.99,), (0.99, 0.49), (9.0,), (95.0, 45.0)])
@pytest.mark.parametrize(("low", "high"), [(2.0, 9.5), (20.0, 600.0), (3.0, 90_000.0)])
def test_menus_of_endings_are_few_and_lie_in_the_range(endings: Any, low: float, high: float) -> None:
    rules = ShopRules(endings=endings)
    if (high - low) < 10 and endings[0] >= 1:
        with pytest.raises(ValueError, match=r"from 2 to 9\.5: add another ending"):
            rules.menu_of_endings(low, high)
        return
    menu = rules.menu_of_endings(low, high)
    assert 2 <= len(menu) <= 30
    assert menu[0] >= low
    assert menu[-1] <= high
    assert rules.kept(menu).all()
    assert (np.diff(menu) > 0).all()


def test_menus_follow_the_rules() -> None:
    assert Pricing(endings=[0.99], price_range=[20, 24]).prices.tolist() == [20.99, 21.99, 22.99, 23.99]
    assert Pricing(price_range=[55, 130]).prices.tolist() == [60, 80, 100, 120]
    assert Pricing(prices=[4.49, 5, 5.49, 7.49], endings=0.49, price_range=(4, 6)).prices.tolist() == [4.49, 5.49]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"price_range": [700, 800]}, r"price_range=\[700, 800\] leaves no price of the 30 from 20 to 600"),
        ({"price_range": [60, 79]}, r"price_range=\[60, 79\] leaves a single price, 60, of the 30 from 20 to 600"),
        (
            {"price_range": [9, 2]},
            r"price_range must be the lowest and the highest price, as in \[2, 9\], got \[9, 2\]",
        ),
        ({"price_range": 5}, "got 5"),
        ({"price_range": ["a", 2]}, "price_range must be"),
        ({"price_range": [np.nan, 2]}, "price_range must be"),
        ({"endings": [0.99], "prices": [2, 3]}, r"endings=\[0.99\] leaves no price of the 2 from 2 to 3"),
        ({"endings": [0.99], "price_range": [50, 51]}, r"endings=\[0.99\] leave a single price from 50 to 51: add"),
        ({"endings": [0.99], "price_range": [700, 800]}, r"price_range=\[700, 800\] must overlap the known prices"),
        ({"endings": []}, r"endings must be those of prices, as in \[0.99, 0.49\], got \[\]"),
        ({"endings": "x"}, "got 'x'"),
        ({"endings": [-1]}, "endings must be"),
        ({"max_change": 3}, "max_change=3 is less than any step of the menu .the smallest is 20."),
        ({"max_change": 0}, "max_change must be above 0"),
        ({"max_change": "much"}, "max_change must be above 0 and at most 1e.12, got 'much'"),
        ({"markdowns_only": "yes"}, "markdowns_only must be true or false, got 'yes'"),
        ({"markdowns_only": True, "current_price": 10}, "markdowns_only with current_price=10 leave no first price"),
        (
            {"markdowns_only": True, "max_change": 20, "current_price": 700, "prices": range(20, 101, 20)},
            "max_change=20 and markdowns_only with current_price=700 leave no first price of the menu, 20 to 100",
        ),
        ({"current_price": 40}, "current_price=40 changes nothing without max_change or markdowns_only"),
        ({"hold": 0}, "hold must be a whole number of at least 1, got 0"),
        ({"hold": 2.5}, "hold must be a whole number"),
        ({"holding_cost": -1}, "holding_cost must be at least 0"),
        ({"replenish": 20}, r"replenish must give periods or dates their units, as in \{7: 20\}, got 20"),
        (
            {"replenish": {440: None}},
            r"replenish must give 440 a number of units, as in \{7: 20\} \(a space\), got None",
        ),
        ({"replenish": {1: 5}}, "period 1 must be 2 to 100, .* first period belongs to env.stock"),
        ({"replenish": {101: 5}}, "period 101 must be 2 to 100, the periods of the season$"),
        ({"replenish": {"soon": 5}}, "got 'soon'"),
        ({"replenish": {7: 0.5}}, "the units of 7 must be a whole number of at least 1, got 0.5"),
        ({"replenish": {7: 2, "7": 3}}, "two deliveries in period 7"),
        ({"replenish": {"2025-01-13": 5}}, "2025-01-13 needs a demand with dates: give the number of the period"),
        (
            {"hold": 30, "periods": 3000, "stock": 3000},
            "3,000 periods, 3,000 units and 30 prices is too large .* hold=30",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Pricing(**given)
    assert "\n" not in str(error.value)


def test_deliveries_by_date() -> None:
    days = date(2025, 1, 6).toordinal() + 7 * np.arange(4)  # Mondays
    assert read_rules({"replenish": {"2025-01-20": 5, 2: 1}}, 4, days).replenish == {2: 1, 3: 5}
    assert read_rules({"replenish": {date(2025, 1, 27): 5}}, 4, days).replenish == {4: 5}
    for wrong in ("2025-01-06", "2025-01-07", "2025-02-03"):
        with pytest.raises(ValueError, match=f"{wrong} must be a period of .* the first, 2025-01-13 to 2025-01-27"):
            read_rules({"replenish": {wrong: 5}}, 4, days)
