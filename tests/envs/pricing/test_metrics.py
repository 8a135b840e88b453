"""Pricing beyond the mean: state distributions and what follows from them against play, robustness, and evaluation."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from palaestra.envs import make
from palaestra.envs.core import BatchedEnv, TensorVectorEnv
from palaestra.envs.core.rng import Rng, child_key, env_keys
from palaestra.envs.pricing import DuopolyPricing, Market, Pricing, Season, TwoProducts, Yogurt
from palaestra.envs.pricing.metrics import lowest_mean, season_measures
from palaestra.train.evaluation.episodes import evaluate
from palaestra.train.evaluation.policies import ExpertPolicy, RandomPolicy

MARKETS: dict[str, Market[Any]] = {
    "one": Pricing(12, 4, 0.7, [10, 30, 60, 90], [20.0 + 6 * t for t in range(12)]),
    "many": Yogurt(6, 25, 9.0),
    "two": TwoProducts(14, (2, 3), prices=(40, 80, 120)),
    "rival": DuopolyPricing("undercut", 0.8),
}


def random_policy(market: Market[Any], seed: int) -> Any:
    shape = market.stages, market.num_states
    return np.random.default_rng(seed).dirichlet(np.full(len(market.prices), 0.4), shape)


@given(st.sampled_from(sorted(MARKETS)), st.integers(0, 2**32 - 1))
def test_onward_is_the_adjoint_of_lookahead(name: str, seed: int) -> None:
    """⟨mass, lookahead(v) − lookahead(0)⟩ = δ ⟨onward(mass), v⟩ for any v: both say where the states go."""
    market, generator = MARKETS[name], np.random.default_rng(seed)
    stage = int(generator.integers(market.stages))
    mass = generator.random((market.num_states, len(market.prices)))
    value = generator.normal(size=market.num_states)
    ahead = market.action_values(stage, value) - market.action_values(stage, np.zeros_like(value))
    transition = market.transition(stage, mass)
    assert (mass * ahead).sum() == pytest.approx(market.discount * transition @ value, rel=1e-9, abs=1e-9)
    assert transition.sum() == pytest.approx(mass.sum(), rel=1e-12)


@given(st.sampled_from(sorted(MARKETS)), st.integers(0, 2**32 - 1))
def test_revenue_of_the_distribution_is_the_value(name: str, seed: int) -> None:
    """Going forwards and going backwards give the same mean return."""
    market = MARKETS[name]
    policy = random_policy(market, seed)
    shares, none = market.state_distribution(policy), np.zeros(market.num_states)
    assert shares.sum(1) == pytest.approx(np.ones(len(shares)), rel=1e-9)
    earned = sum(
        float((shares[t][:, None] * policy[t] * market.action_values(t, none)).sum()) for t in range(market.stages)
    )
    assert market.policy_value(policy) == pytest.approx(earned / (1.0 if market.units is not None else 0.2), rel=1e-9)


def played(market: Market[Any], games: int) -> dict[str, tuple[float, float]]:
    """Mean and standard error of the measures under the expert, counted from whole episodes."""
    keys = child_key(env_keys(11, torch.arange(games)), 0)
    state, alive, step = market.reset(Rng(keys, 0)), torch.ones(games, dtype=torch.bool), 0
    posted: list[Tensor] = []  # each [games, products], NaN where nothing was for sale
    menu = torch.tensor(market.prices).view(len(market.prices), -1)
    left = torch.zeros(games, menu.shape[1], dtype=torch.int64)
    while alive.any():
        step += 1
        action = market.expert(state)
        offered = alive.unsqueeze(1).expand(games, menu.shape[1])
        if market.units is not None:
            offered = offered & (state.stock.view(games, -1) > 0)
        posted.append(torch.where(offered, menu[action], math.nan))
        state, _, terminated = market.step(state, torch.where(alive, action, 0), Rng(keys, step))
        if market.units is not None:
            left = torch.where((alive & terminated).unsqueeze(1), state.stock.view(games, -1), left)
        alive = alive & ~terminated
    numbers = {}
    for product, column in enumerate(torch.stack(posted).permute(2, 0, 1)):
        name = "price" if menu.shape[1] == 1 else f"price_{product + 1}"
        prices, count = column.nan_to_num(0.0), (~column.isnan()).sum(0)
        mean = (prices.sum() / count.sum()).item()
        numbers[f"{name}_mean"] = ratio(prices.sum(0), count)
        square, error = ratio(torch.where(column.isnan(), 0.0, (column - mean) ** 2).sum(0), count)
        numbers[f"{name}_deviation"] = math.sqrt(square), error / (2 * math.sqrt(square))
    if market.units is not None:
        total = left.sum(1).double()
        sold_out = 100.0 * (total == 0).double()
        for name, values in (("unsold_units", total), ("sold_out_percent", sold_out)):
            numbers[name] = values.mean().item(), values.std().item() / math.sqrt(games)
    return numbers


def ratio(sums: Tensor, counts: Tensor) -> tuple[float, float]:
    """Σ sums / Σ counts and its standard error over episodes."""
    value = (sums.sum() / counts.sum()).item()
    rest = sums - value * counts
    return value, (rest.std() * math.sqrt(len(sums)) / counts.sum()).item()


@pytest.mark.parametrize("name", MARKETS)
def test_measures_agree_with_play(name: str) -> None:
    market = MARKETS[name]
    exact = season_measures(market, market.optimal_policy(), market.prices, market.units)
    counted = played(market, 20_000)
    assert exact.keys() == counted.keys()
    for key, (value, error) in counted.items():
        assert abs(exact[key] - value) < 4 * error + 1e-9, key


def test_measures_of_one_period_by_hand() -> None:
    """Two units, one period; 0, 1, 2 wanted units with ½, ¼, ¼ at either price; 10 posted with ¾, 30 with ¼."""
    market = Season([10.0, 30.0], np.tile([0.5, 0.25, 0.25], (1, 2, 1)), 2)
    numbers = season_measures(market, np.tile([0.75, 0.25], (1, 3, 1)), market.prices, market.units)
    assert numbers == pytest.approx(
        {"sold_out_percent": 25.0, "unsold_units": 1.25, "price_mean": 15.0, "price_deviation": math.sqrt(75)}
    )


def test_a_price_that_never_changes_has_no_dispersion() -> None:
    for market in MARKETS.values():
        numbers = season_measures(market, np.ones((market.stages, market.num_states), int), market.prices, market.units)
        deviations = [value for name, value in numbers.items() if name.endswith("_deviation")]
        assert deviations == pytest.approx([0.0] * len(deviations), abs=1e-12)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_lowest_mean(returns: list[float]) -> None:
    count = max(1, round(len(returns) / 20))
    assert lowest_mean(np.array(returns)) == pytest.approx(sum(sorted(returns)[:count]) / count, rel=1e-9, abs=1e-6)


def test_lowest_mean_by_hand() -> None:
    assert lowest_mean(np.arange(100.0)[::-1]) == 2.0  # the mean of 0, 1, 2, 3, 4
    assert lowest_mean(np.array([7.0, 3.0])) == 3.0


# ------------------------------------------------------------------------------------------- robustness


THREE = ("demand_minus_20", "demand_plus_20", "sensitivity_plus_20")


def test_shifted_markets_are_those_that_their_names_say() -> None:
    one, two, rival = MARKETS["one"], MARKETS["two"], MARKETS["rival"]
    assert isinstance(one, Season)
    scale = [20.0 + 6 * t for t in range(12)]
    for name, rate, scales in (
        ("demand_minus_20", 0.56, scale),
        ("demand_plus_20", 0.84, scale),
        ("sensitivity_plus_20", 0.7, [w / 1.2 for w in scale]),
        ("willingness_flat", 0.7, [53.0] * 12),
    ):
        same = Pricing(12, 4, rate, [10, 30, 60, 90], scales)
        assert one.stresses()[name].optimal_value() == pytest.approx(same.optimal_value(), rel=1e-12)
    ramp = [1.5 - t / 11 for t in range(12)]
    for name, rates, scales in (
        ("arrivals_early", [min(1.0, 0.7 * factor) for factor in ramp], scale),
        ("arrivals_late", [min(1.0, 0.7 * factor) for factor in reversed(ramp)], scale),
        ("season_early", [0.7] * 12, [*scale[1:], scale[-1]]),  # by a tenth of 12 periods
        ("season_late", [0.7] * 12, [scale[0], *scale[:-1]]),
    ):
        same = Pricing(12, 4, rates, [10, 30, 60, 90], scales)
        assert one.stresses()[name].optimal_value() == pytest.approx(same.optimal_value(), rel=1e-12)
    plain = Pricing(12, 4, 0.7, [10, 30], 40.0).stresses()
    assert set(plain) == {*THREE, "arrivals_early", "arrivals_late"}  # no two periods differ
    other = TwoProducts(14, (2, 3), 0.8, sensitivity=0.048, prices=(40, 80, 120))
    assert two.stresses()["sensitivity_plus_20"].optimal_value() == pytest.approx(other.optimal_value(), rel=1e-12)
    assert set(rival.stresses()) == {"rival_tit_for_tat", "rival_best_response", "rival_nash"}
    assert rival.stresses()["rival_nash"].optimal_value() == DuopolyPricing("nash", 0.8).optimal_value()
    fewer = Yogurt(6, 25, 7.2).optimal_value()
    assert MARKETS["many"].stresses()["demand_minus_20"].optimal_value() == pytest.approx(fewer, rel=1e-12)


def test_demand_cannot_be_more_than_one_customer_a_period() -> None:
    certain = Pricing(3, 2, 0.95, [1, 2], 2.0).stresses()["demand_plus_20"]
    assert certain.optimal_value() == Pricing(3, 2, 1.0, [1, 2], 2.0).optimal_value()


@pytest.mark.parametrize("name", MARKETS)
def test_robustness_of_the_expert(name: str) -> None:
    market = MARKETS[name]
    numbers = market.exact(market.expert)
    for shift, other in market.stresses().items():
        ratio = 100 * other.policy_value(market.optimal_policy()) / other.optimal_value()
        assert numbers[f"{shift}_ratio_percent"] == pytest.approx(ratio)
        assert numbers[f"{shift}_optimum"] == other.optimal_value()
        assert ratio < 100 + 1e-9


# ------------------------------------------------------------------------------------------- evaluation


class AlwaysBest:
    """The best price that never changes."""

    name, deterministic = "fixed", True

    def __call__(self, env: BatchedEnv, obs: Any) -> Tensor:
        assert isinstance(env, TensorVectorEnv)
        assert isinstance(env.env, Market)
        return torch.full((len(obs),), int(env.env.fixed_price_values().argmax()))


@pytest.mark.parametrize("name", ["pricing-easy", "pricing", "pricing-two", "pricing-yogurt", "pricing-duopoly"])
def test_evaluation_scores_by_the_exact_value(name: str) -> None:
    market = make(name, 1, "cpu").env  # type: ignore[attr-defined]
    for policy, value, captured in (
        (ExpertPolicy(), market.optimal_value(), 100.0),
        (AlwaysBest(), market.best_fixed_price()[1], 0.0),
    ):
        result = evaluate(name, policy, episodes=40).as_dict()
        assert result == json.loads(json.dumps(result))
        assert result["exact_mean"] == pytest.approx(value, rel=1e-12)
        assert result["captured_percent"] == pytest.approx(captured, abs=1e-6)
        assert result["best_fixed_mean"] == pytest.approx(market.best_fixed_price()[1], rel=1e-12)
        percent = 100 * (value - market.random_value()) / (market.optimal_value() - market.random_value())
        assert result["percent_of_optimal"] == pytest.approx(percent, abs=1e-9)
        assert result["ratio_to_optimal_percent"] == pytest.approx(100 * value / market.optimal_value(), abs=1e-9)
        assert {"mean", "std", "iqm", "ci_low", "ci_high", "episodes", "seed", "reference"} < set(result)
        assert ("revenue_at_5_percent" in result) == (market.units is not None)


def test_the_random_policy_has_no_exact_value_here() -> None:
    result = evaluate("pricing-easy", RandomPolicy(), episodes=400).as_dict()
    assert "exact_mean" not in result
    assert "captured_percent" not in result
    reference = result["reference"]
    percent = 100 * (result["mean"] - reference["random"]) / (reference["optimum"] - reference["random"])
    assert result["percent_of_optimal"] == pytest.approx(percent)
    assert result["revenue_at_5_percent"] < result["ci_low"]


def test_an_evaluation_of_the_largest_market_takes_seconds() -> None:
    market = TwoProducts()
    market.reference  # noqa: B018  # solved before
    start = time.process_time()
    market.exact(market.expert)
    assert time.process_time() - start < 2.0
