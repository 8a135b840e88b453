"""Runs that learn from a teacher: who teaches, what is refused before anything is written, the way through a kill."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import palaestra

from palaestra.agents import PPO
from palaestra.agents.imitation.bc import BC
from palaestra.agents.imitation.taught_ppo import TaughtPPO
from palaestra.envs.specs import TensorEnvSpec
from palaestra.train import cli
from palaestra.train.config.run_config import RunConfig, resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.evaluation.policies import AgentPolicy, ExpertPolicy
from palaestra.train.runs import trainer
from palaestra.train.runs.finding import curves
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.runs.trainer import train_new
from palaestra.train.teaching.teachers import check_teacher, teacher_of

SMALL = ("n_steps=8", "batch_size=64")
OLD_RUN = Path(__file__).parents[2] / "data/runs-885ce09/ppo-cartpole"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorEnvSpec, "validation_episodes", 16)
    monkeypatch.setattr(TensorEnvSpec, "evaluation_episodes", 16)
    monkeypatch.setattr(trainer, "_record_episode", lambda *args: None)


def config_of(env: str, agent: str = "ppo", steps: int = 4096, **options: Any) -> RunConfig:
    return resolve_config(env, agent, settings=SMALL, num_envs=32, total_timesteps=steps, threads=1, **options)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["palaestra", "train", *arguments, "--track", "disabled"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cartpole", "--agent", "bc"], "cartpole has no expert: name a run or FILE.onnx with --pretrain, or recorded"),
        (["cartpole", "--pretrain", "expert"], "cartpole has no expert: name a run or FILE.onnx with --pretrain"),
        (
            ["snake-small", "--agent", "dqn", "--pretrain", "expert"],
            "dqn cannot begin with what a teacher does, ppo",
        ),
        (["pricing", "--pretrain", "random"], "there is nothing to learn from it"),
        (["pricing", "--pretrain-steps", "5k"], "pretrain_steps=5000: there is no teacher; name one with --pretrain"),
        (
            ["pricing", "--agent", "bc", "--pretrain-steps", "5k"],
            "bc clones in all of its steps; use --total",
        ),
        (["pricing", "--pretrain", "expert", "--pretrain-steps", "1B"], "must be below total_timesteps=8000000"),
        (["pricing", "--dataset", "a-v0"], "dataset=a-v0: ppo learns from environments; use --agent bc"),
        (["pricing", "--agent", "bc", "--dataset", "a-v0", "--pretrain", "expert"], "one of them is to be cloned"),
        (["pricing", "--pretrain", "no-such-run"], "no run 'no-such-run'"),
        (["pricing", "--pretrain", "no.onnx"], "no.onnx"),
        (
            ["pricing", "--pretrain", str(OLD_RUN)],
            "the agent was trained with actions Discrete(2), and pricing",
        ),
        (["pricing", "--set", "pretrain=expert"], "use --pretrain expert"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("palaestra: error: ")
    assert error.count("\n") == 0
    assert told in error
    assert not [*tmp_path.iterdir()]


# ---------------------------------------------------------------------------------------------------------- who teaches


def test_the_teacher_is_whom_the_configuration_names() -> None:
    assert isinstance(teacher_of(config_of("pricing", "bc")), ExpertPolicy)
    agent = teacher_of(config_of("cartpole", "bc", pretrain=str(OLD_RUN / "model.zip")))
    assert isinstance(agent, AgentPolicy)
    assert isinstance(agent.model, PPO)


def test_other_settings_of_the_environment_are_other_spaces() -> None:
    config = config_of("cartpole", "bc", pretrain=str(OLD_RUN / "model.zip"))
    check_teacher(config)
    with pytest.raises(ConfigError, match=r"the agent was trained with .*, and snake-small has"):
        check_teacher(replace(config, env="snake-small"))


def test_a_fifth_of_the_steps_is_the_lesson_if_nothing_is_said() -> None:
    assert config_of("pricing", pretrain="expert").pretrain_steps == 4096 // 5
    assert config_of("pricing", pretrain="expert", pretrain_steps=100).pretrain_steps == 100
    assert config_of("pricing", "bc", pretrain="expert").pretrain_steps is None
    assert config_of("pricing").pretrain is None


# --------------------------------------------------------------------------------------------------------------- a run


def test_bc_of_the_expert_is_told_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = train_new(config_of("pricing", "bc", 32 * 8 * 80), tmp_path / "run")
    assert result.evaluation is not None
    assert result.evaluation.more["share_of_teacher_percent"] > 90.0
    rows = curves(tmp_path / "run")
    assert rows["train/agreement"][-2] > 0.8
    assert rows["eval/percent_of_teacher"][-1] == pytest.approx(result.evaluation.more["share_of_teacher_percent"])
    assert rows["train/imitation_loss"][-2] < 0.5 * rows["train/imitation_loss"][1]
    assert "cloning expert, whose mean return is 1,44" in capsys.readouterr().out
    assert isinstance(BC.load(tmp_path / "run/model.zip"), BC)


def test_an_exported_agent_teaches_as_the_agent_itself_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported, teacher = tmp_path / "teacher.onnx", OLD_RUN / "model.zip"
    assert palaestra(monkeypatch, "export", str(teacher), "--out", str(exported)) == 0
    for name, pretrain in (("agent", teacher), ("file", exported)):
        train_new(config_of("cartpole", "bc", 32 * 8 * 40, pretrain=str(pretrain)), tmp_path / name)
    weights = [BC.load(tmp_path / name / "model.zip").policy.state_dict() for name in ("agent", "file")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]), "the same moves were cloned"
    assert curves(tmp_path / "file")["train/agreement"][-2] > 0.9


def test_ppo_goes_on_after_its_lesson_and_its_files_are_plain(tmp_path: Path) -> None:
    train_new(config_of("pricing", steps=2048, pretrain="expert", pretrain_steps=1024), tmp_path / "run")
    rows = curves(tmp_path / "run")
    lesson, after = rows["train/imitation_loss"], rows["train/policy_gradient_loss"]
    steps = rows["global_step"]
    assert [int(s) for s in steps[lesson == lesson]] == [512, 768, 1024, 1280], "told with the next iteration"
    assert [int(s) for s in steps[after == after]] == [1536, 1792, 2048, 2048]
    loaded = PPO.load(tmp_path / "run/model.zip")
    assert type(loaded) is PPO
    assert not isinstance(loaded, TaughtPPO)


@pytest.mark.parametrize("saved_at", [512, 1024, 1536])
def test_an_interrupted_run_ends_with_the_same_weights(
    tmp_path: Path, saved_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(
        config_of("pricing", steps=2048, pretrain="expert", pretrain_steps=1024), checkpoint_every=saved_at
    )
    train_new(config, tmp_path / "whole")
    folder = RunFolder.new(config, tmp_path / "run")

    class Killed(BaseException):
        pass

    save = trainer.checkpoints.save

    def kill_after(model: Any, place: RunFolder) -> None:
        save(model, place)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(trainer.checkpoints, "save", kill_after)
        with pytest.raises(Killed):
            trainer.train(config, folder, "disabled")
    assert int(folder.checkpoints()[0].stem) == saved_at
    trainer.train(config, folder, "disabled", resume=folder.path)
    weights = [PPO.load(tmp_path / name / "model.zip").policy.state_dict() for name in ("whole", "run")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
