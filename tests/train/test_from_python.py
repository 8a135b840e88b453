"""A run made, evaluated and recorded from Python, without the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import palaestra.train
from palaestra.train import evaluate, resolve_config, train, watch
from palaestra.train.config.schema import ConfigError

SETTINGS = ["n_steps=16", "batch_size=256"]


def test_a_run_is_made_evaluated_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = resolve_config("cartpole", num_envs=64, total_timesteps=4096, settings=SETTINGS)
    result = train(config, "run")
    assert result.run_dir == Path("run")
    assert result.num_timesteps == 4096
    assert result.evaluation is not None
    found = evaluate("run")
    written = json.loads(Path("run/eval.json").read_text())
    assert found.mean == result.evaluation.mean == written["mean"]  # the same hundred episodes
    assert evaluate("run", episodes=10, seed=1).episodes == 10
    shown = watch("run", "episode.png")
    assert shown.path == Path("episode.png")
    assert shown.path.is_file()
    with pytest.raises(ConfigError, match="a run is never overwritten"):
        train(config, "run")
    with pytest.raises(ConfigError, match="expected auto, online, offline or disabled"):
        train(config, "another", track="sometimes")
    assert not Path("another").exists()


def test_scripted_policies_need_no_run() -> None:
    assert evaluate("expert", episodes=4, env="snake-small").percent_of_optimal == pytest.approx(100.0, abs=5.0)


def test_the_functions_are_imported_when_they_are_used() -> None:
    code = (
        "import sys, palaestra.train\n"
        "assert 'torch' not in sys.modules\n"
        "assert {*palaestra.train.__all__} == {'curves', 'evaluate', 'resolve_config', 'train', 'watch'}\n"
        "from palaestra.train import *\n"
        "assert callable(watch) and 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        palaestra.train.nothing  # noqa: B018
