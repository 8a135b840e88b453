"""``palaestra evaluate RUN --positions N``: perfect play is perfect, random play is as a best response finds it."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import command
from made_once import made_once
from nim import Nim, PileState
from torch.nn.functional import one_hot

from palaestra.agents import PPO
from palaestra.agents.search.searching_player import SearchingPlayer
from palaestra.envs import resolve
from palaestra.envs.core.rng import Rng
from palaestra.envs.games.connect_four import ConnectFour
from palaestra.envs.wrappers.two_players.against_opponent import AgainstOpponent
from palaestra.envs.wrappers.two_players.best_response import best_response
from palaestra.train.config.run_config import resolve_config
from palaestra.train.evaluation.games import judged_play
from palaestra.train.evaluation.games.exploitability import ExploitabilityLog
from palaestra.train.evaluation.games.judged_play import Share, exact_response, judge_player
from palaestra.train.evaluation.policies import RandomPolicy
from palaestra.train.players import find_player
from palaestra.train.runs import callbacks
from palaestra.train.runs.curves import TrainingEvaluation
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.runs.trainer import train_new

SMALL = "--env connect-four --set env.rows=4 --set env.columns=4"
RANDOM_EXPLOITABILITY = 0.95667  # of random play on 4 × 4: tests/envs/wrappers/two_players/test_best_response.py


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(path: Path) -> None:
        settings = ["env.rows=4", "env.columns=4", "env.opponent=random", "n_steps=8", "batch_size=256", "n_epochs=1"]
        config = resolve_config("connect-four", num_envs=64, total_timesteps=64 * 8 * 4, settings=settings)
        train_new(config, path / "run")

    return made_once(tmp_path_factory, "judged-run", make) / "run"


def judged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str) -> dict[str, Any]:
    assert command(monkeypatch, f"evaluate {line} --json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


class DrawnPile(Nim):
    """A pile of 5 to 9 stones, by chance."""

    def reset(self, rng: Rng) -> PileState:
        return replace(super().reset(rng), left=rng.integers(5, 10))


def test_a_game_that_begins_by_chance_is_judged_without_its_exploitability() -> None:
    rules = AgainstOpponent(DrawnPile())
    told = exact_response(RandomPolicy(), rules, "cpu")
    assert told == (None, "exploitability is not known: best responses are found in games without chance alone")


def test_perfect_play_is_perfect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = judged(monkeypatch, capsys, f"expert {SMALL} --positions 600")
    kinds = [found["all"], *found["by_ply"], *found["by_value"]]
    shares = [kind[name] for kind in kinds for name in ("kept", "kept_of_decisions")]
    assert {share["percent"] for share in shares if share["count"]} == {100.0}
    assert found["won_positions_won"]["percent"] == found["drawn_positions_held"]["percent"] == 100.0
    assert found["won_positions_won"]["count"] > 20
    assert (found["exploitability"], found["best_response_as_first"], found["best_response_as_second"]) == (0, 0, 0)
    for games in (found["games_held_as_first"], found["games_held_as_second"]):
        assert (games["count"], games["percent"]) == (200, 100.0)


def test_random_play(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = judged(monkeypatch, capsys, f"random {SMALL} --positions 600")
    assert found["exploitability"] == pytest.approx(RANDOM_EXPLOITABILITY, abs=1e-5)
    everything, decisions = found["all"]["kept"], found["all"]["kept_of_decisions"]
    assert everything["count"] == 600
    free = 600 - decisions["count"]
    assert everything["percent"] * 6 == pytest.approx(free + decisions["percent"] * decisions["count"] / 100)
    assert 30 < decisions["percent"] < 65
    assert sum(kind["kept"]["count"] for kind in found["by_ply"]) == 600
    assert sum(kind["kept"]["count"] for kind in found["by_value"]) == 600
    lost = found["by_value"][2]
    assert (lost["name"], lost["kept"]["percent"], lost["kept_of_decisions"]["count"]) == ("lost", 100.0, 0)
    assert 0 < found["games_held_as_first"]["percent"] < 60
    assert 0 < found["games_held_as_second"]["percent"] < 60


def test_the_table_for_people(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(monkeypatch, f"evaluate expert {SMALL} --positions 200") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "expert on connect-four: moves in 200 positions of mixed play, seed 0, beside perfect play"
    assert lines[1].replace("  ", "").startswith("positions")
    assert lines[1].endswith("with a decision  value kept    95 % interval  in")
    assert lines[2].split()[:3] == ["200", "100.0", "%"]
    assert lines[2].endswith("all positions")
    assert lines[-2].split()[:2] == ["200", "100.0"]
    assert lines[-2].endswith("whole games as second player that keep their value")
    assert lines[-1] == "exploitability 0: the best response, exact, earns 0 as first and 0 as second player"


def test_a_run_keeps_its_judgement_and_the_report_shows_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = RunFolder(run)
    found = judged(monkeypatch, capsys, f"{run} --positions 300 --set env.begins=agent")
    assert not folder.positions_file.exists(), "not as it was trained"
    found = judged(monkeypatch, capsys, f"{run} --positions 300")
    kept = json.loads(folder.positions_file.read_text())
    assert {name: kept[name] for name in found} == found
    assert 0 < found["exploitability"] <= 1
    assert command(monkeypatch, f"report {run} --no-player --out {tmp_path / 'page.html'}") == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Beside perfect play" in page
    assert f"{found['all']['kept']['percent']:.1f} %" in page
    folder.positions_file.write_text('{"positions": 3, "all": [], "by_ply": 4, "by_value": [5, {}]}')
    assert command(monkeypatch, f"report {run} --no-player --out {tmp_path / 'other.html'}") == 0
    folder.positions_file.unlink()


def test_evaluations_while_training_log_the_exploitability(run: Path) -> None:
    """The best one's is that of the weights that it left."""
    with RunFolder(run).progress_file.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["eval/exploitability"]]
    assert len(rows) >= 2
    best = max(rows, key=lambda row: (-float(row["eval/exploitability"]), float(row["eval/mean_reward"])))
    player = find_player(f"{run}:best", None, False, ())
    response, _ = judged_play.exact_response(player.policy, judged_play.game_rules(player), "cpu")
    assert response is not None
    assert float(best["eval/exploitability"]) == response.exploitability


