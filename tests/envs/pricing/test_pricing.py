"""Pricing before a deadline: the published figures, the simulator against the exact values, and the rules by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from palaestra.envs import make, resolve
from palaestra.envs.checker.conformance import check_env, table
from palaestra.envs.core import map_state
from palaestra.envs.core.rng import Rng, child_key, env_keys
from palaestra.envs.pricing import Market, Pricing, Season, TwoProducts, Yogurt
from palaestra.envs.pricing.demand.count_distributions import poisson
from palaestra.envs.pricing.inventory import SeasonState
from palaestra.envs.specs import TensorEnvSpec

NAMES = ["pricing-easy", "pricing", "pricing-two", "pricing-yogurt", "pricing-duopoly"]


def build(name: str, **kwargs: Any) -> Market[Any]:
    entry = resolve(name)
    assert isinstance(entry, TensorEnvSpec)
    env = entry.build(**kwargs)
    assert isinstance(env, Market)
    return env


MARKETS = {name: build(name) for name in NAMES}


# ------------------------------------------------------------------------------------------- published figures


@pytest.mark.parametrize(
    ("name", "optimum", "random", "myopic", "price", "fixed"),
    [
        ("pricing-easy", 739.447916, 531.263385, 499.429421, 80.0, 708.533211),
        ("pricing", 1441.593109, 705.138905, 863.366647, 100.0, 1253.810862),
        ("pricing-two", 1509.746412, 875.520386, 916.240225, (160.0, 100.0), 1435.067551),
    ],
)
def test_figures_of_the_table(
    name: str, optimum: float, random: float, myopic: float, price: Any, fixed: float
) -> None:
    market = MARKETS[name]
    values = market.optimal_value(), market.random_value(), market.policy_value(market.myopic_policy())
    assert values == pytest.approx((optimum, random, myopic), abs=6e-7)
    assert market.best_fixed_price() == (price, pytest.approx(fixed, abs=6e-7))
    assert market.reference.optimum == pytest.approx(optimum, abs=6e-7)
    assert market.reference.heuristic == pytest.approx(fixed, abs=6e-7)


def test_solved_is_nearer_to_the_optimum_than_the_best_fixed_price_is() -> None:
    """At 98 % of the optimum; at least half the way to it from the best fixed price, unless nothing is to be won."""
    assert MARKETS["pricing"].reference.solved_at == pytest.approx(0.98 * 1441.593109, abs=1e-6)
    near = Pricing(periods=60, stock=8, arrival_rate=0.3, willingness=50.0, prices=[40.0, 50.0, 60.0])
    best, (_, fixed) = near.optimal_value(), near.best_fixed_price()
    assert 0.98 * best < fixed < 0.999 * best
    assert near.reference.solved_at == pytest.approx(0.5 * (fixed + best), rel=1e-12)
    ample = Pricing(periods=20, stock=20, arrival_rate=0.3, willingness=50.0, prices=[40.0, 80.0])
    assert ample.reference.solved_at == pytest.approx(0.999 * ample.best_fixed_price()[1], rel=1e-12)


def test_figures_of_the_yoghurt_season() -> None:
    market, best = MARKETS["pricing-yogurt"], 12.558360
    assert market.optimal_value() == pytest.approx(best, abs=6e-7)
    price, fixed = market.best_fixed_price()
    assert price == 0.12
    percent = [100 * v / best for v in (market.random_value(), market.policy_value(market.myopic_policy()), fixed)]
    assert percent == pytest.approx([72.11, 55.74, 95.50], abs=0.006)


def test_stationary_table_of_the_first_period() -> None:
    values = MARKETS["pricing-easy"].solution.value[0, :6]
    assert values == pytest.approx([0, 148.884497, 263.214213, 357.373034, 437.253024, 506.100635], abs=6e-7)


def test_registered_instances_are_those_of_the_table() -> None:
    easy, rising = MARKETS["pricing-easy"], MARKETS["pricing"]
    assert isinstance(easy, Season)
    assert isinstance(rising, Season)
    assert easy.prices.tolist() == list(range(50, 201, 10))
    assert rising.prices.tolist() == list(range(20, 601, 20))
    assert (easy.stages, easy.stock, rising.stages, rising.stock) == (100, 10, 100, 15)
    assert easy.wanted[37, 3, 1] == pytest.approx(0.5 * math.exp(-80 / 50))
    assert rising.wanted[60, 4, 1] == pytest.approx(0.6 * math.exp(-100 / (30 + 170 * (60 / 99) ** 3)))
    assert MARKETS["pricing-two"].prices.shape == (121, 2)


# ------------------------------------------------------------------------------------------- the simulator


def index_of(market: Market[Any], state: Any) -> Tensor:
    """Place of each environment's state in the tables."""
    if isinstance(market, Season):
        return state.stock
    if isinstance(market, TwoProducts):
        return state.stock[:, 0] * (market.stock[1] + 1) + state.stock[:, 1]
    return state.price * len(market.prices) + state.rival


