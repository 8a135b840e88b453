"""Action masks of Gymnasium environments: honoured as those of tensor environments are, in evaluations too."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from stable_baselines3.common.vec_env import DummyVecEnv

from palaestra.agents import DQN, PPO, PQN
from palaestra.envs.core import BatchedEnv, EnvError
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.interop.sb3_adapter import VecEnvAdapter
from palaestra.train.evaluation.episodes import run_episodes
from palaestra.train.evaluation.policies import AgentPolicy


class Narrowing(gymnasium.Env[Any, Any]):
    """In step t of 4, actions from t on are legal; an illegal one is an error. At the end only the last one is."""

    observation_space = Box(0.0, 4.0, (1,))

    def __init__(self, says: str = "info", several: bool = False) -> None:
        self.action_space = MultiDiscrete([2, 5], start=[0, 3]) if several else Discrete(5, start=3)
        self.says, self.several, self.time = says, several, 0
        if says == "method":
            self.action_masks = self.legal

    def legal(self) -> Any:
        last = np.arange(5) >= self.time
        return np.concatenate([[True, True], last]) if self.several else last

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.time = 0
        return self._seen()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        choice = int(np.ravel(action)[-1]) - 3
        assert self.legal()[-5:][choice], (self.time, action)
        self.time += 1
        obs, info = self._seen()
        return obs, 1.0, False, self.time == 4, info

    def _seen(self) -> tuple[Any, dict[str, Any]]:
        return np.full(1, self.time, np.float32), {
            "action_mask": self.legal().astype(np.int8)
        } if self.says == "info" else {}


def batch(kind: str, **kwargs: Any) -> BatchedEnv:
    if kind == "VecEnv":
        return VecEnvAdapter(DummyVecEnv([lambda: Narrowing(**kwargs)] * 2), "cpu")
    spec = gymnasium.envs.registration.EnvSpec("Narrowing-v0", entry_point=Narrowing)
    return GymnasiumAdapter(spec, 2, device="cpu", vectorization_mode=kind, **kwargs)


@pytest.mark.parametrize("says", ["info", "method"])
@pytest.mark.parametrize("kind", ["sync", "async", "VecEnv"])
def test_masks_belong_to_their_observations(kind: str, says: str) -> None:
    env = batch(kind, says=says)
    env.reset(seed=0)
    for time in (1, 2, 3, 0, 1):
        env.step(torch.full((2,), 7))
        mask, final = env.action_masks(), env.final_action_masks()
        assert mask is not None
        assert final is not None
        assert mask.sum(1).tolist() == [5 - time] * 2
        if time == 0:  # the method of a VecEnv's environments cannot be asked before they are reset
            assert final.sum(1).tolist() == ([5, 5] if kind == "VecEnv" and says == "method" else [1, 1])
        else:
            assert torch.equal(final, mask)
    env.close()


AGENTS: dict[str, Any] = {
    "ppo": lambda env: PPO("MlpPolicy", env, n_steps=16, batch_size=32, seed=0),
    "pqn": lambda env: PQN("MlpPolicy", env, n_steps=8, batch_size=16, seed=0),
    "dqn": lambda env: DQN("MlpPolicy", env, learning_starts=16, samples_per_insert=1.0, seed=0),
}


@pytest.mark.parametrize("kind", ["sync", "VecEnv"])
@pytest.mark.parametrize("agent", AGENTS)
def test_agents_never_act_illegally(agent: str, kind: str) -> None:
    """The environment raises where they do."""
    env = batch(kind)
    model = AGENTS[agent](env.venv if kind == "VecEnv" else env)  # type: ignore[attr-defined]
    model.learn(256)
    for deterministic in (True, False):
        assert run_episodes(batch(kind), AgentPolicy(model, deterministic)).returns.tolist() == [4.0, 4.0]


def test_several_choices_have_their_masks_in_a_row() -> None:
    model = PPO("MlpPolicy", batch("sync", several=True), n_steps=16, batch_size=32, seed=0)
    model.learn(256)
    for deterministic in (True, False):
        found = run_episodes(batch("sync", several=True), AgentPolicy(model, deterministic))
        assert found.returns.tolist() == [4.0, 4.0]


def test_a_mask_of_another_size_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Narrowing, "legal", lambda self: np.ones(4))
    with pytest.raises(
        EnvError, match="Narrowing: reset: an action mask must have 5 truth values, one for each action"
    ):
        batch("sync").reset(seed=0)


def test_a_policy_that_cannot_keep_to_masks_is_refused() -> None:
    model = PPO("MlpPolicy", batch("sync"), n_steps=16, batch_size=32)
    model._actor_critic.head = None  # as one with a forward pass of its own has
    with pytest.raises(ValueError, match="has action masks, which ActorCriticPolicy would not keep to"):
        model.learn(32)
