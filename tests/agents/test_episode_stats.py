"""What a run tells of its first episodes: nothing before the long ones have ended, which may all be failures."""

from __future__ import annotations

from typing import Any

import probes
import pytest
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.logger import KVWriter, Logger
from torch import Tensor

from palaestra.agents import DQN, PPO
from palaestra.agents.episode_stats import episode_means
from palaestra.envs import Rng, TensorEnv, TensorVectorEnv

LIMIT, LUCKY = 20, 0.25


def test_means_wait_for_as_many_episodes_as_there_are_environments() -> None:
    window = [{"n": 3.0, "r": 1.0, "l": 2.0, "t": 0.0, "s": 1.0}, {"n": 1.0, "r": 5.0, "l": 6.0, "t": 0.0, "s": 0.0}]
    means = {"rollout/ep_rew_mean": 2.0, "rollout/ep_len_mean": 3.0, "rollout/success_rate": 0.75}
    assert episode_means(window, 4) == episode_means(window, 1) == means
    assert episode_means(window, 5) == {}
    assert episode_means([], 1) == {}
    without = [{key: value for key, value in entry.items() if key != "s"} for entry in window]
    assert set(episode_means(without, 4)) == {"rollout/ep_rew_mean", "rollout/ep_len_mean"}


class LuckyDraw(TensorEnv[probes.ProbeState]):
    """One episode in four ends at once, a success with reward 1; the others fail, at the time limit."""

    max_episode_steps = LIMIT

    def __init__(self) -> None:
        self.observation_space, self.action_space = Box(-1.0, 1.0, (1,)), Discrete(2)

    def reset(self, rng: Rng) -> probes.ProbeState:
        return probes.ProbeState((rng.uniform() < LUCKY).float())

    def observe(self, state: probes.ProbeState) -> Tensor:
        return state.signal.unsqueeze(1)

    def step(self, state: probes.ProbeState, action: Tensor, rng: Rng) -> tuple[probes.ProbeState, Tensor, Tensor]:
        return state, state.signal, state.signal == 1

    def success(self, state: probes.ProbeState) -> Tensor:
        return state.signal == 1


class Rows(KVWriter):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        self.rows.append(dict(key_values))

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_the_first_share_is_not_that_of_the_quick_successes(agent: str) -> None:
    env = TensorVectorEnv(LuckyDraw(), 256, device="cpu")
    if agent == "ppo":
        model: Any = PPO("MlpPolicy", env, n_steps=4, batch_size=1024, n_epochs=1, seed=0)
    else:
        model = DQN("MlpPolicy", env, train_freq=4, learning_starts=256, buffer_size=2048, batch_size=32, seed=0)
    writer = Rows()
    model.set_logger(Logger(None, [writer]))
    model.learn(256 * LIMIT, log_interval=1)
    *early, last = writer.rows
    assert last["time/total_timesteps"] == 256 * LIMIT
    assert len(early) == (LIMIT // 4 - 1 if agent == "ppo" else 0)
    assert not any(name.startswith(("rollout/ep_", "rollout/success")) for row in early for name in row)
    # 1 in 4 of all episodes, and 1 in 4 of those that began late and are quick
    assert 0.15 < last["rollout/success_rate"] == last["rollout/ep_rew_mean"] < 0.4
    assert len(model.ep_info_buffer) > 0