def play(market: Market[Any], act: Callable[[Any, Rng], Tensor], games: int, seed: int = 0) -> Tensor:
    """Returns of whole episodes, float64 [games]; every step is held to the rules."""
    keys, noise = (child_key(env_keys(seed, torch.arange(games), stream), 0) for stream in (0, 1))
    state, index, step = market.reset(Rng(keys, 0)), torch.arange(games), 0
    returns = torch.zeros(games, dtype=torch.float64)
    while len(index):
        step += 1
        action = act(state, Rng(noise, step))
        after, reward, terminated = market.step(state, action, Rng(keys, step))
        if market.units is not None:
            check_season_step(market, state, action, after, reward, terminated)
        returns[index] += reward.double()
        going = ~terminated
        index, keys, noise = index[going], keys[going], noise[going]
        state = map_state(lambda field, going=going: field[going], after)
    return returns


def check_season_step(market: Any, state: Any, action: Tensor, after: Any, reward: Tensor, terminated: Tensor) -> None:
    """Sales within the stock, reward = price × sold, the end at the deadline or with the last unit, not elsewhere."""
    stock, sold = (field.view(len(action), -1) for field in (after.stock, after.sold))
    prices = torch.tensor(market.prices).view(len(market.prices), -1)[action]
    assert (sold >= 0).all()
    assert (stock >= 0).all()
    assert torch.equal(stock + sold, state.stock.view(len(action), -1))
    assert torch.allclose(reward.double(), (prices * sold).sum(1), rtol=1e-6)
    assert torch.equal(after.period, state.period + 1)
    ends = (after.period == market.stages) | (stock == 0).all(1)
    assert torch.equal(terminated, ends)


def policies(market: Market[Any]) -> dict[str, tuple[Callable[[Any, Rng], Tensor], float]]:
    """Policies to play, each with its exact value."""

    def follow(rows: Any) -> Callable[[Any, Rng], Tensor]:
        flat = torch.tensor(np.asarray(rows)).flatten()
        return lambda state, rng: flat[
            (state.period if market.discount == 1.0 else 0) * market.num_states + index_of(market, state)
        ]

    fixed = np.full((market.stages, market.num_states), int(market.fixed_price_values().argmax()))
    myopic = market.myopic_policy()
    return {
        "expert": (lambda state, rng: market.expert(state), market.optimal_value()),
        "myopic": (follow(myopic), market.policy_value(myopic)),
        "fixed": (follow(fixed), market.best_fixed_price()[1]),
        "random": (lambda state, rng: rng.integers(0, len(market.prices)), market.random_value()),
    }


@pytest.mark.parametrize("policy", ["expert", "myopic", "fixed", "random"])
@pytest.mark.parametrize("name", NAMES)
def test_mean_returns_agree_with_the_exact_values(name: str, policy: str) -> None:
    market = MARKETS[name]
    act, value = policies(market)[policy]
    returns = play(market, act, 20_000, seed=7)
    rounding = 1e-6 * value  # rewards are float32; the myopic yoghurt season always earns the same
    assert abs(returns.mean().item() - value) < 4 * returns.std().item() / math.sqrt(len(returns)) + rounding


def test_mean_sales_and_profits_with_a_unit_cost() -> None:
    """One price worth posting, Poisson demand without a limit: T · rate · (p − c)."""
    market = Season([5.0, 9.0], np.tile(poisson(np.array([3.0, 0.0]), 400), (4, 1, 1)), 400, unit_cost=2.0)
    assert market.fixed_price_values() == pytest.approx([4 * 3 * 3.0, 0.0])
    keys = child_key(env_keys(1, torch.arange(40_000)), 0)
    after, reward, _ = market.step(market.reset(Rng(keys, 0)), torch.zeros(40_000, dtype=torch.int64), Rng(keys, 1))
    assert torch.equal(reward, 3.0 * after.sold)
    assert abs(after.sold.double().mean().item() - 3.0) < 4 * math.sqrt(3.0 / 40_000)
    assert abs(after.sold.double().var().item() - 3.0) < 4 * math.sqrt((3.0 + 2 * 9.0) / 40_000)


