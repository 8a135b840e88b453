"""The reward normalisation: SB3's VecNormalize as reference, and that it travels with the model."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from palaestra.agents import PPO
from palaestra.agents.checkpoints.model_file import CheckpointError
from palaestra.agents.checkpoints.zip_archive import seal
from palaestra.agents.reward_norm import RewardScale
from palaestra.envs import make

CPU = torch.device("cpu")


class Script(VecEnv):
    """Plays rewards and dones [T, N] from arrays."""

    def __init__(self, rewards: Any, dones: Any) -> None:
        super().__init__(rewards.shape[1], Box(0, 1, (1,)), Discrete(2))
        self.rewards, self.dones, self.t = rewards, dones, 0

    def reset(self) -> Any:
        return np.zeros((self.num_envs, 1), np.float32)

    def step_async(self, actions: Any) -> None:
        self.t += 1

    def step_wait(self) -> Any:
        infos = [{} for _ in range(self.num_envs)]
        return self.reset(), self.rewards[self.t - 1].copy(), self.dones[self.t - 1], infos

    def close(self) -> None: ...
    def get_attr(self, *args: Any) -> Any:
        return [None] * self.num_envs

    def set_attr(self, *args: Any) -> Any: ...
    def env_method(self, *args: Any, **kwargs: Any) -> Any: ...
    def env_is_wrapped(self, *args: Any) -> Any: ...


@pytest.mark.parametrize("gamma", [0.9, 0.99, 1.0])
def test_the_numbers_are_those_of_vec_normalize(gamma: float) -> None:
    random = np.random.default_rng(0)
    rewards = (random.exponential(50.0, (200, 7)) * (random.random((200, 7)) < 0.3)).astype(np.float32)
    rewards[150] = 1e4  # clipped
    dones = random.random((200, 7)) < 0.1
    theirs = VecNormalize(Script(rewards, dones), norm_obs=False, gamma=gamma)
    theirs.reset()
    ours = RewardScale(gamma, CPU)
    for reward, done in zip(rewards, dones, strict=True):
        expected = theirs.step(np.zeros(7, np.int64))[1]
        np.testing.assert_allclose(ours(torch.tensor(reward), torch.tensor(done)), expected, rtol=1e-5, atol=1e-7)
    assert ours.state() == pytest.approx([theirs.ret_rms.mean, theirs.ret_rms.var, theirs.ret_rms.count])


def test_learning_and_scaling_apart_is_the_same_as_together() -> None:
    """Learning changes the statistics only, and scaling changes nothing: replayed rewards use what is known by then."""
    random = np.random.default_rng(1)
    together, apart = RewardScale(0.9, CPU), RewardScale(0.9, CPU)
    for _ in range(20):
        rewards = torch.tensor(random.exponential(5.0, 7).astype(np.float32))
        dones = torch.tensor(random.random(7) < 0.2)
        apart.learn(rewards, dones)
        before = apart.state()
        scaled = apart.scale(rewards)
        assert torch.equal(scaled, together(rewards, dones))
        assert apart.state() == before == together.state()
        assert torch.equal(apart.scale(rewards), scaled)


def test_a_scale_by_hand() -> None:
    """A variance of 4: halves, and at most ±10."""
    scale = RewardScale(0.9, CPU)
    scale.set_state([3.0, 4.0, 10.0])
    assert scale.scale(torch.tensor([1.0, -3.0, 19.0, 21.0, -1e9])).tolist() == pytest.approx([0.5, -1.5, 9.5, 10, -10])


def test_returns_start_anew_with_the_environments() -> None:
    scale, fresh = RewardScale(1.0, CPU), RewardScale(1.0, CPU)
    reward, none = torch.tensor([3.0, 5.0]), torch.zeros(2, dtype=torch.bool)
    for _ in range(3):
        scale(reward, none)
    fresh.set_state(scale.state())
    scale.forget_episodes()
    assert torch.equal(scale(reward, none), fresh(reward, none))
    assert scale.state() == fresh.state()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_reward_that_is_not_finite_stays_visible_in_its_row(bad: float) -> None:
    scale = RewardScale(0.9, CPU)
    scaled = scale(torch.tensor([1.0, bad, 2.0]), torch.zeros(3, dtype=torch.bool))
    assert scaled.isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize("state", [[0.0, 1.0], [0.0, -1.0, 1.0], [0.0, 1.0, 0.0], [float("nan"), 1.0, 1.0], "abc"])
def test_a_bad_state_is_refused(state: Any) -> None:
    with pytest.raises(ValueError, match=r"float|reward statistics"):
        RewardScale(0.9, CPU).set_state(state)


def model(**kwargs: Any) -> PPO:
    env = make("pricing-easy", 8, "cpu")
    return PPO("MlpPolicy", env, n_steps=16, batch_size=64, n_epochs=1, gamma=1.0, seed=0, **kwargs)


def test_values_are_learnt_in_scaled_units_and_statistics_stay_plain() -> None:
    agent = model(normalize_reward=True)
    agent.learn(2048)
    plain = model()
    plain.learn(2048)
    assert float(agent.rollout_buffer.rewards.abs().max()) <= 10.0
    assert float(plain.rollout_buffer.rewards.max()) >= 50.0
    agent.logger.name_to_value.clear()
    agent.dump_logs()
    assert agent.ep_info_buffer
    assert float(sum(e["r"] for e in agent.ep_info_buffer)) > 100.0  # money, not deviations


def test_the_statistics_travel_with_the_model(tmp_path: Path) -> None:
    agent = model(normalize_reward=True)
    agent.learn(512)
    agent.save(tmp_path / "m.zip")
    again = PPO.load(tmp_path / "m.zip")
    assert again._reward_scale is not None
    assert agent._reward_scale is not None
    assert again._reward_scale.state() == agent._reward_scale.state()
    assert again._reward_scale.state()[2] > 512
    assert stable_baselines3.PPO.load(tmp_path / "m.zip").predict(np.ones(2, np.float32))[0] in range(16)


def test_a_file_with_bad_statistics_is_refused(tmp_path: Path) -> None:
    agent = model(normalize_reward=True)
    agent.save(tmp_path / "m.zip")
    bad = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "m.zip") as whole, zipfile.ZipFile(bad, "w") as altered:
        for name in whole.namelist():
            content = whole.read(name)
            if name == "palaestra.json":
                content = json.dumps({**json.loads(content), "reward_scale": [0.0, -1.0, 5.0]}).encode()
            if name != "checksums.json":
                altered.writestr(name, content)
    seal(bad)
    (tmp_path / "bad.zip").write_bytes(bad.getvalue())
    with pytest.raises(CheckpointError, match="reward statistics"):
        PPO.load(tmp_path / "bad.zip")
