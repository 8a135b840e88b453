"""Environments whose choices do not begin at 0: what reaches them, and what comes from them, has their own numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from palaestra.agents import DQN, PPO, PQN
from palaestra.agents.networks.numbering import Numbering
from palaestra.envs import TensorEnv, TensorVectorEnv
from palaestra.envs.core import BatchedEnv, EnvError
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.interop.sb3_adapter import VecEnvAdapter
from palaestra.train.evaluation.episodes import run_episodes
from palaestra.train.evaluation.policies import AgentPolicy, RandomPolicy

OBSERVATIONS: dict[str, Any] = {
    "Discrete": Discrete(3, start=7),
    "below 0": Discrete(3, start=-2),
    "MultiDiscrete": MultiDiscrete([3, 3], start=[7, -2]),
    "Dict": Dict({"a": Discrete(3, start=7), "b": Box(0, 1, (1,))}),
}
ACTIONS = {"Discrete": Discrete(3, start=5), "MultiDiscrete": MultiDiscrete([3, 2], start=[5, 1])}


class Matching(gymnasium.Env[Any, Any]):
    """Rewards the action that equals the observed choice, counted from the first of either; ten steps."""

    def __init__(self, observes: str = "Discrete", acts: str = "Discrete") -> None:
        self.observation_space, self.action_space = OBSERVATIONS[observes], ACTIONS[acts]
        self.time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self._next(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.time += 1
        reward = float(np.ravel(action)[0] - 5 == self.choice)
        return self._next(), reward, self.time == 10, False, {}

    def _next(self) -> Any:
        self.choice = int(self.np_random.integers(3))
        space = self.observation_space
        if isinstance(space, Dict):
            return {"a": 7 + self.choice, "b": np.zeros(1, np.float32)}
        if isinstance(space, MultiDiscrete):
            return space.start + self.choice
        return int(space.start) + self.choice  # type: ignore[attr-defined]


@dataclass(frozen=True)
class MatchingState:
    choice: Tensor  # int64 [N]
    time: Tensor  # int64 [N]


class TensorMatching(TensorEnv[MatchingState]):
    """The same in tensors; ten observed steps are much smaller as a state, so DQN stores states."""

    observation_space, action_space = MultiDiscrete([3] * 12, start=[7] * 12), Discrete(3, start=5)

    def reset(self, rng: Any) -> MatchingState:
        return MatchingState(rng.integers(0, 3), torch.zeros(rng.num_envs, dtype=torch.int64))

    def step(self, state: Any, action: Tensor, rng: Any) -> Any:
        time = state.time + 1
        return MatchingState(rng.integers(0, 3), time), (action - 5 == state.choice).float(), time == 10

    def observe(self, state: Any) -> Tensor:
        return 7 + state.choice.unsqueeze(1).expand(-1, 12)


def batch(kind: str, observes: str = "Discrete", acts: str = "Discrete") -> BatchedEnv:
    if kind == "tensors":
        return TensorVectorEnv(TensorMatching(), 8, device="cpu")
    if kind == "VecEnv":
        return VecEnvAdapter(DummyVecEnv([lambda: Matching(observes, acts)] * 8), "cpu")
    spec = gymnasium.envs.registration.EnvSpec("Matching-v0", entry_point=lambda: Matching(observes, acts))
    return GymnasiumAdapter(spec, 8, device="cpu", vectorization_mode="sync")


AGENTS: dict[str, Any] = {
    "ppo": lambda env, **k: PPO("MlpPolicy", env, n_steps=32, batch_size=64, gamma=0.0, learning_rate=5e-3, **k),
    "pqn": lambda env, **k: PQN("MlpPolicy", env, n_steps=8, batch_size=32, gamma=0.0, learning_rate=2e-3, **k),
    "dqn": lambda env, **k: DQN(
        *("MlpPolicy", env), learning_starts=64, gamma=0.0, learning_rate=2e-3, samples_per_insert=8.0, **k
    ),
}


@pytest.mark.parametrize("kind", ["Gymnasium", "VecEnv", "tensors"])
@pytest.mark.parametrize("agent", AGENTS)
def test_agents_learn_evaluate_and_predict_in_the_environments_numbers(agent: str, kind: str, tmp_path: Any) -> None:
    env = batch(kind)
    model = AGENTS[agent](env.venv if kind == "VecEnv" else env, seed=0)  # type: ignore[attr-defined]
    model.learn(3072)
    assert run_episodes(batch(kind), AgentPolicy(model)).returns.mean() > 9.0  # chance is 10 / 3
    model.save(tmp_path / "model")
    model = type(model).load(tmp_path / "model")
    assert model.action_space == Discrete(3, start=5)
    for choice in range(3):
        obs = np.full(12, 7 + choice) if kind == "tensors" else 7 + choice
        assert model.predict(obs, deterministic=True)[0] == 5 + choice
        assert model.act(torch.as_tensor(obs).unsqueeze(0)).tolist() == [5 + choice]
    drawn = [int(model.predict(obs)[0]) for _ in range(20)]
    assert set(drawn) <= {5, 6, 7}


@pytest.mark.parametrize("kind", ["Gymnasium", "VecEnv"])
@pytest.mark.parametrize("acts", ACTIONS)
@pytest.mark.parametrize("observes", OBSERVATIONS)
def test_all_kinds_of_spaces(observes: str, acts: str, kind: str) -> None:
    env = batch(kind, observes, acts)
    policy = "MultiInputPolicy" if observes == "Dict" else "MlpPolicy"
    model = PPO(policy, env.venv if kind == "VecEnv" else env, n_steps=4, batch_size=32, seed=0)  # type: ignore[attr-defined]
    model.learn(64)
    run_episodes(batch(kind, observes, acts), RandomPolicy())
    obs = env.single_observation_space.sample()
    assert env.single_action_space.contains(model.predict(obs)[0])
    seen = Numbering(env.single_observation_space, env.single_action_space).from_env(obs)
    assert min(np.min(part) for part in (seen.values() if observes == "Dict" else [seen])) >= 0


@pytest.mark.parametrize("kind", ["Gymnasium", "VecEnv"])
def test_a_choice_outside_its_space_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Matching, "_next", lambda self: 99)
    with pytest.raises(
        EnvError, match=r"observation 99 of environment 0 of the batch is not in Discrete\(3, start=7\)"
    ):
        batch(kind).reset(seed=0)
