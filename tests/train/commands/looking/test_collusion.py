"""``palaestra collusion``: learners, runs and rules, what is printed, drawn and refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import imageio.v3
import numpy as np
import pytest
import yaml
from PIL import ImageColor

from palaestra.agents import PPO, RecurrentPPO
from palaestra.envs import make
from palaestra.envs.pricing.dashboard.collusion_page import PICTURE_SIZE, response_chart
from palaestra.envs.pricing.dashboard.panels import OWN
from palaestra.envs.pricing.duopoly import DuopolyPricing, rule_table
from palaestra.envs.pricing.two_learners.price_pairs import PricePairs
from palaestra.envs.pricing.two_learners.q_learners import SessionSettings, learn_prices
from palaestra.train import cli
from palaestra.train.commands.train import resume_run
from palaestra.train.config.schema import ConfigError
from palaestra.train.runs import trainer
from palaestra.train.runs.pair import paired_runs

QUICK = "--sessions 6 --beta 2e-3 --stable 500 --seed 3"
MARKET = DuopolyPricing()


@pytest.fixture
def collusion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command in a folder of its own; its exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["palaestra", "collusion", *line.split()])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def trained(tmp_path: Path) -> Any:
    """Saves an agent of the duopoly; its own table, asked for by :meth:`predict`."""

    def save(name: str, kind: Any = PPO, **kwargs: Any) -> Any:
        model = kind("MlpPolicy", make("pricing-duopoly", 4, device="cpu", **kwargs), n_steps=8, batch_size=32, seed=1)
        model.save(tmp_path / name)
        if model.remembers:
            return None
        states = np.stack(np.divmod(np.arange(225), 15), 1).astype(np.float32) / 14
        return model.predict(states, deterministic=True)[0]

    return save


def test_learners_are_those_of_the_module(collusion: Any) -> None:
    status, out, err = collusion(f"-q {QUICK} --json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    done = learn_prices(MARKET, SessionSettings(sessions=6, beta=2e-3, stable=500, seed=3))
    pairs = PricePairs(MARKET, done.tables.numpy()[done.settled], done.last.numpy()[done.settled])
    assert (found["sessions"], found["settled"]) == (6, int(done.settled.sum()))
    assert found["collusion"] == pytest.approx(pairs.collusion.mean())
    assert found["collusion_low"] <= found["collusion"] <= found["collusion_high"]
    assert found["undercut_prices"] == pytest.approx(pairs.deviation().prices)
    assert sum(found["cycle_percent"]) == pytest.approx(100)


def test_what_is_printed_fits_a_terminal(collusion: Any) -> None:
    status, out, _ = collusion(QUICK)
    assert status == 0
    assert out.startswith("two Q-learners: alpha 0.15, beta 0.002, discount 0.95, seed 3; 6 sessions\n")
    assert max(map(len, out.splitlines())) <= 80
    assert "collusion (0 Nash, 1 cartel)" in out


def test_rules_against_each_other_by_hand(collusion: Any) -> None:
    """Who copies a firm that goes down ends where it ends."""
    status, out, _ = collusion("tit-for-tat undercut --json")
    found = json.loads(out)
    nash = MARKET.prices[1]
    assert (status, found["price"]) == (0, pytest.approx([nash, nash]))
    profit = (nash - 1) / (2 + np.exp(4 * (nash - 2)))
    assert found["collusion"] == pytest.approx((profit - MARKET.nash_profit) / (0.33749046 - 0.22292666), abs=1e-6)
    _, out, _ = collusion("nash")
    assert "it does that anyway" in out
    assert "no other price pays           true" in out


def test_an_agent_against_a_rule_and_against_itself(collusion: Any, trained: Any) -> None:
    table = trained("own.zip", rival="self")
    for rival, other in (("undercut", rule_table("undercut")), ("", table)):
        pair = PricePairs(MARKET, np.stack((table, other))[None])
        status, out, _ = collusion(f"own.zip {rival} --json")
        found = json.loads(out)
        assert status == 0
        assert found["collusion"] == pytest.approx(pair.collusion[0])
        assert found["price"] == pytest.approx(pair.mean_prices[0])
        assert found["of_best_percent"] == pytest.approx(100 * pair.of_best.mean())


@pytest.mark.parametrize("line", [QUICK, "best-response undercut"])
def test_the_picture_shows_the_prices_of_the_undercut(collusion: Any, tmp_path: Path, line: str) -> None:
    status, out, err = collusion(f"-q {line} --json --record page.png")
    assert (status, err) == (0, "")
    picture = imageio.v3.imread(tmp_path / "page.png")[..., :3].astype(int)
    assert picture.shape == (PICTURE_SIZE[1], PICTURE_SIZE[0], 3)
    prices = np.array(json.loads(out)["undercut_prices"])
    if line == QUICK:
        done = learn_prices(MARKET, SessionSettings(sessions=6, beta=2e-3, stable=500, seed=3))
        pairs = PricePairs(MARKET, done.tables.numpy()[done.settled], done.last.numpy()[done.settled])
    else:
        pairs = PricePairs(MARKET, np.stack((rule_table("best-response"), rule_table("undercut")))[None])
    chart = response_chart(pairs, pairs.deviation())
    blue = ImageColor.getrgb(OWN[0])
    for period in (1, 4, 9):
        x, y = chart.place(period + 0.5, prices[period, 0])
        assert np.abs(picture[round(y), round(x)] - blue).max() < 60


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("random", "random is no pricing algorithm: name a run, or one of the rules tit-for-tat, undercut"),
        ("nash --alpha 0.1", "--alpha is of Q-learners, which learn where no AGENT is named"),
        ("--alpha 7", "--alpha must be above 1e-06 and at most 1, got 7"),
        ("--beta x", "x: expected a number"),
        ("--stable 3", "--stable must be a whole number from 250"),
        ("--sessions 0", "0: must be at least 1"),
        ("--sessions 2000000", "--sessions must be a whole number from 1 to 1,000,000"),
        ("--discount 1", "--discount must be"),
        ("nothing-here", "no run 'nothing-here'"),
        ("nash --record page.gif", "--record page.gif: choose a name that ends in .png"),
        ("--agents dqn", "--agents dqn: name two, with a comma, as dqn,ppo"),
        ("--agents dqn,pppo", "unknown agent 'pppo'; did you mean 'ppo'?"),
        ("--agents dqn,sac", "sac needs bounded continuous actions"),
        ("--agents dqn,ppo --rounds 0", "0: must be at least 1"),
        ("--agents ppo,ppo --rounds 9k --total-timesteps 8k", "rounds=9,000: there are only 8,000 steps"),
        ("--agents dqn,ppo --beta 1e-3", "--beta is of Q-learners: leave it or --agents out"),
        ("--agents dqn,ppo --discount 1", "discount"),
        ("nash --agents dqn,ppo", "nash: --agents and --resume train two agents: name none that is trained"),
        ("--rounds 5", "--rounds is of agents that learn: --agents A,B names two"),
        ("--resume latest --seed 1", "--resume goes on with the runs' own settings: leave --seed out"),
        ("--resume nothing-here", "no run 'nothing-here'"),
    ],
)
def test_what_is_refused_in_one_line(collusion: Any, tmp_path: Path, line: str, message: str) -> None:
    status, out, err = collusion(line)
    assert (status, out) == (2, "")
    assert err.startswith("palaestra: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_two_agents_learn_and_meet(collusion: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed of the two is what the command prints of their folders; both go on together, or not at all."""
    monkeypatch.setattr(trainer, "_record_episode", lambda *arguments: None)
    monkeypatch.setattr(paired_runs, "PARTS", 2)
    line = "--agents ppo,pqn --total-timesteps 9000 --num-envs 128 --rounds 2 --seed 4 --run-dir two --json"
    status, out, err = collusion(line)
    assert status == 0, err
    found = json.loads(out)
    first, second = "two/1-ppo", "two/2-pqn"
    assert f"run folders: {first} and {second}" in err
    status, out, _ = collusion(f"{first} {second} --json")
    assert (status, json.loads(out)) == (0, found)
    seeds = [yaml.safe_load((tmp_path / name / "config.yaml").read_text())["seed"] for name in (first, second)]
    assert seeds == [8, 9]
    status, out, err = collusion(f"--resume {second} --json")
    assert (status, json.loads(out)) == (0, found)
    assert f"{first} and {second} are finished" in err
    status, _, err = collusion(line)
    assert (status, err) == (2, "palaestra: error: two exists already; a run is never overwritten\n")
    with pytest.raises(ConfigError, match="go on with palaestra collusion --resume two/1-ppo"):
        resume_run(first, "disabled", 20_000)


def test_agents_that_do_not_fit_are_refused(collusion: Any, trained: Any, tmp_path: Path) -> None:
    trained("memory.zip", RecurrentPPO)
    model = PPO("MlpPolicy", make("pricing", 2, device="cpu"), n_steps=8, batch_size=16)
    model.save(tmp_path / "season.zip")
    for name, message in (
        ("memory.zip", "acts with a memory of its own"),
        ("season.zip", "the agent was trained with"),
    ):
        status, _, err = collusion(name)
        assert status == 2, err
        assert message in err
