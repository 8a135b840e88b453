"""MyEnv keeps the contract, its rules and reference figures are what its card says, and an agent learns it."""

from __future__ import annotations

import pytest
import torch

from palaestra.agents import PPO
from palaestra.envs import TensorVectorEnv, make
from palaestra.envs.checker.conformance import check_env
from palaestra.train.evaluation.episodes import evaluate
from palaestra.train.evaluation.policies import AgentPolicy, ExpertPolicy, RandomPolicy
from palaestra.train.scaffold.templates.grid import SIZE, MyEnv, MyEnvState

UP, RIGHT, DOWN, LEFT = range(4)


def cell(row: int, column: int) -> int:
    return row * SIZE + column


def test_conformance() -> None:
    assert [finding for finding in check_env("my_env") if not finding.passed] == []


def test_a_wall_stops_you_and_the_goal_ends_the_game() -> None:
    batch = TensorVectorEnv(MyEnv(), 1, device="cpu")
    batch.reset()
    batch.state = MyEnvState(you=torch.tensor([cell(1, 1)]), goal=torch.tensor([cell(2, 2)]))
    assert MyEnv().action_mask(batch.state).tolist() == [[False, True, True, False]]
    rewards, ends = [], []
    for move in (UP, RIGHT, DOWN):
        _, reward, terminated, _, _ = batch.step(torch.tensor([move]))
        rewards.append(reward.item())
        ends.append(terminated.item())
    assert rewards == pytest.approx([-0.02, -0.02, 0.98])
    assert ends == [False, False, True]


def test_shortest_ways_lead_through_the_doors() -> None:
    distance = MyEnv().distance
    assert distance[cell(1, 1), cell(1, 7)] == 8  # down to the door, across, and up again
    assert distance[cell(1, 1), cell(7, 7)] == 12
    assert distance[cell(3, 3), cell(5, 5)] == 8


def test_the_reference_is_what_expert_and_random_policy_reach() -> None:
    expert, random = (evaluate("my_env", policy, episodes=2000) for policy in (ExpertPolicy(), RandomPolicy()))
    reference = MyEnv().reference
    assert expert.mean == pytest.approx(reference.optimum, abs=0.005)
    assert random.mean == pytest.approx(reference.random, abs=0.08)


def test_ppo_learns_it_in_seconds() -> None:
    """To 90 % of the way from the random policy to the optimum. An agent that is rewarded for the wrong thing gets a
    high return, too; that it succeeds shows that the reward means what it should."""
    batch = make("my_env", 512, device="cpu", seed=0)
    model = PPO(
        "MlpPolicy",
        batch,
        learning_rate=3e-3,
        n_steps=16,
        batch_size=1024,
        n_epochs=4,
        gamma=0.9,
        ent_coef=0.01,
        seed=0,
    )
    model.learn(300_000)
    result = evaluate("my_env", AgentPolicy(model)).as_dict()
    assert result["percent_of_optimal"] > 90.0
    assert result["success_rate"] > 0.9
