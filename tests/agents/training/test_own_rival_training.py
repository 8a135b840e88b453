"""Agents that are their own rivals: renewed before each rollout, resumed to the bit, evaluated against themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from training_cases import resumed_to_the_bit

from palaestra.agents import DQN, PPO, PQN, RecurrentPPO
from palaestra.envs import make
from palaestra.train.evaluation.episodes import evaluate
from palaestra.train.evaluation.policies import AgentPolicy

ROLLOUT = {"n_steps": 8, "batch_size": 64, "n_epochs": 2, "learning_rate": 0.01}
REPLAY = {"learning_starts": 200, "batch_size": 64, "buffer_size": 1000, "train_freq": 2, "learning_rate": 0.01}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {"ppo": (PPO, ROLLOUT), "pqn": (PQN, ROLLOUT), "dqn": (DQN, REPLAY)}
NUM_ENVS, STEPS = 16, 1536


def environment() -> Any:
    return make("pricing-duopoly", NUM_ENVS, device="cpu", seed=3, rival="self")


def agent(case: str) -> Any:
    kind, kwargs = CASES[case]
    return kind("MlpPolicy", environment(), seed=1, **kwargs)


def own_answers(model: Any) -> torch.Tensor:
    """What the agent thinks best in the rival's place, int64 [225], by the agent's last price · 15 + the rival's."""
    own, rival = torch.arange(225) // 15, torch.arange(225) % 15
    actions: torch.Tensor = model.act(torch.stack((rival, own), 1) / 14)
    return actions


class Watch(BaseCallback):
    """Compares the rival with the agent when rollouts begin."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[int]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        model: Any = self.model
        assert torch.equal(model.batch.env.answer_table, own_answers(model))
        self.seen.append(model.batch.env.answer_table.tolist())


@pytest.mark.parametrize("case", CASES)
def test_the_rival_is_the_agent_as_it_was_before_the_rollout(case: str) -> None:
    watch = Watch()
    agent(case).learn(STEPS, watch)
    assert len({tuple(answers) for answers in watch.seen}) > 3  # it learns, and so does its rival


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_ends_with_the_same_bits(case: str, tmp_path: Path) -> None:
    resume = CASES[case][0].resume
    resumed_to_the_bit(lambda: agent(case), lambda path: resume(path, environment()), STEPS, tmp_path / "c.zip")


def test_an_evaluation_plays_against_the_agent_itself() -> None:
    """The mean of the episodes is the exact value of the pair, whose table is asked for here in another way."""
    model = agent("ppo")
    model.learn(STEPS)
    found = evaluate("pricing-duopoly", AgentPolicy(model), episodes=20_000, env_kwargs={"rival": "self"})
    profit, table = environment().env.profit, own_answers(model).view(15, 15).t().flatten().tolist()
    own = rival = 1
    value = 0.0
    for period in range(600):
        own, rival = table[own * 15 + rival], table[rival * 15 + own]
        value += 0.95**period * profit[own, rival]
    assert found.more["exact_mean"] == pytest.approx(value, rel=1e-9)
    assert abs(found.mean - value) < 4 * found.std / np.sqrt(20_000)


def test_an_agent_with_a_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="an agent with a memory of its own cannot be its own rival"):
        RecurrentPPO("MlpPolicy", environment(), n_steps=8, batch_size=32)
