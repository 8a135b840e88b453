"""Environments that give the same arrays every time and change them in place, and that change the actions they get."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, MultiDiscrete
from stable_baselines3.common.vec_env import DummyVecEnv

from palaestra.agents import PPO
from palaestra.envs.core import BatchedEnv
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.interop.sb3_adapter import VecEnvAdapter

SHARED = np.zeros(1, np.float32)


class Chain(gymnasium.Env[Any, Any]):
    """Counts 10, 11, 12, 13 in one array, for all copies if ``shared``; ends there by the rules, and begins at 10."""

    def __init__(self, as_dict: bool = False, shared: bool = False, truncates: bool = False) -> None:
        self.place = SHARED if shared else np.zeros(1, np.float32)
        plain = Box(0.0, 100.0, (1,))
        self.observation_space = Dict({"place": plain}) if as_dict else plain
        self.action_space = MultiDiscrete([3, 3])
        self.seen = {"place": self.place} if as_dict else self.place
        self.truncates, self.time = truncates, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.time = 0
        self.place[:] = 10
        return self.seen, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        action += 50  # agents must not learn from that
        self.time += 1
        self.place[:] = 10 + self.time
        over = self.time == 3
        return self.seen, 1.0, over and not self.truncates, over and self.truncates, {}


def batch(kind: str, **kwargs: Any) -> BatchedEnv:
    if kind == "VecEnv":
        return VecEnvAdapter(DummyVecEnv([lambda: Chain(**kwargs)] * 2), "cpu")
    spec = gymnasium.envs.registration.EnvSpec("Chain-v0", entry_point=Chain)
    return GymnasiumAdapter(spec, 2, device="cpu", vectorization_mode=kind, **kwargs)


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("kind", ["sync", "async", "VecEnv"])
def test_observations_are_those_of_their_own_moment(kind: str, as_dict: bool) -> None:
    env = batch(kind, as_dict=as_dict, shared=kind == "sync")

    def numbers(obs: Any) -> list[float]:
        return (obs["place"] if as_dict else obs).flatten().tolist()

    kept, actions = [env.reset(seed=0)[0]], torch.ones(2, 2, dtype=torch.int64)
    finals = []
    for _ in range(4):
        obs, *_, info = env.step(actions)
        kept.append(obs)
        finals.append(info["final_obs"])
    env.close()
    assert actions.tolist() == [[1, 1], [1, 1]]
    assert [numbers(obs) for obs in kept] == [[10, 10], [11, 11], [12, 12], [10, 10], [11, 11]]
    assert [numbers(obs) for obs in finals] == [[11, 11], [12, 12], [13, 13], [11, 11]]


def test_a_cut_episode_bootstraps_from_its_own_last_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python: the value of 13, not of 10, is added where the time limit cut."""
    model = PPO("MlpPolicy", Chain(truncates=True), n_steps=6, batch_size=6, gamma=0.5)
    monkeypatch.setattr(model._actor_critic, "values", lambda obs: obs.flatten())
    model.learn(6)
    assert model.rollout_buffer.rewards.flatten().tolist() == [1, 1, 1 + 0.5 * 13, 1, 1, 1 + 0.5 * 13]
