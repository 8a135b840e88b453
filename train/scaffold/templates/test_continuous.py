"""MyEnv keeps the contract, its rules and reference figures are what its card says, and an agent learns it."""

from __future__ import annotations

import pytest
import torch

from palaestra.agents import PPO
from palaestra.envs import TensorVectorEnv, make
from palaestra.envs.checker.conformance import check_env
from palaestra.train.evaluation.episodes import evaluate
from palaestra.train.evaluation.policies import AgentPolicy, ExpertPolicy, RandomPolicy
from palaestra.train.scaffold.templates.continuous import MyEnv, MyEnvState


def test_conformance() -> None:
    assert [finding for finding in check_env("my_env") if not finding.passed] == []


def test_full_force_for_two_steps_moves_the_puck_three_centimetres() -> None:
    batch = TensorVectorEnv(MyEnv(), 1, device="cpu")
    batch.reset()
    batch.state = MyEnvState(
        position=torch.zeros(1, 2), velocity=torch.zeros(1, 2), mark=torch.tensor([[0.03, 0.0]])
    )  # 0.1 m/s then 0.2 m/s, for 0.1 s each
    rewards = [batch.step(torch.tensor([[1.0, 0.0]]))[1].item() for _ in range(2)]
    assert rewards == pytest.approx([-0.002, 0.0], abs=1e-6)
    assert batch.state.velocity[0].tolist() == pytest.approx([0.2, 0.0])


def test_the_reference_is_what_expert_and_random_policy_reach() -> None:
    expert, random = (evaluate("my_env", policy, episodes=2000) for policy in (ExpertPolicy(), RandomPolicy()))
    reference = MyEnv().reference
    assert expert.mean == pytest.approx(reference.optimum, abs=0.06)
    assert expert.success_rate == 1.0
    assert random.mean == pytest.approx(reference.random, abs=0.25)


def test_ppo_learns_it_in_seconds() -> None:
    """To 90 % of the way from the random policy to the expert. An agent that is rewarded for the wrong thing gets a
    high return, too; that it succeeds shows that the reward means what it should."""
    batch = make("my_env", 512, device="cpu", seed=0)
    model = PPO("MlpPolicy", batch, learning_rate=2e-3, n_steps=25, batch_size=1600, n_epochs=4, gamma=0.95, seed=0)
    model.learn(400_000)
    result = evaluate("my_env", AgentPolicy(model)).as_dict()
    assert result["percent_of_optimal"] > 90.0
    assert result["success_rate"] > 0.9
