"""What ``palaestra evaluate`` prints for people: known answers, in 40 columns too."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from palaestra.train.commands.evaluate import find_player
from palaestra.train.config.schema import ConfigError
from palaestra.train.evaluation.episodes import Evaluation
from palaestra.train.formatting import known
from palaestra.train.results.evaluation_report import report, sentence
from palaestra.train.runs.finding import find_model

SNAKE = Evaluation(
    env="palaestra/SnakeSmall-v0",
    run="runs/snake-small/ppo/20261128-221621-s0/model.zip",
    episodes=1000,
    seed=0,
    mean=34.4123,
    std=3.838,
    iqm=35.0,
    ci_low=34.16,
    ci_high=34.64,
    percent_of_optimal=98.31,
    ratio_to_optimal_percent=98.32,
    success_rate=0.972,
    mean_length=209.04,
    reference={"random": 0.1465, "heuristic": None, "optimum": 35.0},
    more={},
    success_ci_low=0.9599,
    success_ci_high=0.9806,
)
PRICES = replace(
    SNAKE,
    env="pricing",
    mean=216.0,
    ci_low=210.0,
    ci_high=222.0,
    success_rate=None,
    more={"exact_mean": 217.12, "captured_percent": -3.25, "best_fixed_mean": 230.0, "revenue_at_5_percent": 100.0},
)


def test_the_sentence_says_what_the_score_means() -> None:
    assert sentence(SNAKE) == (
        "runs/snake-small/ppo/20261128-221621-s0 scores 34.41 an episode on snake-small, 98.3 % of the way from random "
        "play to the best known (1,000 held-out episodes, seed 0)"
    )
    assert "earns 217.1 an episode on pricing, 5.6 % less than the best fixed price (1,000" in sentence(PRICES)
    better = replace(PRICES, more={**PRICES.more, "exact_mean": 241.5})
    assert "earns 241.5 an episode on pricing, 5.0 % more than the best fixed price (" in sentence(better)
    assert ", 0.0 % of the way from random play" in sentence(replace(SNAKE, percent_of_optimal=-0.04))
    bare = replace(SNAKE, percent_of_optimal=None, episodes=1, ci_low=34.4123, ci_high=34.4123)
    assert sentence(bare).endswith("scores 34.41 an episode on snake-small (1 held-out episode, seed 0)")


def test_the_table_has_units_and_known_digits() -> None:
    assert report(SNAKE).splitlines()[1:] == [
        "  mean return        34.41",
        "    95 % interval    34.16 to 34.64",
        "  successes          97.2 %",
        "    95 % interval    96.0 to 98.1 %",
        "  middle half (IQM)  35.00",
        "  deviation          3.84",
        "  episode length     209.0 steps",
        "  random             0.1465",
        "  best known         35.00",
        "  normalised score   98.3 %",
    ]
    lines = report(PRICES).splitlines()
    assert "  captured              -3.250 %" in lines
    assert "  revenue at 5 percent  100.0" in lines


@pytest.mark.parametrize("columns", [40, 80])
def test_it_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    for result in (SNAKE, PRICES):
        assert max(map(len, report(result).splitlines())) <= columns


def test_a_pipe_gets_whole_sentences() -> None:
    assert report(SNAKE).splitlines()[0] == sentence(SNAKE)


def test_digits_are_those_that_are_known() -> None:
    assert [known(1234.567, half) for half in (120.0, 12.0, 1.2, 0.012, 0.0)] == [
        "1,235",
        "1,235",
        "1,234.6",
        "1,234.567",
        "1,235",
    ]
    assert [known(value) for value in (0.0, -0.1465432, 98.76543, float("nan"))] == ["0", "-0.1465", "98.77", "nan"]


RUNS = Path(__file__).parents[2] / "data/runs-885ce09"


def test_the_best_weights_have_a_name() -> None:
    assert find_model(f"{RUNS}/ppo-cartpole:best") == RUNS / "ppo-cartpole/best.zip"
    for name in (f"{RUNS}:best", "nowhere:best"):
        with pytest.raises(ConfigError, match=r"no .*best\.zip: give a run folder"):
            find_model(name)


def test_a_run_that_is_not_finished_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    find_player(str(RUNS / "dqn-pricing"), None, False, ())
    told = capsys.readouterr().err
    assert "this run is not finished: its agent has trained for " in told
    assert "(palaestra train --resume goes on)" in told
    find_player(str(RUNS / "ppo-cartpole"), None, False, ())
    assert "finished" not in capsys.readouterr().err
