"""``palaestra evaluate`` with several runs, and with none: known rows, at any width, and bad input."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import palaestra

from palaestra.envs.specs import TensorEnvSpec
from palaestra.train import players as players_module
from palaestra.train.config.schema import ConfigError
from palaestra.train.evaluation.policies import Player, RandomPolicy
from palaestra.train.formatting import columns
from palaestra.train.players import compare, evaluate_player, find_players
from palaestra.train.results.evaluation_report import comparison
from palaestra.train.results.run_list import list_runs, runs_table
from palaestra.train.runs.run_folder import RunFolder

RUNS = Path(__file__).parents[2] / "data/runs-885ce09"


def test_columns_to_the_letter() -> None:
    heads, rows = ("agent", "score", "run"), [("ppo", "9.5", "runs/a/ppo/1"), ("dqn", "–", "runs/a/dqn/22")]
    whole = ["agent  score  run", "ppo      9.5  runs/a/ppo/1", "dqn        –  runs/a/dqn/22"]
    assert columns(heads, rows, None) == columns(heads, rows, 27) == whole
    below = ["agent  score", "ppo      9.5", "  runs/a/ppo/1", "dqn        –", "  runs/a/dqn/22"]
    assert columns(heads, rows, 26) == columns(heads, rows, 14) == below
    listed = ["runs/a/ppo/1", "  agent", "  ppo,", "  score 9.5", "runs/a/dqn/22", "  agent dqn"]
    assert "\n".join(columns(heads, rows, 11)).splitlines() == listed


def test_several_play_the_same_episodes_as_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    run = str(RUNS / "ppo-cartpole")
    players = find_players([run, "random", f"{run}:best"], None, False, ())
    found = compare(players, 20, 3)
    alone = [evaluate_player(run, 20, 3), evaluate_player("random", 20, 3, env="cartpole")]
    assert [one.mean for one in found[:2]] == [one.mean for one in alone]
    lines = comparison(players, found).splitlines()
    assert lines[0] == "mean returns of 20 held-out episodes, seed 3 on cartpole, the same for all"
    assert lines[1].split("  ")[-1] == "run"
    assert [line.split()[-1] for line in lines[2:]] == [run, "random", f"{run}/best.zip"]
    for width in (40, 80):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(width))
        lines = comparison(players, found).splitlines()
        assert max(len(line) for line in lines if run not in line) <= width
        assert sum(run in line for line in lines) == 2


def test_a_script_plays_in_the_environment_of_the_first_run() -> None:
    players = find_players(["random", str(RUNS / "ppo-cartpole")], None, False, ())
    assert {one.env for one in compare(players, 5)} == {"palaestra/CartPole-v1"}


def test_its_settings_come_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that look like numbers, keys that are numbers, and none of a preset."""
    settings: dict[str, Any] = {"seller": "4711", "prices": {1: 2}}
    run = Player("palaestra/Snake-v0", settings, RandomPolicy(), "cpu", "ppo")
    monkeypatch.setattr(players_module, "find_player", lambda *args: run)
    monkeypatch.setattr(TensorEnvSpec, "has", lambda self, name, kwargs: kwargs == settings)
    players = find_players(["a", "random", "expert"], None, False, ())
    assert [(one.env, one.env_kwargs, one.label) for one in players] == [
        (run.env, settings, label) for label in ("ppo", "random", "expert")
    ]
    monkeypatch.setattr(TensorEnvSpec, "has", lambda self, name, kwargs: False)
    with pytest.raises(ConfigError, match="Snake-v0 has no expert"):
        find_players(["a", "expert"], None, False, ())


def test_where_environments_differ_it_is_said() -> None:
    def player(env: str, **settings: Any) -> Player:
        return Player(env, settings, RandomPolicy(), "cpu", "random")

    def told(*players: Player) -> list[str]:
        return comparison(players, compare(players, 3)).splitlines()

    small, plain = player("snake", size=6, max_episode_steps=9), player("snake", max_episode_steps=9)
    assert told(plain, plain)[0] == "mean returns of 3 held-out episodes, seed 0 on snake, the same for all"
    first, _, *rows = told(small, plain)
    assert first == "mean returns of 3 held-out episodes, seed 0; the environments differ"
    assert [re.split("  +", row)[0] for row in rows] == ["snake size=6", "snake"]
    first, _, *rows = told(plain, player("cartpole", max_episode_steps=5))
    assert first.endswith("the environments differ")
    assert [re.split("  +", row)[0] for row in rows] == ["snake", "cartpole"]
    long = player("cartpole", randomized={"gravity": [9.0, 10.0], "force": [9.0, 11.0]})
    assert told(player("cartpole"), long)[3].startswith("cartpole randomized=…  ")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for place, name in enumerate(("ppo-cartpole", "dqn-pricing")):
        folder = shutil.copytree(RUNS / name, tmp_path / "runs/env/agent" / name)
        os.utime(folder / "config.yaml", (1000 + place, 1000 + place))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_the_runs_are_listed_newest_first(folders: Path) -> None:
    newest, older = list_runs()
    assert (newest["path"], newest["env"], newest["agent"]) == ("runs/env/agent/dqn-pricing", "pricing", "dqn")
    assert (newest["finished"], newest["score"]) == (False, None)
    told = json.loads((folders / "env/agent/ppo-cartpole/eval.json").read_text())
    facts = json.loads((folders / "env/agent/ppo-cartpole/run.json").read_text())
    assert (older["finished"], older["score"], older["steps"]) == (True, told["mean"], facts["num_timesteps"])
    lines = runs_table([newest, older], 80).splitlines()
    assert lines[1].split()[:2] == ["pricing", "dqn"]
    assert lines[1].endswith("interrupted")
    assert max(map(len, lines)) <= 80
    assert runs_table([newest] * 30, None, 20).splitlines()[-1] == "10 more: palaestra runs --limit 30"
    assert max(map(len, runs_table([newest, older], 40).splitlines())) <= 40


