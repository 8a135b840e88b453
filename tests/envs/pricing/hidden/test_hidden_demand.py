"""The rules of hidden demand: Bayes' rule from counts of joint histories, the chain's long run, arguments, picture."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from palaestra.envs.core import TensorVectorEnv
from palaestra.envs.core.rng import Rng, env_keys
from palaestra.envs.pricing import HiddenDemand
from palaestra.envs.rendering.picture import picture

SMALL = {"periods": 6, "prices": (10, 40), "arrival_rate": (0.8, 0.6), "willingness": (10, 60), "stay": (0.9, 0.7)}


def posterior(market: HiddenDemand, posted: list[int], sold: list[int]) -> float:
    """Probability of regime 1 after that history, by adding up all paths of regimes."""
    mass = [0.0, 0.0]
    leave = 1.0 - market.stay
    first = [leave[1] / leave.sum(), leave[0] / leave.sum()]
    for path in itertools.product((0, 1), repeat=len(posted) + 1):
        chance = first[path[0]]
        for step, (action, units) in enumerate(zip(posted, sold, strict=True)):
            sale = market.demand[path[step], action]
            chance *= sale if units else 1.0 - sale
            chance *= market.stay[path[step]] if path[step + 1] == path[step] else leave[path[step]]
        mass[path[-1]] += chance
    return mass[1] / sum(mass)


def test_the_belief_is_that_of_all_paths() -> None:
    market = HiddenDemand(**SMALL)  # type: ignore[arg-type]
    batch = TensorVectorEnv(market, 64, device="cpu", seed=1)
    batch.reset()
    posted, sold = [], []
    for step in range(5):
        action = (torch.arange(64) >> step) % 2
        batch.step(action)
        state: Any = batch.state
        posted.append(action)
        sold.append(state.sold)
        for row in (0, 13, 37, 63):
            history = [int(a[row]) for a in posted], [int(s[row]) for s in sold]
            assert float(state.belief[row]) == pytest.approx(posterior(market, *history), rel=1e-12)


def test_sales_and_regimes_have_their_probabilities() -> None:
    market = HiddenDemand(**SMALL)  # type: ignore[arg-type]
    n = 200_000
    rng = Rng(env_keys(3, torch.arange(n)), torch.zeros((), dtype=torch.int64))
    state = market.reset(rng)
    error = 4.5 * 0.5 / n**0.5
    assert float(state.regime.double().mean()) == pytest.approx(0.1 / 0.4, abs=error)
    for action in (0, 1):
        after, reward, _ = market.step(state, torch.full((n,), action), rng)
        for regime in (0, 1):
            rows = state.regime == regime
            few = 4.5 * 0.5 / float(rows.sum()) ** 0.5
            assert float(after.sold[rows].double().mean()) == pytest.approx(market.demand[regime, action], abs=few)
            assert float((after.regime == regime)[rows].double().mean()) == pytest.approx(market.stay[regime], abs=few)
        assert torch.equal(reward, after.sold * market.price_list[action])


def test_the_observation_tells_time_price_and_sale_alone() -> None:
    market = HiddenDemand(**SMALL)  # type: ignore[arg-type]
    batch = TensorVectorEnv(market, 8, device="cpu", seed=0)
    obs, _ = batch.reset()
    assert torch.equal(obs, torch.tensor([[1.0, 0.0, 0.0]]).expand(8, 3))
    obs, reward, terminated, truncated, _ = batch.step(torch.tensor([0, 1] * 4))
    assert torch.equal(obs[:, 0], torch.full((8,), 5 / 6))
    assert torch.equal(obs[:, 1], torch.tensor([0.25, 1.0] * 4))
    assert torch.equal(obs[:, 2], (reward > 0).float())
    assert not (terminated | truncated).any()
    for _ in range(5):
        _, _, terminated, truncated, info = batch.step(torch.zeros(8, dtype=torch.int64))
    assert terminated.all()
    assert not truncated.any()
    assert torch.equal(info["episode"]["l"], torch.full((8,), 6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stay": (0.5, 1.0)}, "stay must be at least 0 and at most 1"),
        ({"stay": 0.9}, "stay must be a list of two numbers, one for either regime, got 0.9"),
        ({"arrival_rate": (0.5, 1.2)}, "arrival_rate must be at least 0 and at most 1, got 1.2"),
        ({"willingness": (0.0, 1.0)}, "willingness must be above 0"),
        ({"willingness": "ab"}, "willingness must be a list of two numbers"),
        ({"prices": (10,)}, "prices must be a list of at least two"),
        ({"periods": 0}, "periods must be a whole number of at least 1"),
        ({"periods": 20_000}, "periods must be at most 10,000, got 20000"),
    ],
)
def test_bad_arguments_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HiddenDemand(**arguments)


def test_certain_outcomes_leave_a_belief() -> None:
    """A price that never sells in regime 0 and one that always tells: no belief becomes NaN."""
    market = HiddenDemand(periods=30, prices=(0.001, 60), arrival_rate=(0.0, 1.0), willingness=(1, 1e9))
    batch = TensorVectorEnv(market, 256, device="cpu", seed=0)
    batch.reset()
    for step in range(29):
        batch.step(torch.full((256,), step % 2))
        state: Any = batch.state
        assert ((state.belief >= 0) & (state.belief <= 1)).all()
        assert market.action_values(state.period, state.belief).isfinite().all()


def colours(market: HiddenDemand, steps: int) -> set[tuple[int, ...]]:
    batch = TensorVectorEnv(market, 1, device="cpu", seed=2)
    batch.reset()
    for _ in range(steps):
        batch.step(market.expert(batch.state))  # type: ignore[arg-type]
    image = picture(market, batch.state_of(0))
    return {tuple(pixel) for pixel in np.unique(image.reshape(-1, 3), axis=0).tolist()}


def test_the_picture_shows_the_best_prices() -> None:
    assert (253, 231, 37) in colours(HiddenDemand(periods=6), 3)  # the scale's upper end, of the map
