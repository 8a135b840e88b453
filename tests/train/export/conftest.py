"""The runs that tests of exported files share; each of these tests is in their folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from exported_runs import make_runs
from made_once import made_once


@pytest.fixture(scope="session")
def made_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = made_once(tmp_path_factory, "exported", make_runs)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("exports") / "runs"))  # tests write beside them


@pytest.fixture
def runs(made_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the runs of ``exported_runs``, which is the working folder."""
    monkeypatch.chdir(made_runs)
    return made_runs
