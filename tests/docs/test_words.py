"""One vocabulary for scores: the words of train/README.md's section, in whatever people read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import ROOT

from palaestra.envs import entries
from palaestra.envs.core import Reference
from palaestra.train.commands.envs import env_page, envs_table, list_envs
from palaestra.train.config.description import describe_env
from palaestra.train.config.run_config import environment
from palaestra.train.evaluation.episodes import Evaluation
from palaestra.train.formatting import NORMALISED, SCORES
from palaestra.train.play.game import EpisodeScore, table
from palaestra.train.results.evaluation_report import report
from palaestra.train.results.run_verdict import verdict
from palaestra.train.results.table import results_table
from palaestra.train.runs.trainer import RunResult

OTHER_WORDS = re.compile(r"optimum|optimal|simple rule|solved from|% of (?!the way)")
FOUND = Evaluation(
    env="snake-small",
    run="latest",
    episodes=1000,
    seed=0,
    mean=34.4,
    std=3.8,
    iqm=35.0,
    ci_low=34.2,
    ci_high=34.6,
    percent_of_optimal=98.3,
    ratio_to_optimal_percent=98.3,
    success_rate=None,
    mean_length=209.0,
    reference={"random": 0.1, "heuristic": 15.0, "optimum": 35.0},
    more={},
)
RUN = {"seed": 0, "machine": "", "device": "cpu", "threads": 1, "torch": "", "evaluation": FOUND.as_dict()}
TEXTS = {
    "envs": (envs_table(list_envs(), 300).splitlines()[0], tuple(SCORES.values())),
    "envs ENV": (env_page(describe_env(environment("snake-small")), 80), tuple(SCORES.values())),
    "evaluate": (report(FOUND), (*list(SCORES.values())[:3], NORMALISED, "the way from random play to the best known")),
    "results": (results_table([{"command": "", "solved_at": 1.0, "runs": [RUN]}]), ("best known", NORMALISED)),
    "play": (table([EpisodeScore(0, 5.0, None, True)], Reference(optimum=35.0), None), ("best known",)),
    "train": (verdict(RunResult(Path("r"), FOUND, 1, 1.0, (), solved_at=33.0)), ("solved at",)),
    "RESULTS.md": (
        (ROOT / "train/RESULTS.md").read_text(encoding="utf-8").partition("results:end")[0],
        ("best known", NORMALISED),
    ),
}


@pytest.mark.parametrize("place", TEXTS)
def test_scores_have_one_vocabulary(place: str) -> None:
    text, words = TEXTS[place]
    assert [word for word in words if word not in " ".join(text.split())] == []
    assert OTHER_WORDS.findall(text) == []


def test_the_section_explains_every_word() -> None:
    section = (ROOT / "train/README.md").read_text(encoding="utf-8").split("\n## Scores\n")[1].partition("\n## ")[0]
    explained = ", ".join(re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)).split(", ")
    assert {*SCORES.values(), NORMALISED, "return", "score"} <= {*explained}


@pytest.mark.parametrize("name", [entry.short_name for entry in entries()])
def test_an_environment_names_its_sources_in_these_words(name: str) -> None:
    source = next(entry for entry in entries() if entry.short_name == name).build().reference.source
    assert re.findall(r"(?:^|; )([a-z ]+):", source)
    assert {*re.findall(r"(?:^|; )([a-z ]+):", source)} <= {*SCORES.values()}
