"""CartPole against Gymnasium's, from the same states."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from palaestra.envs import make
from palaestra.envs.cartpole import CartPole, CartPoleState
from palaestra.envs.checker.value_rules import random_actions
from palaestra.envs.core import TensorVectorEnv
from palaestra.envs.core.rng import Rng

OTHER = {"gravity": 12.0, "pole_mass": 0.3, "half_length": 0.8, "force": 6.0, "cart_mass": 2.0}


@pytest.mark.parametrize("arguments", [{}, OTHER], ids=["usual", "other masses, pole, force and gravity"])
def test_one_step_equals_gymnasium_from_random_states(arguments: dict[str, float]) -> None:
    """2,000 states over and beyond the limits; Gymnasium integrates in float64, hence a tolerance of float32."""
    states = np.random.default_rng(0).uniform(-1, 1, (2000, 4)) * [2.45, 3.0, 0.215, 3.0]
    actions = np.random.default_rng(1).integers(0, 2, 2000)
    fields = torch.tensor(states, dtype=torch.float32)
    rng = Rng(torch.zeros(2000, dtype=torch.int64), torch.ones(2000, dtype=torch.int64))
    ours, reward, terminated = CartPole(**arguments).step(CartPoleState(*fields.unbind(1)), torch.tensor(actions), rng)
    observed = CartPole().observe(ours).numpy()
    theirs: Any = gymnasium.make("CartPole-v1").unwrapped
    if arguments:
        theirs.gravity, theirs.masspole, theirs.length, theirs.force_mag, theirs.masscart = arguments.values()
        theirs.total_mass = theirs.masspole + theirs.masscart
        theirs.polemass_length = theirs.masspole * theirs.length
    margins = []
    for i in range(2000):
        theirs.reset(seed=0)
        theirs.state = tuple(fields[i].double().tolist())
        obs, their_reward, their_terminated, _, _ = theirs.step(int(actions[i]))
        np.testing.assert_allclose(observed[i], obs, rtol=1e-5, atol=2e-6)
        margin = min(abs(abs(obs[0]) - theirs.x_threshold), abs(abs(obs[2]) - theirs.theta_threshold_radians))
        margins.append(margin)
        assert terminated[i] == their_terminated or margin < 1e-5
        assert reward[i] == their_reward == 1.0
    assert terminated.any()
    assert not terminated.all()
    assert np.mean(np.array(margins) < 1e-5) < 0.01


def test_whole_episodes_end_at_the_same_step_as_gymnasium() -> None:
    batch = make("cartpole", 50, device="cpu", seed=4)
    start, _ = batch.reset()
    actions = torch.stack([random_actions(batch, step) for step in range(1, 200)])  # type: ignore[arg-type]
    length = torch.zeros(50, dtype=torch.int64)
    for action in actions:
        _, _, terminated, _, info = batch.step(action)
        length = torch.where(terminated & (length == 0), info["episode"]["l"], length)
    assert (length > 0).all()
    theirs = gymnasium.make("CartPole-v1")
    for i in range(50):
        theirs.reset(seed=0)
        theirs.unwrapped.state = tuple(start[i].double().tolist())
        steps = next(t for t, a in enumerate(actions[:, i], 1) if theirs.step(int(a))[2])
        assert steps == length[i]


def test_spaces_and_limit_are_gymnasiums() -> None:
    ours, theirs = CartPole(), gymnasium.make("CartPole-v1")
    assert ours.action_space == theirs.action_space
    assert np.allclose(ours.observation_space.high[[0, 2]], theirs.observation_space.high[[0, 2]])
    assert theirs.spec is not None
    assert ours.max_episode_steps == theirs.spec.max_episode_steps == 500
    assert ours.reference.solved_at == theirs.spec.reward_threshold == 475.0


def test_starts_are_uniform_in_a_twentieth() -> None:
    obs, _ = make("cartpole", 20_000, device="cpu").reset()
    assert obs.min() >= -0.05
    assert obs.max() < 0.05
    assert (obs.std(0) - 0.1 / 12**0.5).abs().max() < 4.5 * 0.1 / 12**0.5 / 20_000**0.5
    assert torch.corrcoef(obs.T).triu(1).abs().max() < 4.5 / 20_000**0.5


def test_random_return_is_the_reference() -> None:
    """First episodes of 4,000 environments, all of which end within the steps played."""
    batch = TensorVectorEnv(CartPole(), 4000, device="cpu", seed=12)
    batch.reset()
    returns = torch.zeros(4000)
    for step in range(1, 250):
        *_, info = batch.step(random_actions(batch, step))
        returns = torch.where(info["_episode"] & (returns == 0), info["episode"]["r"], returns)
    assert (returns > 0).all()
    reference = CartPole().reference.random
    assert reference is not None
    assert abs(returns.mean().item() - reference) < 4 * returns.std().item() / 4000**0.5
