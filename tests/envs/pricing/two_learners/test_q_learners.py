"""Q-learners in the duopoly: the same sessions by a plain loop, sessions that do not depend on others, the settling."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from palaestra.envs.pricing import DuopolyPricing
from palaestra.envs.pricing.two_learners.price_pairs import PricePairs
from palaestra.envs.pricing.two_learners.q_learners import CHUNK, QLearners, SessionSettings, learn_prices

MARKET = DuopolyPricing()
PERIODS = 4000


def draws(sessions: int, periods: int = PERIODS, seed: int = 5) -> tuple[Any, Any]:
    """Uniform numbers and prices to explore with, [periods, sessions, 2]."""
    generator = np.random.default_rng(seed)
    return generator.random((periods, sessions, 2)), generator.integers(0, 15, (periods, sessions, 2))


def given(uniform: Any, prices: Any) -> Any:
    """These numbers in the order that learners ask for them."""
    place = 0

    def draw(periods: int) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal place
        part, place = slice(place, place + periods), place + periods
        return tuple(torch.tensor(x[part].reshape(periods, -1)) for x in (uniform, prices))  # type: ignore[return-value]

    return draw


def demand(own: float, rival: float) -> float:
    return 1 / (1 + math.exp((own - rival) / 0.25) + math.exp((own - 2) / 0.25))


def session(uniform: Any, prices: Any, last: list[int], alpha: float, beta: float) -> tuple[Any, int, list[int]]:
    """One session by the text of the paper, with dictionaries: the tables Q, the last change, the last prices."""
    menu = MARKET.prices.tolist()
    earns = {(p, r): (menu[p] - 1) * demand(menu[p], menu[r]) for p in range(15) for r in range(15)}
    start = [sum(earns[p, r] for r in range(15)) / 15 / (1 - 0.95) for p in range(15)]
    q: Any = [{(a, b): list(start) for a in range(15) for b in range(15)} for _ in range(2)]
    changed = 0
    for t in range(len(uniform)):
        states = [(last[0], last[1]), (last[1], last[0])]
        known = [max(range(15), key=q[i][states[i]].__getitem__) for i in range(2)]
        explores = [uniform[t][i] < math.exp(-beta * t) for i in range(2)]
        now = [int(prices[t][i]) if explores[i] else known[i] for i in range(2)]
        after = [(now[0], now[1]), (now[1], now[0])]
        ahead = [max(q[i][after[i]]) for i in range(2)]
        for i in range(2):
            row = q[i][states[i]]
            row[now[i]] = (1 - alpha) * row[now[i]] + alpha * (earns[after[i]] + 0.95 * ahead[i])
            if max(range(15), key=row.__getitem__) != known[i]:
                changed = t + 1
        last = now
    return q, changed, last


@pytest.mark.parametrize(("alpha", "beta"), [(0.15, 1e-3), (0.6, 3e-4)])
def test_sessions_are_those_of_a_plain_loop(alpha: float, beta: float) -> None:
    learners = QLearners(MARKET, SessionSettings(sessions=3, alpha=alpha, beta=beta))
    first, (uniform, prices) = learners.posted.view(3, 2).tolist(), draws(3)
    draw = given(uniform, prices)
    for part in (1, 999, PERIODS - 1000):
        learners.play(part, draw)
    values = learners.values.view(3, 2, 15, 15, 15)
    for number in range(3):
        q, changed, last = session(uniform[:, number], prices[:, number], first[number], alpha, beta)
        expected = [[[q[firm][own, rival] for rival in range(15)] for own in range(15)] for firm in range(2)]
        np.testing.assert_allclose(values[number], expected, rtol=1e-12)
        found = learners.outcome
        np.testing.assert_array_equal(found.tables[number].view(2, 15, 15), np.argmax(expected, -1))
        assert (int(found.periods[number]), found.last[number].tolist()) == (changed, last)
    assert changed > 3000  # there was something to learn until the end


def test_sessions_do_not_depend_on_each_other() -> None:
    settings = SessionSettings(sessions=4, beta=1e-3)
    whole, part = QLearners(MARKET, settings), QLearners(MARKET, settings)
    uniform, prices = draws(4, 1500)
    whole.play(1500, given(uniform, prices))
    part.play(500, given(uniform, prices))
    some = torch.tensor([False, True, False, True])
    part.keep(some)
    part.play(1000, given(uniform[500:, some], prices[500:, some]))
    assert part.session.tolist() == [1, 3]
    for name in ("tables", "last", "periods"):
        assert torch.equal(getattr(part.outcome, name), getattr(whole.outcome, name)[some])
    assert torch.equal(part.values.view(2, -1), whole.values.view(4, -1)[some])


@pytest.fixture(scope="module")
def settled() -> Any:
    return learn_prices(MARKET, SessionSettings(sessions=12, beta=2e-3, stable=1000, seed=3))


def test_settled_sessions_have_prices_above_nash_and_run_in_cycles(settled: Any) -> None:
    assert bool(settled.settled.all())
    assert int(settled.periods.min()) > 0
    pairs = PricePairs(MARKET, settled.tables.numpy(), settled.last.numpy())
    for pair in range(12):
        cycle = pairs.prices[pairs.pair == pair]
        following = pairs.answers(np.full(len(cycle), pair), cycle)
        np.testing.assert_array_equal(following, np.roll(cycle, -1, 0))
        assert len(np.unique(cycle, axis=0)) == len(cycle) == pairs.lengths[pair]
    assert 0.3 < pairs.collusion.mean() < 0.95


def test_the_same_seed_gives_the_same_sessions_and_another_one_others() -> None:
    once, again, other = (
        learn_prices(MARKET, SessionSettings(sessions=4, beta=2e-2, stable=500, seed=seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(again.tables, once.tables)
    assert not torch.equal(other.tables, once.tables)


def test_a_session_that_does_not_settle_is_given_up() -> None:
    settings = SessionSettings(sessions=2, alpha=1.0, beta=1.0, stable=CHUNK, seed=1)
    told: list[tuple[int, int]] = []
    done = learn_prices(MARKET, settings, tell=lambda *now: told.append(now))
    assert told[-1][0] <= settings.longest + CHUNK
    assert done.settled.tolist() == [bool(p + CHUNK <= told[-1][0]) for p in done.periods.tolist()]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sessions", 0, "sessions must be a whole number from 1 to 1,000,000, got 0"),
        ("sessions", True, "sessions must be a whole number"),
        ("stable", 10, "stable must be a whole number from 250 to 1,000,000,000, got 10"),
        ("alpha", 0.0, "alpha must be above 1e-06 and at most 1, got 0"),
        ("beta", -1.0, "beta must be above 1e-09 and at most 1, got -1"),
        ("beta", math.nan, "beta must be"),
    ],
)
def test_wrong_settings_are_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SessionSettings(**{name: value})
