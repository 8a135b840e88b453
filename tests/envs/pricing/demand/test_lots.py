"""Large volumes in lots: the rounding, its exactness against single units, and what users see of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from palaestra.envs.checker.conformance import check_env
from palaestra.envs.core.rng import Rng, child_key, env_keys
from palaestra.envs.pricing import Pricing
from palaestra.envs.pricing.demand.count_distributions import lots, negative_binomial, poisson
from palaestra.envs.pricing.demand.estimation import Estimate
from palaestra.envs.pricing.demand.json_file import demand_data, load_demand
from palaestra.envs.pricing.demand.model import Demand, Product
from palaestra.envs.pricing.price_list import PriceList

MENU = np.arange(2.0, 9.0)


def market_of(units: float, dispersion: float | None = None, periods: int | None = None) -> Demand:
    """exp(−0.3 p) times so many units a period, prices 2 to 8, unit cost 1."""
    names = ("constant", "price", *(["log_dispersion"] if dispersion else []))
    values = np.array([np.log(units), -0.3, *([np.log(dispersion)] if dispersion else [])])
    estimate = Estimate(names, values, np.eye(len(names)) * 1e-5, -1.0, 100)
    ends = np.array([2.0, 8.0])
    product = Product((2.0, 8.0), ends, np.array([0.5, 0.5]), {"price": 5.0}, 1.0, 1, 0, estimate)
    demand = Demand("counts", {"milk": product}, periods, None, False, "x", 1)
    return replace(demand, products={"milk": replace(product, lot=demand.suitable_lot("milk"))})


@pytest.mark.parametrize(
    ("mean", "dispersion", "lot", "tolerance"),
    [
        (37.0, 0.0, 5, 1e-12),  # few units, summed one by one
        (0.01, 0.0, 7, 1e-12),
        (3.0, 0.5, 50, 1e-12),
        (2000.0, 0.0, 200, 1e-3),
        (2000.0, 0.05, 200, 1e-3),
        (300.0, 3.0, 30, 1e-3),
    ],
)
def test_units_between_two_lots_are_rounded_at_random(
    mean: float, dispersion: float, lot: int, tolerance: float
) -> None:
    """Against sums over single units; the mean stays."""
    most = 50
    units = (most + 1) * lot
    single = negative_binomial(mean, dispersion, units) if dispersion else poisson(mean, units)
    distance = np.abs(np.arange(len(single))[:, None] / lot - np.arange(most + 1))
    expected = single @ np.maximum(0.0, 1.0 - distance)
    expected[-1] = 1.0 - expected[:-1].sum()
    found = lots(np.array([mean]), dispersion, most, lot)[0]
    assert np.pad(found, (0, most + 1 - len(found))) == pytest.approx(expected, abs=tolerance)
    if expected[-1] < 1e-12:
        assert lot * (found @ np.arange(len(found))) == pytest.approx(mean, rel=2e-5 if dispersion else 1e-9)


@pytest.mark.parametrize("dispersion", [None, 0.05])
@pytest.mark.parametrize(("lot", "gap", "loss"), [(2, 2e-4, 1e-4), (5, 1e-3, 2e-4), (10, 4e-3, 2e-3)])
def test_the_optimum_in_lots_is_near_that_in_units(lot: int, gap: float, loss: float, dispersion: float | None) -> None:
    """No farther than straight lines between the lots are from the values of single units, added up over the periods;
    and its policy earns nearly the optimum where each unit is counted."""
    demand, count = market_of(120.0, dispersion), np.arange(201)
    unit = Pricing(10, 200, prices=MENU, demand=demand, lot=1)
    many = Pricing(10, 200, prices=MENU, demand=demand, lot=lot)
    value = unit.solution.value
    bent = sum(np.abs(np.interp(count, count[::lot], v[::lot]) - v).max() for v in value[1:10])
    assert np.abs(many.solution.value - value[:, ::lot]).max() <= bent * (1 + 1e-9)
    assert many.optimal_value() == pytest.approx(unit.optimal_value(), rel=gap)
    nearest = np.maximum(1, np.round(count / lot)).astype(int)
    assert unit.policy_value(many.optimal_policy()[:, nearest]) > (1.0 - loss) * unit.optimal_value()
    assert many.expected.stock[0] == 200


def test_a_large_volume_has_a_season_of_30_periods_in_lots() -> None:
    assert market_of(10.0).products["milk"].lot == 1
    for units, periods in ((40.0, None), (5_000.0, None), (5e5, 200), (2e8, 40)):
        demand = market_of(units, periods=periods)
        lot = demand.products["milk"].lot
        market = Pricing(demand=demand)
        assert lot > 1
        assert str(lot).strip("0") in ("1", "2", "5", "")
        assert 30 <= market.stages <= 100
        assert (market.lot, market.stock % lot) == (lot, 0)
        mean = demand.mean_units("milk", market.prices, demand.products["milk"].estimate.coefficients)
        np.testing.assert_allclose(lot * (market.wanted[0] @ np.arange(market.wanted.shape[2])), mean, rtol=1e-9)
    short = market_of(5_000.0, periods=12)
    assert Pricing(demand=short).stages == 12


def test_what_is_sold_and_told_is_in_units() -> None:
    market = Pricing(demand=market_of(5_000.0))
    assert market.lot == 200
    findings = check_env(market, num_envs=16, steps=8)
    assert all(finding.passed for finding in findings)
    table, returns = market.optimal_policy(), market.exact(market.expert)
    left = market.state_distribution(table)[-1] @ np.arange(market.num_states)
    assert returns["unsold_units"] == pytest.approx(200 * left)
    assert returns["uplift_over_fixed_percent"] == pytest.approx(
        100.0 * (market.optimal_value() / market.best_fixed_price()[1] - 1.0), rel=1e-9
    )
    keys = child_key(env_keys(1, torch.arange(64)), 0)
    after, reward, _ = market.step(market.reset(Rng(keys, 0)), torch.arange(64) % 13, Rng(keys, 1))
    assert (after.sold % 200 == 0).all()
    assert torch.equal(after.stock, market.stock - after.sold)
    assert reward.numpy() == pytest.approx((market.prices[np.arange(64) % 13] - 1.0) * after.sold.numpy(), rel=1e-6)
    states = market.states(3)
    assert torch.equal(states.stock, 200 * torch.arange(market.num_states))
    assert market.expert(states).tolist() == table[3].tolist()
    found = PriceList(market)
    rows = list(found.rows())
    assert [row[1] for row in rows[:3]] == [200, 400, 600]
    assert (len(rows), rows[-1][1]) == (market.stages * market.first_state, market.stock)
    value = market.solution.value
    assert found.shadow[4, 6] == pytest.approx((value[4, 7] - value[4, 6]) / 200)


def test_a_stock_of_one_s_own_has_the_largest_lot_that_divides_it() -> None:
    demand = market_of(5_000.0)
    for stock, lot in ((20_000, 200), (20_050, 50), (100, 2), (35, 1)):
        assert Pricing(5, stock, demand=demand, prices=[4, 8]).lot == lot
    with pytest.raises(ValueError, match="stock must be a multiple of the lot, 40 units, got 100"):
        Pricing(5, 100, demand=demand, lot=40)
    for lot in (0, 1.5, "x"):
        with pytest.raises(ValueError, match=f"lot must be a whole number of at least 1, got {lot!r}"):
            Pricing(5, 100, demand=demand, lot=lot)
    with pytest.raises(ValueError, match="lot=2 needs a demand"):
        Pricing(lot=2)


def test_the_lot_is_in_the_file_and_old_files_have_none() -> None:
    data = demand_data(market_of(5_000.0))
    assert load_demand(data).products["milk"].lot == 200
    del data["products"]["milk"]["lot"]
    assert Pricing(demand=data).lot == 1
    for lot in (0, 2.5, "x"):
        data["products"]["milk"]["lot"] = lot
        with pytest.raises(ValueError, match=f"milk.lot must be a whole number of at least 1, got {lot!r}"):
            Pricing(demand=data)


def test_rules_of_a_shop_hold_in_lots() -> None:
    """Deliveries, holding costs and markdowns: near single units, and the uplift's own recursion agrees."""
    rules = {"markdowns_only": True, "replenish": {4: 50}, "holding_cost": 0.05}
    unit, many = (Pricing(8, 100, prices=MENU, demand=market_of(120.0), lot=lot, **rules) for lot in (1, 5))
    assert many.optimal_value() == pytest.approx(unit.optimal_value(), rel=3e-3)
    assert many.best_fixed_price()[1] == pytest.approx(unit.best_fixed_price()[1], rel=3e-3)
    assert many.stresses()["demand_plus_20"].optimal_value() > many.optimal_value()
    told = many.exact(many.expert)
    gain = 100.0 * (many.optimal_value() / many.best_fixed_price()[1] - 1.0)
    assert told["uplift_over_fixed_percent"] == pytest.approx(gain, rel=1e-9)
    assert all(finding.passed for finding in check_env(many, num_envs=16, steps=8))
    rows = list(PriceList(many).rows())
    assert {row[1] for row in rows if row[0] == 3} == set(range(0, 101, 5))
    assert max(row[1] for row in rows if row[0] == 4) == 150
    large = market_of(5000.0)
    lot = large.products["milk"].lot
    for units in (lot, 2 * lot, 5 * lot):
        assert Pricing(demand=large, replenish={4: units}).lot == lot  # a small delivery does not make lots small
    odd = Pricing(demand=large, replenish={4: lot + lot // 2})
    assert odd.lot >= lot // 2
    assert odd.stock % odd.lot == (lot + lot // 2) % odd.lot == 0
    with pytest.raises(ValueError, match="replenish must give multiples of the lot, 5 units"):
        Pricing(8, 100, prices=MENU, demand=market_of(120.0), lot=5, replenish={4: 51})
