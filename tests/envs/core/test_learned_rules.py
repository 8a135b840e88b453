"""Rules with weights that require gradients, such as a learned model of a process: episodes run without gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.agents import DQN, PPO, PQN
from palaestra.envs import TensorEnv, TensorVectorEnv
from palaestra.envs.interop.gymnasium_env import SingleEnv
from palaestra.train.evaluation.episodes import run_episodes
from palaestra.train.evaluation.policies import AgentPolicy, RandomPolicy


@dataclass(frozen=True)
class DriftState:
    place: Tensor  # [N]
    time: Tensor  # int64 [N]


class Drift(TensorEnv[DriftState]):
    """Moves by a learned distance for three steps; the reward is the place, 0.5, 1, 1.5."""

    observation_space, action_space = Box(-9.0, 9.0, (8,)), Discrete(2)

    def __init__(self) -> None:
        self.distance = torch.full((8,), 0.5, requires_grad=True)

    def reset(self, rng: Any) -> DriftState:
        return DriftState(0.0 * self.distance[0].expand(rng.num_envs), torch.zeros(rng.num_envs, dtype=torch.int64))

    def step(self, state: Any, action: Tensor, rng: Any) -> Any:
        after = DriftState(state.place + self.distance[0], state.time + 1)
        return after, after.place, after.time == 3

    def observe(self, state: Any) -> Tensor:
        return state.place.unsqueeze(1) + self.distance


AGENTS: dict[str, Any] = {
    "ppo": lambda env: PPO("MlpPolicy", env, n_steps=8, batch_size=16),
    "pqn": lambda env: PQN("MlpPolicy", env, n_steps=8, batch_size=16),
    "dqn": lambda env: DQN("MlpPolicy", env, learning_starts=8, samples_per_insert=1.0),
}


@pytest.mark.parametrize("agent", AGENTS)
def test_agents_learn_and_are_evaluated(agent: str) -> None:
    model = AGENTS[agent](TensorVectorEnv(Drift(), 2, device="cpu"))
    model.learn(64)
    for policy in (AgentPolicy(model), RandomPolicy()):
        assert run_episodes(TensorVectorEnv(Drift(), 2, device="cpu"), policy).returns.tolist() == [3.0, 3.0]


def test_as_a_gymnasium_environment() -> None:
    env = SingleEnv(Drift())
    assert np.array_equal(env.reset(seed=0)[0], np.full(8, 0.5, np.float32))
    obs, reward, *_ = env.step(0)
    assert (obs.tolist(), reward) == ([1.0] * 8, 0.5)
