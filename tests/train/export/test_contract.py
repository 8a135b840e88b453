"""A contract says of a file what is true of these weights in this environment, in JSON that everybody reads."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from exported_runs import command

from palaestra.envs.registry import resolve
from palaestra.train.export.contract import contract_of, with_infinities, without_infinities
from palaestra.train.plain_json import finite
from palaestra.train.players import find_player
from palaestra.train.runs.run_folder import RunFolder


def told(name: str, *settings: str, env: str | None = None, steps: int | None = None) -> dict[str, Any]:
    """The contract of a run's agent."""
    player = find_player(name, env, False, settings)
    if steps is not None:
        player.policy.model.num_timesteps = steps  # type: ignore[attr-defined]
    batch = resolve(player.env).make(2, device="cpu", seed=0, **player.env_kwargs)
    batch.reset()
    return contract_of(player, batch, RunFolder(Path(name.removesuffix(":best"))))


def test_scores_are_those_of_the_final_evaluation(runs: Path) -> None:
    scores, noted = told("snake-small")["scores"], RunFolder(runs / "snake-small").evaluation()
    assert (scores["mean"], scores["episodes"]) == (noted["mean"], noted["episodes"])
    assert not {"run", "env"} & {*scores}  # a path of the machine that trained
    assert told("market")["scores"]["mean"] == RunFolder(runs / "market").evaluation()["mean"]
    assert told("snake-small", env="snake-small")["scores"] == scores


def test_there_are_no_scores_of_other_settings(runs: Path) -> None:
    contract = told("snake-small", "env.sticky_actions=0.5")
    assert contract["scores"] is None
    assert contract["environment"]["settings"] == {"sticky_actions": 0.5}
    assert told("market", "env.stock=6")["scores"] is None


def test_there_are_no_scores_of_other_weights(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "snake-small", tmp_path / "run")
    shutil.copy(tmp_path / "run" / "model.zip", tmp_path / "run" / "best.zip")
    best = told(f"{tmp_path / 'run'}:best", steps=77)
    assert (best["scores"], best["agent"]["steps"]) == (None, 77)
    assert told(str(tmp_path / "run"))["scores"] is not None
    (tmp_path / "run" / "checkpoints").mkdir(exist_ok=True)
    RunFolder(tmp_path / "run").checkpoint_file(2048).touch()  # it goes on with training
    assert told(str(tmp_path / "run"))["scores"] is None


def test_the_command_with_other_weights_and_settings(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the file plays with the settings that it was exported with, also where --env names its environment."""
    best = runs / "snake-small" / "best.zip"
    shutil.copy(runs / "snake-small" / "model.zip", best)
    try:
        words = ("export", "snake-small", "--best", "--set", "env.sticky_actions=0.5", "--out", "sticky.onnx")
        assert command(monkeypatch, *words) == 0
    finally:
        best.unlink()
    contract = json.loads((runs / "sticky.json").read_text())
    assert (contract["scores"], contract["environment"]["settings"]) == (None, {"sticky_actions": 0.5})
    for env in (None, "snake-small", "palaestra/SnakeSmall-v0"):
        assert find_player("sticky.onnx", env, False, ()).env_kwargs == {"sticky_actions": 0.5}
        assert find_player("sticky.onnx", env, False, ["env.sticky_actions=0.1"]).env_kwargs == {"sticky_actions": 0.1}
    assert find_player("sticky.onnx", "cartpole", False, ()).env_kwargs == {}


def test_what_it_was_made_with(runs: Path) -> None:
    contract = json.loads((runs / "market.json").read_text())
    assert {"palaestra", "torch", "onnx", "onnxscript", "onnxruntime", "written"} <= {*contract["made_with"]}
    assert contract["environment"]["source"] == resolve("pricing").source()
    assert len(contract["environment"]["source"]) == 64


def test_an_environment_in_a_file_is_named_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import gymnasium\nclass Mine(gymnasium.Env):\n    observation_space = gymnasium.spaces.Discrete(2)\n"
    )
    found = resolve(f"{tmp_path / 'mine.py'}:Mine")
    assert (found.absolute_name, found.public_name) == (f"{tmp_path / 'mine.py'}:Mine", "mine.py:Mine")
    assert resolve("snake-small").public_name == "palaestra/SnakeSmall-v0"
    assert resolve("CartPole-v1").public_name == "CartPole-v1"


def test_numbers_that_json_lacks() -> None:
    settings = {"robot": {"limits": [[-math.inf, 1.0], [2, math.inf]]}, "name": "a", "on": True, "none": None}
    plain = without_infinities(settings)
    assert plain["robot"] == {"limits": [["-.inf", 1.0], [2, ".inf"]]}
    assert with_infinities(json.loads(json.dumps(plain, allow_nan=False))) == settings
    assert math.isnan(with_infinities(without_infinities(math.nan)))
    assert finite({"a": [math.nan, 1.0], "b": math.inf, "c": (2, "x")}) == {"a": [None, 1.0], "b": None, "c": [2, "x"]}
