"""Pairs of price tables: cycles and Δ by hand, deviations in closed form, best answers by the environment's solver."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.pricing.duopoly import DuopolyPricing, rule_table
from palaestra.envs.pricing.two_learners.price_pairs import RESPONSE, PricePairs, best_values

MARKET = DuopolyPricing()
NASH, HIGH = MARKET.nash[0], 9
RULES = ["tit-for-tat", "undercut", "best-response", "nash"]


def grim(high: int = HIGH) -> Any:
    """The high price as long as both have posted it, then the Nash price for ever."""
    table = np.full(225, NASH)
    table[high * 15 + high] = high
    return table


def pair(first: Any, second: Any, market: DuopolyPricing = MARKET, last: Any = None) -> PricePairs:
    return PricePairs(market, np.stack((first, second))[None], None if last is None else np.array([last]))


def random_tables(pairs: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 15, (pairs, 2, 225))


# ------------------------------------------------------------------------------------------------- cycles, Δ


def test_collusion_is_0_at_nash_profits_and_1_at_a_cartels() -> None:
    market = DuopolyPricing()
    for profit, index in ((market.nash_profit, 0.0), (market.monopoly_profit, 1.0)):
        market.profit = np.full((15, 15), profit)
        assert PricePairs(market, random_tables(3, 0)).collusion == pytest.approx(index, abs=1e-12)


@pytest.mark.parametrize("price", range(15))
def test_collusion_of_constant_prices(price: int) -> None:
    own = MARKET.prices[price]
    profit = (own - 1) / (2 + np.exp((own - 2) * 4))
    expected = (profit - 0.22292666) / (0.33749046 - 0.22292666)
    found = pair(*2 * (np.full(225, price),))
    assert found.collusion == pytest.approx(expected, abs=1e-6)
    assert found.mean_prices == pytest.approx(own)
    assert found.lengths.tolist() == [1]


def test_prices_in_turn_have_a_cycle_of_both() -> None:
    """The first posts 3 after 8 and 8 else, the second what the first has posted."""
    first = np.where(np.arange(225) // 15 == 8, 3, 8)
    found = pair(first, rule_table("tit-for-tat"))
    assert found.lengths.tolist() == [2]
    assert sorted(found.prices.tolist()) == [[3, 8], [8, 3]]
    assert found.mean_prices[0] == pytest.approx(MARKET.prices[[3, 8]].mean())
    profit = MARKET.profit[3, 8], MARKET.profit[8, 3]
    assert found.mean_profits[0] == pytest.approx(np.mean(profit))


@given(st.integers(0, 2**32 - 1))
def test_cycles_are_those_of_a_plain_walk(seed: int) -> None:
    tables, generator = random_tables(4, seed), np.random.default_rng(seed)
    last = generator.integers(0, 15, (4, 2))
    found = PricePairs(MARKET, tables, last)
    for number in range(4):
        now, seen = tuple(last[number].tolist()), []
        while now not in seen:
            seen.append(now)
            first, second = tables[number, 0, now[0] * 15 + now[1]], tables[number, 1, now[1] * 15 + now[0]]
            now = (int(first), int(second))
        cycle = found.prices[found.pair == number].tolist()
        assert sorted(cycle) == sorted(map(list, seen[seen.index(now) :]))
        assert found.period[found.pair == number].tolist() == list(range(len(cycle)))


# ------------------------------------------------------------------------------------------------- deviations


@pytest.mark.parametrize(("discount", "holds"), [(0.95, True), (0.1, False)])
def test_a_deviation_from_grim_prices_in_closed_form(discount: float, holds: bool) -> None:
    market = DuopolyPricing(discount=discount)
    found = pair(grim(), grim(), market, (HIGH, HIGH))
    answer = int(market.profit[:, HIGH].argmax())
    now, high, nash = market.profit[answer, HIGH], market.profit[HIGH, HIGH], market.profit[NASH, NASH]
    kept, broken = high / (1 - discount), now + discount / (1 - discount) * nash
    change = found.deviation()
    assert change.at_once == pytest.approx(now / high - 1)
    assert change.in_all == pytest.approx(broken / kept - 1, rel=1e-9)
    assert (change.possible, change.pays) == (pytest.approx(1.0), pytest.approx(float(not holds)))
    assert bool(broken < kept) is holds
    assert found.is_equilibrium.tolist() == [holds]
    path = [[HIGH, HIGH], [answer, HIGH], *[[NASH, NASH]] * (RESPONSE - 1)]
    assert change.prices == pytest.approx(market.prices[path])


def test_firms_that_differ_deviate_each_by_itself() -> None:
    """One always posts the Nash price, whatever the other does; this one always a high one."""
    found = pair(np.full(225, NASH), np.full(225, HIGH))
    answer = int(MARKET.best_response[HIGH])
    assert answer != NASH  # so both have a better answer
    first, second = MARKET.profit[answer, HIGH], MARKET.profit[NASH, NASH]
    usual = MARKET.profit[NASH, HIGH], MARKET.profit[HIGH, NASH]
    change = found.deviation()
    assert change.at_once == pytest.approx((first / usual[0] + second / usual[1]) / 2 - 1)
    assert change.pays == pytest.approx(1.0)
    mean = MARKET.prices[[NASH, HIGH]].mean()
    assert change.prices[0] == pytest.approx([mean, mean])
    assert change.prices[1] == pytest.approx([MARKET.prices[[answer, NASH]].mean(), mean])
    assert change.prices[2] == pytest.approx([mean, mean])


def test_both_nash_prices_of_the_grid_are_equilibria_and_no_other_constant_price() -> None:
    tables = np.arange(15).repeat(2 * 225).reshape(15, 2, 225)
    found = PricePairs(MARKET, tables)
    assert np.flatnonzero(found.is_equilibrium).tolist() == MARKET.nash == [1, 2]
    assert found.of_best[1:3] == pytest.approx(1.0, abs=1e-9)
    assert (np.delete(found.of_best, [1, 2], 0) < 1 - 1e-4).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.97))
def test_values_of_both_firms_solve_the_linear_system(seed: int, discount: float) -> None:
    market, tables = DuopolyPricing(discount=discount), random_tables(1, seed)
    found = PricePairs(market, tables)
    for firm in (0, 1):
        chances, rewards = np.zeros((225, 225)), np.zeros(225)
        for state in range(225):
            own, rival = divmod(state, 15)
            now, other = tables[0, firm, state], tables[0, 1 - firm, rival * 15 + own]
            chances[state, now * 15 + other], rewards[state] = 1.0, market.profit[now, other]
        values = np.linalg.solve(np.eye(225) - discount * chances, rewards)
        assert found.values[0, firm] == pytest.approx(values, rel=1e-9)


# ------------------------------------------------------------------------------------------------- best answers


@pytest.mark.parametrize("rule", RULES)
def test_best_answers_to_the_rules_are_the_environments_optima(rule: Any) -> None:
    market = DuopolyPricing(rule)
    assert best_values(market, rule_table(rule)[None])[0] == pytest.approx(market.solution.value[0], rel=1e-9)


def test_best_answers_to_any_table_are_those_of_the_environment_with_this_rival() -> None:
    market, tables = DuopolyPricing("self"), random_tables(3, 8)[:, 0]
    found = best_values(market, tables)
    for table, values in zip(tables, found, strict=True):
        market.meet(lambda state, table=table: torch.tensor(table))  # type: ignore[misc]
        assert values == pytest.approx(market.solution.value[0], rel=1e-9)
        best = market.optimal_policy()[0]
        share = pair(best, table, market).of_best[0, 0]
        assert share == pytest.approx(1.0, abs=1e-9)


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (np.zeros((2, 225), int), "tables must be [pairs, 2, 225], got [2, 225]"),
        (np.zeros((0, 2, 225), int), "tables must be [pairs, 2, 225], got [0, 2, 225]"),
        (np.full((1, 2, 225), 15), "tables must hold prices 0 … 14, got 15 … 15"),
    ],
)
def test_other_tables_are_refused(tables: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        PricePairs(MARKET, tables)


def test_unknown_rules_are_named() -> None:
    with pytest.raises(KeyError) as error:
        rule_table("self")
    assert error.value.args[0] == tuple(RULES)
