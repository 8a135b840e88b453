"""The seller's dashboard under rules: forbidden prices are shaded, deliveries marked, maps follow the last price."""

from __future__ import annotations

from typing import Any

import numpy as np
import pygame
import pytest
import torch

from palaestra.envs import TensorVectorEnv
from palaestra.envs.pricing import Pricing
from palaestra.envs.pricing.dashboard.panels import OWN
from palaestra.envs.pricing.dashboard.season_page import FORBIDDEN, SALE, SeasonView, price_map, season_layout
from palaestra.envs.rendering.picture import picture


def season(actions: list[int], **rules: Any) -> tuple[Pricing, list[Any]]:
    """A market, and the states of a season with these prices, on the host."""
    market = Pricing(periods=8, stock=3, prices=[40, 60, 80, 100], arrival_rate=0.2, **rules)
    batch = TensorVectorEnv(market, 1, device="cpu", seed=3)
    batch.reset()
    states = [batch.state_of(0)]
    for action in actions:
        batch.advance(torch.tensor([action]))
        states.append(batch.state_of(0))
    return market, states


def near(image: Any, point: tuple[float, float], colour: str) -> bool:
    x, y = int(point[0]), int(point[1])
    return bool(np.abs(image[y, x].astype(int) - tuple(pygame.Color(colour))[:3]).max() < 12)


def test_what_was_forbidden_is_shaded_and_what_was_allowed_is_not() -> None:
    market, states = season([2, 3, 3, 2, 2], max_change=20)
    view = SeasonView(market, states)
    image, chart = picture(market, states[-1], past=states[:-1]), season_layout(view).price
    assert view.allowed is not None
    assert view.allowed.astype(int).tolist() == [[1, 1, 1, 1], [0, 1, 1, 1], *[[0, 0, 1, 1]] * 2, *[[0, 1, 1, 1]] * 2]
    for period, allowed in enumerate(view.allowed):
        for price, may in zip(market.prices, allowed, strict=True):
            if chart.y[0] < price < chart.y[1]:
                assert near(image, chart.place(period + 0.3, price), FORBIDDEN) is not bool(may)
    assert not near(image, chart.place(6.5, 40.0), FORBIDDEN)  # a period that is still to come


def test_deliveries_are_marked_and_a_sold_out_season_goes_on_until_the_last() -> None:
    market, states = season([0, 0], replenish={4: 2, 6: 1}, holding_cost=0.1)
    empty = type(states[-1])(**{**vars(states[-1]), "stock": np.int64(0)})
    for period, over in ((2, False), (4, False), (5, True), (7, True)):
        view = SeasonView(market, [type(empty)(**{**vars(empty), "period": period})])
        assert view.over is over  # units of period 6 are there when 5 periods are gone
    view = SeasonView(market, states)
    assert view.earnings == "profit"
    image, chart = picture(market, states[-1], past=states[:-1]), season_layout(view).stock
    assert chart.y[1] >= 6.0
    for period in range(8):
        assert near(image, chart.place(period, 0.3), SALE) is (period in (3, 5))


def test_no_price_is_drawn_for_a_period_without_stock_before_a_delivery() -> None:
    market, states = season([0] * 7, replenish={4: 2, 7: 1}, holding_cost=0.1)
    stock = [3, 1, 0, 2, 1, 0, 1, 0]  # after so many periods, with what arrives for the next
    sold = [0, 2, 1, 0, 1, 1, 0, 1]
    known = [
        type(state)(**{**vars(state), "stock": np.int64(units), "sold": np.int64(out)})
        for state, units, out in zip(states, stock, sold, strict=True)
    ]
    view = SeasonView(market, known)
    assert np.isnan(view.posted[:, 0]).tolist() == [True, False, False, True, False, False, True, False]
    image, chart = picture(market, known[-1], past=known[:-1]), season_layout(view).price
    for period, drawn in enumerate((True, True, False, True, True, False, True)):
        x, y = chart.place(period + 0.2, market.prices[0])
        assert any(near(image, (x, y + dy), OWN[0]) for dy in (-1, 0, 1)) is drawn, period


@pytest.mark.parametrize("actions", [[2], [2, 2, 2, 3]])
def test_the_maps_show_what_follows_the_last_price(actions: list[int]) -> None:
    market, states = season(actions, hold=3, markdowns_only=True, current_price=100)
    view = SeasonView(market, states)
    last = int(states[-1].price)
    assert last == 2  # the rise to 100 was forbidden
    assert view.after == ", after 80"
    grid = price_map(view, market.optimal_policy(), 0)
    optimal = market.optimal_policy().reshape(8, 4, -1)[:, 1:, 1 + 3 * last]
    assert grid.tolist() == market.prices[optimal].T.tolist()
    assert (grid <= market.prices[last]).all()
