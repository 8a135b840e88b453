"""Returns of episodes in a log, and sales beside predictions that are known by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest

from palaestra.envs.pricing import Pricing
from palaestra.train.monitoring import episode_ledger
from palaestra.train.monitoring.drift import MeanReturn
from palaestra.train.monitoring.episode_ledger import EpisodeLedger
from palaestra.train.monitoring.log_entries import EntryReader
from palaestra.train.monitoring.sales_check import SalesCheck

ACTION = {"name": "action", "dtype": "int64", "shape": [], "kind": "discrete", "first": 0, "count": 2}
DAY = date(1970, 1, 1)


def market() -> Pricing:
    """Three periods and two units; a customer comes and buys at 10 with 0.5, at 20 with 0.5 e^(-10/w)."""
    return Pricing(periods=3, stock=2, arrival_rate=1.0, prices=[10.0, 20.0], willingness=10.0 / np.log(2.0))


def contract(rules: Pricing, **settings: Any) -> dict[str, Any]:
    elements = [{"name": q.name, "unit": q.unit, "scale": q.scale} for q in rules.observation_names]
    end = {"name": "observation", "dtype": "float32", "shape": [2], "low": 0.0, "high": 1.0, "elements": elements}
    return {"inputs": [end], "outputs": [ACTION], "environment": {"id": "pricing", "settings": settings}}


class Days:
    """Counts of one day."""

    def __init__(self) -> None:
        self.returns = MeanReturn()

    def of(self, day: date) -> Any:
        return self


def moment(left: int, stock: int, action: int, **more: Any) -> dict[str, Any]:
    request = {"observation": {"periods_left": left, "units_left": stock}}
    return {"time": 0, "episode": "a", "request": request, "answer": {"action": action}, **more}


def followed(lines: list[dict[str, Any]], rules: Pricing | None = None, **settings: Any) -> tuple[Any, Any, SalesCheck]:
    rules = market() if rules is None else rules
    said = contract(rules, **settings)
    book, days = SalesCheck(rules, said, "tea"), Days()
    ledger = EpisodeLedger(days, book)  # type: ignore[arg-type]
    reader = EntryReader(said, "", UTC)
    for line in lines:
        ledger.add(reader(line), True)
    return ledger, days.returns, book


def test_predicted_sales_by_hand() -> None:
    """At 10 half of the customers buy, at 20 a quarter: means 0.5 and 0.25, variances 0.25 and 0.1875."""
    lines = [moment(3, 2, 0, sold=1), moment(2, 1, 1, sold=0), moment(1, 1, 0, sold=1, end=True)]
    _, _, book = followed(lines)
    (ten, twenty) = book.by_price()
    assert (ten.price, ten.asked, ten.sold, twenty.price, twenty.asked, twenty.sold) == (10.0, 2, 2, 20.0, 1, 0)
    assert (ten.predicted, twenty.predicted) == pytest.approx((1.0, 0.25))
    assert book.variance.tolist() == pytest.approx([0.5, 0.1875])
    assert ten.high == pytest.approx(1.0 + 1.959964 * 0.5**0.5)
    found = book.verdict(0.1)
    assert found is not None
    assert (found.sold, found.predicted) == (2, pytest.approx(1.25))
    assert found.refit is False


def test_sales_are_told_or_follow_from_rewards_or_from_the_units_left() -> None:
    told = [moment(3, 2, 0, sold=1), moment(2, 1, 1, sold=0), moment(1, 1, 0, sold=1, end=True)]
    later = [
        moment(3, 2, 0),
        {"time": 1, "episode": "a", "sold": 1},
        moment(2, 1, 1),
        {"time": 1, "episode": "a", "sold": 0},
        moment(1, 1, 0),
        {"time": 1, "episode": "a", "sold": 1, "end": True},
    ]
    rewards = [moment(3, 2, 0, reward=10.0), moment(2, 1, 1, reward=0.0), moment(1, 1, 0, reward=10.0, end=True)]
    for lines in (told, later, rewards):
        _, _, book = followed(lines)
        assert book.units.tolist() == [2, 0]
        assert book.by_stock == 0
    left = [moment(3, 2, 0), moment(2, 1, 1), moment(1, 1, 0, end=True)]
    _, _, book = followed(left)
    assert (book.units.tolist(), book.asked_for.tolist(), book.by_stock) == ([1, 0], [1, 1], 2)  # the last is not known
    _, _, early = followed([moment(3, 2, 0), moment(2, 1, 0, end=True)])
    assert early.units.tolist() == [2, 0]  # over before its last period: sold out


def test_rewards_that_are_no_margins_are_not_taken_for_sales() -> None:
    _, _, book = followed([moment(3, 2, 0, reward=9.3)], holding_cost=0.7)
    assert not book.asked_for.any()
    _, _, book = followed([moment(3, 2, 0, reward=7.0), moment(3, 2, 0, reward=30.0)])
    assert not book.asked_for.any()


def test_moments_that_the_market_does_not_know_are_counted() -> None:
    lines = [moment(4, 2, 0), moment(3, 3, 0), moment(-1, 2, 0), moment(3, 2, 5), moment(3, 2**60, 0)]
    _, _, book = followed([{**line, "sold": 0} for line in lines])
    assert (book.unlike, int(book.asked_for.sum())) == (5, 0)
    _, _, book = followed([moment(3, 2, 0, sold=9)])
    assert not book.asked_for.any()


def test_returns_are_sums_of_rewards_or_what_a_line_says() -> None:
    lines = [
        moment(3, 2, 0, reward=1.0),
        {"time": 1, "episode": "a", "reward": 2.0},
        {**moment(3, 2, 0, reward=100.0), "episode": "b"},
        {"time": 1, "episode": "a", "reward": 4.0, "end": True},
        {"time": 1, "episode": "b", "return": 50.0},
        {"time": 1, "return": 13.0},
        {"time": 1, "episode": "unknown", "reward": 9.0, "end": True},
        {**moment(3, 2, 0, end=True), "episode": "without"},
    ]
    ledger, returns, _ = followed(lines)
    assert (returns.count, returns.mean) == (3, pytest.approx((7.0 + 50.0 + 13.0) / 3))
    assert (ledger.unbegun, ledger.lost, ledger.ends) == (1, 0, 5)


def test_episodes_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode_ledger, "MOST_OPEN", 3)
    begun = [{**moment(3, 2, 0, reward=1.0), "episode": name} for name in "abca" + "d"]
    ended = [{"time": 1, "episode": name, "reward": 1.0, "end": True} for name in "abcd"]
    ledger, returns, _ = followed([*begun, *ended])
    assert (ledger.lost, ledger.unbegun, returns.count) == (1, 1, 3)  # b was silent for longest
    assert returns.mean == pytest.approx((3.0 + 2.0 + 2.0) / 3)


@pytest.mark.parametrize(("rate", "refit"), [(0.5, False), (0.7, True), (0.35, True)])
def test_another_demand_is_told_from_chance(rate: float, refit: bool) -> None:
    """A thousand seasons of a market for which half of the customers come."""
    rules = Pricing(periods=3, stock=2, arrival_rate=0.5, prices=[10.0, 20.0], willingness=10.0)
    rng = np.random.default_rng(0)
    lines = []
    for season in range(1000):
        stock = 2
        for left in (3, 2, 1):
            action = int(rng.integers(2))
            sold = int(stock > 0 and rng.random() < rate * np.exp(-rules.prices[action] / 10.0))
            over = left == 1 or stock == sold
            lines.append({**moment(left, stock, action, sold=sold, end=over), "episode": f"{season}"})
            stock -= sold
            if over:
                break
    found = followed(lines, rules)[2].verdict(0.1)
    assert found is not None
    assert found.refit is refit
    assert found.low < rate / 0.5 < found.high


def test_the_file_of_sales_has_dates_where_each_day_has_one_price() -> None:
    rules = market()
    said = contract(rules)
    rules.unit_cost = np.array([1.0, 2.0, 3.0])
    book = SalesCheck(rules, said, "tea")
    lines = [moment(3, 2, 0, sold=1), moment(2, 1, 1, sold=0)]
    stamps = [datetime(2026, 11, day, tzinfo=UTC).timestamp() for day in (2, 3)]
    daily = [{**line, "time": stamp} for line, stamp in zip(lines, stamps, strict=True)]
    ledger, reader = EpisodeLedger(Days(), book), EntryReader(said, "", UTC)  # type: ignore[arg-type]
    for line in daily:
        ledger.add(reader(line), True)
    heads, rows = book.table()
    assert heads == ["date", "product", "price", "units", "stock", "unit_cost"]
    assert rows == [["2026-11-02", "tea", 10.0, 1, 2, 1.0], ["2026-11-03", "tea", 20.0, 0, 1, 2.0]]
    assert [row[0] for row in followed(lines)[2].table()[1]] == ["sale 1", "sale 2"]
