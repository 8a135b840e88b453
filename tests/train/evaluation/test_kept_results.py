"""What a run keeps of its final evaluation: episodes that an evaluation plays again, and the environment's figures."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from palaestra.envs.snake import Snake
from palaestra.train.evaluation.episodes import Evaluation, evaluate
from palaestra.train.evaluation.kept_results import added_figures, episodes_table
from palaestra.train.evaluation.policies import ExpertPolicy, RandomPolicy


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return evaluate("snake-small", RandomPolicy(), episodes=20)


def test_a_row_for_each_episode(found: Evaluation) -> None:
    rows = list(csv.DictReader(io.StringIO(episodes_table(found))))
    assert [int(row["episode"]) for row in rows] == list(range(20))
    assert sum(float(row["return"]) for row in rows) / 20 == pytest.approx(found.mean)
    assert sum(int(row["length"]) for row in rows) / 20 == pytest.approx(found.mean_length)
    assert {row["success"] for row in rows} == {"0"}
    assert {row["cut"] for row in rows} == {"0"}
    without = evaluate("cartpole", RandomPolicy(), episodes=3)
    assert {row["success"] for row in csv.DictReader(io.StringIO(episodes_table(without)))} == {""}


def test_row_k_is_the_episode_of_environment_k(found: Evaluation) -> None:
    fewer = evaluate("snake-small", RandomPolicy(), episodes=7)
    assert episodes_table(found).splitlines()[:8] == episodes_table(fewer).splitlines()


def test_single_episodes_are_no_part_of_the_printed_object(found: Evaluation) -> None:
    assert not {"played", "rules"} & found.as_dict().keys()
    assert found == replace(found, played=None, rules=None)
    json.dumps(found.as_dict())


def test_figures_are_the_environments(found: Evaluation) -> None:
    said: list[str] = []
    (ends,) = json.loads(added_figures(found, RandomPolicy(), said.append))
    assert (ends["kind"], sum(ends["counts"])) == ("bars", 20)
    for other in ("cartpole", "CartPole-v1"):
        assert added_figures(evaluate(other, RandomPolicy(), episodes=2), RandomPolicy(), said.append) == "[]"
    played = evaluate("pricing-easy", ExpertPolicy(), episodes=8)
    (maps,) = (f for f in json.loads(added_figures(played, ExpertPolicy(), said.append)) if f["kind"] == "maps")
    assert maps["maps"]["agent"] == maps["maps"]["best known"]
    assert said == []


@pytest.mark.parametrize("value", [[1], None, "text", [Snake]])
def test_what_goes_wrong_with_them_is_told(found: Evaluation, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Snake, "report_figures", lambda *arguments: value)
    said: list[str] = []
    assert added_figures(found, RandomPolicy(), said.append) == "[]"
    (line,) = said
    assert line.startswith("report_figures of snake-small: ")
    assert line.endswith("; the report has none")
