"""The duopoly against a trained agent: its table, exact values, prices that are drawn, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import palaestra.train.config.run_config  # noqa: F401  says how model files are read
from palaestra.agents import PPO, RecurrentPPO
from palaestra.envs import make
from palaestra.envs.core.rng import Rng, env_keys
from palaestra.envs.pricing import DuopolyPricing, duopoly
from palaestra.envs.pricing.two_learners.price_pairs import PricePairs

STATES = np.stack(np.divmod(np.arange(225), 15), 1)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model file, and its agent's prices by both last prices [own, the other's], asked for by :meth:`predict`."""
    file = tmp_path_factory.mktemp("frozen") / "model.zip"
    model = PPO("MlpPolicy", make("pricing-duopoly", 4, device="cpu"), n_steps=8, batch_size=32, seed=1)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(1000.0)  # prices that differ from state to state
    model.save(file)
    table = model.predict(STATES.astype(np.float32) / 14, deterministic=True)[0].reshape(15, 15)
    assert len(np.unique(table)) > 2
    return file, table


def test_the_rival_posts_what_the_agent_thinks_best_in_its_place(frozen: Any) -> None:
    file, table = frozen
    market = DuopolyPricing(str(file))
    after, profit, _ = market.step(market.states(0), torch.full((225,), 4), Rng(env_keys(0, torch.arange(225)), 1))
    expected = [table[rival, own] for own, rival in STATES]
    assert after.rival.tolist() == expected
    assert profit == pytest.approx(torch.tensor(market.profit[4, expected], dtype=torch.float32))
    assert market.answers.tolist() == expected


def test_no_policy_earns_more_than_the_exact_best_answer(frozen: Any) -> None:
    """The value of each is summed here along its path; the best one's is reached by the optimal policy alone."""
    file, table = frozen
    market = DuopolyPricing(str(file))
    drawn = np.random.default_rng(0)
    policies = [market.optimal_policy()[0], *drawn.integers(0, 15, (50, 225))]
    values = []
    for policy in policies:
        own = rival = market.nash[0]
        value = 0.0
        for period in range(600):
            own, rival = policy[own * 15 + rival], table[rival, own]
            value += 0.95**period * market.profit[own, rival]
        assert market.policy_value(policy[None]) == pytest.approx(value, rel=1e-9)
        values.append(value)
    assert values[0] == pytest.approx(market.optimal_value(), rel=1e-9)
    assert max(values[1:]) < values[0]


def test_exact_figures_hold_the_collusion_of_the_pair(frozen: Any) -> None:
    file, table = frozen
    own = np.random.default_rng(3).integers(0, 15, 225)
    found = DuopolyPricing(str(file)).exact(lambda state: torch.tensor(own)[state.price * 15 + state.rival])
    pair = PricePairs(DuopolyPricing(), np.stack((own, table.flatten()))[None])
    assert found["collusion_percent"] == pytest.approx(100 * pair.collusion[0])


@pytest.mark.parametrize(("price", "index"), [(0, 0.0), (14, 1.0)])
def test_pairs_at_nash_and_at_monopoly_prices_are_the_ends_of_the_scale(
    monkeypatch: pytest.MonkeyPatch, price: int, index: float
) -> None:
    monkeypatch.setattr(duopoly, "MARGIN", 0.0)  # a grid from the one price to the other
    pair = PricePairs(DuopolyPricing(), np.full((1, 2, 225), price))
    assert pair.collusion[0] == pytest.approx(index, abs=1e-9)


def test_prices_that_are_drawn_have_their_chances() -> None:
    market, rng = DuopolyPricing("self"), np.random.default_rng(5)
    chances = torch.tensor(rng.dirichlet(np.full(15, 0.4), 225), dtype=torch.float32)
    market.meet_by_chance(lambda state: torch.zeros(225, dtype=torch.int64), chances)
    copies, own, rival = 200_000, 3, 11
    state = market.states(0)
    one = type(state)(
        *(torch.full((copies,), field[own * 15 + rival].item(), dtype=field.dtype) for field in vars(state).values())
    )
    after, _, closes = market.step(one, torch.full((copies,), 4), Rng(env_keys(0, torch.arange(copies)), 1))
    shares = np.bincount(after.rival, minlength=15) / copies
    wanted = chances[rival * 15 + own].numpy()  # as the rival sees it
    assert np.abs(shares - wanted).max() < 5 * 0.5 / np.sqrt(copies)
    assert closes.float().mean() == pytest.approx(0.05, abs=0.003)
    assert float(np.corrcoef(closes, after.rival)[0, 1]) == pytest.approx(0.0, abs=0.01)  # another random number


def test_replayed_steps_have_the_latest_chances() -> None:
    batch: Any = make("pricing-duopoly", 64, device="cpu", seed=1, rival="self")
    batch.env.meet_by_chance(lambda state: torch.zeros(225, dtype=torch.int64), torch.eye(15)[torch.zeros(225).long()])
    batch.reset()
    for price in (2, 9, 5):
        certain = torch.eye(15)[torch.full((225,), price)]
        batch.env.meet_by_chance(lambda state, p=price: torch.full((225,), p), certain)
        for _ in range(20):
            _, _, terminated, _, _ = batch.step(torch.full((64,), 7))
            assert (batch.state.rival[~terminated] == price).all()
    assert batch._steps.replay is not None


def test_the_path_is_kept_whole(frozen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = frozen
    monkeypatch.chdir(file.parent)
    kept = DuopolyPricing.self_contained
    assert kept({"rival": "model.zip", "discount": 0.9}) == {"rival": str(file), "discount": 0.9}
    assert kept({"rival": "learning:model.zip"}) == {"rival": f"learning:{file}"}
    assert kept({"rival": "undercut"}) == {"rival": "undercut"}


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file; name a run's model"):
        DuopolyPricing("nothing.zip")
    with pytest.raises(ValueError, match="or a model file, got 'trained'"):
        DuopolyPricing("trained")
    PPO("MlpPolicy", make("pricing", 2, device="cpu"), n_steps=8, batch_size=16).save(tmp_path / "season.zip")
    with pytest.raises(ValueError, match="its agent was trained with observations"):
        DuopolyPricing(str(tmp_path / "season.zip"))
    batch = make("pricing-duopoly", 2, device="cpu")
    RecurrentPPO("MlpPolicy", batch, n_steps=8, batch_size=16).save(tmp_path / "memory.zip")
    with pytest.raises(ValueError, match="a memory of its own"):
        DuopolyPricing(str(tmp_path / "memory.zip"))


def test_an_agent_of_another_grid_of_prices_is_refused(frozen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = frozen
    monkeypatch.setattr(duopoly, "PRICES", 11)
    with pytest.raises(ValueError, match=r"trained with actions Discrete\(15\), and this market has Discrete\(11\)"):
        DuopolyPricing(str(file))
