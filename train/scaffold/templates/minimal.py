"""MyEnv: catch the falling ball.

Rules
    1. The board is ``width`` columns wide and width − 1 rows high. A ball falls from the top by one row per step,
       straight down; a paddle on the ground moves by at most one column per step.
    2. The episode terminates when the ball reaches the ground: reward +1 if it falls on the paddle, else −1. There is
       no reward before that, and no time limit, since every episode lasts width − 1 steps.
    3. Ball and paddle start in columns drawn at random, independently. Every ball can be caught.

Actions
    0 left, 1 stay, 2 right; the paddle stops at the edge.

Observation (float32 [3])
    Column of the ball and of the paddle (−1 left edge, 1 right edge); height of the ball (1 at the start, 0 at last).

Reference
    The optimum is 1, which the expert reaches by going to the ball. Random actions leave the paddle uniform over the
    columns, as it started, so they catch one ball in ``width``: the mean return is 2 / width − 1. Both are exact.

Source: after the game Catch of Mnih et al., "Recurrent models of visual attention", 2014.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs import Quantity, Reference, TensorEnv

if TYPE_CHECKING:
    from palaestra.envs import Rng
    from palaestra.envs.rendering.canvas import Canvas


@dataclass(frozen=True)
class MyEnvState:
    """N boards; every field is a tensor whose first dimension is N."""

    ball: Tensor  # int64 [N] column, 0 … width − 1
    height: Tensor  # int64 [N] rows above the ground
    paddle: Tensor  # int64 [N] column


class MyEnv(TensorEnv[MyEnvState]):
    """Catch the falling ball; see the module for the rules."""

    frames_per_second: ClassVar[int] = 5
    picture_size: ClassVar[tuple[int, int]] = (480, 480)

    def __init__(self, width: int = 9) -> None:
        if width < 2:
            raise ValueError(f"width must be at least 2, got {width}")
        self.width = width
        self.observation_space = Box(-1.0, 1.0, (3,))
        self.action_space = Discrete(3)

    def reset(self, rng: Rng) -> MyEnvState:
        ball, paddle = rng.integers(0, self.width), rng.integers(0, self.width)
        return MyEnvState(ball, torch.full_like(ball, self.width - 1), paddle)

    def step(self, state: MyEnvState, action: Tensor, rng: Rng) -> tuple[MyEnvState, Tensor, Tensor]:
        paddle = (state.paddle + action - 1).clamp(0, self.width - 1)
        after = MyEnvState(state.ball, state.height - 1, paddle)
        landed = after.height == 0
        reward = torch.where(self.success(after), 1.0, -1.0) * landed
        return after, reward, landed

    def observe(self, state: MyEnvState) -> Tensor:
        last = self.width - 1
        return torch.stack((2 * state.ball / last - 1, 2 * state.paddle / last - 1, state.height / last), 1)

    def success(self, state: MyEnvState) -> Tensor:
        return state.paddle == state.ball

    def expert(self, state: MyEnvState) -> Tensor:
        return (state.ball - state.paddle).sign() + 1

    def stresses(self) -> dict[str, dict[str, int]]:
        """For ``palaestra evaluate --stress``: a board of another width looks the same to an agent."""
        return {"wider": {"width": self.width + 4}, "narrower": {"width": max(2, self.width - 4)}}

    def draw(self, state: MyEnvState, canvas: Canvas) -> None:
        cell = canvas.width / self.width
        ball, paddle = (int(state.ball) + 0.5) * cell, int(state.paddle) * cell
        ground = canvas.height - 0.35 * cell
        colour = "#4fa3e3" if not canvas.over else "#5fc96a" if state.ball == state.paddle else "#e5484d"
        canvas.fill("#0d141c")
        canvas.rectangle(0, ground, canvas.width, canvas.height - ground, "#1b2733")
        canvas.line([(ball, 0), (ball, ground)], "#ffffff10", 0.5 * cell)
        canvas.circle(ball, ground - (int(state.height) + 0.28) * cell, 0.28 * cell, "#f2b35e")
        canvas.rectangle(paddle + 0.05 * cell, ground, 0.9 * cell, 0.26 * cell, colour, radius=0.13 * cell)

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        half = (self.width - 1) / 2  # a number of −1 … 1 is column half + half · number
        columns = (Quantity(name, "column", scale=half, offset=half) for name in ("ball", "paddle"))
        return (*columns, Quantity("height", "row", scale=2 * half))

    @property
    def reference(self) -> Reference:
        return Reference(optimum=1.0, random=2 / self.width - 1, solved_at=0.98, source="exact; see the module")

    @property
    def keys_to_action(self) -> dict[str, int]:
        return {"left": 0, "down": 1, "right": 2}
