"""What the tests of all agents share: a small noisy environment, a model's weights, what it logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium.spaces import Box, Discrete, Space
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import KVWriter, Logger
from torch import Tensor

from palaestra.envs import TensorEnv, TensorVectorEnv
from palaestra.envs.core.rng import Rng


@dataclass(frozen=True)
class WalkState:
    x: Tensor  # float32 [N, 3]
    time: Tensor  # int64 [N]


class Walk(TensorEnv[WalkState]):
    """A noisy point pushed by any kind of action; terminates when it is far out, truncated after 5 steps.

    ``fault`` = (field, environment, step of the run) puts a NaN there, for batches of 8.
    """

    max_episode_steps = 5

    def __init__(self, action_space: Space[Any], fault: tuple[str, int, int] | None = None) -> None:
        self.observation_space = Box(-100.0, 100.0, (3,))
        self.action_space = action_space
        self.fault, self.steps = fault, 0

    def reset(self, rng: Rng) -> WalkState:
        return WalkState(rng.normal((3,)), torch.zeros(rng.num_envs, dtype=torch.int64, device=self.device))

    def step(self, state: WalkState, action: Tensor, rng: Rng) -> tuple[WalkState, Tensor, Tensor]:
        push = action.float().flatten(1).sum(1) if action.dim() > 1 else action.float()
        x = 0.9 * state.x + 0.5 * rng.normal((3,)) + 0.1 * push.unsqueeze(1)
        reward = x[:, 0] - 0.3 * push.square()
        if self.fault is not None and self.steps == self.fault[2]:
            (reward if self.fault[0] == "reward" else x)[self.fault[1]] = torch.nan
        self.steps += 1
        return WalkState(x, state.time + 1), reward, x[:, 1].abs() > 1.5

    def observe(self, state: WalkState) -> Tensor:
        return state.x


def walk(space: Space[Any] = Discrete(3), n: int = 8, seed: int = 5, **kwargs: Any) -> TensorVectorEnv[WalkState]:  # noqa: B008
    return TensorVectorEnv(Walk(space, **kwargs), n, device="cpu", seed=seed)


def weights(model: BaseAlgorithm) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.policy.parameters()])


class Rows(KVWriter):
    """Keeps what a logger writes."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        self.rows.append(dict(key_values))

    def close(self) -> None:
        pass


def logged(model: BaseAlgorithm, steps: int, **kwargs: Any) -> list[dict[str, Any]]:
    rows = Rows()
    model.set_logger(Logger(None, [rows]))
    model.learn(steps, **kwargs)
    return rows.rows


def bootstrap_densely(model: BaseAlgorithm) -> None:
    """Let the model add the values of all final observations on the CPU too: the arithmetic of other devices, which do
    not look for the rows that are truncated."""
    model._looks = False  # type: ignore[attr-defined]