@pytest.mark.parametrize(
    "env",
    [
        "/home/my files/env.py:MyEnv",
        "/home/é\x85x/env.py:MyEnv",
        f"/{'long' * 30} {'er' * 50}/env.py:MyEnv",
        "/a'b/env.py:MyEnv",
    ],
)
def test_a_file_in_any_folder_has_its_name_in_the_list(env: str, folders: Path) -> None:
    file = folders / "env/agent/ppo-cartpole/config.yaml"
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump({**settings, "env": env}, sort_keys=False), encoding="utf-8")
    row = list_runs()[0]
    assert (row["env"], row["agent"], row["seed"], row["total_timesteps"]) == ("env.py:MyEnv", "ppo", 3, 8192)


@pytest.mark.parametrize(
    "text", ["env: [1]\nagent: 'x'\nseed: -1.5", "env: a b: c", "env: 'a\nseed: 1", "seed: " + "9" * 5000]
)
def test_configurations_of_other_kinds_are_listed(text: str, folders: Path) -> None:
    (folders / "env/agent/ppo-cartpole/config.yaml").write_text(text, encoding="utf-8")
    row = list_runs()[0]
    assert (row["env"], row["seed"], row["finished"]) == (None, None, False)
    assert json.dumps(row)


def test_a_run_that_goes_on_without_its_rule_is_not_finished(folders: Path) -> None:
    """As RunFolder.is_finished has it: trained further, and killed before its first checkpoint."""
    folder = folders / "env/agent/ppo-cartpole"
    (folder / "run.json").write_text(json.dumps({"num_timesteps": 1280, "stopped": "the agent scores at least 475"}))
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    for rule, finished in {"solved": True, "'475'": True, "null": False}.items():
        (folder / "config.yaml").write_text(f"{text}stop_at: {rule}\n", encoding="utf-8")
        config = RunFolder(folder).config()
        assert config is not None
        assert (list_runs()[0]["finished"], RunFolder(folder).is_finished(config)) == (finished, finished)


def test_damaged_folders_are_listed(folders: Path) -> None:
    broken = folders / "env/agent/ppo-cartpole"
    (broken / "config.yaml").write_bytes(b"\xff\xfe env")
    (broken / "run.json").write_text("{")
    (broken / "eval.json").write_text("[" * 100_000)
    row = list_runs()[0]
    assert row["path"].endswith("ppo-cartpole")
    assert (row["env"], row["steps"], row["score"], row["finished"]) == (None, None, None, False)
    assert "–" in runs_table([row], 80)


@pytest.mark.parametrize("value", ["5", True, None, [1], math.nan, math.inf, 10**400], ids=lambda value: str(value)[:4])
def test_values_that_are_no_numbers_are_not_listed(value: Any, folders: Path) -> None:
    broken = folders / "env/agent/ppo-cartpole"
    (broken / "run.json").write_text(json.dumps({"num_timesteps": value}))
    (broken / "eval.json").write_text(json.dumps({"mean": value, "percent_of_optimal": value}))
    row = list_runs()[1]
    assert (row["steps"], row["score"], row["percent_of_optimal"], row["finished"]) == (None, None, None, False)
    assert "interrupted" in runs_table([row], 80)


def test_a_folder_that_may_not_be_read_hides_no_other(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folders / "env/agent/ppo-cartpole/checkpoints").mkdir()
    (folders / "env/agent/ppo-cartpole/checkpoints/000000000000100.zip").touch()

    def forbidden(self: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", forbidden)  # the superuser may read what chmod 000 forbids
    newest, older = list_runs()
    assert (newest["agent"], older["agent"]) == ("dqn", "ppo")
    assert (older["finished"], older["score"] is not None) == (False, True)


def test_no_runs_and_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert palaestra(monkeypatch, "evaluate") == 0
    assert capsys.readouterr().out == "there are no runs below runs/ yet; palaestra train snake-small makes one\n"
    assert palaestra(monkeypatch, "evaluate", "--json") == 0
    assert capsys.readouterr().out == "[]\n"
    for arguments, message in {
        "evaluate --episodes 5": "palaestra evaluate alone lists the runs",
        "evaluate random expert": "random needs --env ENV",
        "evaluate random nowhere --env cartpole": "no run 'nowhere'",
        "evaluate random expert --env cartpole": "has no expert: random and runs (latest, a run folder) can play there",
        "ls": "unknown command 'ls'; did you mean 'runs'?",
        "enjoy latest": "did you mean 'watch'?",
    }.items():
        assert palaestra(monkeypatch, *arguments.split()) == 2
        captured = capsys.readouterr()
        assert (captured.out, captured.err.count("\n")) == ("", 1)
        assert message in captured.err
