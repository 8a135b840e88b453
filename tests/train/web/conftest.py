"""Short runs, their exported files and their pages, which the tests of pages share."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported_runs import SMALL, TRAIN, command

SOON = ("--set", "learning_starts=1000")
RUNS = {  # name → environment, agent, further words, and whether there is a page
    "snake": ("snake-small", "ppo", SMALL, True),
    "cartpole": ("cartpole", "dqn", (), True),
    "pricing": ("pricing", "pqn", SMALL, True),
    "reach": ("reach", "ppo", SMALL, True),
    "grid": ("snake-small", "dqn", (*SOON, "--set", "env.observation=grid"), False),
}


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``NAME/`` and ``NAME.onnx`` of each run, and ``NAME-page.html`` of most."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        for name, (env, agent, more, has_page) in RUNS.items():
            run = str(folder / name)
            assert command(patch, "train", env, "--agent", agent, *TRAIN, *more, "--run-dir", run) == 0
            assert command(patch, "export", run, "--stochastic", "--out", f"{run}.onnx") == 0
            if has_page:
                assert command(patch, "export", run, "--format", "web", "--out", f"{run}-page.html") == 0
    return folder
