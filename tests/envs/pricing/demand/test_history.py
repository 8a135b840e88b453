"""Prices and unit costs by date, and the seasons that have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palaestra.envs.pricing import Pricing
from palaestra.envs.pricing.demand.fit import Fitting, fit
from palaestra.envs.pricing.demand.history import History, coming_cost, days_charged_again
from palaestra.envs.pricing.demand.json_file import demand_data

FIRST = date(2024, 1, 1)
RISING = [1.0] * 60 + [2.0] * 50 + [1.5] * 10  # unit costs of 120 days


def sales(path: Path, costs: Any, dates: Callable[[int], Any] = lambda day: FIRST + timedelta(day)) -> Fitting:
    """Sales of 8 exp(−p / 4) units a day at prices that change on each."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        print("date,product,price,units,unit_cost", file=file)
        for day, cost in enumerate(costs):
            price = (3.0, 4.5, 6.0, 8.0)[(day + day // 7) % 4]
            print(f"{dates(day)},tea,{price},{rng.poisson(8 * np.exp(-price / 4))},{cost}", file=file)
    return fit(path)


def test_a_season_among_the_data_has_the_costs_of_its_dates(tmp_path: Path) -> None:
    data = json.loads(json.dumps(demand_data(sales(tmp_path / "s.csv", RISING).demand)))
    inside = Pricing(demand=data, periods=5, stock=8, start="2024-02-28")
    assert inside.unit_cost.tolist() == [1.0, 1.0, 2.0, 2.0, 2.0]
    assert inside.observation_space.shape == (4,)
    before = Pricing(demand=data, periods=2, stock=8, start="2023-01-01")
    assert before.unit_cost.tolist() == [1.0, 1.0]
    across = Pricing(demand=data, periods=14, stock=8, start="2024-04-17")
    assert across.unit_cost.tolist() == [2.0] * 3 + [1.5] * 11
    assert Pricing(demand=data, periods=3, stock=8).unit_cost.tolist() == [1.5] * 3
    given = Pricing(demand=data, periods=3, stock=8, unit_cost=[1, 2, 3])
    assert given.unit_cost.tolist() == [1.0, 2.0, 3.0]


def test_behind_the_data_the_cost_is_the_last_one_or_the_mean(tmp_path: Path) -> None:
    stepped = sales(tmp_path / "stepped.csv", RISING)
    assert stepped.demand.products["tea"].unit_cost == 1.5
    assert any("unit_cost was 1 to 2: a season has those of its dates, and behind the data the last one, 1.5" in n
               for n in stepped.notes)  # fmt: skip
    noise = np.random.default_rng(0).choice([1.0, 2.0], 120)
    noisy = sales(tmp_path / "noisy.csv", noise)
    assert noisy.demand.products["tea"].unit_cost == pytest.approx(noise.mean())
    assert any("behind the data their mean" in note for note in noisy.notes)
    undated = sales(tmp_path / "undated.csv", RISING, lambda day: f"day {day}")
    assert undated.demand.products["tea"].unit_cost == 1.5
    assert undated.demand.products["tea"].history is None
    assert any("a season has the last one, 1.5" in note for note in undated.notes)
    same = sales(tmp_path / "same.csv", [0.1] * 120)
    assert same.demand.products["tea"].unit_cost == 0.1  # to the last bit
    assert not any("unit_cost" in note for note in same.notes)
    assert coming_cost({"unit_cost": np.array([1.0, 4.0])}) == (
        2.5,
        coming_cost({"unit_cost": np.array([1.0, 4.0])})[1],
    )


def test_the_evaluation_counts_the_cost_of_each_period(tmp_path: Path) -> None:
    """The uplift's own recursion against the market's, where costs change within the season."""
    demand = sales(tmp_path / "s.csv", RISING).demand
    market = Pricing(demand=demand_data(demand), periods=12, stock=9, start="2024-02-25")
    result = market.exact(market.expert)
    best, fixed = market.optimal_value(), market.best_fixed_price()[1]
    assert result["uplift_over_fixed_percent"] == pytest.approx(100.0 * (best / fixed - 1.0), rel=1e-9)
    dear = Pricing(demand=demand_data(demand), periods=12, stock=9, start="2024-02-25", unit_cost=2.0)
    assert (
        dear.optimal_value()
        < best
        < Pricing(demand=demand_data(demand), periods=12, stock=9, unit_cost=1).optimal_value()
    )


def test_prices_are_charged_again_a_year_or_whole_weeks_later() -> None:
    first = FIRST.toordinal()
    season = np.arange(first + 400, first + 410)
    assert days_charged_again(season, first, first + 399).tolist() == (season - 364).tolist()
    assert days_charged_again(season + 364, first, first + 399).tolist() == (season - 364).tolist()
    assert days_charged_again(season - 200, first, first + 399).tolist() == (season - 200).tolist()
    short = np.arange(first + 17, first + 47)  # behind 17 days: the latest two weeks, again and again
    again = days_charged_again(short, first, first + 16)
    assert (again - short).tolist() == [-14] * 14 + [-28] * 14 + [-42] * 2
    assert again.min() >= first
    history = History(np.array([10, 20]), np.array([3.0, 4.0]), np.array([1.0, 2.0]))
    assert [column.tolist() for column in history.at(np.array([5, 10, 19, 20, 99]))] == [
        [3.0, 3.0, 3.0, 4.0, 4.0],
        [1.0, 1.0, 1.0, 2.0, 2.0],
    ]


@pytest.mark.parametrize("start", ["2024-02-25", None])
def test_the_prices_that_were_charged_are_charged_again_with_their_own_costs(tmp_path: Path, start: str | None) -> None:
    """Posting the dated prices is a policy of the market; behind 120 days it is that of 119 days before."""
    data = demand_data(sales(tmp_path / "s.csv", RISING).demand)
    kwargs = {"demand": data, "periods": 12, "stock": 9, "prices": [3.0, 4.5, 6.0, 8.0]}
    market = Pricing(**kwargs, start=start)
    first = 55 if start else 1
    posted = [(day + day // 7) % 4 for day in range(first, first + 12)]
    table = np.tile(np.array(posted)[:, None], (1, 10))
    own = Pricing(**kwargs, start=start, unit_cost=RISING[first : first + 12])
    result = market.exact(market.expert)
    assert result["charged_mean"] == pytest.approx(own.policy_value(table), rel=1e-9)
    uplift = 100.0 * (market.optimal_value() / own.policy_value(table) - 1.0)
    assert result["uplift_over_charged_percent"] == pytest.approx(uplift, rel=1e-9)
    assert result["uplift_over_charged_percent_low"] < uplift < result["uplift_over_charged_percent_high"]
    given = Pricing(**kwargs, start=start, unit_cost=0.25)
    assert given.exact(given.expert)["charged_mean"] == pytest.approx(given.policy_value(table), rel=1e-9)


def test_a_product_younger_than_the_file_is_charged_its_own_prices_again(tmp_path: Path) -> None:
    """Whole weeks of its own sales before, not the price of its first day for a season of a year ago."""
    rng = np.random.default_rng(1)
    with (tmp_path / "s.csv").open("w") as file:
        print("date,product,price,units", file=file)
        for day in range(400):
            for product, first in (("tea", 0), ("mate", 360)):
                if day >= first:
                    price = (8.0, 5.0, 4.0, 2.0)[day % 4]
                    print(
                        f"{FIRST + timedelta(day)},{product},{price},{rng.poisson(8 * np.exp(-price / 4))}", file=file
                    )
    demand = fit(tmp_path / "s.csv").demand
    days = FIRST.toordinal() + np.arange(400, 428)  # the four weeks behind; 40 days of mate are five whole weeks
    again = demand.charged_again("mate", days)
    assert again is not None
    assert again[0].tolist() == [(8.0, 5.0, 4.0, 2.0)[(day - 35) % 4] for day in range(400, 428)]


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([[0, 3.0]], "tea.history must be a mapping, got list"),
        ({"days": [0]}, "tea.history lacks: prices"),
        ({"days": [0], "prices": [3], "colours": [1]}, "tea.history has an unknown entry: colours"),
        ({"days": "x", "prices": [3]}, "tea.history.days must be a list of finite numbers"),
        ({"days": [0], "prices": [3, 4.5]}, "tea.history must have lists of one length"),
        ({"days": [0], "prices": [3], "unit_costs": [1, 2]}, "tea.history must have lists of one length"),
        ({"days": [[0]], "prices": [[3]]}, "tea.history must have lists of one length"),
        ({"days": [0, 0], "prices": [3, 4.5]}, "tea.history.days must be ascending whole numbers, 0 to 119"),
        ({"days": [0.5], "prices": [3]}, "tea.history.days must be ascending whole numbers, 0 to 119"),
        ({"days": [120], "prices": [3]}, "tea.history.days must be ascending whole numbers, 0 to 119"),
        ({"days": [0], "prices": [2]}, "tea.history must have prices inside price_range, and costs that are not"),
        ({"days": [0], "prices": [3], "unit_costs": [-1]}, "tea.history must have prices inside price_range, and co"),
    ],
)
def test_a_history_edited_by_hand_is_refused(history: Any, message: str, tmp_path: Path) -> None:
    data = demand_data(sales(tmp_path / "s.csv", RISING).demand)
    data["products"]["tea"]["history"] = history
    with pytest.raises(ValueError, match=r"^demand: products\.") as error:
        Pricing(demand=data)
    assert message in str(error.value)
    del data["products"]["tea"]["history"]  # as older files are
    assert Pricing(demand=data, start="2024-02-28").unit_cost.tolist()[0] == 1.5
