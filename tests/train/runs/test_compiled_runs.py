"""A run with compiled steps trains to the bits of one without, and says what became of the compiling."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from palaestra.agents import PPO
from palaestra.train.config.run_config import RunConfig, resolve_config
from palaestra.train.report.told_settings import differences, repeat_command
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.runs.trainer import train_new

SMALL = ("n_steps=8", "batch_size=64")


def config_of(env: str, **options: Any) -> RunConfig:
    return resolve_config(env, "ppo", settings=SMALL, num_envs=16, total_timesteps=2048, threads=1, **options)


def weights(folder: Path) -> list[torch.Tensor]:
    return [*PPO.load(folder / "model.zip").policy.state_dict().values()]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_steps_train_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PALAESTRA_CACHE_DIR", str(tmp_path / "cache"))
    for name, compiled in (("plain", None), ("compiled", True)):
        train_new(config_of("cartpole", compile=compiled), tmp_path / name)
    assert capsys.readouterr().out.count("steps are compiled (") == 1
    for one, other in zip(weights(tmp_path / "plain"), weights(tmp_path / "compiled"), strict=True):
        assert torch.equal(one, other)
    kept = RunFolder(tmp_path / "compiled").config()
    assert kept is not None
    assert kept.compile
    assert [*(tmp_path / "cache" / "kernels").glob("*.so")]


def test_the_command_that_repeats_a_run_has_the_flag(tmp_path: Path) -> None:
    for compiled in (False, True):
        settings = config_of("cartpole", compile=compiled or None).as_dict()
        command = repeat_command(settings, differences(settings), tmp_path / "config.yaml")
        assert ("--compile" in command.split()) == compiled


def test_other_peoples_environments_train_as_they_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = resolve_config(
        "CartPole-v1", "ppo", settings=SMALL, num_envs=8, total_timesteps=64, threads=1, compile=True
    )
    train_new(config, tmp_path / "run")
    assert "steps are not compiled: CartPole-v1 is stepped outside of PyTorch" in capsys.readouterr().out
