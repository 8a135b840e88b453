"""Seasons under the rules of a shop, against a recursion that reads the rules anew, simulation, and short trainings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.agents import DQN, PPO
from palaestra.envs import TensorVectorEnv
from palaestra.envs.core import state_fields
from palaestra.envs.pricing.rules.ruled_season import RuledSeason
from palaestra.envs.pricing.rules.shop_rules import ShopRules
from palaestra.envs.pricing.season import Season
from palaestra.train.evaluation.policies import AgentPolicy, ExpertPolicy, RandomPolicy, on_states

MENU = [2.0, 3.0, 4.5, 5.0]
RULES: dict[str, dict[str, Any]] = {
    "range": {"price_range": (2.5, 5.0)},
    "endings": {"endings": (0.0, 0.5)},
    "few endings": {"endings": (0.0,)},
    "change": {"max_change": 1.5},
    "down": {"markdowns_only": True},
    "hold": {"hold": 2},
    "hold 3": {"hold": 3},
    "deliveries": {"replenish": {2: 1, 4: 2}},
    "holding": {"holding_cost": 0.3},
}
WITH_CURRENT = {"change", "down"}


def market(seed: int, rules: ShopRules | None, periods: int = 4, stock: int = 2, most: int = 2) -> RuledSeason:
    """A season with random demand: any number of wanted units up to ``most``, by period and price."""
    wanted = np.random.default_rng(seed).dirichlet(np.full(most + 1, 0.7), (periods, len(MENU)))
    return RuledSeason(MENU, wanted, stock, 0.25, rules)


class Shop:
    """The season told again, state by state: money, units and the list of all prices asked so far."""

    def __init__(self, season: RuledSeason, seed: int, periods: int = 4, stock: int = 2, most: int = 2) -> None:
        self.wanted = np.random.default_rng(seed).dirichlet(np.full(most + 1, 0.7), (periods, len(MENU)))
        self.rules, self.periods, self.stock = season.rules, periods, stock

    def legal(self, asked: tuple[float, ...]) -> list[float]:
        """Prices that may follow the ones that were asked."""
        rules, found = self.rules, []
        for price in MENU:
            if rules.price_range and not rules.price_range[0] <= price <= rules.price_range[1]:
                continue
            if rules.endings and not any(price % 1 == ending for ending in rules.endings):
                continue
            before = asked[-1] if asked else rules.current_price
            if before is not None and price > before and rules.markdowns_only:
                continue
            if before is not None and rules.max_change and abs(price - before) > rules.max_change:
                continue
            run = len(list(itertools.takewhile(lambda p: p == asked[-1], reversed(asked)))) if asked else rules.hold
            if len(set(asked)) == 1 and asked[0] == rules.current_price:
                run = rules.hold  # it has stood since before the season
            if asked and price != asked[-1] and run < rules.hold:
                continue
            found.append(price)
        return found

    def outcomes(self, period: int, units: int, price: float) -> Iterator[tuple[float, float, int]]:
        """(probability, reward, units of the next period)."""
        for wanted, probability in enumerate(self.wanted[period, MENU.index(price)]):
            sold = min(wanted, units)
            reward = sold * (price - 0.25) - self.rules.holding_cost * (units - sold)
            yield float(probability), reward, units - sold + self.rules.replenish.get(period + 2, 0)

    def value(self, weigh: Callable[..., float]) -> float:
        """What ``weigh(asked, units, worths by price)`` makes of the season."""

        @cache
        def of(asked: tuple[float, ...], units: int) -> float:
            period = len(asked)
            if period == self.periods:
                return 0.0
            worths = {
                price: sum(
                    p * (reward + of((*asked, price), left)) for p, reward, left in self.outcomes(period, units, price)
                )
                for price in self.legal(asked)
            }
            return weigh(asked, units, worths)

        return of((), self.stock)


def combined(names: tuple[str, ...], current: float | None = None) -> ShopRules:
    fields = {key: value for name in names for key, value in RULES[name].items()}
    return ShopRules(**fields, current_price=current if WITH_CURRENT & set(names) else None)


PAIRS = [pair for pair in itertools.combinations(RULES, 2) if not set(RULES[pair[0]]) & set(RULES[pair[1]])]


@pytest.mark.parametrize("current", [None, 3.0])
@pytest.mark.parametrize("names", [(), *((name,) for name in RULES), *PAIRS], ids="+".join)
def test_optimum_random_play_and_fixed_prices_equal_a_recursion_over_all_histories(names: Any, current: Any) -> None:
    for seed in (0, 1):
        rules = combined(names, current)
        season = market(seed, rules)
        shop = Shop(season, seed)
        optimum = shop.value(lambda asked, units, worths: max(worths.values()))
        assert season.optimal_value() == pytest.approx(optimum, rel=1e-12)
        assert season.policy_value(season.optimal_policy()) == pytest.approx(optimum, rel=1e-12)
        at_random = shop.value(lambda asked, units, worths: sum(worths.values()) / len(worths))
        assert season.random_value() == pytest.approx(at_random, rel=1e-12)
        first = shop.legal(())
        fixed = {
            price: shop.value(lambda asked, units, worths, price=price: worths.get(price, -np.inf)) for price in first
        }
        found = dict(zip(season.prices.tolist(), season.fixed_price_values().tolist(), strict=True))
        assert {p: v for p, v in found.items() if v > -np.inf} == pytest.approx(fixed, rel=1e-12)
        assert season.best_fixed_price() == (max(fixed, key=fixed.__getitem__), pytest.approx(max(fixed.values())))


# ------------------------------------------------------------------------------------------------- properties

some_rules = st.builds(
    ShopRules,
    price_range=st.sampled_from([None, (2.0, 4.5), (3.0, 5.0)]),
    max_change=st.sampled_from([None, 1.0, 1.5, 2.5]),
    markdowns_only=st.booleans(),
    hold=st.integers(1, 4),
    replenish=st.dictionaries(st.integers(2, 6), st.integers(1, 3), max_size=2),
    holding_cost=st.sampled_from([0.0, 0.2]),
)


@settings(max_examples=60)
@given(some_rules, st.integers(0, 2**31))
def test_a_rule_never_raises_the_optimum_and_values_fit_together(rules: ShopRules, seed: int) -> None:
    season = market(seed, rules, periods=6, stock=4, most=3)
    free = market(seed, ShopRules(replenish=rules.replenish), periods=6, stock=4, most=3)
    best = season.optimal_value()
    assert best <= free.optimal_value() + 1e-12
    assert season.best_fixed_price()[1] <= best + 1e-12
    assert season.random_value() <= best + 1e-12
    myopic = season.myopic_policy()
    assert (season.policy_values(myopic) <= season.solution.value + 1e-12).all()
    shares = season.state_distribution(myopic)
    np.testing.assert_allclose(shares.sum(1), 1.0, rtol=1e-12)
    earned = [season.action_values(t, np.zeros(season.num_states)) for t in range(6)]
    means = [shares[t] @ earned[t][np.arange(season.num_states), myopic[t]] for t in range(6)]
    assert sum(means) == pytest.approx(season.policy_value(myopic), rel=1e-11)
    whole = season.solved()  # every action of every state
    np.testing.assert_allclose(season.solution.value, whole.value, rtol=1e-12, atol=1e-14)
    certain = np.eye(season.num_actions)[season.solution.policy]
    np.testing.assert_allclose(season.policy_values(certain), whole.value, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(season.policy_values(myopic), season.policy_values(np.eye(season.num_actions)[myopic]))


@settings(max_examples=60)
@given(some_rules, st.integers(0, 2**31))
def test_every_state_allows_an_action_and_the_expert_keeps_to_it(rules: ShopRules, seed: int) -> None:
    season = market(seed, rules, periods=6, stock=4, most=3)
    if not season.has("action_mask"):
        assert not rules.remembers
        return
    for stage in range(6):
        states = season.states(stage)
        mask = season.action_mask(states)
        assert season.allowed is not None
        assert mask.tolist() == season.allowed.tolist()
        assert mask.any(1).all()
        assert mask.gather(1, season.expert(states)[:, None]).all()
        assert season.observation_space.contains(season.observe(states)[-1].numpy())


@pytest.mark.parametrize(
    "rules",
    [
        ShopRules(max_change=1.0, replenish={3: 4}, holding_cost=0.05),
        ShopRules(markdowns_only=True, hold=2, current_price=4.5),
        ShopRules(replenish={2: 3, 5: 2}),
        ShopRules(hold=3, holding_cost=0.1),
    ],
)
def test_simulated_seasons_earn_the_exact_values(rules: ShopRules) -> None:
    """The optimal and a random policy, in a batch that knows nothing of the exact solver."""
    season = market(3, rules, periods=8, stock=5, most=3)
    for policy, exact in ((ExpertPolicy(), season.optimal_value()), (RandomPolicy(), season.random_value())):
        batch = TensorVectorEnv(season, 4096, device="cpu", seed=5)
        obs, _ = batch.reset()
        returns, running = torch.zeros(4096), torch.ones(4096, dtype=torch.bool)
        for _ in range(8):
            obs, reward, terminated, _, _ = batch.step(policy(batch, obs))
            returns += reward * running
            running &= ~terminated
        assert not running.any()
        error = float(returns.std()) / 64
        assert float(returns.mean()) == pytest.approx(exact, abs=4 * error)


def test_a_forbidden_price_is_not_posted() -> None:
    """Nothing is sold, the last price remains, and a price that must stay comes a period nearer to its end."""
    wanted = np.tile([0.0, 1.0], (5, 4, 1))  # one customer a period, who buys at any price
    season = RuledSeason(MENU, wanted, 4, rules=ShopRules(hold=3))
    batch = TensorVectorEnv(season, 1, device="cpu")
    batch.reset()
    seen = []
    for action in (3, 0, 3, 1, 1):
        _, reward, *_ = batch.step(torch.tensor([action]))
        state: Any = batch.final_state
        seen.append((float(reward), int(state.price), int(state.stays), int(state.stock)))
    assert seen == [(5.0, 3, 2, 3), (0.0, 3, 1, 3), (5.0, 3, 0, 2), (3.0, 1, 2, 1), (3.0, 1, 1, 0)]
    with pytest.raises(ValueError, match="takes an action that is not allowed, in period 0 and state 2"):
        season.policy_value(np.zeros((5, season.num_states), np.int64) + 1)


def test_deliveries_keep_a_sold_out_season_going_and_units_cost_their_keeping() -> None:
    wanted = np.tile([0.0, 0.0, 1.0], (4, 4, 1))  # two units a period at any price
    season = RuledSeason(MENU, wanted, 1, rules=ShopRules(replenish={3: 3}, holding_cost=0.5))
    batch = TensorVectorEnv(season, 1, device="cpu")
    obs, _ = batch.reset()
    assert obs.tolist() == [[1.0, 0.25, 1.0]]  # all periods, 1 of 4 units, all deliveries to come
    found = []
    for _ in range(4):
        obs, reward, terminated, *_ = batch.step(torch.tensor([3]))
        state: Any = batch.final_state
        found.append((float(reward), int(state.stock), bool(terminated)))
    assert found == [(5.0, 0, False), (0.0, 3, False), (9.5, 1, False), (5.0, 0, True)]
    assert season.optimal_value() == 19.5


def test_without_rules_it_is_the_plain_season_bit_for_bit() -> None:
    wanted = np.random.default_rng(0).dirichlet(np.ones(4), (6, 4))
    plain, ruled = Season(MENU, wanted, 5, 0.25), RuledSeason(MENU, wanted, 5, 0.25, ShopRules())
    assert ruled.observation_space == plain.observation_space
    assert not ruled.has("action_mask")
    assert plain.solution.policy.tolist() == ruled.solution.policy.tolist()
    assert plain.solution.value.tolist() == ruled.solution.value.tolist()
    batches = [TensorVectorEnv(season, 64, device="cpu", seed=9) for season in (plain, ruled)]
    for batch in batches:
        batch.reset()
    for step in range(20):
        action = torch.randint(0, 4, (64,), generator=torch.Generator().manual_seed(step))
        one, other = ([batch.step(action)[:4], *state_fields(batch.state).values()] for batch in batches)
        assert type(batches[1].state) is type(batches[0].state)
        assert all(torch.equal(a, b) for a, b in zip([*one[0], *one[1:]], [*other[0], *other[1:]], strict=True))


@pytest.mark.parametrize("agent", [PPO, DQN])
def test_agents_learn_under_the_rules(agent: Any) -> None:
    """A short training gets half of the way from random play to the optimum, and never asks a forbidden price."""
    season = market(7, ShopRules(markdowns_only=True, hold=2, replenish={4: 2}, holding_cost=0.02), 8, 5, 3)
    ppo = {"n_steps": 16, "batch_size": 256}
    dqn = {"learning_starts": 500, "batch_size": 256, "target_update_interval": 500, "exploration_fraction": 0.5}
    kwargs: dict[str, Any] = ppo if agent is PPO else dqn | {"samples_per_insert": 16}
    batch = TensorVectorEnv(season, 64, device="cpu", seed=1)
    model = agent("MlpPolicy", batch, learning_rate=2e-3, gamma=1.0, seed=0, **kwargs)
    model.learn(12_000)
    table = season.tabulate(on_states(AgentPolicy(model), season))
    value = season.policy_value(table)  # which refuses forbidden prices
    assert season.random_value() + 0.5 * (season.optimal_value() - season.random_value()) < value
    assert value <= season.optimal_value() + 1e-12
