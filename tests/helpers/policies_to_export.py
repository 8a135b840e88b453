"""Policies of every kind with weights that decide, in environments whose observations are drawn from their space."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from palaestra.agents import DQN, PPO, PQN
from palaestra.agents.networks.extractors import DuelingPolicy, SharedMlp
from palaestra.agents.networks.observation_norm import Normalized
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter


class Sampled(gymnasium.Env[Any, Any]):
    """Observations drawn from its space, whatever is done; masks where ``masked``."""

    def __init__(self, seen: spaces.Space[Any], done: spaces.Space[Any], masked: bool = False) -> None:
        self.observation_space, self.action_space, self.masked = seen, done, masked

    def _info(self) -> dict[str, Any]:
        if not self.masked:
            return {}
        mask = self.np_random.random(int(self.action_space.n)) < 0.5  # type: ignore[attr-defined]
        mask[int(self.np_random.integers(len(mask)))] = True
        return {"action_mask": mask.astype(np.int8)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), self._info()

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, self._info()


BOX = spaces.Box(-2.0, 3.0, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (40, 36, 3), np.uint8)
BOTH = spaces.Dict({"place": spaces.Discrete(7, start=3), "camera": IMAGE, "speed": BOX})
SMALL = {"net_arch": [16, 16]}
SDE = {"use_sde": True, "policy_kwargs": {**SMALL, "squash_output": True}}
ROW = spaces.Box(np.float32([-1.0, 0.0, 10.0]), np.float32([1.0, 5.0, 90.0]))
OCTAVES = {"net_arch": [], "features_extractor_class": SharedMlp, "features_extractor_kwargs": {"hidden": [16, 16]}}
OCTAVES["features_extractor_kwargs"]["octaves"] = 3  # type: ignore[index]

Case = tuple[type[Any], Any, Any, Any, dict[str, Any]]
CASES: dict[str, Case] = {
    "discrete": (PPO, "MlpPolicy", BOX, spaces.Discrete(4), {"policy_kwargs": SMALL}),
    "shifted": (PPO, "MlpPolicy", spaces.Discrete(9, start=-4), spaces.Discrete(4, start=2), {"policy_kwargs": SMALL}),
    "octaves": (PPO, "MlpPolicy", BOX, spaces.Discrete(6), {"policy_kwargs": OCTAVES}),
    "normalised": (PPO, "MlpPolicy", BOX, spaces.Discrete(4), {"normalize_observation": True}),
    "several": (PPO, "MlpPolicy", BOX, spaces.MultiDiscrete([3, 4], start=[1, -2]), {"policy_kwargs": SMALL}),
    "bits": (PPO, "MlpPolicy", BOX, spaces.MultiBinary(4), {"policy_kwargs": SMALL}),
    "box": (PPO, "MlpPolicy", BOX, ROW, {"scale_actions": True, "policy_kwargs": SMALL}),
    "vanilla box": (PPO, "MlpPolicy", BOX, spaces.Box(-1.0, 1.0, (2, 2)), {"policy_kwargs": SMALL}),
    "whole numbers": (PPO, "MlpPolicy", BOX, spaces.Box(0, 9, (2,), np.int64), {"scale_actions": True}),
    "sde": (PPO, "MlpPolicy", BOX, spaces.Box(-3.0, 1.0, (2,)), SDE),
    "image": (PPO, "CnnPolicy", IMAGE, spaces.Discrete(5), {"n_steps": 8, "batch_size": 16}),
    "dictionary": (PPO, "MultiInputPolicy", BOTH, spaces.Discrete(5), {"n_steps": 8, "batch_size": 16}),
    "dqn": (DQN, "MlpPolicy", BOX, spaces.Discrete(4, start=1), {"policy_kwargs": SMALL}),
    "dueling": (DQN, DuelingPolicy, BOX, spaces.Discrete(4), {"policy_kwargs": SMALL}),
    "pqn": (PQN, "MlpPolicy", BOX, spaces.Discrete(4), {"normalize_observation": True, "weight_average": 0.01}),
}
MASKED = ("discrete", "shifted", "dqn")


def made(name: str, masked: bool = False) -> tuple[Any, GymnasiumAdapter]:
    """A model with weights that decide, statistics that normalise, and its batch."""
    agent, policy, seen, done, options = CASES[name]
    spec = gymnasium.envs.registration.EnvSpec("Sampled-v0", lambda: Sampled(seen, done, masked))
    env = GymnasiumAdapter(spec, 8, device="cpu", seed=3)
    options = {"n_steps": 8, "batch_size": 16, **options} if agent is PPO else options
    model = agent(policy, env, device="cpu", seed=1, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator) * (parameter.dim() > 1)
    for module in model.policy.modules():
        if isinstance(module, Normalized):
            module.learn(torch.as_tensor(np.stack([seen.sample() for _ in range(50)])))
    model.speak_to(env)
    model.policy.set_training_mode(False)
    return model, env
