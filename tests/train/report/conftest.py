"""Runs that reports are made of: small real ones, trained once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_once import made_once

from palaestra.train.commands.train import start_run
from palaestra.train.runs.run_folder import RunFolder

SMALL = {"num_envs": 32, "seed": 3, "threads": 1}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of snake-small."""
    return made_once(tmp_path_factory, "reported", _train) / "a run"


def _train(folder: Path) -> None:
    settings = ["batch_size=64", "n_steps=16", "learning_rate=0.001"]
    start_run("snake-small", "ppo", folder / "a run", "disabled", settings=settings, total_timesteps=16_384, **SMALL)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunFolder:
    """A copy of it, to be damaged."""
    return RunFolder(shutil.copytree(trained, tmp_path / "run"))
