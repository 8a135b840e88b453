"""What a run tells of its first episodes: nothing before the long ones have ended, which may all be failures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import probes
import pytest
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from palaestra.agents import DQN, PPO, PQN
from palaestra.agents.episode_stats import episode_means
from palaestra.envs import Rng, TensorEnv, TensorVectorEnv

LIMIT, LUCKY = 20, 0.25


def test_means_wait_for_an_episode_of_each_environment() -> None:
    first = {"n": 30.0, "r": 1.0, "l": 2.0, "e": 3.0, "t": 0.0, "s": 1.0}
    window = [first, {"n": 10.0, "r": 5.0, "l": 6.0, "e": 4.0, "t": 0.0, "s": 0.0}]
    means = {"rollout/ep_rew_mean": 2.0, "rollout/ep_len_mean": 3.0, "rollout/success_rate": 0.75}
    assert episode_means(window, 4) == episode_means(window, 1) == means
    assert episode_means(window, 5) == {}
    assert episode_means([first], 4) == {}  # as many episodes as environments, and more: three of them again and again
    assert episode_means([], 1) == {}
    without = [{key: value for key, value in entry.items() if key != "s"} for entry in window]
    assert set(episode_means(without, 4)) == {"rollout/ep_rew_mean", "rollout/ep_len_mean"}


class LuckyDraw(TensorEnv[probes.ProbeState]):
    """One episode in four, or another share, ends at once, a success with reward 1; others fail, at the time limit."""

    max_episode_steps = LIMIT

    def __init__(self, lucky: float = LUCKY) -> None:
        self.lucky = lucky
        self.observation_space, self.action_space = Box(-1.0, 1.0, (1,)), Discrete(2)

    def reset(self, rng: Rng) -> probes.ProbeState:
        return probes.ProbeState((rng.uniform() < self.lucky).float())

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


MANY, SLOW = 64, 100  # environments, and steps of an episode that fails


class Luck(gymnasium.Env[Any, Any]):
    """The same for one environment on the host, three in five of the episodes lucky."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = Box(-1.0, 1.0, (1,)), Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.lucky, self.steps = bool(self.np_random.random() < 0.6), 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        cut = not self.lucky and self.steps >= SLOW
        return np.zeros(1, np.float32), float(self.lucky), self.lucky, cut, {"is_success": self.lucky}


def lucky_batch(where: str) -> Any:
    """64 environments of which 60 % succeed in one step, and the rest fail at step 100."""
    if where == "tensors":
        return TensorVectorEnv(LuckyDraw(0.6), MANY, device="cpu", max_episode_steps=SLOW)
    env = DummyVecEnv([Luck] * MANY)
    env.seed(0)
    return env


AGENTS: dict[str, Callable[[Any], Any]] = {
    "ppo": lambda env: PPO("MlpPolicy", env, n_steps=5, batch_size=320, n_epochs=1, seed=0),
    "dqn": lambda env: DQN("MlpPolicy", env, train_freq=5, learning_starts=64, buffer_size=6400, batch_size=32, seed=0),
    "pqn": lambda env: PQN("MlpPolicy", env, n_steps=5, batch_size=320, n_epochs=1, seed=0),
}


def shares(model: Any, steps: int) -> dict[int, float]:
    """The share of successes by the step of the run in which it is told, in so many more steps of each environment."""
    writer = Rows()
    model.set_logger(Logger(None, [writer]))
    model.learn(MANY * steps, log_interval=1, reset_num_timesteps=False)
    told = {row["time/total_timesteps"] // MANY: row.get("rollout/success_rate") for row in writer.rows}
    return {step: share for step, share in told.items() if share is not None}


@pytest.mark.parametrize("where", ["tensors", "host"])
@pytest.mark.parametrize("agent", AGENTS)
def test_quick_environments_that_end_several_times_do_not_make_a_share(agent: str, where: str, tmp_path: Path) -> None:
    model = AGENTS[agent](lucky_batch(where))
    early = shares(model, SLOW // 2)
    assert early == {}
    assert sum(e["n"] for e in model.ep_info_buffer) > MANY  # which was enough
    assert all(e["s"] == 1.0 for e in model.ep_info_buffer)
    model.save_checkpoint(tmp_path / "c.zip")
    whole = shares(model, SLOW)
    assert min(whole) >= SLOW
    assert 0.4 < next(iter(whole.values())) < 0.8
    again = type(model).resume(tmp_path / "c.zip", lucky_batch(where))
    resumed = shares(again, 2 * SLOW)
    if where == "tensors":  # those on the host begin new episodes
        assert {step: share for step, share in resumed.items() if step in whole} == whole
    assert all(step >= SLOW for step in resumed)
    assert 0.4 < next(iter(resumed.values())) < 0.8


def test_a_second_run_of_a_model_waits_again() -> None:
    """Its environments are reset, in the middle of their episodes or not."""
    model = AGENTS["ppo"](lucky_batch("tensors"))
    assert shares(model, 2 * SLOW) != {}
    model.learn(MANY * SLOW // 2, reset_num_timesteps=True)
    assert episode_means(model.ep_info_buffer, MANY) == {}
    assert all(e["s"] == 1.0 for e in model.ep_info_buffer)
