"""Nim, a game for two of which everything is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.core import TensorEnv
from palaestra.envs.core.rng import Rng


@dataclass(frozen=True)
class PileState:
    left: Tensor  # int64 [N] stones
    moves: Tensor  # int64 [N]


class Nim(TensorEnv[PileState]):
    """Take one, two or three stones of a pile; who takes the last one wins. A pile of 4 k is lost for who moves."""

    def __init__(self, stones: int = 9) -> None:
        self.stones = stones
        self.observation_space, self.action_space = Box(0.0, 1.0, (1,)), Discrete(3)

    def reset(self, rng: Rng) -> PileState:
        none = torch.zeros(rng.num_envs, dtype=torch.int64, device=self.device)
        return PileState(none + self.stones, none)

    def step(self, state: PileState, action: Tensor, rng: Rng) -> tuple[PileState, Tensor, Tensor]:
        left = state.left - action - 1
        reward = (left == 0).float() - (left < 0).float()
        return PileState(left.clamp(min=0), state.moves + 1), reward, left <= 0

    def observe(self, state: PileState) -> Tensor:
        return (state.left / self.stones).unsqueeze(1)

    def player(self, state: PileState) -> Tensor:
        return state.moves & 1

    def action_mask(self, state: PileState) -> Tensor:
        return torch.arange(3, device=self.device) < state.left.unsqueeze(1)

    def game_value(self, state: PileState) -> Tensor:
        return torch.where(state.left % 4 == 0, -1.0, 1.0)