def test_a_unit_cost_per_period_is_paid_in_its_period_and_seen_one_before() -> None:
    market = Season([5.0, 9.0], np.tile(poisson(np.array([3.0, 1.0]), 50), (3, 1, 1)), 50, unit_cost=[1.0, 4.0, 2.0])
    assert market.margins.tolist() == [[4.0, 8.0], [1.0, 5.0], [3.0, 7.0]]
    assert market.fixed_price_values() == pytest.approx([3 * (4 + 1 + 3), 8 + 5 + 7])
    assert [market.observe(season_state(t, 5, 1))[0].tolist() for t in range(4)] == [
        pytest.approx(expected)
        for expected in ([1, 0.1, 0, 1], [2 / 3, 0.1, 1, 1 / 3], [1 / 3, 0.1, 1 / 3, 0], [0, 0.1, 0, 0])
    ]
    after, reward, _ = market.step(season_state(1, 50, 2), torch.tensor([0, 1]), Drawn(0.999, 0.999))
    assert reward.tolist() == (after.sold * torch.tensor([1.0, 5.0])).tolist()
    same = Season([5.0, 9.0], market.wanted, 50, unit_cost=[2.0, 2.0, 2.0])
    assert same.observation_space.shape == (2,)
    both = Pricing(3, 2, [0.1, 0.2, 0.4], [10, 20, 30], 20.0, unit_cost=[1, 2, 3])
    assert both.observe(season_state(1, 1, 1))[0].tolist() == pytest.approx([2 / 3, 0.5, 0.5, 1.0, 0.5, 1.0])
    assert both.stresses()["demand_plus_20"].margins.tolist() == both.margins.tolist()  # type: ignore[attr-defined]


