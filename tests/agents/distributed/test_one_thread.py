"""Threads that compute actions while environments on the host are stepped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from thread_number import threads

from palaestra.agents import DQN, PPO
from palaestra.envs import make


@pytest.fixture
def _two_threads() -> Iterator[None]:
    with threads(2):
        yield


class Threads(BaseCallback):
    def __init__(self) -> None:
        super().__init__()
        self.collecting: set[int] = set()
        self.learning: set[int] = set()

    def _on_step(self) -> bool:
        self.collecting.add(torch.get_num_threads())
        return self.num_timesteps < 96

    def _on_rollout_start(self) -> None:
        self.learning.add(torch.get_num_threads())


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize(("env", "threads"), [("CartPole-v1", 1), ("cartpole", 2)])
@pytest.mark.parametrize("agent", [PPO, DQN])
def test_few_environments_on_the_host_leave_cores_to_their_processes(agent: Any, env: str, threads: int) -> None:
    seen = Threads()
    sizes = {"n_steps": 8, "batch_size": 32} if agent is PPO else {"learning_starts": 32, "batch_size": 32}
    agent("MlpPolicy", make(env, 4, "cpu"), seed=0, **sizes).learn(128, callback=seen)
    assert (seen.collecting, seen.learning) == ({threads}, {2})
    assert torch.get_num_threads() == 2
