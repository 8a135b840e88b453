"""The base of the two reaching tasks: starts and targets, sensors, delayed commands, and the picture."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.control import inverse_kinematics
from palaestra.envs.arm.dynamics import dot, link_frames
from palaestra.envs.arm.tables import tables
from palaestra.envs.core import StateT, TensorEnv
from palaestra.envs.core.rng import Rng

if TYPE_CHECKING:
    from palaestra.envs.rendering.canvas import Canvas

Interval = tuple[float, float]
BoxShape = tuple[Interval, Interval, Interval]
TARGET_BOX: BoxShape = ((0.35, 0.65), (-0.2, 0.2), (0.15, 0.5))  # m, x, y and z in the axes of the world
TOLERANCE = 0.02  # m
NEARLY = 1e-4  # of a limit, below it, counts as at it
VELOCITY_NOISE = 10.0  # rad/s for each rad of noise in the angles


@dataclass(frozen=True)
class ArmState:
    q: Tensor  # float32 [N, dof] rad
    dq: Tensor  # float32 [N, dof] rad/s
    tool: Tensor  # float32 [N, 3] m, the tool centre at q
    target: Tensor  # float32 [N, 3] m
    steps: Tensor  # int64 [N] of this episode
    noise: Tensor  # float32 [N, 2 dof] rad and rad/s, of the sensors; [N, 0] without
    pending: Tensor  # float32 [N, delay, dof] commands on their way: rad/s, or actions


class ArmTask(TensorEnv[StateT]):
    """An arm that starts at rest in one configuration and has targets in a box."""

    picture_size: ClassVar[tuple[int, int]] = (640, 560)
    limits_needed: ClassVar[tuple[str, ...]]

    def __init__(self, chain: SerialChain, start: Any, targets: Any, sensor_noise: Any, action_delay: Any) -> None:
        """See the tasks.

        Raises:
            ValueError: if an argument is out of range, the chain lacks a limit that the task needs, or a corner of the
                box is out of reach.
        """
        for name in self.limits_needed:
            for i, limit in enumerate(getattr(chain, name)):
                if limit == float("inf"):
                    raise ValueError(f"{chain.name}: {chain.joint(i)} has no limit of {name}, which this task needs")
        self.chain = chain
        self.start = chain.check_configuration(start)
        self.targets = checked_box(chain, targets, self.start)
        if not isinstance(sensor_noise, int | float) or not 0.0 <= sensor_noise < float("inf"):
            raise ValueError(f"sensor_noise must be at least 0 rad, got {sensor_noise}")
        if not isinstance(action_delay, int) or action_delay < 0:
            raise ValueError(f"action_delay must be a whole number of steps, at least 0, got {action_delay}")
        self.sensor_noise, self.action_delay = float(sensor_noise), action_delay
        self.start_q = torch.tensor(self.start, dtype=torch.float32)  # [dof]
        self.start_tool = link_frames(chain, self.start_q.unsqueeze(1)).position[:, -1, 0]  # [3]
        self.target_low, self.target_high = torch.tensor(self.targets, dtype=torch.float32).unbind(1)  # [3]

    def at_rest(self, rng: Rng, target: Tensor) -> dict[str, Tensor]:
        """The fields of :class:`ArmState` when an episode starts; draws the errors of the sensors."""
        n, dof = rng.num_envs, self.chain.dof
        return {
            "q": self.start_q.expand(n, -1).clone(),
            "dq": torch.zeros(n, dof, device=self.device),
            "tool": self.start_tool.expand(n, -1).clone(),
            "target": target,
            "steps": torch.zeros(n, dtype=torch.int64, device=self.device),
            "noise": self.draw_noise(rng),
            "pending": torch.zeros(n, self.action_delay, dof, device=self.device),
        }

    def draw_noise(self, rng: Rng) -> Tensor:
        """Errors of the measured angles (rad) and velocities (rad/s), [N, 2 dof]; [N, 0] without."""
        if not self.sensor_noise:
            return torch.zeros(rng.num_envs, 0, device=rng.device)
        noise = rng.normal((2 * self.chain.dof,)) * self.sensor_noise
        noise[:, self.chain.dof :] *= VELOCITY_NOISE
        return noise

    def measured(self, q: Tensor, dq: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Sensor readings of the angles and velocities [dof, N], given the errors [2 dof, N]."""
        return q + noise[: self.chain.dof], dq + noise[self.chain.dof :]

    def stresses(self) -> dict[str, dict[str, Any]]:
        """Worse sensors, and commands that come later."""
        noise = {f"noise_{size}_mrad": {"sensor_noise": size / 1000} for size in (2, 10)}
        later = {"delay_1_step": {"action_delay": self.action_delay + 1}}
        return {**noise, **later, "delay_2_steps": {"action_delay": self.action_delay + 2}}

    def step_figures(self, earlier: Any, before: Any, action: Tensor, after: Any) -> dict[str, Tensor]:
        """Jerk of the turning joints at the rate of decisions (rad/s³), and the share of steps (%) at each limit.

        Jerk is the change of the mean acceleration from one step to the next, over the duration of a step; of an arm
        whose joints all slide it is in m/s³. A step is at a limit if one joint is.
        """
        table = tables(self.chain, after.dq.dtype, after.dq.device)
        turning = table.turning.flatten().to(after.dq.dtype)
        turning = torch.where(turning.sum() > 0, turning, torch.ones_like(turning))
        jerk = (after.dq - 2.0 * before.dq + earlier.dq) * self.frames_per_second**2  # [N, dof]
        fast = after.dq.abs() >= table.velocity.flatten() * (1.0 - NEARLY)
        limits = {"velocity": fast, **self.at_motor_limits(before, action, after)}
        shares = {f"at_{name}_limit_percent": 100.0 * joints.any(1) for name, joints in limits.items()}
        return {"rms_jerk": ((jerk.square() * turning).sum(1) / turning.sum()).sqrt(), **shares}

    def at_motor_limits(self, before: Any, action: Tensor, after: Any) -> dict[str, Tensor]:
        """The joints whose motor gives all it can in a step, bool [N, dof], by the name of the limit; none is known."""
        return {}

    def joint_observation(self, q: Tensor, dq: Tensor) -> Tensor:
        """Angles as ±1 between their limits and velocities as ±1 at theirs, [2 dof, N] from [dof, N]."""
        table = tables(self.chain, q.dtype, q.device)
        middle, half = (table.high + table.low) / 2, (table.high - table.low) / 2
        return torch.cat(((q - middle) / half, dq / table.velocity))

    def draw_task(self, state: Any, canvas: Canvas, period: float, reached: bool, **pose: Any) -> None:
        """The arm, its target and the way the tool came; ``pose`` is the orientation wanted, if any."""
        from palaestra.envs.arm.drawing.scene import draw_arm

        draw_arm(
            canvas,
            self.chain,
            np.asarray(state.q, np.float64),
            np.asarray(state.target, np.float64),
            box=self.targets,
            trail=np.array([past.tool for past in canvas.past], np.float64).reshape(-1, 3),
            seconds=float(state.steps) * period,
            reached=reached,
            tolerance=TOLERANCE,
            **pose,
        )


