"""``palaestra watch --training``: the very episodes that a run was trained on."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from palaestra.envs import TensorVectorEnv, make
from palaestra.train.cli import main

FILE = '''
from dataclasses import dataclass
import numpy as np, torch
from gymnasium.spaces import Box, Discrete
from palaestra.envs import TensorEnv

@dataclass(frozen=True)
class State:
    place: torch.Tensor
    count: torch.Tensor

class Drift(TensorEnv):
    """Starts anywhere, drifts at random; breaks where a file says so."""
    max_episode_steps = 6

    def __init__(self, broken: int = 0) -> None:
        self.broken = broken
        self.observation_space, self.action_space = Box(-99.0, 99.0, (1,), np.float32), Discrete(2)

    def reset(self, rng):
        return State(rng.uniform(), torch.zeros(rng.num_envs, dtype=torch.int64, device=self.device))

    def step(self, state, action, rng):
        count = state.count + 1
        if self.broken and bool((count == self.broken).any()):
            raise ValueError("the rope broke")
        return State(state.place + rng.uniform(), count), torch.ones(len(count)), count > 99

    def observe(self, state):
        return state.place.unsqueeze(-1)

    def draw(self, state, canvas):
        canvas.fill("#000000")
'''


@pytest.fixture
def drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of two iterations with seed 7, trained on an environment in a file."""
    monkeypatch.chdir(tmp_path)
    Path("drift.py").write_text(FILE, encoding="utf-8")
    arguments = ["--num-envs", "5", "--seed", "7", "--total-timesteps", "80", "--run-dir", "run", "--track", "disabled"]
    assert command("train", "drift.py:Drift", *arguments, "--set", "n_steps=8", "--set", "batch_size=20")[0] == 0
    return tmp_path


def command(*arguments: str) -> tuple[int, str]:
    """Exit status and what it says of errors; in this process."""
    stderr = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(stderr):
        patch.setattr(sys, "argv", ["palaestra", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
    return int(caught.value.code or 0), stderr.getvalue()


def test_an_episode_of_training_is_watched(drift: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start and the drift of environment 3's episode 1 are those that training saw, step by step."""
    training = make("drift.py:Drift", 5, "cpu", seed=7)
    assert isinstance(training, TensorVectorEnv)
    expected = [training.reset()[0]]
    expected += [training.step(torch.zeros(5, dtype=torch.int64))[0] for _ in range(11)]
    seen: list[Tensor] = []

    def act(self: Any, env: Any, obs: Tensor) -> Tensor:
        seen.append(obs.clone())
        return torch.zeros(len(obs), dtype=torch.int64)

    monkeypatch.setattr("palaestra.train.evaluation.policies.AgentPolicy.__call__", act)
    place = ["--training", "--env-index", "3", "--episode", "1"]
    assert command("watch", "run", "--record", "x.png", *place) == (0, "")
    assert (drift / "x.png").is_file()
    assert torch.cat(seen).flatten().tolist() == [obs[3, 0].item() for obs in expected[6:12]]
    seen.clear()
    command("watch", "run", "--record", "x.png", "--env-index", "3", "--episode", "1")
    assert torch.cat(seen)[0, 0] != expected[6][3, 0]


@pytest.mark.usefixtures("drift")
def test_what_training_cannot_show_is_one_clear_line() -> None:
    Path("alone").mkdir()
    Path("alone/model.zip").write_bytes(Path("run/model.zip").read_bytes())
    for arguments, message in (
        (["random"], "random is no run"),
        (["expert", "--env", "snake"], "expert is no run"),
        (["run", "--seed", "3"], "leave --env, --seed and --set out"),
        (["run", "--set", "env.broken=2"], "leave --env, --seed and --set out"),
        (["alone/model.zip"], "is not in a run folder: nobody knows which episodes it was trained on"),
    ):
        status, text = command("watch", *arguments, "--training", "--record", "x.png")
        assert (status, text.count("\n")) == (2, 1)
        assert message in text
    assert not Path("x.png").exists()


@pytest.mark.usefixtures("drift")
def test_other_peoples_episodes_of_training_cannot_be_shown() -> None:
    config = Path("run/config.yaml")
    config.write_text(config.read_text(encoding="utf-8").replace("drift.py:Drift", "CartPole-v1"), encoding="utf-8")
    text = re.sub("^env: .*$", "env: CartPole-v1", config.read_text(encoding="utf-8"), flags=re.MULTILINE)
    config.write_text(text, encoding="utf-8")
    status, said = command("watch", "run", "--training", "--record", "x.png")
    assert (status, said.count("\n")) == (2, 1)
    assert "CartPole-v1 is not a palaestra environment: its episodes cannot be played again" in said


@pytest.mark.usefixtures("drift")
@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("agent_kwargs:\n  restart_states: 0.5", "restart_states=0.5"),
        (
            "curriculum: {max_episode_steps: 'curriculum(6, 6, score=1)'}\nagent_kwargs:",
            r"env.max_episode_steps=curriculum\(6, 6, score=1\)",
        ),
    ],
)
def test_episodes_that_began_elsewhere_cannot_be_shown(line: str, why: str) -> None:
    config = Path("run/config.yaml")
    text = re.sub("^curriculum: .*\n", "", config.read_text(encoding="utf-8"), flags=re.MULTILINE)
    config.write_text(text.replace("agent_kwargs:", line), encoding="utf-8")
    status, said = command("watch", "run", "--training", "--record", "x.png")
    assert (status, said.count("\n")) == (2, 1)
    assert re.search(f"with {why} an episode of training does not follow from its number: watch without", said)


@pytest.mark.usefixtures("drift")
def test_an_environment_that_fails_while_it_is_watched() -> None:
    place = ["--env-index", "3", "--episode", "1", "--set", "env.broken=4"]
    status, text = command("watch", "run", "--record", "x.mp4", *place)
    assert (status, text.count("\n")) == (1, 1)
    assert "Drift: step raises ValueError: the rope broke (drift.py:" in text
    assert "in environment 3, episode 1, step 4" in text
    assert not Path("x.mp4").exists()
