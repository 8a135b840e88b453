"""The base of the two reaching tasks: starts and targets, sensors, delayed commands, and the picture."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.control import inverse_kinematics
from palaestra.envs.arm.drawn.ranges import Drawn, LowHigh, number_or_range, plain
from palaestra.envs.arm.dynamics import forward_kinematics, link_frames
from palaestra.envs.arm.panda import PANDA_TARGETS
from palaestra.envs.arm.robots import robot_data, task_robot
from palaestra.envs.arm.robots.target_box import BoxShape, within_reach
from palaestra.envs.arm.stepping.step_errors import length
from palaestra.envs.arm.tables import scales, tables
from palaestra.envs.core import Array, Quantity, StateT, TensorEnv
from palaestra.envs.core.reference import is_finite_number
from palaestra.envs.core.rng import Rng

if TYPE_CHECKING:
    from palaestra.envs.core.reference import ReportFigure
    from palaestra.envs.rendering.canvas import Canvas

TARGET_BOX: BoxShape = PANDA_TARGETS
TOLERANCE = 0.02  # m
NEAR = 0.05  # m, distance at which the direction to the target is half as long
NEARLY = 1e-4  # of a limit, below it, counts as at it
VELOCITY_NOISE = 10.0  # rad/s for each rad of noise in the angles


@dataclass(frozen=True)
class ArmState:
    q: Tensor  # float32 [N, dof] rad
    dq: Tensor  # float32 [N, dof] rad/s
    tool: Tensor  # float32 [N, 3] m, the tool centre at q
    target: Tensor  # float32 [N, 3] m
    steps: Tensor  # int64 [N] of this episode
    noise: Tensor  # float32 [N, 2 dof] rad and rad/s, errors of the sensors; [N, 0] without
    pending: Tensor  # float32 [N, longest delay, dof] commands on their way: rad/s, or actions
    drawn: Tensor  # float32 [N, columns] this episode's numbers of sensors and motors; [N, 0] where none are drawn


class ArmTask(TensorEnv[StateT]):
    """An arm that starts at rest in one configuration and has targets in a box."""

    picture_size: ClassVar[tuple[int, int]] = (640, 560)
    limits_needed: ClassVar[tuple[str, ...]]
    tolerances: tuple[float, ...] = (TOLERANCE,)  # of each of :meth:`errors`
    poses: ClassVar[bool] = False  # True if targets may have an orientation

    def __init__(
        self,
        robot: Any,
        start: Any,
        targets: Any,
        sensor_noise: Any,
        action_delay: Any,
        joint_offset: Any,
        **motors: LowHigh,
    ) -> None:
        """See the tasks. A start or targets of None are the robot's own; ``motors`` are further ranges to draw from.

        Raises:
            ValueError: if an argument is out of range, the chain lacks a limit that the task needs, or a corner of the
                box is out of reach.
        """
        self.robot = task_robot(robot)
        chain = self.robot.chain
        for name in self.limits_needed:
            for i, limit in enumerate(getattr(chain, name)):
                if limit == float("inf"):
                    raise ValueError(f"{chain.name}: {chain.joint(i)} has no limit of {name}, which this task needs")
        self.chain = chain
        start, targets = self.robot.placed(start, targets, poses=self.poses)
        self.start = chain.check_configuration(start)
        self.targets = checked_box(chain, targets, self.start)
        self.sensor_noise = number_or_range("sensor_noise", sensor_noise, "at least 0 rad")
        delay = number_or_range("action_delay", action_delay, "a whole number of steps, at least 0", whole=True)
        if not is_finite_number(joint_offset) or joint_offset < 0.0:
            raise ValueError(f"joint_offset must be at least 0 rad, got {joint_offset}")
        self.action_delay, offset = delay, float(joint_offset)
        ranges = {"sensor_noise": self.sensor_noise, "action_delay": delay, "joint_offset": (-offset, offset), **motors}
        self.numbers = Drawn(ranges, {"joint_offset": chain.dof}, ("action_delay",))
        self.start_q = torch.tensor(self.start, dtype=torch.float32)  # [dof]
        self.start_tool = link_frames(chain, self.start_q.unsqueeze(1)).position[:, -1, 0]  # [3]
        self.set_box(torch.tensor(self.targets, dtype=torch.float32))
        self.no_motion = torch.zeros(1, chain.dof)
        self.no_steps = torch.zeros(1, dtype=torch.int64)
        self.no_commands = torch.zeros(1, delay[1], chain.dof)
        self.nothing = torch.zeros(1, 0)

    def set_box(self, box: Tensor) -> None:
        """Where :meth:`from_box` draws from: float32 [k, 2], the ends of each coordinate."""
        self.box_low, high = box.unbind(1)
        self.box_span, self.box_most = high - self.box_low, torch.nextafter(high, self.box_low)

    def from_box(self, units: Tensor) -> Tensor:
        """Numbers [N, k] from the box for some from [0, 1): the same as ``rng.uniform`` of its ends."""
        return torch.minimum(units * self.box_span + self.box_low, self.box_most)

    @classmethod
    def self_contained(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """The robot as plain data, so that a run needs neither its file nor the folder it was started in."""
        if "robot" not in arguments:
            return arguments
        return {**arguments, "robot": robot_data(arguments["robot"], poses=cls.poses)}

    @property
    def remarks(self) -> tuple[str, ...]:
        return self.robot.remarks()

    def at_rest(self, rng: Rng, target: Tensor) -> dict[str, Tensor]:
        """The fields of :class:`ArmState` when an episode starts; draws the errors of the sensors."""
        n = rng.num_envs
        drawn = self.numbers.draw(rng) if self.numbers.any_drawn else self.nothing.expand(n, -1)
        return {
            "q": self.start_q.expand(n, -1),
            "dq": self.no_motion.expand(n, -1),
            "tool": self.start_tool.expand(n, -1),
            "target": target,
            "steps": self.no_steps.expand(n),
            "noise": self.draw_noise(rng, drawn),
            "pending": self.no_commands.expand(n, -1, -1),
            "drawn": drawn,
        }

    def draw_noise(self, rng: Rng, drawn: Tensor) -> Tensor:
        """Errors of the measured angles (rad) and velocities (rad/s), [N, 2 dof]; [N, 0] without.

        Offsets of the joints are among them, the same in all steps of an episode.
        """
        if not self.sees_badly:
            return self.nothing.expand(rng.num_envs, -1)
        size = self.numbers.of(drawn, "sensor_noise")
        noise = rng.normal((2 * self.chain.dof,)) * (size.unsqueeze(1) if isinstance(size, Tensor) else size)
        noise[:, self.chain.dof :] *= VELOCITY_NOISE
        if self.numbers.ranges["joint_offset"][1]:
            noise[:, : self.chain.dof] += self.numbers.of(drawn, "joint_offset")
        return noise

    @property
    def sees_badly(self) -> bool:
        """True if the sensors have errors."""
        return self.sensor_noise[1] > 0.0 or self.numbers.ranges["joint_offset"][1] > 0.0

    def taking_effect(self, state: Any, command: Tensor) -> tuple[Tensor, Tensor]:
        """The command that takes effect now [N, A], and those still on their way [N, longest delay, A]."""
        delay = self.numbers.of(state.drawn, "action_delay")
        return delayed(state.pending, command, delay.long() if isinstance(delay, Tensor) else None)

    def measured(self, q: Tensor, dq: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Sensor readings of the angles and velocities [dof, N], given the errors [2 dof, N]."""
        return q + noise[: self.chain.dof], dq + noise[self.chain.dof :]

    def stresses(self) -> dict[str, dict[str, Any]]:
        """Worse sensors, and commands that come later."""
        noise = {f"noise_{size}_mrad": {"sensor_noise": size / 1000} for size in (2, 10)}
        low, high = self.action_delay
        later = {
            name: plain((low + more, high + more)) for more, name in enumerate(("delay_1_step", "delay_2_steps"), 1)
        }
        return {**noise, **{name: {"action_delay": delay} for name, delay in later.items()}}

    def step_figures(self, earlier: Any, before: Any, action: Tensor, after: Any) -> dict[str, Tensor]:
        """Jerk of the turning joints at the rate of decisions (rad/s³), and the share of steps (%) at each limit.

        Jerk is the change of the mean acceleration from one step to the next, over the duration of a step; of an arm
        whose joints all slide it is in m/s³. A step is at a limit if one joint is.
        """
        limits = self.at_limits(before, action, after)
        shares = {f"at_{name}_limit_percent": 100.0 * joints.any(1) for name, joints in limits.items()}
        return {"rms_jerk": self.rms_jerk(earlier, before, after), **shares}

    def rms_jerk(self, earlier: Any, before: Any, after: Any) -> Tensor:
        """Root mean square over the turning joints, float [N] rad/s³; see :meth:`step_figures`."""
        table = tables(self.chain, after.dq.dtype, after.dq.device)
        turning = table.turning.flatten().to(after.dq.dtype)
        turning = torch.where(turning.sum() > 0, turning, torch.ones_like(turning))
        jerk: Tensor = (after.dq - 2.0 * before.dq + earlier.dq) * self.frames_per_second**2  # [N, dof]
        return ((jerk.square() * turning).sum(1) / turning.sum()).sqrt()

    def at_limits(self, before: Any, action: Tensor, after: Any) -> dict[str, Tensor]:
        """The joints that are at a limit in a step, bool [N, dof], by the name of the limit."""
        velocity = tables(self.chain, after.dq.dtype, after.dq.device).velocity.flatten()
        fast = after.dq.abs() >= velocity * (1.0 - NEARLY)
        return {"velocity": fast, **self.at_motor_limits(before, action, after)}

    def at_motor_limits(self, before: Any, action: Tensor, after: Any) -> dict[str, Tensor]:
        """The joints whose motor gives all it can in a step, bool [N, dof], by the name of the limit; none is known."""
        return {}

    def errors(self, state: Any) -> tuple[Tensor, ...]:
        """The distance from tool to target (m), and what else has to become small, each [N]."""
        return (length((state.target - state.tool).T),)

    def bounds(self, targets: int) -> Array | None:
        """For the first of so many held-out targets the least time that any control needs, float64 s; None where it is
        not known."""
        return None

    def report_figures(
        self, returns: Array, lengths: Array, successes: Array | None, act: Callable[[StateT], Tensor] | None
    ) -> list[ReportFigure]:
        """Times, ways to the target, where targets were missed, and limits."""
        from palaestra.envs.arm.figures.arm_figures import arm_figures

        known = successes is not None and self.max_episode_steps is not None
        return arm_figures(self, lengths, successes, act) if known and successes is not None else []

    def joint_observation(self, q: Tensor, dq: Tensor) -> tuple[Tensor, Tensor]:
        """Angles as ±1 between their limits and velocities as ±1 at theirs, [dof, N] each."""
        table, scale = tables(self.chain, q.dtype, q.device), scales(self.chain, q.dtype, q.device)
        return (q - scale.middle) / scale.half, dq / table.velocity

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        """Joints, tool and the way to the target, in the axes of the world; see the tasks."""
        chain, ends = self.chain, zip(*self.chain.span, strict=True)
        units, joints = [chain.unit(i) for i in range(chain.dof)], self.joint_quantities()
        spans = [(low, high, *joint) for (low, high), joint in zip(ends, joints, strict=True)]
        named = [
            Quantity(f"position_{name}", unit, (high - low) / 2, (high + low) / 2, sign)
            for (low, high, name, sign), unit in zip(spans, units, strict=True)
        ]
        named += [
            Quantity(f"velocity_{name}", f"{unit}/s", limit, meaning=sign)
            for (name, sign), unit, limit in zip(joints, units, chain.velocity, strict=True)
        ]
        named += [Quantity(f"tool_{axis}", "m") for axis in "xyz"]
        named += [Quantity(f"to_target_{axis}", "m", meaning="target less tool") for axis in "xyz"]
        short = f"to_target over (its length + {NEAR:g} m)"
        return (*named, *(Quantity(f"direction_{axis}", meaning=short) for axis in "xyz"))

    def joint_quantities(self) -> list[tuple[str, str]]:
        """A word for each joint in names of quantities, and which way is positive in the axes of the world."""
        words: list[str] = []
        for i, name in enumerate(self.chain.joint_names):
            word = "".join(letter if f"_{letter}".isidentifier() else "_" for letter in name)
            while word in words:  # by itself or with a number, which another joint's name may end in
                word = f"{word}_{i + 1}"
            words.append(word)
        pose = forward_kinematics(self.chain, torch.zeros(1, self.chain.dof, dtype=torch.float64))
        axes = [turn @ np.array(axis) for turn, axis in zip(pose.rotation[0].numpy(), self.chain.axes, strict=False)]
        told = (", ".join(f"{round(part, 3) + 0.0:g}" for part in axis.tolist()) for axis in axes)
        signs = ("positive along ({}), all joints at 0", "right-hand rule about ({}), all joints at 0")
        return [
            (word, signs[turns].format(axis)) for word, turns, axis in zip(words, self.chain.turning, told, strict=True)
        ]

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
    if array.shape != (3, 2) or not np.isfinite(array).all() or (array[:, 0] > array[:, 1]).any():
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
    corners = torch.tensor(list(itertools.product(*box)), dtype=torch.float64)
    if not within_reach(chain, corners.T, start):
        inverse_kinematics(chain, corners, start)  # looks longer, and says which one


def delayed(pending: Tensor, command: Tensor, delay: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The command that takes effect now [N, A], and those still on their way [N, longest delay, A].

    ``delay`` are steps from a command to its effect, int64 [N]; the longest everywhere if left out.
    """
    if pending.shape[1] == 0:
        return command, pending
    later = torch.cat((pending[:, 1:], command.unsqueeze(1)), 1)  # the oldest first
    if delay is None:
        return pending[:, 0], later
    place = (pending.shape[1] - delay).view(-1, 1, 1).expand(-1, 1, command.shape[1])
    return torch.cat((pending[:, :1], later), 1).gather(1, place).squeeze(1), later