def checked_box(chain: SerialChain, box: Any, start: tuple[float, ...]) -> BoxShape:
    """The box of targets as three (low, high) pairs.

    Raises:
        ValueError: if it is not three intervals, or the tool cannot reach one of its corners.
    """
    try:
        array = np.asarray(box, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (3, 2) or not np.isfinite(array).all() or (array[:, 0] >= array[:, 1]).any():
        raise ValueError(f"targets must be three pairs (low, high) in m for x, y and z, got {box}")
    x, y, z = ((float(low), float(high)) for low, high in array)
    _check_corners(chain, (x, y, z), start)
    return x, y, z


@cache
def _check_corners(chain: SerialChain, box: BoxShape, start: tuple[float, ...]) -> None:
    """Once for each task: the search takes longer than all else that makes an environment.

    Raises:
        ValueError: if the tool cannot reach a corner.
    """
    inverse_kinematics(chain, torch.tensor(list(itertools.product(*box)), dtype=torch.float64), start)


def delayed(pending: Tensor, command: Tensor) -> tuple[Tensor, Tensor]:
    """The command that takes effect now [N, A], and those still on their way [N, delay, A]."""
    if pending.shape[1] == 0:
        return command, pending
    return pending[:, 0], torch.cat((pending[:, 1:], command.unsqueeze(1)), 1)


def error_observation(error: Tensor, near: float) -> Tensor:
    """An error [3, N] and its direction, whose length falls from 1 to 0 within about ``near``, [6, N]."""
    return torch.cat((error, error / (length(error) + near)))


def length(vector: Tensor) -> Tensor:
    """Euclidean length of [3, N], [N]."""
    return dot(vector, vector).sqrt_()


def gained(before: Tensor, after: Tensor, tolerance: float) -> Tensor:
    """By how much a distance has become smaller; within the tolerance all distances are alike."""
    return (before - tolerance).clamp_(min=0.0) - (after - tolerance).clamp_(min=0.0)
