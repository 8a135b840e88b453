"""Figures of the markets: paths by hand, and the optimal policy beside itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from palaestra.envs.core.reference import LineFigure, MapFigure, RowFigure
from palaestra.envs.core.rng import Rng, child_key, env_keys
from palaestra.envs.pricing import DuopolyPricing, Pricing, TwoProducts
from palaestra.envs.pricing.dashboard.duopoly_figures import PERIODS, duopoly_figures, price_path
from palaestra.envs.pricing.dashboard.policy_figures import season_figures

RIVALS = ("tit-for-tat", "undercut", "best-response", "nash")
NONE = (np.zeros(1), np.zeros(1), None)


@pytest.mark.parametrize("rival", RIVALS)
def test_the_path_of_prices_is_what_the_rules_play(rival: Any) -> None:
    """Against the steps of the environment itself, with a policy of seven prices in turns."""
    market = DuopolyPricing(rival)
    table = np.arange(market.num_states)[None] * 7 % len(market.prices)
    own, others = price_path(market, table, PERIODS)
    keys = child_key(env_keys(0, torch.arange(1)), 0)
    state = market.reset(Rng(keys, 0))
    for period in range(PERIODS):
        place = int(state.price) * len(market.prices) + int(state.rival)
        state, _, _ = market.step(state, torch.tensor([int(table[0, place])]), Rng(keys, period + 1))
        assert own[period] == market.prices[int(state.price)]
        assert others[period] == market.prices[int(state.rival)]


def test_the_duopoly_beside_nash_and_monopoly() -> None:
    market = DuopolyPricing()
    prices, profit, maps = market.report_figures(*NONE, market.expert)
    assert isinstance(prices, LineFigure)
    assert isinstance(profit, RowFigure)
    assert isinstance(maps, MapFigure)
    assert prices.curves["agent"] == prices.curves["best known"]
    assert dict(prices.levels) == pytest.approx({"Nash price": 1.472927, "monopoly price": 1.924981}, abs=1e-6)
    assert profit.values == {
        "this agent": 0.3269,  # 6.537106 · (1 − 0.95)
        "best known": 0.3269,
        "both at the Nash price": 0.2229,
        "both at the monopoly price": 0.3375,
    }
    assert profit.note.startswith("The agent earns 91 % of what lies between")
    assert maps.maps["agent"] == maps.maps["best known"]
    assert "its prices are 0 away" in maps.note
    assert market.report_figures(*NONE, None) == []


def test_the_map_has_the_rivals_price_upwards() -> None:
    market = DuopolyPricing()
    size = len(market.prices)
    follows = np.tile(np.arange(size), size)[None]  # posts the rival's last price, whatever its own was
    maps = duopoly_figures(market, follows)[2]
    assert isinstance(maps, MapFigure)
    assert maps.maps["agent"] == [[price] * size for price in market.prices.tolist()]
    assert maps.first == (market.prices[0], market.prices[0])


def test_a_season_at_one_price_by_hand() -> None:
    """One unit, sold in each period with the same probability p as long as it is there: (1 − p)ᵗ are left."""
    market = Pricing(periods=5, stock=1, prices=[20, 40, 90])
    prices, left, _ = market.report_figures(*NONE, lambda state: state.stock * 0 + 1)
    assert isinstance(prices, LineFigure)
    assert isinstance(left, LineFigure)
    assert prices.curves["agent"] == [40.0] * 5
    shares = market.state_distribution(np.ones((5, 2), np.int64))
    assert left.curves["agent"] == pytest.approx(shares[:, 1].tolist(), rel=1e-4)
    assert (left.x, left.curves["agent"][0]) == ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 1.0)
    units = np.array(left.curves["agent"])
    assert (np.diff(units) < 0.0).all()


@pytest.mark.parametrize("market", [Pricing(periods=8, stock=4), TwoProducts(periods=6)], ids=["one", "two"])
def test_the_best_season_lies_on_itself(market: Any) -> None:
    prices, left, *_ = season_figures(market, market.optimal_policy())
    for figure in (prices, left):
        assert isinstance(figure, LineFigure)
        for name, values in figure.curves.items():
            if name.startswith("agent"):
                assert values == figure.curves[name.replace("agent", "best known")]
