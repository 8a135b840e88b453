"""Ctrl-C after training: what is left of the final evaluation and the recording is skipped, and the run is finished."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from command_line import command

from palaestra.envs.specs import TensorEnvSpec
from palaestra.train import interruptions
from palaestra.train.evaluation import episodes as evaluation
from palaestra.train.recording import show
from palaestra.train.runs.run_folder import RunFolder

TINY = "cartpole --num-envs 64 --total-timesteps 2k --device cpu --set n_steps=16 --set batch_size=256 --run-dir run"
TINY += " --track disabled --no-report --set env.max_episode_steps=40"  # so that evaluations are short


@pytest.fixture
def pressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Send signals as the next final evaluation or recording begins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TensorEnvSpec, "evaluation_episodes", 4)
    monkeypatch.setattr(TensorEnvSpec, "validation_episodes", 4)

    def arrange(place: str, *numbers: int) -> None:
        def press() -> None:
            while left:
                os.kill(os.getpid(), left.pop())

        left, episodes, record = list(numbers), evaluation.run_episodes, show.write_video

        def interrupted_episodes(env: Any, policy: Any, *rest: Any) -> Any:
            if policy.name == "run":  # the final evaluation
                press()
            return episodes(env, policy, *rest)

        def interrupted_film(path: Path, frames: Any, fps: float) -> int:
            press()
            return record(path, frames, fps)

        if place == "evaluation":
            monkeypatch.setattr(evaluation, "run_episodes", interrupted_episodes)
        else:
            monkeypatch.setattr(show, "write_video", interrupted_film)

    return arrange


def files() -> list[bool]:
    run = RunFolder(Path("run"))
    return [file.exists() for file in (run.model_file, run.evaluation_file, run.video_file, *run.checkpoints())]


@pytest.mark.parametrize("place", ["evaluation", "recording"])
def test_ctrl_c_skips_the_rest_and_keeps_the_model(
    place: str, pressed: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that goes on to more steps has an evaluation and a video of before, which are not the new agent's."""
    assert command(monkeypatch, f"train {TINY}") == 0
    assert files() == [True, True, True]
    config = RunFolder(Path("run")).config()
    assert config is not None
    before = RunFolder(Path("run")).evaluation_file.read_text()
    capsys.readouterr()
    pressed(place, signal.SIGINT)
    assert command(monkeypatch, "train --resume run --total-timesteps 4k --track disabled --no-report") == 0
    out, error = capsys.readouterr()
    assert error == ""
    rest = "the final evaluation and the recording" if place == "evaluation" else "the recording"
    assert f"skipping {rest}; again: at once\n" in out
    assert files() == [True, place == "recording", False]
    assert (place == "evaluation") == ("the final evaluation was skipped: palaestra evaluate run\n" in out)
    assert ("mean return" in out.partition("skipping")[2]) == (place == "recording")
    run = RunFolder(Path("run"))
    assert run.facts()["evaluation_skipped"] is (place == "evaluation")
    assert place == "evaluation" or run.evaluation_file.read_text() != before
    assert command(monkeypatch, "train --resume run --track disabled") == 0
    assert "run is finished: see palaestra evaluate run" in capsys.readouterr().out
    assert command(monkeypatch, "evaluate run --json") == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 4


@pytest.mark.parametrize("place", ["evaluation", "recording"])
@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)], ids=["twice", "SIGTERM"])
def test_other_signals_leave_the_end_to_be_done(
    place: str,
    numbers: tuple[int, ...],
    pressed: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A second Ctrl-C ends at once, and a machine that is taken away says SIGTERM."""
    monkeypatch.setattr(interruptions, "TOGETHER", 0.0)
    pressed(place, *numbers)
    assert command(monkeypatch, f"train {TINY}") == 130
    assert "interrupted after 2,048 steps; go on with: palaestra train --resume run\n" in capsys.readouterr().out
    assert command(monkeypatch, "train --resume run --track disabled --no-report") == 0
    assert files() == [True, True, True]