def test_the_weights_with_the_least_exploitability_are_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([1.0, 0.5, 0.0, 0.5, 0.0, 1.0])
    scores = {0.5: 0.9, 0.0: 0.1, 1.0: 0.2}  # the best score is of another agent
    monkeypatch.setattr(ExploitabilityLog, "metrics", lambda *args: {"eval/exploitability": next(told)})
    steps, settings = 64 * 8, ["env.rows=4", "env.columns=4", "n_steps=8", "batch_size=256", "n_epochs=1"]
    monkeypatch.setattr(callbacks, "EVALUATIONS", 6)
    config = resolve_config("connect-four", num_envs=64, total_timesteps=steps * 6, settings=settings)
    train_new(config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert [one.exploitability for one in folder.curves.evaluations()] == [1.0, 0.5, 0.0, 0.5, 0.0, 1.0]
    best = folder.curves.best()
    assert best is not None
    assert best.exploitability == 0.0
    with zipfile.ZipFile(folder.best_file) as archive:
        assert json.loads(archive.read("data"))["num_timesteps"] == best.step
    ranks = [TrainingEvaluation(1, score, None, worst).rank for worst, score in scores.items()]
    assert max(ranks) == (0.0, 0.1)
    assert TrainingEvaluation(1, 0.3).rank > TrainingEvaluation(1, 0.2).rank


def test_the_exploitability_of_a_search_is_that_of_its_moves(run: Path) -> None:
    player = find_player(str(run), None, False, (), 8)
    response, _ = judged_play.exact_response(player.policy, judged_play.game_rules(player), "cpu")
    game, search = (
        ConnectFour(4, 4, threats=True),
        SearchingPlayer(find_player(str(run), None, False, ()).policy.model, 8),
    )  # type: ignore[attr-defined]
    alone = best_response(game, lambda state: one_hot(search.move(game, state), 4))
    assert response == alone
    plain, _ = judged_play.exact_response(
        find_player(str(run), None, False, ()).policy, judged_play.game_rules(player), "cpu"
    )
    assert plain is not None
    assert plain.asked != alone.asked, "it plays otherwise"


def test_large_games_and_other_environments_have_no_exploitability() -> None:
    for name in ("connect-four", "snake-small"):
        kwargs = {"rows": 6} if name == "connect-four" else {}
        assert ExploitabilityLog(resolve(name), kwargs).metrics(find_player("random", name, False, ()).policy) == {}  # type: ignore[arg-type]


def test_positions_do_not_depend_on_processes_or_chunks(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = find_player(str(run), None, False, ())
    whole = judge_player(player, 150)
    monkeypatch.setattr(judged_play, "processes_for", lambda *args: 2)
    assert judge_player(player, 150) == whole
    monkeypatch.setattr(judged_play, "processes_for", lambda *args: 1)
    monkeypatch.setattr(judged_play, "AT_ONCE", 7)
    assert judge_player(player, 150) == whole


def test_moves_that_are_drawn_are_drawn_anew(run: Path) -> None:
    """Each position and ply has random numbers of its own, which a second evaluation draws again."""
    player = find_player(str(run), None, True, ())
    found = judge_player(player, 300)
    assert found == judge_player(player, 300)
    assert found.total != judge_player(find_player(str(run), None, False, ()), 300).total
    assert found.response is None
    assert found.unknown == "exploitability is of play without chance"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("random --env snake-small --positions 10", "snake-small is no game for two"),
        (
            "random --env connect-four --set env.rows=5 --set env.columns=5 --positions 10",
            "perfect play is known on 6 × 7",
        ),
        (f"random {SMALL} --positions 10 --stress", "--stress and --positions are two tests"),
        (f"random expert {SMALL} --positions 10", "--positions tests one RUN, got 2"),
        (f"random {SMALL} --positions 10 --episodes 3", "leave --episodes out"),
        (f"random {SMALL} --positions 0", "0"),
        (f"random {SMALL} --set env.frame_stack=2 --positions 10", "leave its wrappers (env.…) out"),
        ("--positions 10", "which run?"),
    ],
)
def test_what_cannot_be_judged(
    line: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, f"evaluate {line}") == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert said in told.err


