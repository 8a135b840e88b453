"""Two agents that learn against each other: the chances that each sees, parts of a training, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from training_cases import all_tensors

from palaestra.agents import DQN, PPO, PQN, SAC, RecurrentPPO
from palaestra.agents.training.learning_pair import LearningInParts, acting_chances, can_learn_in_pair, exchange
from palaestra.envs import make
from palaestra.envs.core.rng import Rng, env_keys

ROLLOUT = {"n_steps": 8, "batch_size": 64, "n_epochs": 2, "learning_rate": 0.01}
REPLAY = {"learning_starts": 200, "batch_size": 64, "buffer_size": 1000, "train_freq": 2, "learning_rate": 0.01}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "ppo": (PPO, ROLLOUT),
    "pqn": (PQN, ROLLOUT),
    "dqn": (DQN, {**REPLAY, "weight_average": 0.1}),
}
NUM_ENVS, STEPS = 16, 1536


def agent(case: str, seed: int = 1, **kwargs: Any) -> Any:
    kind, arguments = CASES[case]
    env = make("pricing-duopoly", NUM_ENVS, device="cpu", seed=3, **kwargs)
    return kind("MlpPolicy", env, seed=seed, **arguments)


@pytest.mark.parametrize("case", CASES)
def test_chances_are_the_shares_of_the_actions_that_are_taken_in_training(case: str) -> None:
    """Of many draws of the way in which the agent itself chooses; of Q-learners it has its own, spread ε too."""
    model = agent(case)
    model.learn(STEPS // 4)
    obs, draws = torch.tensor([[0.2, 0.9]]), 20_000
    many = obs.expand(draws, 2)
    chances = acting_chances(model, obs)[0]
    if case == "ppo":
        taken = model.act(many, Rng(env_keys(0, torch.arange(draws)), 1))
    else:
        model._last_obs = many
        taken, _ = model._choose(model._exploration(), Rng(env_keys(0, torch.arange(draws)), 1))
    shares = np.bincount(taken, minlength=15) / draws
    assert float(chances.sum()) == pytest.approx(1.0, abs=1e-5)
    assert np.abs(shares - chances.numpy()).max() < 5 * 0.5 / np.sqrt(draws)


def test_a_spread_of_exploration_gives_the_mean_of_its_shares() -> None:
    model = DQN("MlpPolicy", make("pricing-duopoly", 4, device="cpu"), **REPLAY, exploration_spread=3.0)
    model.learn(400)
    epsilon = [float(e) for e in model._exploration()]
    assert len(epsilon) == 4
    chances = acting_chances(model, torch.zeros(1, 2))[0]
    assert float(chances.min()) == pytest.approx(sum(epsilon) / 4 / 15)


@pytest.mark.parametrize("case", CASES)
def test_each_is_the_rival_of_the_other(case: str) -> None:
    first, second = agent(case, rival="self"), agent("ppo", seed=2, rival="self")
    exchange(first, second)
    own, rival = torch.arange(225) // 15, torch.arange(225) % 15
    for one, other in ((first, second), (second, first)):
        seen = torch.stack((rival, own), 1) / 14
        assert torch.equal(one.batch.env.answer_table, other.act(seen))
        expected = acting_chances(other, seen).cumsum(1)[:, :-1]
        assert torch.equal(one.batch.env.cumulative, expected)


@pytest.mark.parametrize("case", CASES)
def test_a_training_in_parts_ends_with_the_bits_of_one_without(case: str) -> None:
    whole, parts = agent(case), agent(case)
    torch.manual_seed(1)
    whole.learn(STEPS)
    torch.manual_seed(1)
    training = LearningInParts(parts, STEPS)
    seen = []
    for step in (1, 100, 500, 501, 900, STEPS):
        training.learn_until(step)
        seen.append(parts.num_timesteps)
    iteration = parts.steps_per_iteration() * NUM_ENVS
    assert seen == [-(-step // iteration) * iteration for step in (1, 100, 500, 501, 900, STEPS)]
    ours, theirs = all_tensors(parts), all_tensors(whole)
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []


def test_agents_that_show_no_chances() -> None:
    able = [kind for kind in (PPO, DQN, PQN, SAC, RecurrentPPO) if can_learn_in_pair(kind)]
    assert able == [PPO, DQN, PQN]
