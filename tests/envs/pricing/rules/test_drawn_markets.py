"""Many markets at once under the rules of a shop, against the season of each alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palaestra.envs.pricing.demand.uplift import Period
from palaestra.envs.pricing.rules.drawn_markets import ruled_values
from palaestra.envs.pricing.rules.ruled_season import RuledSeason
from palaestra.envs.pricing.rules.shop_rules import ShopRules

MENU = np.array([2.0, 3.0, 4.5])


@pytest.mark.parametrize(
    "rules",
    [
        ShopRules(hold=3, holding_cost=0.1),
        ShopRules(max_change=1.5, markdowns_only=True, current_price=4.0, replenish={3: 2, 5: 4}),
        ShopRules(replenish={2: 3}),
    ],
)
@pytest.mark.parametrize("kind", ["optimal", "myopic", "any"])
@pytest.mark.parametrize("lot", [1, 5])
def test_values_are_those_of_each_market_alone(rules: ShopRules, kind: str, lot: int) -> None:
    rules = replace(rules, replenish={period: lot * units for period, units in rules.replenish.items()})
    rng = np.random.default_rng(4)
    wanted = rng.dirichlet(np.ones(5), (3, 6, 3))  # [B, T, A, K + 1]
    cost = np.linspace(0.2, 1.0, 6)
    seasons = [RuledSeason(MENU, each, 4 * lot, cost, rules, lot) for each in wanted]
    one = seasons[0]
    policy = {"optimal": one.optimal_policy(), "myopic": one.myopic_policy()}.get(kind)
    if policy is None:
        allowed = np.ones((one.num_states, 3), bool) if one.allowed is None else one.allowed
        policy = np.stack([np.where(allowed, rng.random(allowed.shape), -1.0).argmax(1) for _ in range(6)])
    sold = np.minimum(np.arange(5)[:, None], np.arange(one.stock_levels))

    def period(stage: int, actions: Any = slice(None)) -> Period:
        units = lot * (wanted[:, stage] @ sold)
        return Period(*(t[:, actions] for t in (wanted[:, stage], units * MENU[:, None], units)))

    found = ruled_values(one, period, policy, cost)
    assert found == pytest.approx([season.policy_value(policy) for season in seasons], rel=1e-12)
    always = np.zeros((6, one.stock_levels), np.int64)
    fixed = int(one.fixed_price_values().argmax())
    alone = [season.fixed_price_values()[fixed] for season in seasons]
    assert ruled_values(one, lambda stage: period(stage, [fixed]), always, cost) == pytest.approx(alone, rel=1e-12)
