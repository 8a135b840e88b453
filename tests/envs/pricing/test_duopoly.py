"""The duopoly: known equilibria, values by a linear system, the rival's rules by hand, and the random end."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from palaestra.envs.core.rng import Rng, child_key, env_keys
from palaestra.envs.pricing import DuopolyPricing, logit_duopoly
from palaestra.envs.pricing.duopoly import DuopolyState

RIVALS = ["tit-for-tat", "undercut", "best-response", "nash"]
MARKETS = {rival: DuopolyPricing(rival) for rival in RIVALS}  # type: ignore[arg-type]


def profit(own: float, rival: float) -> float:
    """Of a period, written out for a 2, c 1, μ ¼, a₀ 0."""
    mine, theirs = math.exp((2 - own) / 0.25), math.exp((2 - rival) / 0.25)
    return (own - 1) * mine / (mine + theirs + 1)


# ------------------------------------------------------------------------------------------- published figures


@pytest.mark.parametrize(
    ("rival", "optimum", "random", "myopic", "fixed"),
    [
        ("tit-for-tat", 6.537106, 84.0, 67.4, 99.8),
        ("undercut", 6.166309, 84.9, 71.4, 99.9),
        ("best-response", 4.774622, 91.9, 92.2, 100.0),
        ("nash", 4.404080, 79.2, 100.0, 100.0),
    ],
)
def test_figures_of_the_table(rival: str, optimum: float, random: float, myopic: float, fixed: float) -> None:
    market = MARKETS[rival]
    assert market.optimal_value() == pytest.approx(optimum, abs=6e-7)
    values = market.random_value(), market.policy_value(market.myopic_policy()), market.best_fixed_price()[1]
    assert [100 * value / optimum for value in values] == pytest.approx([random, myopic, fixed], abs=0.06)


def test_nash_and_monopoly_prices_are_known() -> None:
    nash, monopoly = (logit_duopoly(2.0, 1.0, 0.25, 0.0, collude=collude) for collude in (False, True))
    assert nash == pytest.approx((1.472927, 0.222927), abs=6e-7)
    assert monopoly == pytest.approx((1.924981, 0.337490), abs=6e-7)


def test_no_other_price_pays_more_than_nash_or_monopoly() -> None:
    nash, monopoly = (logit_duopoly(2.0, 1.0, 0.25, 0.0, collude=collude) for collude in (False, True))
    h = 1e-5
    assert (profit(nash.price + h, nash.price) - profit(nash.price - h, nash.price)) / h == pytest.approx(0, abs=1e-8)
    assert (profit(*2 * (monopoly.price + h,)) - profit(*2 * (monopoly.price - h,))) / h == pytest.approx(0, abs=1e-8)
    assert all(profit(p, nash.price) < nash.profit for p in (1.0, 1.3, 1.46, 1.49, 1.7, 2.5))
    assert all(profit(p, p) < monopoly.profit for p in (1.0, 1.5, 1.91, 1.94, 2.5))


def test_grid_and_its_two_pure_equilibria() -> None:
    prices = MARKETS["nash"].prices
    assert len(prices) == 15
    assert prices[[0, -1]] == pytest.approx([1.427721, 1.970186], abs=6e-7)
    assert np.diff(prices) == pytest.approx(0.038748, abs=6e-7)
    best = [max(range(15), key=lambda i: profit(prices[i], rival)) for rival in prices]
    pairs = {(i, j) for i, j in itertools.product(range(15), repeat=2) if best[j] == i and best[i] == j}
    assert all(i == j for i, j in pairs)
    assert sorted(prices[i] for i, _ in pairs) == pytest.approx([1.466469, 1.505216], abs=6e-7)
    for market in MARKETS.values():
        assert market.nash == [1, 2]
        assert market.best_response.tolist() == best


# ------------------------------------------------------------------------------------------- independent solver


def answer(rival: str, price: int) -> int:
    """The rival's next price after the agent's, by hand; 1 is the lower equilibrium."""
    prices = MARKETS["nash"].prices
    best = max(range(15), key=lambda i: profit(prices[i], prices[price]))
    return {"tit-for-tat": price, "undercut": max(price - 1, 1), "best-response": best, "nash": 1}[rival]


def linear_value(rival: str, policy: Any, discount: float = 0.95) -> Any:
    """Values of all states [225] under probabilities [225, 15], by solving v = r + δ P v."""
    prices, chances, rewards = MARKETS["nash"].prices, np.zeros((225, 225)), np.zeros(225)
    for own, last in itertools.product(range(15), repeat=2):
        state, theirs = own * 15 + last, answer(rival, own)
        for action in range(15):
            weight = policy[state, action]
            rewards[state] += weight * profit(prices[action], prices[theirs])
            chances[state, action * 15 + theirs] += weight
    return np.linalg.solve(np.eye(225) - discount * chances, rewards)


@pytest.mark.parametrize("rival", RIVALS)
def test_values_solve_the_linear_system(rival: str) -> None:
    market = MARKETS[rival]
    policy = np.random.default_rng(3).dirichlet(np.full(15, 0.3), 225)
    assert market.policy_values(policy[None])[0] == pytest.approx(linear_value(rival, policy), rel=1e-11)
    best = market.optimal_policy()
    value = linear_value(rival, np.eye(15)[best[0]])
    assert market.solution.value[0] == pytest.approx(value, rel=1e-11)
    assert market.policy_value(best) == pytest.approx(market.optimal_value(), rel=1e-12)
    assert market.policy_value(policy[None]) < market.optimal_value()
    for state in range(0, 225, 7):  # no single change pays (policy improvement finds nothing)
        theirs = answer(rival, state // 15)
        gains = [profit(market.prices[a], market.prices[theirs]) + 0.95 * value[a * 15 + theirs] for a in range(15)]
        assert max(gains) == pytest.approx(value[state], rel=1e-11)


@given(st.sampled_from(RIVALS), st.floats(0.05, 0.98), st.integers(0, 2**32 - 1))
def test_no_policy_beats_the_optimum(rival: Any, discount: float, seed: int) -> None:
    market = DuopolyPricing(rival, discount)
    policy = np.random.default_rng(seed).dirichlet(np.full(15, 0.5), (1, 225))
    assert market.policy_values(policy)[0] == pytest.approx(linear_value(rival, policy[0], discount), rel=1e-9)
    assert (market.policy_values(policy) <= market.solution.value + 1e-9).all()
    assert market.policy_value(market.myopic_policy()) <= market.optimal_value() + 1e-9


def test_a_short_sighted_market_has_the_myopic_policy() -> None:
    market = DuopolyPricing("tit-for-tat", 1e-9)
    assert np.array_equal(market.optimal_policy(), market.myopic_policy())


# ------------------------------------------------------------------------------------------- the simulator


class Drawn(Rng):
    """Gives the uniform number that the test wants."""

    def __init__(self, value: float) -> None:
        super().__init__(torch.zeros(1, dtype=torch.int64), 1)
        self.value = value

    def uniform(self, *args: Any, **kwargs: Any) -> Tensor:
        return torch.tensor([self.value])


@pytest.mark.parametrize("rival", RIVALS)
def test_one_period_by_hand(rival: str) -> None:
    """From every last price of the agent: the rival answers it, whatever it posted itself."""
    market = MARKETS[rival]
    for own, action, draw in ((0, 4, 0.1), (1, 0, 0.949), (2, 14, 0.951), (9, 9, 0.5), (14, 3, 0.999)):
        state = DuopolyState(*(torch.tensor([value]) for value in (6, own, 13)), torch.tensor([2.0]))
        after, reward, closes = market.step(state, torch.tensor([action]), Drawn(draw))
        theirs = answer(rival, own)
        earned = profit(market.prices[action], market.prices[theirs])
        assert (after.period.item(), after.price.item(), after.rival.item()) == (7, action, theirs)
        assert reward.item() == pytest.approx(earned, rel=1e-6)
        assert after.revenue.item() == pytest.approx(2 + earned, rel=1e-6)
        assert closes.item() == (draw >= 0.95)
        assert market.observe(after).tolist() == [pytest.approx([action / 14, theirs / 14])]


def test_undercutting_stops_at_the_lower_equilibrium() -> None:
    assert MARKETS["undercut"].answer.tolist() == [1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]


def test_first_period_follows_the_lower_equilibrium() -> None:
    for market in MARKETS.values():
        start = market.reset(Rng(torch.zeros(3, dtype=torch.int64), 0))
        assert start.price.tolist() == start.rival.tolist() == [1, 1, 1]
        assert start.price[0] * 15 + start.rival[0] == market.first_state


def test_the_market_stays_open_for_twenty_periods_on_average() -> None:
    """Lengths are geometric: mean 1/(1 − δ), variance δ/(1 − δ)²."""
    market, n = MARKETS["nash"], 20_000
    keys = child_key(env_keys(2, torch.arange(n)), 0)
    state, length, alive = market.reset(Rng(keys, 0)), torch.zeros(n), torch.ones(n, dtype=torch.bool)
    for step in range(1, 500):
        state, _, closes = market.step(state, torch.zeros(n, dtype=torch.int64), Rng(keys, step))
        length += alive
        alive &= ~closes
    assert not alive.any()
    assert abs(length.mean().item() - 20) < 4 * math.sqrt(0.95) / 0.05 / math.sqrt(n)
    assert abs((length == 1).double().mean().item() - 0.05) < 4 * math.sqrt(0.05 * 0.95 / n)


# ------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize("discount", [0.0, 1.0, -0.5, 0.9995, math.nan, "0.9", None])
def test_discounts_that_make_no_sense_are_refused(discount: Any) -> None:
    with pytest.raises(ValueError, match=r"discount must be above 0 and at most 0\.999, got"):
        DuopolyPricing(discount=discount)


def test_unknown_rivals_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rival must be one of tit-for-tat.*, self or a model file, got 'copy'"):
        DuopolyPricing("copy")  # type: ignore[arg-type]