def test_a_missing_solver(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from palaestra.envs.games import solver

    monkeypatch.setattr(solver, "is_installed", lambda: False)
    solver._engine.cache_clear()
    assert command(monkeypatch, "evaluate random --env connect-four --positions 10") == 2
    assert 'pip install "palaestra[games]"' in capsys.readouterr().err


def test_shares_of_none() -> None:
    assert Share(0, 0).as_dict() == {"count": 0, "percent": None, "ci_low": None, "ci_high": None}
    assert Share(3, 4).percent == 75.0


def test_training_until_solved_ends_with_the_first_agent_that_cannot_be_exploited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = iter([1.0, 0.5, 0.0, 0.5])
    monkeypatch.setattr(ExploitabilityLog, "metrics", lambda *args: {"eval/exploitability": next(told)})
    monkeypatch.setattr(callbacks, "EVALUATIONS_OF_SMALL_GAMES", 6)
    settings = ["env.rows=4", "env.columns=4", "n_steps=8", "batch_size=256", "n_epochs=1"]
    config = resolve_config("connect-four", num_envs=64, total_timesteps=3072, settings=settings, stop_at="solved")
    train_new(config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert [one.exploitability for one in folder.curves.evaluations()] == [1.0, 0.5, 0.0]
    assert PPO.load(folder.model_file).num_timesteps == 3 * 512
    assert "no opponent earns more against the agent than the game is worth" in capsys.readouterr().out
