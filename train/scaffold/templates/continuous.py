"""MyEnv: push a puck over smooth ice to a mark, with limited force.

Rules
    1. Ten times a second a force of at most 1 N along each axis is set on a puck of 1 kg. There is no friction:
       velocity += force · dt, then position += velocity · dt.
    2. The reward of a step is minus the distance to the mark (m) times dt (s).
    3. Nothing terminates an episode; it is truncated after 50 steps (5 s). It is a success if the puck then is within
       5 cm of the mark and slower than 5 cm/s.
    4. Every episode starts at rest, with puck and mark drawn uniformly from a square of 2 m × 2 m.

Actions (float32 [2], −1 … 1)
    The force along x and y (N).

Observation (float32 [4])
    From the puck to the mark along x and y (m); velocity along x and y (m/s).

Reference
    The expert pushes at full force and brakes as late as it can, along each axis by itself. Its mean return, and that
    of uniform random actions, are measured: 1,000,000 episodes each, standard errors 0.0007 and 0.003.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from gymnasium.spaces import Box
from torch import Tensor

from palaestra.envs import Quantity, Reference, TensorEnv

if TYPE_CHECKING:
    from palaestra.envs import Rng
    from palaestra.envs.rendering.canvas import Canvas

TIME_STEP = 0.1  # s
PUSH = 1.0 * TIME_STEP  # m/s by which the largest force changes the velocity in one step
NEAR, SLOW = 0.05, 0.05  # m and m/s


@dataclass(frozen=True)
class MyEnvState:
    """N pucks."""

    position: Tensor  # float32 [N, 2] m
    velocity: Tensor  # float32 [N, 2] m/s
    mark: Tensor  # float32 [N, 2] m


class MyEnv(TensorEnv[MyEnvState]):
    """Push a puck to a mark; see the module for the rules."""

    max_episode_steps = 50
    step_seconds: ClassVar[float] = TIME_STEP
    frames_per_second: ClassVar[int] = round(1 / TIME_STEP)
    picture_size: ClassVar[tuple[int, int]] = (520, 520)

    def __init__(self) -> None:
        self.observation_space = Box(-float("inf"), float("inf"), (4,))
        self.action_space = Box(-1.0, 1.0, (2,))

    def reset(self, rng: Rng) -> MyEnvState:
        position, mark = rng.uniform(-1.0, 1.0, (2,)), rng.uniform(-1.0, 1.0, (2,))
        return MyEnvState(position, torch.zeros_like(position), mark)

    def step(self, state: MyEnvState, action: Tensor, rng: Rng) -> tuple[MyEnvState, Tensor, Tensor]:
        velocity = state.velocity + PUSH * action.clamp(-1.0, 1.0)
        after = MyEnvState(state.position + TIME_STEP * velocity, velocity, state.mark)
        reward = -TIME_STEP * _length(after.mark - after.position)
        return after, reward, torch.zeros_like(reward, dtype=torch.bool)

    def observe(self, state: MyEnvState) -> Tensor:
        return torch.cat((state.mark - state.position, state.velocity), 1)

    def success(self, state: MyEnvState) -> Tensor:
        return (_length(state.mark - state.position) < NEAR) & (_length(state.velocity) < SLOW)

    def expert(self, state: MyEnvState) -> Tensor:
        """Along each axis, the force for the greatest speed from which full braking still stops at the mark."""
        gap = (state.mark - state.position) / (PUSH * TIME_STEP)
        # braking from n pushes takes n (n + 1) / 2 gaps; below one push, one step covers the gap
        pushes = torch.minimum(gap.abs(), ((1.0 + 8.0 * gap.abs()).sqrt() - 1.0) / 2.0)
        return (pushes * gap.sign() - state.velocity / PUSH).clamp(-1.0, 1.0)

    def draw(self, state: MyEnvState, canvas: Canvas) -> None:
        middle, scale = canvas.width / 2, canvas.width / 3.0  # 3 m across

        def at(point: Tensor) -> tuple[float, float]:
            return middle + float(point[0]) * scale, middle - float(point[1]) * scale

        puck, mark = at(state.position), at(state.mark)
        ahead = at(state.position + 0.5 * state.velocity)
        arrived = bool(abs(state.mark - state.position).max() < NEAR)
        canvas.fill("#0f1923")
        canvas.rectangle(middle - scale, middle - scale, 2 * scale, 2 * scale, "#16232f", radius=12)
        canvas.circle(*mark, 22, "#5fc96a", line=3)
        canvas.circle(*mark, NEAR * scale, "#5fc96a60")
        canvas.line([*(at(past.position) for past in canvas.past), puck], "#4fa3e370", 4)
        canvas.line([puck, ahead], "#f2b35e", 4)
        canvas.circle(*puck, 14, "#5fc96a" if arrived else "#4fa3e3")

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        way = (Quantity(f"to_mark_{axis}", "m", meaning="mark less puck") for axis in "xy")
        return (*way, *(Quantity(f"velocity_{axis}", "m/s") for axis in "xy"))

    @property
    def action_names(self) -> tuple[Quantity, ...]:
        return Quantity("force_x", "N"), Quantity("force_y", "N")

    @property
    def reference(self) -> Reference:
        return Reference(optimum=-0.960, random=-6.348, solved_at=-1.1, source="best known: the expert, measured")


def _length(vectors: Tensor) -> Tensor:
    """[N] from [N, 2]."""
    return vectors.square().sum(1).sqrt()
