"""Reach with dynamics: bring the tool of an arm to a pose, by joint torques through its full rigid-body dynamics.

Rules
    1. Fifty times a second the agent sets the motors. In between, 10 steps of 2 ms integrate M(q) q̈ + C(q, q̇) q̇ + g(q)
       = τ − friction(q̇), semi-implicitly (velocity first). Nothing compensates gravity: without torque the arm falls.
    2. Torque and speed are limited (the drives cannot exceed them), and a joint that meets its end stops there.
    3. An episode ends (terminated) when at the end of a step the tool centre is within 2 cm of the target and its
       orientation within 0.1 rad (5.7°); the arm need not stop there. It is truncated after 200 steps (4 s).
    4. Every episode starts at rest in the arm's start pose. The target's position is uniform in the box of
       ``palaestra/PandaReach-v0``; its orientation is "hand down" (of other arms than the Panda: as it is at the start)
       turned about the world's axes by a roll, then a pitch (±0.3 rad, 17°) and a yaw (±0.6 rad, 34°), all uniform.
    5. ``robot`` is another arm, as in ``palaestra/PandaReach-v0``. Arms of fewer than six joints cannot turn their tool
       as they like: there is no orientation then, in targets, observation and reward, nor where fewer than nine in ten
       of the extreme poses are within reach. ``orientation`` decides otherwise.

Actions (float32 [dof] in ±1)
    ``control="torque"``: times each joint's torque limit.
    ``control="pd"``: a target for each joint's angle, up to 0.2 rad from where it is (0.05 m if prismatic); a PD drive
    turns it into torque every 2 ms, within the same limits.

Observation (float32 [2 dof + 15], or [2 dof + 9] without orientation)
    Joint angles (±1 between the limits), velocities (±1 at the limits), tool centre (m); then for the position (m) and
    for the orientation (angle times axis, rad) the error, and its direction with a length that is 1 far away and falls
    to 0 within about 5 cm or 0.25 rad.

Reward
    10 per metre and 2 per radian by which the tool comes closer (up to the tolerance), − 0.04 per step, + 1 on arrival.

For checks of robustness, numbers that are drawn in each episode where a pair (low, high) is given: ``payload`` (kg at
the tool centre), ``friction`` (a factor of all that the arm has), ``damping`` (more of it: the share of a joint's
torque limit that it takes at the speed limit), ``gain`` (a factor on what the motors make of a command: the torque, or
with ``control="pd"`` the drive's stiffness and damping); ``sensor_noise``, ``action_delay``, ``joint_offset`` as in
``palaestra/PandaReach-v0``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.control import hand_down, mass_held, pose_errors, speed_towards, tool_rotation
from palaestra.envs.arm.drawn.motors import Motors
from palaestra.envs.arm.drawn.ranges import checked_range, drawn_in_order, number_or_range, plain
from palaestra.envs.arm.dynamics import link_frames, tool_frame, tool_jacobian
from palaestra.envs.arm.friction import has_friction
from palaestra.envs.arm.panda import PANDA, PANDA_READY
from palaestra.envs.arm.robots.scores import (
    MEASURED,
    best_known,
    measured_reference,
    random_and_expert,
    returns_within,
    task_digest,
)
from palaestra.envs.arm.robots.target_box import TURNS, has_orientations, turned
from palaestra.envs.arm.stepping import Motion, integrate
from palaestra.envs.arm.stepping.functions import integrate_functions
from palaestra.envs.arm.stepping.recorded_tool import tool_pose_of
from palaestra.envs.arm.stepping.step_errors import as_rows, gained, keep_errors, kept_errors, length
from palaestra.envs.arm.stepping.thread_use import with_enough_threads
from palaestra.envs.arm.tables import tables
from palaestra.envs.arm.task import NEAR, NEARLY, TARGET_BOX, TOLERANCE, ArmState, ArmTask
from palaestra.envs.core import Array, Quantity, Reference

if TYPE_CHECKING:
    from palaestra.envs.core.rng import Rng
    from palaestra.envs.rendering.canvas import Canvas

TIME_STEP, SUBSTEPS = 0.002, 10  # s
PERIOD = TIME_STEP * SUBSTEPS
ANGLE_TOLERANCE = 0.1  # rad
STEP_COST, PER_METRE, PER_RADIAN = 0.04, 10.0, 2.0
NEAR_ANGLE = 0.25  # rad
GAIN, RESPONSE = 8.0, 25.0  # 1/s, of the expert: speed per error, acceleration per speed
DAMPING, AT_ENDS = 0.05, 3  # damping for the normalised Jacobian, m; rounds in which joints at their ends are left out


@dataclass(frozen=True)
class ReachTorqueState(ArmState):
    tool_rotation: Tensor  # float32 [N, 3, 3], its axes as columns
    target_rotation: Tensor  # float32 [N, 3, 3], axes as columns
    payload: Tensor  # float32 [N] kg
    friction: Tensor  # float32 [N] factor


class ReachTorque(ArmTask[ReachTorqueState]):
    """Bring the tool to a pose by joint torques; see the module for the rules."""

    max_episode_steps = 200
    frames_per_second = round(1 / PERIOD)
    step_seconds = PERIOD
    limits_needed = ("velocity", "torque")
    poses = True
    time_step: ClassVar[float] = TIME_STEP
    physics_steps: ClassVar[int] = SUBSTEPS

    def __init__(
        self,
        robot: str | dict[str, Any] | SerialChain = "panda",
        control: Literal["torque", "pd"] = "torque",
        start: Any = None,
        targets: Any = None,
        payload: Any = (0.0, 0.0),
        friction: Any = (1.0, 1.0),
        sensor_noise: float | list[float] = 0.0,
        action_delay: int | list[int] = 0,
        gain: float | list[float] = 1.0,
        orientation: bool | None = None,
        damping: float | list[float] = 0.0,
        joint_offset: float = 0.0,
    ) -> None:
        if control not in ("torque", "pd"):
            raise ValueError(f'control must be "torque" or "pd", got {control!r}')
        self.gain = number_or_range("gain", gain, "a factor above 0", positive=True)
        self.damping = number_or_range("damping", damping, "at least 0")
        sensors = (sensor_noise, action_delay, joint_offset)
        super().__init__(robot, start, targets, *sensors, gain=self.gain, damping=self.damping)
        chain, self.control = self.chain, control
        self.payload = checked_range("payload", payload, " in kg")
        self.friction = checked_range("friction", friction, "")
        self.hand_down = chain == PANDA
        if orientation is None and self.robot.orientation is not None:
            found, of_task = self.robot.orientation
            orientation = found if of_task == task_digest(chain, self.start, self.targets) else None
        self.orientation = has_orientations(chain, self.targets, self.start, orientation)
        self.tolerances = (TOLERANCE, ANGLE_TOLERANCE)[: 1 + self.orientation]
        self.observation_space = Box(-float("inf"), float("inf"), (2 * chain.dof + (15 if self.orientation else 9),))
        self.action_space = Box(-1.0, 1.0, (chain.dof,))
        frames = link_frames(chain, self.start_q.unsqueeze(1))
        self.start_rotation = tool_rotation(frames)[..., 0]  # [3, 3]
        self.least_loads = torch.tensor([self.payload[0], self.friction[0]])
        kinds = [(TOLERANCE, PER_METRE, NEAR), (ANGLE_TOLERANCE, PER_RADIAN, NEAR_ANGLE)][: len(self.tolerances)]
        self.most, self.per_unit, self.near = torch.tensor(kinds).T.unsqueeze(-1).unbind()  # [1 or 2, 1] each
        if self.orientation:
            self.set_box(torch.tensor([*self.targets, *((-most, most) for most in TURNS)]))
        self.motors = Motors(chain, control, frames, PERIOD)

    def to(self, device: torch.device | str) -> ReachTorque:
        super().to(device)
        self.motors.to(device)
        return self

    def reset(self, rng: Rng) -> ReachTorqueState:
        n, units = rng.num_envs, rng.uniform(shape=(3,))
        goal = self.start_rotation.expand(n, -1, -1)
        if self.orientation:
            units = torch.cat((units, rng.uniform(shape=(3,))), 1)
        drawn = self.from_box(units)
        if self.orientation:
            turn = drawn[:, 3:].T
            goal = (hand_down(turn) if self.hand_down else turned(self.start_rotation, turn)).permute(2, 0, 1)
        payload, friction = drawn_in_order(rng, (self.payload, self.friction), self.least_loads, self.sees_badly)
        return ReachTorqueState(
            tool_rotation=self.start_rotation.expand(n, -1, -1),
            target_rotation=goal,
            payload=payload,
            friction=friction,
            **self.at_rest(rng, drawn[:, :3]),
        )

    @with_enough_threads
    def step(self, state: ReachTorqueState, action: Tensor, rng: Rng) -> tuple[ReachTorqueState, Tensor, Tensor]:
        action, pending = self.taking_effect(state, action.clamp(-1.0, 1.0))
        q, dq = self._integrate(state, action.T)
        rotation, tool = tool_pose_of(self.chain, q)
        after = replace(
            state,
            q=q.T,
            dq=dq.T,
            tool=tool.T,
            tool_rotation=rotation.permute(2, 0, 1),
            steps=state.steps + 1,
            noise=self.draw_noise(rng, state.drawn),
            pending=pending,
        )
        tools = torch.stack((tool, state.tool.T), 1)  # after and before, [3, 2, N]
        turns = torch.stack((rotation, state.tool_rotation.permute(1, 2, 0)), 2) if self.orientation else None
        errors = pose_errors(tools, turns, state.target, state.target_rotation)
        sizes = length(errors)  # [1 or 2, 2, N]
        reached = (sizes[:, 0] <= self.most).all(0)
        gains = gained(sizes.transpose(0, 1), self.most) * self.per_unit
        keep_errors(after, errors[:, :, 0], sizes[:, 0], reached)
        return after, sum(gains[1:], start=gains[0]) - STEP_COST + reached, reached

    @with_enough_threads
    def observe(self, state: ReachTorqueState) -> Tensor:
        q, dq, tool = state.q.T, state.dq.T, state.tool.T
        if self.sees_badly:
            q, dq = self.measured(q, dq, state.noise.T)
            frames = tool_frame(self.chain, q)
            tool, rotation = frames.position[:, -1], tool_rotation(frames) if self.orientation else None
            errors = pose_errors(tool, rotation, state.target, state.target_rotation)
            sizes = length(errors)
        else:
            errors, sizes = self._errors(state)
        directions = errors / (sizes + self.near)
        parts = [part for pair in zip(errors.unbind(1), directions.unbind(1), strict=True) for part in pair]
        return as_rows((*self.joint_observation(q, dq), tool, *parts))

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        if not self.orientation:
            return super().observation_names
        turn = "angle times axis of the turn from the tool to the target"
        short = f"to_turn over (its angle + {NEAR_ANGLE:g} rad)"
        turns = (Quantity(f"to_turn_{axis}", "rad", meaning=turn) for axis in "xyz")
        return (*super().observation_names, *turns, *(Quantity(f"turn_{axis}", meaning=short) for axis in "xyz"))

    @property
    def action_names(self) -> tuple[Quantity, ...]:
        rows = list(zip(self.joint_quantities(), self.chain.turning, strict=True))
        if self.control == "torque":
            units, word, scales = ("N", "N m"), "torque", list(self.chain.torque)
        else:
            units, word, scales = ("m", "rad"), "target_less_position", self.motors.pd_range.flatten().tolist()
        return tuple(
            Quantity(f"{word}_{name}", units[turns], scale, meaning=sign)
            for ((name, sign), turns), scale in zip(rows, scales, strict=True)
        )

    @with_enough_threads
    def success(self, state: ReachTorqueState) -> Tensor:
        if kept := kept_errors(state):
            return kept[2]
        return (self._errors(state)[1] <= self.most).all(0)

    def expert(self, state: ReachTorqueState) -> Tensor:
        """Damped least squares for the wanted joint velocity, inverse dynamics for the torque that brings it about."""
        chain, q, dq = self.chain, state.q.T.contiguous(), state.dq.T.contiguous()
        table, frames = tables(chain, q.dtype, q.device), link_frames(chain, q)
        error = self._errors(state)[0].transpose(0, 1).flatten(0, 1)  # [3 or 6, N]
        jacobian = tool_jacobian(chain, frames) * table.velocity  # in speed limits
        rounds = AT_ENDS if self.orientation else 0  # points leave the joints more choice
        share = speed_towards(chain, q, jacobian[: len(error)], error, damping=DAMPING, gain=GAIN, rounds=rounds)
        return self.motors.action_for(frames, dq, table.velocity * share, RESPONSE)

    def at_motor_limits(self, before: ReachTorqueState, action: Tensor, after: ReachTorqueState) -> dict[str, Tensor]:
        """Of ``control="pd"`` the drives' torque as the step begins."""
        taken, gain = self.taking_effect(before, action.clamp(-1.0, 1.0))[0], self.numbers.of(before.drawn, "gain")
        return {"torque": self.motors.shares(before.dq, taken, gain).abs() >= 1.0 - NEARLY}

    def draw(self, state: ReachTorqueState, canvas: Canvas) -> None:
        one = replace(state, **{name: torch.as_tensor(value)[None] for name, value in vars(state).items()})
        pose: dict[str, Any] = {}
        if self.orientation:
            pose = {"rotation": np.asarray(state.target_rotation, np.float64), "angle_tolerance": ANGLE_TOLERANCE}
        self.draw_task(state, canvas, PERIOD, bool(self.success(one)), **pose)

    def stresses(self) -> dict[str, dict[str, Any]]:
        """A load in the hand of at most half of what it holds still, other friction where there is some, weaker and
        stronger motors; worse sensors and later commands."""
        most, (low, high) = min(2.0, 0.5 * mass_held(self.chain, self.start)), self.friction
        loads = [float(f"{kg:.1g}") for kg in (0.5 * most, most) if kg > 0.001]
        heavy = {f"payload_{f'{kg:g}_kg' if kg >= 1 else f'{1000 * kg:g}_g'}": {"payload": [kg, kg]} for kg in loads}
        scales = {"minus_50": 0.5, "plus_100": 2.0} if has_friction(self.chain) else {}
        rough = {f"friction_{name}": {"friction": [scale * low, scale * high]} for name, scale in scales.items()}
        powers, (weak, strong) = {"minus_20": 0.8, "plus_20": 1.2}, self.gain
        gains = {f"gain_{name}": {"gain": plain((by * weak, by * strong))} for name, by in powers.items()}
        return {**heavy, **rough, **gains, **super().stresses()}

    def summary(self, returns: Array, lengths: Array, successes: Array | None) -> dict[str, float]:
        return {"mean_seconds": float(lengths.mean()) * PERIOD}

    @property
    def reference(self) -> Reference:
        if not self._is_usual:
            return Reference()
        if not self._is_standard:
            return measured_reference(self.robot.bound, self._digest, self.control)
        expert, random = (3.53, -13.6) if self.control == "torque" else (3.40, -11.2)
        return Reference(
            optimum=expert,
            random=random,
            solved_at=3.0,
            source="best known: the expert, damped least squares and inverse dynamics, which always arrives",
        )

    def reference_within(self, max_episode_steps: int) -> Reference:
        """Random actions and the expert are played anew where the limit is shorter; longer ones take long."""
        if not self._is_usual or max_episode_steps > ReachTorque.max_episode_steps:
            return Reference()
        task = {"robot": self.chain, "control": self.control, "start": self.start, "targets": self.targets}
        arguments = tuple({**task, "orientation": self.orientation}.items())
        return best_known(*returns_within(ReachTorque, arguments, max_episode_steps, MEASURED))

    @classmethod
    def self_contained(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """With the robot goes what was found of its reach, on which the observation depends, and of its returns."""
        plain = super().self_contained(arguments)
        if "robot" not in plain:
            return plain
        of_task = ("robot", "control", "start", "targets", "orientation")
        env, robot = cls(**{key: plain[key] for key in of_task if key in plain}), plain["robot"]
        if plain.get("orientation") is None:
            task = task_digest(env.chain, env.start, env.targets)
            robot = {**robot, "by_rule": {**robot["by_rule"], "orientation": [env.orientation, task]}}
        if not env._is_standard and env.reference == Reference():
            found = {"task": env._digest, "returns": {env.control: list(random_and_expert(env, MEASURED))}}
            robot = {**robot, "bound": found}
        return {**plain, "robot": robot}

    @property
    def _is_usual(self) -> bool:
        """True if nothing is drawn or late that figures of returns depend on."""
        numbers = (self.payload, self.friction, self.action_delay, self.gain, self.damping)
        return numbers == ((0, 0), (1, 1), (0, 0), (1, 1), (0, 0))

    @property
    def _is_standard(self) -> bool:
        """True if this is the Panda's own task, whose figures are known."""
        task = (self.chain, self.start, self.targets, self.orientation)
        return task == (PANDA, PANDA_READY, TARGET_BOX, True)

    @property
    def _digest(self) -> str:
        return task_digest(self.chain, self.start, self.targets, self.orientation)

    def _integrate(self, state: ReachTorqueState, action: Tensor) -> tuple[Tensor, Tensor]:
        """Angles and velocities [dof, N] after the steps of the dynamics; ``action`` [dof, N]."""
        learns = torch.is_grad_enabled() and any(value.requires_grad for value in (action, *vars(state).values()))
        steps = integrate_functions if learns else integrate
        return steps(self.chain, self._motion(state, action), TIME_STEP, SUBSTEPS)

    def _motion(self, state: ReachTorqueState, action: Tensor) -> Motion:
        """The arms' positions and what moves them; ``action`` [dof, N]."""
        gain, damping = (self.numbers.of(state.drawn, name) for name in ("gain", "damping"))
        payload = state.payload if self.payload[1] else None
        rub = None if self.friction == (1.0, 1.0) else state.friction
        return self.motors.motion(state.q.T, state.dq.T, action, rub, payload, gain, damping)

    def _errors(self, state: ReachTorqueState) -> tuple[Tensor, ...]:
        """The ways from the tool's pose to the target's, [3, 1 or 2, N] (m and rad), and their sizes [1 or 2, N]."""
        if kept := kept_errors(state):
            return kept[:2]
        rotation = state.tool_rotation.permute(1, 2, 0) if self.orientation else None
        errors = pose_errors(state.tool.T, rotation, state.target, state.target_rotation)
        return errors, length(errors)

    def errors(self, state: ReachTorqueState) -> tuple[Tensor, ...]:
        """The distance to the target (m) and, where it has an orientation, the angle (rad), each [N]."""
        return self._errors(state)[1].unbind()
