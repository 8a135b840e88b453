"""The list of a seller's prices: at every moment that of ``palaestra prices``, and a refusal for what is no moment."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from palaestra.envs.core import TensorEnv
from palaestra.envs.core.vector import TensorVectorEnv
from palaestra.envs.pricing import DuopolyPricing, Pricing, TwoProducts, Yogurt
from palaestra.envs.pricing.demand.count_distributions import poisson
from palaestra.envs.pricing.price_list import PriceList
from palaestra.envs.pricing.rules.ruled_season import RuledSeason
from palaestra.train.commands import UsageError
from palaestra.train.commands.own_sales.prices import answer
from palaestra.train.evaluation.policies import on_states
from palaestra.train.export import price_table, priced_moments
from palaestra.train.export.price_table import PriceTable, PriceTableError, QuestionError


class Mixed:
    """A policy whose allowed actions have no pattern, but depend on the state alone."""

    def __call__(self, batch: Any, obs: Tensor) -> Tensor:
        seen = torch.cat([batch.env.observe(batch.state).double(), *self._last(batch)], 1)
        weights = torch.arange(1, seen.shape[1] + 1, dtype=torch.float64) * 7919.0
        scores = torch.sin((seen @ weights)[:, None] * torch.arange(1, batch.single_action_space.n + 1))
        mask = batch.action_masks()
        return (scores if mask is None else scores.masked_fill(~mask, -9.0)).argmax(1)

    @staticmethod
    def _last(batch: Any) -> list[Tensor]:
        return [batch.state.price[:, None].double()] if batch.action_masks() is not None else []


def listed(market: TensorEnv[Any], steps: int | None = None) -> Any:
    """The list as JSON gives it back."""
    env = TensorVectorEnv(market, 4, device="cpu", **({} if steps is None else {"max_episode_steps": steps}))
    env.reset()
    policy: Any = Mixed()
    return json.loads(json.dumps(priced_moments.priced_moments(policy, env), allow_nan=False))


def lots() -> RuledSeason:
    return RuledSeason([3.0, 4.5, 6.0], np.tile(poisson(np.array([4.0, 3.0, 2.0]), 12), (5, 1, 1)), 60, lot=5)


SEASONS: dict[str, Callable[[], Any]] = {
    "plain": lambda: Pricing(periods=7, stock=4),
    "weeks": lambda: Yogurt(periods=4, stock=9),
    "lots": lots,
    "deliveries": lambda: Pricing(periods=6, stock=3, replenish={3: 2, 5: 1}),
    "last price": lambda: Pricing(periods=6, stock=3, max_change=60, current_price=100),
    "hold": lambda: Pricing(periods=7, stock=3, hold=3, prices=[20, 40, 60, 80]),
    "all": lambda: Pricing(
        periods=6, stock=3, hold=2, max_change=40, current_price=60, prices=[20, 40, 60, 80], replenish={4: 2}
    ),
}


@pytest.mark.parametrize("name", SEASONS)
def test_every_moment_of_a_season_is_that_of_the_price_list(name: str) -> None:
    """Of its rows, and of the command for one moment, which also refuses the same moments."""
    market = SEASONS[name]()
    policy: Any = Mixed()
    found = PriceList(market, market.tabulate(on_states(policy, market)))
    table = PriceTable(listed(market))
    heads = found.heads()
    rows = [dict(zip(heads, row, strict=True)) for row in found.rows()]
    for row in rows:
        asked = [("period", row["period"]), ("stock", row["stock"])]
        if row.get("last_price") is not None and row["period"] > 1:
            asked.append(("last_price", row["last_price"]))
        assert table.ask([(key, str(value)) for key, value in asked])["price"] == row["price"], row
    assert len({row["price"] for row in rows}) > 1
    agreed = refused = 0
    last = [None] if found.memory is None else [None, *found.menu.tolist()]
    for period, stock, price in product(range(found.periods + 2), range(-1, found.capacity + 2), last):
        given = [("period", str(period)), ("stock", str(stock))]
        try:
            got = table.ask([*given, *([] if price is None else [("last_price", str(price))])])["price"]
        except QuestionError:
            with pytest.raises(UsageError):
                answer(found, period, stock, price)
            refused += 1
        else:
            told = answer(found, period, stock, price)
            assert float(told.split("price now")[1].split("\n")[0].replace(found.currency or " ", " ")) == got
            agreed += 1
    assert agreed >= found.periods * found.stock // found.lot
    assert refused


def test_every_moment_of_two_products() -> None:
    market = TwoProducts(periods=5, stock=(2, 3))
    policy: Any = Mixed()
    tabled = market.tabulate(on_states(policy, market)).reshape(5, 3, 4)
    table = PriceTable(listed(market))
    for t, first, second in product(range(5), range(3), range(4)):
        given = [("period", str(t + 1)), ("stock_first", str(first)), ("stock_second", str(second))]
        if first == second == 0:
            with pytest.raises(QuestionError, match="1 to 3"):
                table.ask(given)
            continue
        found = table.ask(given)
        assert (found["price_first"], found["price_second"]) == tuple(market.prices[tabled[t, first, second]])
        assert found["moment"] == {"period": t + 1, "stock_first": first, "stock_second": second}


def test_every_moment_of_a_duopoly_as_it_is_shown() -> None:
    """A price may be given by the digits in which the refusal of another lists it."""
    market = DuopolyPricing()
    policy: Any = Mixed()
    tabled = market.tabulate(on_states(policy, market)).reshape(15, 15)
    table = PriceTable(listed(market))
    for own, rival in product(range(15), range(15)):
        texts = (f"{market.prices[place]:.6g}" for place in (own, rival))
        given = [*zip(("own_last_price", "rival_last_price"), texts, strict=True)]
        assert table.ask(given)["price"] == pytest.approx(market.prices[tabled[own, rival]], abs=1e-9)
    with pytest.raises(QuestionError, match=r"must be one of 1\.42772, 1\.46647, .* got 1\.45"):
        table.ask([("own_last_price", "1.45"), ("rival_last_price", "1.42772")])


@pytest.mark.parametrize(
    ("given", "name", "text"),
    [
        ("period=4", "stock", "is missing: give a whole number, 1 to 9 (units)"),
        ("stock=4", "period", "is missing: give a whole number, 1 to 4 (weeks)"),
        ("period=4&stock=0", "stock", "must be a whole number, 1 to 9 (units), got 0"),
        ("period=5&stock=1", "period", "must be a whole number, 1 to 4 (weeks), got 5"),
        ("period=1&stock=2.5", "stock", "got 2.5"),
        ("period=1&stock=2.0", "stock", "got 2.0"),
        ("period=1&stock=-1", "stock", "got -1"),
        ("period=1&stock=", "stock", "got "),
        ("period=1&stock=1_0", "stock", "got 1_0"),
        ("period=1&stock=٣", "stock", "got ٣"),
        ("period=1&stock=nan", "stock", "got nan"),
        ("period=1&stock=" + "9" * 5000, "stock", "got " + "9" * 30),
        ("period=1&stock=2&stock=3", "stock", "is given twice"),
        ("period=1&stock=2&day=3", "day", "is none of the parameters, which are period, stock"),
    ],
)
def test_what_is_no_moment_is_refused_with_its_parameter(given: str, name: str, text: str) -> None:
    table = PriceTable(listed(Yogurt(periods=4, stock=9)))
    parts = [part.partition("=") for part in given.split("&")]
    with pytest.raises(QuestionError) as refusal:
        table.ask([(key, value) for key, _, value in parts])
    assert (refusal.value.name, text in str(refusal.value)) == (name, True), str(refusal.value)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"period": "2", "stock": "2"}, "is missing: give one of 20, 40, 60, 80"),
        ({"period": "1", "stock": "2", "last_price": "40"}, "must be left out"),
        ({"period": "2", "stock": "2", "last_price": "50"}, "must be one of 20, 40, 60, 80, got 50"),
        ({"period": "2", "stock": "2", "last_price": "nan"}, "got nan"),
        ({"period": "2", "stock": "2", "last_price": "1e400"}, "got 1e400"),
    ],
)
def test_last_prices_that_are_refused(given: dict[str, str], text: str) -> None:
    table = PriceTable(listed(SEASONS["hold"]()))
    with pytest.raises(QuestionError) as refusal:
        table.ask([*given.items()])
    assert (refusal.value.name, text in str(refusal.value)) == ("last_price", True), str(refusal.value)


def test_a_season_that_is_cut_has_no_list_and_a_long_one_no_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed(Pricing(periods=6, stock=2), steps=5) is None
    assert listed(Pricing(periods=6, stock=2), steps=6)["actions"]
    for module in (price_table, priced_moments):
        monkeypatch.setattr(module, "MOST_MOMENTS", 11)
    assert listed(Pricing(periods=6, stock=2))["actions"] is None


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ((), [], "must be an object"),
        (("asks",), [], "must list 1 to 8 parameters"),
        (("asks", 0, "name"), "a b", "each must have a name"),
        (("asks", 0, "name"), "stock", "two parameters of one name"),
        (("asks", 0, "count"), True, "period.count must be a whole number"),
        (("asks", 0, "step"), 0, "period.step must be a whole number"),
        (("asks", 0, "count"), 10**12, "period.count must be a whole number"),
        (("asks", 1), {"name": "stock", "values": [1, "2"]}, "stock.values must list numbers"),
        (("answers",), "price", "must list names"),
        (("menu",), [[1, 2]], "each row must have 1 numbers"),
        (("menu",), [[float("nan")]], "each row must have 1 numbers"),
        (("actions",), [[0]], "lists of the lengths [3, 2]"),
        (("actions", 2), [0, 1, 2], "lists of the lengths [3, 2]"),
        (("actions", 0, 0), 30, "numbers of the menu's 30 rows"),
        (("actions", 0, 0), -1, "numbers of the menu's 30 rows"),
        (("actions", 0, 0), 1.0, "numbers of the menu's 30 rows"),
        (("actions",), [[None] * 2] * 3, "has no moment"),
    ],
)
def test_lists_that_are_damaged(path: tuple[Any, ...], value: Any, text: str) -> None:
    whole = [copy.deepcopy(listed(Pricing(periods=3, stock=2)))]
    at: Any = whole
    for key in (0, *path)[:-1]:
        at = at[key]
    at[(0, *path)[-1]] = value
    with pytest.raises(PriceTableError) as refusal:
        PriceTable(whole[0])
    assert text in str(refusal.value), str(refusal.value)
