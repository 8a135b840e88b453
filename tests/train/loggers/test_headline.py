"""What a run says as it begins: known texts, and steps in whole rollouts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.core import Reference
from palaestra.train.config.run_config import resolve_config
from palaestra.train.loggers.headline import headline, returns_on_display, whole_rollouts
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.runs.trainer import train

CPU = torch.device("cpu")


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(1, 10**6))
def test_training_ends_with_the_first_whole_rollout(asked: int, done: int, rollout: int) -> None:
    total = whole_rollouts(asked, done, rollout)
    assert (total - done) % rollout == 0
    assert total == done if done >= asked else asked <= total < asked + rollout


def test_the_headline_to_the_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve_config("snake-small", "ppo", total_timesteps=100_000, num_envs=1024)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    start = "ppo on snake-small: 1,024 environments on cpu, 2 threads, "
    rounded = "131,072 steps (100,000 in whole rollouts of 131,072), seed 0"
    assert headline(config, CPU, 0, 131_072) == start + rounded
    assert headline(config, CPU, 0, 50_000) == start + "100,000 steps, seed 0"
    further = "steps 60,000 to 120,000 (100,000 in whole rollouts of 30,000), seed 0"
    assert headline(config, CPU, 60_000, 30_000) == start + further


def test_what_stands_beside_each_other_is_told() -> None:
    told = "mean returns: training explores, evaluations take the best actions (greedy) in held-out episodes"
    assert returns_on_display(Reference(optimum=500.0, random=22.2)) == (
        f"{told}; random (22.20) is 0 %, best known (500.0) 100 %"
    )
    assert returns_on_display(Reference(optimum=500.0)) == returns_on_display(Reference(random=1.0)) == told


@pytest.mark.parametrize(("agent", "rollout"), [("ppo", 8 * 16), ("pqn", 8 * 16), ("dqn", 8 * 3)])
def test_a_run_ends_where_its_headline_says(
    agent: str, rollout: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = ["train_freq=3", "learning_starts=10"] if agent == "dqn" else ["n_steps=16"]
    settings = [*lengths, "batch_size=16"]
    config = resolve_config("cartpole", agent, num_envs=8, total_timesteps=200, settings=settings, stop_at="9m")
    result = train(config, RunFolder.new(config, tmp_path / "run"), "disabled")
    total = whole_rollouts(200, 0, rollout)
    assert result.num_timesteps == total
    assert f", {total} steps (200 in whole rollouts of {rollout}), seed 0" in capsys.readouterr().out
