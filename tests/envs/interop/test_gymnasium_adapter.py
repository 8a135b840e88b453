"""Gymnasium environments: against Gymnasium's and Stable-Baselines3's own wrappers on the same seeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.wrappers import RecordEpisodeStatistics
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from palaestra.envs import EnvError, make
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.interop.sb3_adapter import VecEnvAdapter
from palaestra.envs.interop.simulator_seeds import simulator_seeds


class Timer(gymnasium.Env[Any, Any]):
    """Observes the time and a number drawn at the reset; action 1 terminates; rewards are the time."""

    def __init__(self, as_dict: bool = False) -> None:
        self.as_dict = as_dict
        plain = Box(-np.inf, np.inf, (2,), dtype=np.float64)
        self.observation_space = Dict({"a": plain, "b": Discrete(100)}) if as_dict else plain
        self.action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time, self.number = 0, self.np_random.uniform()
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        done = bool(action == 1)
        return self._obs(), float(self.time), done, False, {"is_success": done}

    def _obs(self) -> Any:
        plain = np.array([self.time, self.number])
        return {"a": plain, "b": self.time} if self.as_dict else plain


@pytest.fixture(autouse=True)
def _timers() -> Iterator[None]:
    gymnasium.register("Timer-v0", Timer, max_episode_steps=5)
    gymnasium.register("TimerDict-v0", lambda: Timer(as_dict=True), max_episode_steps=5)
    yield
    for id in ("Timer-v0", "TimerDict-v0"):
        del gymnasium.registry[id]


def singles(id: str, num_envs: int, seed: int) -> list[gymnasium.Env[Any, Any]]:
    """The adapter's environments, one by one, reset with its seeds."""
    seeds = simulator_seeds(seed, 0, num_envs)
    envs = [RecordEpisodeStatistics(gymnasium.make(id)) for _ in range(num_envs)]
    for env, own in zip(envs, seeds, strict=True):
        env.reset(seed=own)
    return envs  # type: ignore[return-value]


@pytest.mark.parametrize(("id", "steps"), [("CartPole-v1", 120), ("Timer-v0", 40)])
def test_adapter_equals_gymnasiums_own_environments(id: str, steps: int) -> None:
    """Observations, rewards, both ends, the last observation, and RecordEpisodeStatistics."""
    batch = make(id, 3, device="cpu", seed=21)
    assert isinstance(batch, GymnasiumAdapter)
    batch.reset()
    envs = singles(id, 3, 21)
    actions = np.random.default_rng(0).integers(0, 2, (steps, 3))
    if id == "Timer-v0":
        actions &= np.random.default_rng(1).integers(0, 2, (steps, 3)) & (np.arange(3) > 0)
    ends = {"terminated": 0, "truncated": 0}
    for action in actions:
        obs, reward, terminated, truncated, info = batch.step(torch.tensor(action))
        for i, env in enumerate(envs):
            last, their_reward, end, cut, their_info = env.step(action[i])
            cut = cut and not end
            assert torch.equal(info["final_obs"][i], torch.tensor(last, dtype=torch.float32))
            assert (reward[i].item(), terminated[i].item(), truncated[i].item()) == (their_reward, end, cut)
            assert info["_episode"][i] == info["_final_obs"][i] == (end or cut)
            if end or cut:
                ends["terminated"] += end
                ends["truncated"] += cut
                assert info["episode"]["r"][i] == their_info["episode"]["r"]
                assert info["episode"]["l"][i] == their_info["episode"]["l"]
                last, _ = env.reset()
            assert torch.equal(obs[i], torch.tensor(last, dtype=torch.float32))
    assert ends["terminated"] > 0
    if id == "Timer-v0":
        assert ends["truncated"] > 0


def test_adapter_seeds() -> None:
    batch = make("Timer-v0", 4, device="cpu", seed=3)
    first = batch.reset()[0]
    second = batch.reset()[0]
    assert first[:, 1].unique().numel() == 4
    assert not torch.equal(first, second)
    assert torch.equal(batch.reset(seed=3)[0], first)
    assert torch.equal(make("Timer-v0", 4, device="cpu", seed=3).reset()[0], first)


def test_adapter_results_are_not_overwritten() -> None:
    batch = make("CartPole-v1", 2, device="cpu")
    kept = [batch.reset()[0]]
    for _ in range(30):
        obs, *_, info = batch.step(torch.ones(2, dtype=torch.int64))
        kept += [obs, info["final_obs"], info["episode"]["r"]]
    assert not torch.equal(kept[0], kept[1])
    assert kept[3].tolist() == [1.0, 1.0]


def test_dictionary_observations() -> None:
    batch = make("TimerDict-v0", 2, device="cpu")
    obs, _ = batch.reset()
    assert set(obs) == {"a", "b"}
    for _ in range(4):
        batch.step(torch.tensor([0, 0]))
    obs, _, terminated, truncated, info = batch.step(torch.tensor([0, 1]))
    assert (terminated.tolist(), truncated.tolist()) == ([False, True], [True, False])
    assert (obs["a"][:, 0].tolist(), obs["b"].tolist()) == ([0, 0], [0, 0])
    assert (info["final_obs"]["a"][:, 0].tolist(), info["final_obs"]["b"].tolist()) == ([5, 5], [5, 5])


