"""A run that trains by self-play is scored against a fixed opponent, whom everything that tells its scores names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import command
from made_once import made_once

from palaestra.envs import resolve
from palaestra.envs.games.connect_four import ConnectFour
from palaestra.envs.wrappers.two_players.opponents import fixed_opponent
from palaestra.train.commands.watch import watch_player
from palaestra.train.config.run_config import resolve_config
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS, evaluate
from palaestra.train.evaluation.policies import RandomPolicy
from palaestra.train.players import find_player
from palaestra.train.recording import show
from palaestra.train.runs import trainer
from palaestra.train.runs.finding import curves
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.runs.trainer import train_new

SMALL = ("env.rows=4", "env.columns=4")
FEW = ("n_steps=8", "batch_size=256", "n_epochs=1")
STEPS = 64 * 8 * 10


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(path: Path) -> None:
        settings = [*SMALL, *FEW, "env.opponent=earlier+random"]
        config = resolve_config("connect-four", num_envs=64, total_timesteps=STEPS, settings=settings)
        train_new(config, path / "run")

    return made_once(tmp_path_factory, "self-play-run", make) / "run"


@pytest.mark.parametrize(
    ("trained", "scored"),
    [
        ("earlier", "two-ply"),
        ("self", "two-ply"),
        ("random + earlier", "two-ply"),
        ("random+one-ply", "random+one-ply"),
        ("a.zip", "a.zip"),
    ],
)
def test_earlier_selves_alone_are_replaced(trained: str, scored: str) -> None:
    assert fixed_opponent(ConnectFour, trained) == scored
    kwargs = {"rows": 4, "opponent": trained}
    assert resolve("connect-four").evaluation_kwargs(kwargs) == {"rows": 4, "opponent": scored}


def test_other_environments_are_evaluated_as_they_are() -> None:
    assert resolve("snake-small").evaluation_kwargs({"size": 5}) == {"size": 5}
    assert resolve("connect-four").evaluation_kwargs({"rows": 4}) == {"rows": 4}
    assert resolve("CartPole-v1").evaluation_kwargs({}) == {}


class PlaysTwoPly(ConnectFour):
    """A game that suits people with another opponent."""

    played_with = {"opponent": "one-ply"}  # noqa: RUF012


def test_a_game_may_name_another_opponent() -> None:
    assert fixed_opponent(PlaysTwoPly, "earlier") == "one-ply"


def test_the_final_evaluation_is_against_the_fixed_opponent(run: Path) -> None:
    """Equal to one that asks for it, and to none against random play, which empty places of a pool stand for."""
    found, player = RunFolder(run).evaluation(), find_player(str(run), None, False, ())
    assert player.env_kwargs["opponent"] == found["opponent"] == "two-ply"
    scores = {
        opponent: evaluate(
            player.env,
            player.policy,
            episodes=found["episodes"],
            env_kwargs={**player.env_kwargs, "opponent": opponent},
        ).mean
        for opponent in ("two-ply", "random", "earlier")
    }
    assert found["mean"] == pytest.approx(scores["two-ply"])
    assert scores["random"] > found["mean"] + 0.3
    assert scores["earlier"] > found["mean"] + 0.3


def test_files_of_the_run_name_the_opponent(run: Path) -> None:
    folder = RunFolder(run)
    assert folder.facts()["evaluated_against"] == "two-ply"
    config = folder.config()
    assert config is not None
    assert config.env_kwargs["opponent"] == "earlier+random", "training goes on as it was"


def test_returns_of_both_sides_are_told_as_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever wins gets 1: the mean is the share of games that one side wins, and compares with no evaluation."""
    monkeypatch.setattr(trainer, "_record_episode", lambda *arguments: None)
    config = resolve_config(
        "connect-four", num_envs=64, total_timesteps=64 * 8 * 10, settings=[*SMALL, *FEW, "env.opponent=self"]
    )
    train_new(config, tmp_path / "run")
    told = capsys.readouterr().out
    assert "in training the agent plays both sides, whose share of won games is no score" in told
    assert "training, exploring" not in told
    rows = curves(tmp_path / "run")
    assert 0.0 < rows["rollout/ep_rew_mean"][-2] <= 1.0
    assert "eval/mean_reward" in rows
    assert "eval/above_training" not in rows
    assert command(monkeypatch, f"report {tmp_path / 'run'} --no-player --out {tmp_path / 'page.html'}") == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Self-play games that one side wins" in page
    assert "The agent moves for both players while it trains, so this is no score" in page


