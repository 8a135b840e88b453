"""The runs that tests of exported files share; each of these tests is in their folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported_runs import make_runs


@pytest.fixture(scope="session")
def made_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    make_runs(folder)
    return folder


@pytest.fixture
def runs(made_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the runs of ``exported_runs``, which is the working folder."""
    monkeypatch.chdir(made_runs)
    return made_runs
