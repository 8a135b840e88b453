"""The bounds of hidden demand: a tree of all histories, the closed form of a season that learns nothing, properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.envs.core import TensorVectorEnv
from palaestra.envs.pricing import HiddenDemand
from palaestra.envs.pricing.hidden.belief_values import BeliefValues, HiddenChain

TINY = {"periods": 5, "prices": (10.0, 30.0, 50.0), "stay": (0.9, 0.8)}


def best_of_all_histories(chain: HiddenChain, stages: int, weights: Any) -> float:
    """The optimum by trying every action after every history: no beliefs, no normalisation, no grid.

    ``weights`` [2] are the probabilities of the history together with either state.
    """
    if stages == 0:
        return 0.0
    actions, outcomes = chain.outcomes.shape[1:]
    totals = []
    for action in range(actions):
        total = sum(weights[s] * chain.reward[s, action] for s in (0, 1))
        for outcome in range(outcomes):
            seen = [weights[s] * chain.outcomes[s, action, outcome] for s in (0, 1)]
            after = [sum(seen[s] * chain.moves[s, to] for s in (0, 1)) for to in (0, 1)]
            total += best_of_all_histories(chain, stages - 1, after)
        totals.append(total)
    return max(totals)


def test_the_bounds_hold_the_optimum_of_all_histories() -> None:
    market = HiddenDemand(**TINY)
    chain = market.chain
    truth = best_of_all_histories(chain, 5, [1.0 - chain.start, chain.start])
    bounds = market.solution.bounds
    assert bounds.low <= truth * (1 + 1e-14)
    assert truth <= bounds.high * (1 + 1e-14)
    assert bounds.high - bounds.low < 1e-4 * truth
    assert market.reference.optimum == bounds.low


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([3, 5, 17, 101]))
def test_they_hold_it_for_any_chain_and_grid_and_close_with_the_grid(seed: int, grid: int) -> None:
    rng = np.random.default_rng(seed)
    chain = HiddenChain(
        rng.dirichlet(np.ones(3), (2, 2)), rng.normal(size=(2, 2)), rng.dirichlet(np.ones(2), 2), float(rng.random())
    )
    truth = best_of_all_histories(chain, 3, [1.0 - chain.start, chain.start])
    coarse, fine = BeliefValues(chain, 3, grid).bounds, BeliefValues(chain, 3, 4 * (grid - 1) + 1).bounds
    for bounds in (coarse, fine):
        assert bounds.low <= truth + 1e-12
        assert truth <= bounds.high + 1e-12
    assert fine.high <= coarse.high + 1e-12  # the chords of a finer grid lie below


def test_states_that_each_outcome_reveals_are_two_beliefs() -> None:
    """The next belief is a row of the chain then, and lies on the grid: both bounds are the optimum."""
    shown = np.broadcast_to(np.eye(2)[:, None], (2, 2, 2))
    chain = HiddenChain(shown, np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.7, 0.3], [0.4, 0.6]]), 0.25)

    def best(belief: float, stages: int) -> float:
        if stages == 0:
            return 0.0
        later = (1.0 - belief) * best(0.3, stages - 1) + belief * best(0.6, stages - 1)
        return max(1.0 - belief, 2.0 * belief) + later

    assert BeliefValues(chain, 6).bounds == pytest.approx((best(0.25, 6), best(0.25, 6)), rel=1e-13)


def test_without_learning_the_best_fixed_price_of_each_period_is_the_optimum() -> None:
    alike = HiddenDemand(periods=7, willingness=(20.0, 20.0), arrival_rate=(0.5, 0.5))
    prices = np.array(alike.prices)
    assert alike.solution.bounds == pytest.approx(2 * (7 * (0.5 * prices * np.exp(-prices / 20)).max(),), rel=1e-12)
    assert alike.reference.heuristic == pytest.approx(alike.reference.optimum)


def test_the_default_market_is_known_to_a_millionth_and_pays_for_memory() -> None:
    low, high = HiddenDemand().solution.bounds
    assert low == pytest.approx(510.423716, abs=1e-6)
    assert high == pytest.approx(510.424418, abs=1e-6)
    reference = HiddenDemand().reference
    assert reference.heuristic == pytest.approx(464.192823, abs=1e-6)
    assert reference.random == pytest.approx(428.140376, abs=1e-6)


def test_the_expert_attains_the_lower_bound_and_its_loss_tells_its_mean() -> None:
    """Of 20,000 seasons of 20 periods; the loss is told by the policy's prices, the mean by what was earned."""
    market = HiddenDemand(periods=20)
    for policy in ("expert", "fixed"):
        batch = TensorVectorEnv(market, 20_000, device="cpu", seed=5)
        batch.reset()
        earned, lost = torch.zeros(20_000, dtype=torch.float64), torch.zeros(20_000, dtype=torch.float64)
        for _ in range(20):
            state = batch.state
            assert state is not None
            action = market.expert(state) if policy == "expert" else torch.full_like(state.period, 2)
            lost += market.step_figures(state, state, action, state)["lost_per_period"]
            earned += batch.step(action)[1]
        told = market.solution.bounds.high - float(lost.mean())
        error = 4.0 * float(earned.std()) / 20_000**0.5
        assert float(earned.mean()) == pytest.approx(told, abs=error)
        if policy == "expert":
            assert float(lost.min()) >= -1e-9
            assert told >= market.solution.bounds.low - 1e-6
        else:
            exact = market.fixed_price_values()[2]
            assert told == pytest.approx(exact, abs=4.0 * float(lost.std()) / 20_000**0.5)
            assert float(lost.std()) < 0.6 * float(earned.std())