def test_commands_name_the_opponent(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command(monkeypatch, f"evaluate {run} --episodes 20") == 0
    assert "an episode on connect-four against two-ply" in capsys.readouterr().out
    assert command(monkeypatch, f"evaluate {run} random --episodes 20") == 0
    assert "on connect-four against two-ply, the same for all" in capsys.readouterr().out
    assert command(monkeypatch, f"evaluate {run} --episodes 20 --json --set env.opponent=one-ply") == 0
    assert json.loads(capsys.readouterr().out)["opponent"] == "one-ply"
    assert command(monkeypatch, f"report {run} --no-player --out {tmp_path / 'page.html'}") == 0
    assert "an episode against two-ply" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_first_lines_of_a_run_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    settings = " ".join(f"--set {one}" for one in (*SMALL, *FEW, "env.opponent=earlier"))
    sizes = f"--num-envs 64 --total-timesteps 512 --track disabled --run-dir {tmp_path / 'run'}"
    assert command(monkeypatch, f"train connect-four {sizes} {settings}") == 0
    said = capfd.readouterr().out
    assert "evaluations and recordings: against two-ply; training: against earlier" in said
    assert "against two-ply after 512 steps" in said


def test_settings_of_an_evaluation_are_those_of_its_opponent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An agent that moves for both players has no one to begin in training, and has in evaluations."""
    settings = [*SMALL, *FEW, "env.opponent=self"]
    train_new(resolve_config("connect-four", num_envs=64, total_timesteps=512, settings=settings), tmp_path / "run")
    capsys.readouterr()
    assert command(monkeypatch, f"evaluate {tmp_path / 'run'} --episodes 20 --json --set env.begins=agent") == 0
    assert json.loads(capsys.readouterr().out)["opponent"] == "two-ply"


@pytest.mark.parametrize("begins", ["agent", "opponent"])
@pytest.mark.parametrize("opponent", ["random", "one-ply", "two-ply"])
def test_what_random_play_earns_is_what_its_reference_says(opponent: str, begins: str) -> None:
    kwargs = {"opponent": opponent, "begins": begins}
    found = evaluate("connect-four", RandomPolicy(), episodes=2000, env_kwargs=kwargs)
    error = found.std / 2000**0.5
    assert found.reference["random"] == pytest.approx(found.mean, abs=4 * error)
    assert found.percent_of_optimal == pytest.approx(0.0, abs=400 * error)


def test_other_evaluations_name_nobody() -> None:
    result = evaluate("cartpole", find_player("random", "cartpole", False, ()).policy, episodes=2)
    assert "opponent" not in result.as_dict()


def test_episodes_of_training_are_those_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the agent moves for both players, they can be played again; held-out episodes have the fixed opponent."""
    settings = [*SMALL, *FEW, "env.opponent=self"]
    run = tmp_path / "run"
    train_new(resolve_config("connect-four", num_envs=64, total_timesteps=512, seed=7, settings=settings), run)
    shown: list[tuple[int, str]] = []

    def noted(env: str, policy: Any, *, seed: int, env_kwargs: dict[str, Any], **_: Any) -> None:
        shown.append((seed, env_kwargs["opponent"]))

    monkeypatch.setattr(show, "watch", noted)
    watch_player(run, training=True)
    watch_player(run)
    assert shown == [(7, "self"), (EVALUATION_SEEDS, "two-ply")]
