"""Elo ratings: known shares of points, the anchor, and what a run by self-play logs."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from palaestra.envs import resolve
from palaestra.train.config.run_config import resolve_config
from palaestra.train.evaluation.episodes import evaluate
from palaestra.train.evaluation.games.elo import EloLog, expected_score, most_likely_rating, points_of
from palaestra.train.evaluation.policies import RandomPolicy
from palaestra.train.players import find_player
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.runs.trainer import train_new

SMALL = {"rows": 4, "columns": 4}


def test_points_a_game_of_known_differences() -> None:
    """Elo's own table: 400 more is ten points to one, 200 more 0.76 of them."""
    assert expected_score(0.0) == 0.5
    assert expected_score(400.0) == pytest.approx(10 / 11)
    assert expected_score(-400.0) == pytest.approx(1 / 11)
    assert expected_score(200.0) == pytest.approx(0.7597, abs=1e-4)


@pytest.mark.parametrize(("share", "difference"), [(0.5, 0.0), (10 / 11, 400.0), (0.76, 200.2), (1 / 101, -800.0)])
def test_the_rating_of_a_known_share(share: float, difference: float) -> None:
    rating, error = most_likely_rating([share * 1e6], [10**6], [100.0])
    assert rating == pytest.approx(100.0 + difference, abs=1.0)
    assert error == pytest.approx(400 / math.log(10) / math.sqrt(1e6 * share * (1 - share)), rel=1e-3)


def test_ratings_are_found_again_from_games_against_several() -> None:
    rivals = [0.0, 150.0, 420.0]
    points = [5000 * expected_score(333.0 - rival) for rival in rivals]
    assert most_likely_rating(points, [5000] * 3, rivals)[0] == pytest.approx(333.0, abs=0.5)


def test_who_wins_all_has_a_finite_rating() -> None:
    """A draw is added: half a point of 101 is lost."""
    rating, error = most_likely_rating([100.0], [100], [0.0])
    assert rating == pytest.approx(400 * math.log10(100.5 / 0.5), abs=1e-3)
    assert 200 < error < 300
    assert most_likely_rating([0.0], [100], [0.0])[0] == pytest.approx(-rating, abs=1e-3)


def test_lookahead_is_rated_by_its_games() -> None:
    """One rating against another one says what a game between the two gives."""
    rated = EloLog(resolve("connect-four"), {**SMALL, "opponent": "self"}).scripted_ratings()
    assert [*rated] == ["random", "one-ply", "two-ply"]
    assert rated["random"] == 0.0 < rated["one-ply"] < rated["two-ply"]
    found = evaluate("connect-four", RandomPolicy(), episodes=2000, env_kwargs={**SMALL, "opponent": "one-ply"})
    assert points_of(found) / 2000 == pytest.approx(expected_score(-rated["one-ply"]), abs=0.04)


def test_a_run_by_self_play_logs_its_rating(tmp_path: Path) -> None:
    settings = ["env.rows=4", "env.columns=4", "n_steps=8", "batch_size=256", "n_epochs=1", "env.opponent=self"]
    config = resolve_config("connect-four", num_envs=64, total_timesteps=64 * 8 * 2, settings=settings)
    train_new(config, tmp_path / "run")
    with RunFolder(tmp_path / "run").progress_file.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["eval/elo"]]
    player = find_player(f"{tmp_path}/run:best", None, False, ())
    best: Any = max(rows, key=lambda row: float(row["eval/mean_reward"]))
    found = evaluate(
        player.env, player.policy, episodes=100, seed=2**31, env_kwargs={**player.env_kwargs, "opponent": "two-ply"}
    )
    log = EloLog(resolve("connect-four"), config.env_kwargs)
    assert float(best["eval/elo"]) == pytest.approx(log.metrics(player.policy, found)["eval/elo"], abs=1e-6)  # type: ignore[arg-type]
    assert 20 < float(best["eval/elo_error"]) < 60


def test_other_runs_have_none() -> None:
    for name, kwargs in (("connect-four", {**SMALL, "opponent": "random"}), ("snake-small", {})):
        assert EloLog(resolve(name), kwargs).metrics(None, None) == {}  # type: ignore[arg-type]
