"""The duopoly against the agent itself: the rival's seat, replayed steps, exact values, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from palaestra.envs import make
from palaestra.envs.compiled.batch import CompiledVectorEnv
from palaestra.envs.core.rng import Rng, env_keys
from palaestra.envs.pricing import DuopolyPricing
from palaestra.envs.pricing.two_learners.price_pairs import PricePairs
from palaestra.envs.trained_players import let_meet_itself
from palaestra.envs.wrappers import WrapperError

TABLE = np.random.default_rng(2).integers(0, 15, 225)


def by_table(table: Any = TABLE) -> Any:
    """The policy that posts table[own last price · 15 + rival's]."""
    return lambda state: torch.tensor(table)[state.price * 15 + state.rival]


def met(table: Any = TABLE) -> DuopolyPricing:
    market = DuopolyPricing("self")
    market.meet(by_table(table))
    return market


def test_the_rival_posts_the_agents_price_for_the_rivals_place() -> None:
    market, rng = met(), Rng(env_keys(0, torch.arange(225)), 1)
    before = market.states(0)
    after, profit, _ = market.step(before, torch.full((225,), 4), rng)
    expected = [int(TABLE[rival * 15 + own]) for own in range(15) for rival in range(15)]
    assert after.rival.tolist() == expected
    assert profit == pytest.approx(torch.tensor(market.profit[4, expected], dtype=torch.float32))
    assert market.after[:, 4].tolist() == [4 * 15 + price for price in expected]


def test_until_an_agent_plays_the_rival_posts_the_nash_price() -> None:
    alone, nash = DuopolyPricing("self"), DuopolyPricing("nash")
    np.testing.assert_array_equal(alone.after, nash.after)
    assert alone.optimal_value() == nash.optimal_value()
    alone.meet(by_table())
    assert alone.optimal_value() != nash.optimal_value()  # what was solved is forgotten


@pytest.mark.parametrize("compiled", [False, True])
def test_replayed_steps_have_the_latest_rival(compiled: bool) -> None:
    market = DuopolyPricing("self")
    batch: Any = make("pricing-duopoly", 64, device="cpu", seed=1, rival="self")
    if compiled:
        batch = CompiledVectorEnv(batch.env, 64, device="cpu", seed=1)
        batch.prepare()
    batch.reset()
    for table in (TABLE, TABLE[::-1].copy(), np.full(225, 3)):
        for rules in (batch.env, market):
            rules.meet(by_table(table))
        for step in range(40):
            before = batch.state
            actions = torch.full((64,), step % 15)
            _, _, terminated, _, _ = batch.step(actions)
            going = ~terminated
            expected = market.answer_table[before.price * 15 + before.rival]
            assert torch.equal(batch.state.rival[going], expected[going])
        assert batch._steps.replay is not None


def test_exact_figures_are_those_of_the_pair() -> None:
    market = DuopolyPricing("self")
    found = market.exact(by_table())
    pair = PricePairs(market, np.stack((TABLE, TABLE))[None])
    start = market.nash[0] * 16
    assert found["exact_mean"] == pytest.approx(pair.values[0, 0, start], rel=1e-9)
    assert found["collusion_percent"] == pytest.approx(100 * pair.collusion[0])
    best = market.optimal_value()
    assert found["of_best_answer_percent"] == pytest.approx(100 * found["exact_mean"] / best)
    cartel = DuopolyPricing("self").exact(by_table(np.full(225, 13)))
    assert cartel["exact_mean"] == pytest.approx(20 * market.profit[13, 13])
    assert market.reference.optimum == pytest.approx(20 * max(market.profit.diagonal()))
    assert market.reference.percent_of_optimal(5.0) is None


def test_figures_of_a_report_show_the_agents_own_price_as_the_rivals() -> None:
    market = met(np.full(225, 7))
    path, profits, _ = market.report_figures(np.ones(1), np.ones(1), None, by_table(np.full(225, 7)))
    assert path.curves["agent"] == path.curves["rival"] == [market.prices[7]] * len(path.x)  # type: ignore[union-attr]
    assert profits.values["this agent"] == pytest.approx(market.profit[7, 7], rel=1e-3)  # type: ignore[union-attr]


def test_the_stresses_are_the_rules() -> None:
    names = {"rival_tit_for_tat", "rival_undercut", "rival_best_response", "rival_nash"}
    assert set(DuopolyPricing("self").stresses()) == names
    assert set(DuopolyPricing("nash").stresses()) == names - {"rival_nash"}


def test_other_rivals_and_environments_meet_nobody() -> None:
    def never(obs: Any) -> Any:
        raise AssertionError

    assert not let_meet_itself(make("pricing-duopoly", 2, device="cpu"), never)
    assert not let_meet_itself(make("CartPole-v1", 2, device="cpu"), never)


def test_an_agent_with_a_memory_and_changed_observations_are_refused() -> None:
    batch = make("pricing-duopoly", 2, device="cpu", rival="self")
    with pytest.raises(ValueError, match="an agent with a memory of its own cannot be its own rival"):
        let_meet_itself(batch, lambda obs: obs, remembers=True)
    with pytest.raises(WrapperError, match=re.escape("frame_stack=2: an agent that is its own rival")):
        make("pricing-duopoly", 2, device="cpu", rival="self", frame_stack=2)
