"""A run through stages: the curves, what is said, and that evaluations are those of the last stage."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from palaestra.envs.specs import TensorEnvSpec
from palaestra.train.commands.train import start_run as train
from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.report.told_settings import differences, repeat_command
from palaestra.train.runs import trainer
from palaestra.train.runs.curriculum_callback import CurriculumCallback, curriculum_callback

TINY: dict[str, Any] = {"num_envs": 32, "total_timesteps": 32 * 8 * 60}
FRAME, SMALL = "env.frame=8", ["n_steps=8", "batch_size=64"]


@pytest.fixture(autouse=True)
def short_endings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorEnvSpec, "evaluation_episodes", 10)
    monkeypatch.setattr(TensorEnvSpec, "validation_episodes", 4)
    monkeypatch.setattr(trainer, "_record_episode", lambda *args: None)


def test_stages_follow_each_other_and_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [*SMALL, "env.size=curriculum(4, 6, 8, score=0.1)", FRAME]
    train("snake", "ppo", Path("a"), "disabled", settings=settings, **TINY)
    out = capsys.readouterr().out
    assert "training goes through 3 stages: size=4; size=6; size=8; evaluations are those of the last" in out
    assert "stage 2 of 3, size=6, after a mean return of 0." in out
    rows = [*csv.DictReader(Path("a/progress.csv").read_text().splitlines())]
    stages = [int(row["rollout/stage"]) for row in rows if row["rollout/stage"]]
    assert stages == sorted(stages)
    assert {*stages} == {1, 2, 3}
    for row in rows:  # a difference between boards of two sizes would tell nothing
        if row["eval/above_training"]:
            assert row["rollout/stage"] == "3"
            above = float(row["eval/mean_reward"]) - float(row["rollout/ep_rew_mean"])
            assert float(row["eval/above_training"]) == pytest.approx(above)
    assert any(row["eval/above_training"] for row in rows)
    for before, after, row in zip(stages, stages[1:], rows[1:], strict=False):
        if after > before:  # nothing of the earlier stage is averaged
            assert row["rollout/ep_rew_mean"] == ""
    for row in rows:  # the scale is that of the stage, whose boards have so many fruits
        if row["rollout/percent_of_optimal"]:
            cells, random = {"1": (15, 0.1917), "2": (35, 0.1465), "3": (63, 0.121)}[row["rollout/stage"]]
            percent = 100 * (float(row["rollout/ep_rew_mean"]) - random) / (cells - random)
            assert float(row["rollout/percent_of_optimal"]) == pytest.approx(percent)
    assert yaml.safe_load(Path("a/config.yaml").read_text())["env_kwargs"] == {"size": 8, "frame": 8}
    assert json.loads(Path("a/eval.json").read_text())["reference"]["optimum"] == 63.0
    written = yaml.safe_load(Path("a/config.yaml").read_text())
    told = repeat_command(written, differences(written), Path("c.yaml"))
    assert "--set 'env.size=curriculum(4, 6, 8, score=0.1)' --set env.frame=8" in told


def test_a_network_that_does_not_fit_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--set env\.frame=8 shows all of them in one form$"):
        train("snake", "ppo", Path("a"), "disabled", settings=[*SMALL, "env.size=curriculum(4, 8)"], **TINY)
    assert [*tmp_path.iterdir()] == []


class Agent:
    """What the callback reads of one."""

    n_envs = 4

    def __init__(self, **means: float) -> None:
        self.ep_info_buffer = [{"n": 8.0, "l": 9.0, "e": 4.0, "t": 0.0, **means}]


@pytest.mark.parametrize(
    ("text", "means", "passed"),
    [
        ("curriculum(4, 6)", {"r": 15.0, "s": 0.89}, None),
        ("curriculum(4, 6)", {"r": 1.0, "s": 0.9}, "90 % successes"),
        ("curriculum(4, 6, at=0.5)", {"r": 1.0, "s": 0.49}, None),
        ("curriculum(4, 6, at=0.5)", {"r": 1.0, "s": 0.5}, "50 % successes"),
        ("curriculum(4, 6, percent=50)", {"r": 7.5, "s": 1.0}, None),  # (7.5 − 0.19) / (15 − 0.19) is 49 %
        ("curriculum(4, 6, percent=50)", {"r": 7.7, "s": 0.0}, "51 % of the optimum"),
        ("curriculum(4, 6, score=7)", {"r": 6.9, "s": 1.0}, None),
        ("curriculum(4, 6, score=7)", {"r": 7.0, "s": 0.0}, "a mean return of 7"),
        ("curriculum(4, 6)", {"r": 14.0}, "93 % of the optimum"),  # of an environment without success
        ("curriculum(4, 6)", {"r": 13.0}, None),
        ("curriculum(4, 6, at=0.5)", {"r": 15.0, "s": 1.0, "e": 3.0}, None),  # not every environment has ended one
    ],
)
def test_when_the_next_stage_begins(text: str, means: dict[str, float], passed: str | None) -> None:
    config = resolve_config("snake", settings=[f"env.size={text}", "env.frame=6"])
    callback = curriculum_callback(config, lambda line: None)
    assert isinstance(callback, CurriculumCallback)
    callback.model = Agent(**means)  # type: ignore[assignment]
    assert callback._passed(0) == passed


def test_without_stages_there_is_no_callback() -> None:
    assert curriculum_callback(resolve_config("snake"), lambda line: None) is None