def test_sb3_vec_env_equals_the_gymnasium_adapter() -> None:
    """DummyVecEnv with Monitor and the time limit of the registry, seeded alike through SB3's own rule."""
    venv = DummyVecEnv([lambda: Monitor(gymnasium.make("Timer-v0")) for _ in range(2)])
    batch = VecEnvAdapter(venv, device="cpu")
    obs, _ = batch.reset(seed=4)
    assert obs[:, 0].tolist() == [0, 0]
    numbers = obs[:, 1].tolist()
    seen: list[Any] = []
    for action in ([0, 0], [0, 1], [0, 0], [0, 0], [0, 0]):
        obs, reward, terminated, truncated, info = batch.step(torch.tensor(action))
        seen.append((reward.tolist(), terminated.tolist(), truncated.tolist(), info["final_obs"][:, 0].tolist()))
        if action == [0, 1]:
            assert (info["episode"]["r"][1], info["episode"]["l"][1]) == (3.0, 2)
            assert info["final_obs"][1, 1].item() == numbers[1]
            assert obs[1, 1].item() != numbers[1]
            assert obs[1, 0] == 0
    assert seen == [
        ([1, 1], [False, False], [False, False], [1, 1]),
        ([2, 2], [False, True], [False, False], [2, 2]),
        ([3, 1], [False, False], [False, False], [3, 1]),
        ([4, 2], [False, False], [False, False], [4, 2]),
        ([5, 3], [False, False], [True, False], [5, 3]),
    ]
    assert (info["episode"]["r"][0], info["episode"]["l"][0]) == (15.0, 5)
    assert info["_episode"].tolist() == [True, False]


def test_success_is_reported_where_the_environment_says() -> None:
    batch = make("Timer-v0", 2, device="cpu")
    batch.reset()
    info = batch.step(torch.tensor([0, 1]))[4]
    assert bool(info["is_success"][1])
    venv = VecEnvAdapter(DummyVecEnv([lambda: gymnasium.make("Timer-v0")] * 2), device="cpu")
    venv.reset()
    info = venv.step(torch.tensor([0, 1]))[4]
    assert info["is_success"].tolist() == [False, True]


class Telling(Timer):
    """Says so in its own way; unfinished episodes say nothing."""

    def __init__(self, tell: Any) -> None:
        super().__init__()
        self.tell = tell

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, _ = super().step(action)
        return obs, reward, terminated, truncated, {"is_success": self.tell(terminated)} if terminated else {}


TELLING = {  # of the end that action 1 brings
    **{kind.__name__: kind for kind in (bool, int, float, np.bool_, np.float32, np.int64, np.uint8)},
    "comparison": lambda done: np.float64(0.01) < 0.05,
    "0-d": lambda done: np.array(done),
    "one element": lambda done: np.array([done]),
    "(1, 1)": lambda done: np.array([[float(done)]]),
}


def telling(tell: Any, adapter: str) -> Any:
    """Two such environments."""
    if adapter == "VecEnv":
        return VecEnvAdapter(DummyVecEnv([lambda: Telling(tell)] * 2), "cpu")
    spec = gymnasium.envs.registration.EnvSpec("Telling-v0", entry_point=lambda: Telling(tell), max_episode_steps=5)
    return GymnasiumAdapter(spec, 2, device="cpu", vectorization_mode="sync")


@pytest.mark.parametrize("adapter", ["Gymnasium", "VecEnv"])
@pytest.mark.parametrize("tell", TELLING.values(), ids=TELLING)
def test_success_may_be_said_in_any_type(tell: Any, adapter: str) -> None:
    env = telling(tell, adapter)
    env.reset(seed=0)
    env.step(torch.tensor([0, 0]))
    *_, info = env.step(torch.tensor([0, 1]))
    assert info["is_success"].dtype == torch.bool
    assert info["is_success"].tolist() == [False, True]


@pytest.mark.parametrize("adapter", ["Gymnasium", "VecEnv"])
@pytest.mark.parametrize("said", ["yes", np.array([True, False]), {"no": 1}])
def test_success_of_another_type_is_named(said: Any, adapter: str) -> None:
    env = telling(lambda done: said, adapter)
    env.reset(seed=0)
    with pytest.raises(EnvError, match=r'info\["is_success"\] must be a truth value or a number, got '):
        env.step(torch.tensor([1, 1]))


def test_a_monitor_below_a_reward_wrapper_gives_the_true_return() -> None:
    venv = VecNormalize(DummyVecEnv([lambda: Monitor(gymnasium.make("Timer-v0"))]), norm_reward=True)
    batch = VecEnvAdapter(venv, device="cpu")
    batch.reset(seed=0)
    rewards = []
    for _ in range(5):
        _, reward, _, _, info = batch.step(torch.tensor([0]))
        rewards.append(reward.item())
    assert info["episode"]["r"].item() == 15.0
    assert sum(rewards) != pytest.approx(15.0)
