"""Stacked images stay images: the same numbers in the channels for tensor and for Gymnasium environments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Text
from stable_baselines3.common.torch_layers import NatureCNN
from torch import Tensor

from palaestra.agents import PPO
from palaestra.envs import TensorEnv, TensorVectorEnv
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.wrappers import FrameStack, WrapperError
from palaestra.train.config.compatibility import default_policy
from palaestra.train.config.run_config import build_arguments, resolve_config

SPACES: dict[str, Any] = {
    "last": Box(0, 255, (40, 44, 3), np.uint8),
    "first": Box(0, 255, (3, 40, 44), np.uint8),
    "floats": Box(0.0, 1.0, (40, 44, 3)),
    "without": Box(0, 255, (40, 44), np.uint8),
}
SPACES["Dict"] = Dict({"image": SPACES["last"], "code": Discrete(9, start=2), "numbers": Box(0, 9, (2,))})
STACKED = {"last": (12, 40, 44), "first": (12, 40, 44), "floats": (12, 40, 44), "without": (4, 40, 44)}


def image(space: Box, time: int) -> Any:
    """Channel c holds 10 · time + c, over 100 in floats."""
    channels = 10 * time + np.arange(3)
    if len(space.shape) == 2:
        return np.full(space.shape, 10 * time, space.dtype)
    whole = np.ones(space.shape) * (channels[:, None, None] if space.shape[0] == 3 else channels)
    return (whole / 100 if space.dtype == np.float32 else whole).astype(space.dtype)


class Film(gymnasium.Env[Any, Any]):
    """Shows how many steps were taken, always in the same arrays."""

    def __init__(self, name: str) -> None:
        self.observation_space, self.action_space = SPACES[name], Discrete(2)
        self.seen = self._look(0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.time = 0
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        return self._shown(), 0.0, False, self.time == 6, {}

    def _look(self, time: int) -> Any:
        space = self.observation_space
        if isinstance(space, Dict):
            part = {"code": 2 + time, "numbers": np.full(2, time, np.float32)}
            return {"image": image(space["image"], time), **part}  # type: ignore[arg-type]
        return image(space, time)  # type: ignore[arg-type]

    def _shown(self) -> Any:
        new = self._look(self.time)
        if isinstance(new, dict):
            self.seen["image"][...] = new["image"]
            self.seen["code"], self.seen["numbers"] = new["code"], new["numbers"]
        else:
            self.seen[...] = new
        return self.seen


@dataclass(frozen=True)
class FilmState:
    time: Tensor  # int64 [N]


class TensorFilm(TensorEnv[FilmState]):
    action_space = Discrete(2)

    def __init__(self, name: str) -> None:
        self.observation_space = SPACES[name]
        self.pictures = torch.from_numpy(np.stack([image(SPACES[name], time) for time in range(7)]))

    def reset(self, rng: Any) -> FilmState:
        return FilmState(torch.zeros(rng.num_envs, dtype=torch.int64))

    def step(self, state: Any, action: Tensor, rng: Any) -> Any:
        time = state.time + 1
        return FilmState(time), torch.zeros(len(time)), time == 7

    def observe(self, state: Any) -> Tensor:
        return self.pictures[state.time]


def adapted(name: str, **kwargs: Any) -> GymnasiumAdapter:
    spec = gymnasium.envs.registration.EnvSpec("Film-v0", entry_point=lambda: Film(name))
    return GymnasiumAdapter(spec, 2, device="cpu", vectorization_mode="sync", **kwargs)


@pytest.mark.parametrize("name", STACKED)
def test_images_are_stacked_in_their_channels_and_read_by_a_cnn(name: str) -> None:
    env = adapted(name, frame_stack=4)
    assert env.single_observation_space.shape == STACKED[name]
    assert default_policy("ppo", env.single_observation_space) == "CnnPolicy"
    seen = [env.reset(seed=0)[0]] + [env.step(torch.zeros(2, dtype=torch.int64))[0] for _ in range(5)]
    times = [0, 0, 0, 0, 1, 2, 3, 4, 5]
    for now, obs in enumerate(seen):
        channels = obs[0, :, 0, 0].double() * (100 if name == "floats" else 1)
        each = [0] if name == "without" else [0, 1, 2]
        assert channels.round().tolist() == [10 * time + c for time in times[now : now + 4] for c in each]


@pytest.mark.parametrize("name", STACKED)
def test_tensor_environments_do_the_same(name: str) -> None:
    inner = TensorFilm(name)
    batch = TensorVectorEnv(FrameStack(inner, 4), 2, device="cpu")
    theirs = gymnasium.wrappers.FrameStackObservation(Film(name), 4)  # [4, *shape]
    obs, _ = batch.reset()
    for now in range(4):
        theirs.reset() if now == 0 else None
        expected = theirs.unwrapped._look(now)  # type: ignore[attr-defined]
        newest = obs[0].numpy()
        part = newest[-1] if name == "without" else newest[-3:]
        assert np.array_equal(part, np.moveaxis(expected, -1, 0) if name in ("last", "floats") else expected)
        assert batch.single_observation_space.contains(newest)
        obs = batch.step(torch.zeros(2, dtype=torch.int64))[0]


def test_a_cnn_is_trained_on_stacked_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palaestra.train.config.run_config.spaces_of", lambda env, kwargs: (space, Discrete(2)))
    space = adapted("floats", frame_stack=4).single_observation_space
    config = resolve_config("CartPole-v1", "ppo", settings=["n_steps=8", "batch_size=16"])
    model = PPO(env=adapted("floats", frame_stack=4), **build_arguments(config))
    assert isinstance(model.policy.features_extractor.extractor, NatureCNN)
    model.learn(16)


def test_entries_of_a_dict_are_stacked_each_in_its_way() -> None:
    env = adapted("Dict", frame_stack=3)
    space = env.single_observation_space
    assert isinstance(space, Dict)
    assert space["image"].shape == (9, 40, 44)
    assert space["code"] == MultiDiscrete([9] * 3, start=[2] * 3)
    env.reset(seed=0)
    obs = env.step(torch.zeros(2, dtype=torch.int64))[0]
    assert obs["image"][0, :, 0, 0].tolist() == [0, 1, 2, 0, 1, 2, 10, 11, 12]
    assert obs["code"].tolist() == [[2, 2, 3]] * 2
    assert obs["numbers"].tolist() == [[[0, 0], [0, 0], [1, 1]]] * 2


def test_what_cannot_be_stacked_is_said() -> None:
    with pytest.raises(WrapperError, match="frame_stack=14: 42 channels cannot be told from 40 pixels: take fewer"):
        adapted("last", frame_stack=14)
    with pytest.raises(WrapperError, match=r"frame_stack=2: needs observations in Box, Discrete, .*, got Text"):
        GymnasiumAdapter(
            gymnasium.envs.registration.EnvSpec("Words-v0", entry_point=Words), 1, device="cpu", frame_stack=2
        )


class Words(gymnasium.Env[Any, Any]):
    observation_space, action_space = Text(5), Discrete(2)
