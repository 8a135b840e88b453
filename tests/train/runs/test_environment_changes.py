"""An environment that was edited after training, or another one: told in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from palaestra.envs.specs import GymnasiumSpec, _gymnasium_spaces
from palaestra.train import cli
from palaestra.train.config.run_config import resolve_config

ENV = """
import gymnasium, numpy as np

class Env(gymnasium.Env):
    def __init__(self):
        self.observation_space = gymnasium.spaces.Box(-1, 1, (SIZE,))
        self.action_space = gymnasium.spaces.Discrete(ACTIONS)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(SIZE, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.zeros(SIZE, np.float32), REWARD, False, self.time == 5, {}
"""
NOTE = "palaestra: the source of Env has changed since training began: scores may not compare\n"


def write(size: int = 2, actions: int = 2, reward: float = 1.0) -> None:
    text = ENV.replace("SIZE", str(size)).replace("ACTIONS", str(actions)).replace("REWARD", str(reward))
    Path("edited.py").write_text(text)
    for name in [name for name in sys.modules if name.startswith("edited_")]:  # as in a new process
        del sys.modules[name]
    for id in [id for id in sys.modules["gymnasium"].registry if id.startswith("edited_")]:
        del sys.modules["gymnasium"].registry[id]
    _gymnasium_spaces.cache_clear()
    sys.path_importer_cache.clear()


def run(monkeypatch: pytest.MonkeyPatch, words: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["palaestra", *words.split()])
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # which the command wraps
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return exit_.value.code


@pytest.fixture(autouse=True)
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A run with the first form of the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(GymnasiumSpec, "evaluation_episodes", 2)
    monkeypatch.setattr(GymnasiumSpec, "validation_episodes", 2)
    write()
    size = "--num-envs 2 --total-timesteps 32 --set n_steps=8 --set batch_size=16 --device cpu"
    assert run(monkeypatch, f"train edited.py:Env {size} --track disabled --run-dir run") == 0
    assert run(monkeypatch, "evaluate run --episodes 2") == 0
    assert capsys.readouterr().err == ""


def test_another_reward(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write(reward=-3.0)
    assert run(monkeypatch, "evaluate run --episodes 2 --json") == 0
    told = capsys.readouterr()
    assert told.err == NOTE
    assert '"mean": -15.0' in told.out
    Path("run/eval.json").unlink()
    assert run(monkeypatch, "train --resume run --track disabled") == 0
    assert capsys.readouterr().out.count(NOTE.removeprefix("palaestra: ")) == 1
    Path("run/environment.json").unlink()  # as in a run of an earlier version
    assert run(monkeypatch, "evaluate run --episodes 2") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("words", ["evaluate run", "watch run --record x.mp4", "train --resume run --track disabled"])
@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"size": 3}, "the agent was trained with observations Box(2,), and Env has Box(3,)"),
        ({"actions": 4}, "the agent was trained with actions Discrete(2), and Env has Discrete(4)"),
    ],
)
def test_another_form(
    words: str,
    noted: bool,
    changed: dict[str, int],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(**changed)
    Path("run/eval.json").unlink()
    if not noted:
        Path("run/environment.json").unlink()
    assert run(monkeypatch, words) == 2
    error = capsys.readouterr().err
    assert error.startswith("palaestra: error: ")
    assert error.count("\n") == 1
    assert text in error or (not noted and "resume" in words and "spaces do not match" in error)


def test_an_environment_that_does_not_fit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "evaluate run --env CartPole-v1 --episodes 2") == 2
    text = "palaestra: error: the agent was trained with observations Box(2,), and CartPole-v1 has Box(4,)\n"
    assert capsys.readouterr().err == text
    assert run(monkeypatch, "evaluate run --env snake --episodes 2") == 2
    assert "trained with observations Box(2,), and snake has Box(401,)\n" in capsys.readouterr().err


def test_of_ours_the_source_is_known_too() -> None:
    digests = {resolve_config(name).resolved_env.source() for name in ("snake", "snake-large", "cartpole", "reach")}
    assert len(digests) == 3  # the two are of one class
    assert resolve_config("CartPole-v1").resolved_env.source() == resolve_config("Acrobot-v1").resolved_env.source()
