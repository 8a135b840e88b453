"""MyEnv keeps the contract, its rules and reference figures are what its card says, and an agent learns it."""

from __future__ import annotations

import pytest
import torch

from palaestra.agents import PPO
from palaestra.envs import TensorVectorEnv, make
from palaestra.envs.checker.conformance import check_env
from palaestra.train.evaluation.episodes import evaluate
from palaestra.train.evaluation.policies import AgentPolicy, ExpertPolicy, RandomPolicy
from palaestra.train.scaffold.templates.minimal import MyEnv, MyEnvState

LEFT, STAY, RIGHT = range(3)


def test_conformance() -> None:
    assert [finding for finding in check_env("my_env") if not finding.passed] == []


@pytest.mark.parametrize(("moves", "reward"), [((RIGHT, RIGHT), 1.0), ((RIGHT, STAY), -1.0), ((LEFT, RIGHT), -1.0)])
def test_a_ball_two_columns_away_takes_two_moves(moves: tuple[int, int], reward: float) -> None:
    batch = TensorVectorEnv(MyEnv(width=3), 1, device="cpu")
    batch.reset()
    batch.state = MyEnvState(ball=torch.tensor([2]), height=torch.tensor([2]), paddle=torch.tensor([0]))
    steps = [batch.step(torch.tensor([move])) for move in moves]
    assert [step[1].item() for step in steps] == [0.0, reward]
    assert [step[2].item() for step in steps] == [False, True]


def test_the_reference_is_what_expert_and_random_policy_reach() -> None:
    expert, random = (evaluate("my_env", policy, episodes=2000) for policy in (ExpertPolicy(), RandomPolicy()))
    assert expert.mean == 1.0
    assert random.mean == pytest.approx(MyEnv().reference.random, abs=0.05)


def test_ppo_learns_it_in_seconds() -> None:
    """To 90 % of the way from the random policy to the optimum. An agent that is rewarded for the wrong thing gets a
    high return, too; that it succeeds shows that the reward means what it should."""
    batch = make("my_env", 256, device="cpu", seed=0)
    model = PPO("MlpPolicy", batch, learning_rate=2e-3, n_steps=16, batch_size=1024, n_epochs=4, seed=0)
    model.learn(100_000)
    result = evaluate("my_env", AgentPolicy(model)).as_dict()
    assert result["percent_of_optimal"] > 90.0
    assert result["success_rate"] > 0.9
