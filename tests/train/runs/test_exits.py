"""Environments that end the process, or that cannot be opened twice: one line with the place, and never status 0."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from palaestra.envs.specs import GymnasiumSpec
from palaestra.train import cli
from palaestra.train.runs.run_folder import RunFolder

GYM = """
import os, sys
import gymnasium, numpy as np

class Env(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2)
    number = 0

    def __init__(self):
        INIT
        Env.number += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.time += 1
        if self.time == 7:
            STEP
        return np.zeros(2, np.float32), float(action), False, self.time == 20, {}

    def close(self):
        Env.number -= 1
"""
TRAIN = "--num-envs 2 --total-timesteps 64 --track disabled --set n_steps=8 --set batch_size=16 --device cpu"


def run(monkeypatch: pytest.MonkeyPatch, words: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["palaestra", *words.split()])
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # which the command wraps
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return exit_.value.code


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(GymnasiumSpec, "evaluation_episodes", 2)
    monkeypatch.setattr(GymnasiumSpec, "validation_episodes", 2)
    return tmp_path


def write(init: str = "pass", step: str = "pass", head: str = "") -> None:
    Path("one.py").write_text(GYM.replace("INIT", init).replace("STEP", step) + head)


@pytest.mark.parametrize("step", ["sys.exit()", "sys.exit(0)", "os._exit(0)", "raise SystemExit"])
def test_a_step_that_ends_the_process(
    step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(step=step)
    real = os._exit
    assert run(monkeypatch, f"train one.py:Env {TRAIN}") == 1
    error = capsys.readouterr().err
    assert error.startswith("palaestra: error: Env: step raises SystemExit: ")
    assert "(one.py:21) in environment 0, episode 0, step 7. " in error
    assert error.count("\n") == 1
    assert run(monkeypatch, "check one.py:Env") == 1
    assert re.search(r"FAIL  reset and step\s+step 7 raises SystemExit: ", capsys.readouterr().out)
    assert run(monkeypatch, "evaluate random --env one.py:Env --episodes 2") == 1
    assert "in environment 0, episode 0, step 7" in capsys.readouterr().err
    assert os._exit is real


@pytest.mark.parametrize(
    ("init", "head", "text"),
    [
        ("sys.exit(0)", "", "cannot be made: SystemExit: 0 (one.py:10)"),
        ("os._exit(0)", "", "cannot be made: SystemExit: 0 (one.py:10)"),
        ("pass", "sys.exit(3)\n", "cannot import one.py: SystemExit: 3 (one.py:"),
    ],
)
def test_a_constructor_or_a_file_that_ends_the_process(
    init: str, head: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(init, head=head)
    assert run(monkeypatch, f"train one.py:Env {TRAIN}") == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert run(monkeypatch, "check one.py:Env") != 0
    assert "SystemExit: " in "".join(capsys.readouterr())


def test_an_environment_that_can_be_open_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a robot, or a simulator with a port. It is evaluated after training, when that one is closed."""
    write("if Env.number: raise RuntimeError('port 4000 is in use')")
    assert run(monkeypatch, f"train one.py:Env {TRAIN} --run-dir two") == 1
    error = capsys.readouterr().err
    assert "Env was made before, but not 2 at once: RuntimeError: port 4000 is in use (one.py:10)" in error
    assert error.count("\n") == 1
    words = TRAIN.replace("--num-envs 2", "--num-envs 1").replace("batch_size=16", "batch_size=8")
    assert run(monkeypatch, f"train one.py:Env {words} --run-dir one") == 0
    out = capsys.readouterr().out
    assert out.count("was made before, but not another one: RuntimeError: port 4000 is in use") == 1
    assert RunFolder(Path("one")).is_evaluated()