class Drawn(Rng):
    """Gives the uniform number that the test wants."""

    def __init__(self, *values: float) -> None:
        super().__init__(torch.zeros(len(values), dtype=torch.int64), 1)
        self.values = torch.tensor(values)

    def uniform(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.values


def season_state(period: int, stock: int, n: int) -> SeasonState:
    full = torch.zeros(n, dtype=torch.int64)
    return SeasonState(full + period, full + stock, full - 1, full, full.float())


@pytest.mark.parametrize(("wanted", "edges"), [([0.25, 0.5, 0.25], (0.25, 0.75)), ([0.5, 0.25, 0.125, 0.125], ())])
def test_units_wanted_are_the_quantiles_of_the_distribution(wanted: list[float], edges: tuple[float, ...]) -> None:
    """u below the first probability wants nothing, and so on; an edge belongs to the units above."""
    market = Season([1.0, 2.0], np.tile(np.array(wanted), (2, 2, 1)), 9)
    draws = [0.0, 0.2499, 0.25, 0.4999, 0.5, 0.7499, 0.75, 0.875, 0.9999]
    after, _, _ = market.step(season_state(0, 9, len(draws)), torch.ones(len(draws), dtype=torch.int64), Drawn(*draws))
    sums = np.cumsum(wanted)[:-1]
    assert after.sold.tolist() == [int((sums <= u).sum()) for u in draws]


@pytest.mark.parametrize(
    ("period", "stock", "u", "sold", "terminated"),
    [
        (0, 2, 0.0, 0, False),  # 0, 1 or 2 wanted units with a third each
        (0, 2, 0.5, 1, False),
        (0, 2, 0.9, 2, True),  # sold out
        (0, 1, 0.9, 1, True),  # two wanted, one left
        (1, 2, 0.0, 0, False),
        (2, 2, 0.0, 0, True),  # the last of three periods
        (2, 2, 0.5, 1, True),
    ],
)
def test_last_unit_and_last_period(period: int, stock: int, u: float, sold: int, terminated: bool) -> None:
    market = Season([10.0, 20.0], np.full((3, 2, 3), 1 / 3), 2)
    after, reward, done = market.step(season_state(period, stock, 1), torch.tensor([1]), Drawn(u))
    assert (after.sold.item(), after.stock.item(), reward.item()) == (sold, stock - sold, 20.0 * sold)
    assert (after.period.item(), after.price.item(), done.item()) == (period + 1, 1, terminated)


def test_a_product_that_is_sold_out_is_not_on_offer() -> None:
    """Its customers leave or turn to the other one: logit shares over what is left."""
    market, n = TwoProducts(), 50_000
    number = torch.zeros(n, dtype=torch.int64)
    prices = 6 * 11 + 3  # 160 and 100
    keys = child_key(env_keys(4, torch.arange(n)), 0)
    for left, shares in (((0, 4), (0.0, 1.0)), ((2, 0), (1.0, 0.0)), ((2, 4), (1.0, 1.0))):
        weights = [math.exp(a - 0.04 * p) * s for a, p, s in zip((5, 3), (160, 100), shares, strict=True)]
        stock = torch.tensor(left).expand(n, 2)
        state = SeasonState(number, stock, number - 1, torch.zeros_like(stock), number.float())
        after, reward, _ = market.step(state, number + prices, Rng(keys, 1))
        for i, price in enumerate((160, 100)):
            chance = 0.8 * weights[i] / (1 + sum(weights))
            rate = after.sold[:, i].double().mean().item()
            assert abs(rate - chance) <= 4 * math.sqrt(chance * (1 - chance) / n)
            assert (reward[after.sold[:, i] == 1] == price).all()


# ------------------------------------------------------------------------------------------- observations, expert


def test_observations_by_hand() -> None:
    assert MARKETS["pricing-easy"].observe(season_state(25, 4, 1)).tolist() == [pytest.approx([0.75, 0.4])]
    rising = MARKETS["pricing"]
    scale = [30 + 170 * (t / 99) ** 3 for t in range(100)]
    outlook = [math.exp(-320 / w + 320 / scale[99]) for w in scale]  # 320 is the middle of the menu
    for period in (0, 60, 98, 99, 100):
        now, following = (outlook[t] if t < 100 else 0.0 for t in (period, period + 1))
        expected = [1 - period / 100, 0.2, now, following]
        assert rising.observe(season_state(period, 3, 1)).tolist() == [pytest.approx(expected, rel=1e-5, abs=1e-30)]
    state = map_state(lambda field: field[40:41], MARKETS["pricing-two"].states(15))  # 3 of the first, 7 of the second
    assert MARKETS["pricing-two"].observe(state).tolist() == [pytest.approx([0.75, 1.0, 0.7])]
    assert MARKETS["pricing-yogurt"].observe(season_state(13, 25, 1)).tolist() == [pytest.approx([0.5, 0.25])]


@pytest.mark.parametrize("name", NAMES)
def test_expert_is_the_optimal_policy_in_every_state(name: str) -> None:
    market = MARKETS[name]
    for stage in range(market.stages):
        states = market.states(stage)
        assert torch.equal(index_of(market, states), torch.arange(market.num_states))
        assert market.expert(states).tolist() == market.optimal_policy()[stage].tolist()


# ------------------------------------------------------------------------------------------- contract and arguments

ODD: dict[str, Callable[[], Market[Any]]] = {  # those that are registered are in checker/test_conformance.py
    "one period": lambda: Pricing(periods=1),
    "one unit": lambda: Pricing(stock=1, willingness=50.0),
    "two prices": lambda: Pricing(prices=[1.0, 2.0], arrival_rate=[0.0] * 50 + [1.0] * 50),
    "nothing sells at the middle price": lambda: Pricing(4, 3, 0.5, [1e-6, 1.0, 1e6], [1e-3] * 3 + [1e-4]),
    "unit cost": lambda: Season([1.0, 3.0], np.full((5, 2, 3), 1 / 3), 2, unit_cost=2.0),
    "unit costs": lambda: Season([1.0, 3.0], np.full((5, 2, 3), 1 / 3), 2, unit_cost=[0, 4, 0, 1, 2]),
    "unit costs in a season that changes": lambda: Pricing(periods=5, unit_cost=[0, 4, 0, 1, 2]),
    "one of each": lambda: TwoProducts(periods=1, stock=(1, 1), prices=(1, 2)),
    "one ounce": lambda: Yogurt(periods=2, stock=1, buyers=1e-3),
}


@pytest.mark.parametrize("name", ODD)
def test_conformance(name: str) -> None:
    findings = check_env(ODD[name](), num_envs=32, steps=12)
    assert all(finding.passed for finding in findings), table(findings)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_never_looks_at_a_value(name: str) -> None:
    batch = make(name, 8, "meta")
    batch.reset()
    for _ in range(3):
        obs, *_ = batch.step(torch.zeros(8, dtype=torch.int64, device="meta"))
    assert obs.device.type == "meta"
