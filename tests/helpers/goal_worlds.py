"""Small Gymnasium environments with goals, which need no package: bits to be flipped, and a point to be moved."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary


class Bits(gymnasium.Env[Any, Any]):
    """Flip one of n bits at a time until all are as asked; −1 for each step that does not do it (HER, section 4.1)."""

    def __init__(self, bits: int = 6) -> None:
        space = MultiBinary(bits)
        self.observation_space = Dict({"observation": space, "achieved_goal": space, "desired_goal": space})
        self.action_space = Discrete(bits)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        shape = self.observation_space["observation"].shape
        self.state, self.goal = (self.np_random.integers(0, 2, shape, dtype=np.int8) for _ in range(2))
        return self._seen(), {}

    def _seen(self) -> dict[str, Any]:
        return {"observation": self.state.copy(), "achieved_goal": self.state.copy(), "desired_goal": self.goal.copy()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.state[action] ^= 1
        reward = float(self.compute_reward(self.state, self.goal, {}))
        return self._seen(), reward, reward == 0.0, False, {"is_success": reward == 0.0}

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        return -(achieved_goal != desired_goal).any(-1).astype(np.float32)


class Point(gymnasium.Env[Any, Any]):
    """Move a point in a square to within ``near`` of a place: −1 for each step that does not end there."""

    def __init__(self, near: float = 0.1, ends: bool = False) -> None:
        place = Box(-1.0, 1.0, (2,), np.float64)
        self.observation_space = Dict({"observation": place, "achieved_goal": place, "desired_goal": place})
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        self.near, self.ends = near, ends

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-1.0, 1.0, (2, 2))
        return self._seen(), {}

    def _seen(self) -> dict[str, Any]:
        return {"observation": self.place, "achieved_goal": self.place, "desired_goal": self.goal}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = np.clip(self.place + 0.2 * np.asarray(action, dtype=np.float64), -1.0, 1.0)
        reward = float(self.compute_reward(self.place, self.goal, {}))
        return self._seen(), reward, self.ends and reward == 0.0, False, {"is_success": reward == 0.0}

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) > self.near).astype(np.float32)


class NoRule(gymnasium.Wrapper[Any, Any, Any, Any]):
    """It has goals, and does not say what others are worth."""

    def __init__(self) -> None:
        super().__init__(Point())

    def has_wrapper_attr(self, name: str) -> bool:
        return name != "compute_reward" and super().has_wrapper_attr(name)


class OneByOne(Point):
    """Its rule takes one goal at a time."""

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        return -float(np.linalg.norm(achieved_goal - desired_goal) > self.near)


for name, world, steps in (("Bits", Bits, 12), ("Point", Point, 20), ("NoRule", NoRule, 20), ("Each", OneByOne, 20)):
    gymnasium.register(f"goal-worlds/{name}-v0", entry_point=world, max_episode_steps=steps)
