"""Short runs, their exported files and their pages, which the tests of pages share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exported_runs import SMALL, TRAIN, command
from made_once import made_once

from palaestra.train.runs import trainer
from palaestra.train.web import onnx_graph
from palaestra.train.web.onnx_graph import page_network

NARROW = ("--set", "policy_kwargs.features_extractor_kwargs={hidden: [64, 32]}")
BRIEF = ("--total-timesteps", "1024")
SOON = ("--set", "learning_starts=1000")
RUNS = {  # name → environment, agent, and further words
    "snake": ("snake-small", "ppo", SMALL),
    "cartpole": ("cartpole", "dqn", ()),
    "pricing": ("pricing", "pqn", SMALL),
    "reach": ("reach", "ppo", SMALL),
    "four": ("connect-four", "ppo", (*SMALL, *BRIEF, *NARROW)),
    "wide-four": ("connect-four", "pqn", (*SMALL, *BRIEF, "--set", "env.rows=4", "--set", "env.columns=6")),
    "grid": ("snake-small", "dqn", (*SOON, "--set", "env.observation=grid")),
}


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``NAME/``, ``NAME-page.html`` and its network ``NAME.onnx`` of each run."""
    return made_once(tmp_path_factory, "pages", _make)


def _make(folder: Path) -> None:
    def kept(content: bytes, precision: str) -> Any:
        Path(f"{run}.onnx").write_bytes(content)
        return page_network(content, precision)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_graph, "page_network", kept)
        patch.setattr(trainer, "_record_episode", lambda *args: None)
        for name, (env, agent, more) in RUNS.items():
            run = str(folder / name)
            assert command(patch, "train", env, "--agent", agent, *TRAIN, *more, "--run-dir", run) == 0
            assert command(patch, "export", run, "--format", "web", "--out", f"{run}-page.html") == 0
