"""Reach with dynamics: bring the tool of a Panda to a pose, by joint torques through its full rigid-body dynamics.

Rules
    1. Fifty times a second the agent sets the motors. In between, 10 steps of 2 ms integrate M(q) q̈ + C(q, q̇) q̇ + g(q)
       = τ − friction(q̇), semi-implicitly (velocity first). Nothing compensates gravity: without torque the arm falls.
    2. Torque and speed are limited (the drives cannot exceed them), and a joint that meets its end stops there.
    3. An episode ends (terminated) when at the end of a step the tool centre is within 2 cm of the target and its
       orientation within 0.1 rad (5.7°); the arm need not stop there. It is truncated after 200 steps (4 s).
    4. Every episode starts at rest in the arm's ready pose. The target's position is uniform in the box of
       ``palaestra/PandaReach-v0``; its orientation is "hand down" turned about the base's axes by a roll, then a pitch
       (±0.3 rad, 17°) and a yaw (±0.6 rad, 34°), all uniform.

Actions (float32 [dof] in ±1)
    ``control="torque"``: times each joint's torque limit.
    ``control="pd"``: a target for each joint's angle, up to 0.2 rad from where it is (0.05 m if prismatic); a PD drive
    turns it into torque every 2 ms, within the same limits.

Observation (float32 [2 dof + 15])
    Joint angles (±1 between the limits), velocities (±1 at the limits), tool centre (m); then for the position (m) and
    for the orientation (angle times axis, rad) the error, and its direction with a length that is 1 far away and falls
    to 0 within about 5 cm or 0.25 rad.

Reward
    10 per metre and 2 per radian by which the tool comes closer (up to the tolerance), − 0.04 per step, + 1 on arrival.

For checks of robustness: ``payload`` (kg at the tool centre) and ``friction`` (a factor) are ranges to draw from in
each episode, ``sensor_noise`` is the standard deviation of the measured angles (rad; ten times as much in rad/s for
velocities), ``action_delay`` the number of steps from a command to its effect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.control import damped_least_squares, rotation_error
from palaestra.envs.arm.dynamics import (
    Frames,
    bodies,
    joint_torque,
    link_frames,
    screws,
    solve_positive,
    tool_frame,
    tool_jacobian,
    upper_mass_matrix,
    with_diagonal,
)
from palaestra.envs.arm.friction import drag_slope, friction, has_drag
from palaestra.envs.arm.panda import PANDA, PANDA_READY
from palaestra.envs.arm.stepping import Drives, Motion, integrate
from palaestra.envs.arm.stepping.recorded_tool import tool_frame_of
from palaestra.envs.arm.stepping.thread_use import with_enough_threads
from palaestra.envs.arm.tables import tables
from palaestra.envs.arm.task import TARGET_BOX, TOLERANCE, ArmState, ArmTask, delayed, error_observation, gained, length
from palaestra.envs.core import Array, Reference

if TYPE_CHECKING:
    from palaestra.envs.core.rng import Rng
    from palaestra.envs.rendering.canvas import Canvas

TIME_STEP, SUBSTEPS = 0.002, 10  # s
PERIOD = TIME_STEP * SUBSTEPS
ANGLE_TOLERANCE = 0.1  # rad
TURNS = (0.3, 0.3, 0.6)  # rad, largest roll, pitch and yaw of a target
STEP_COST, PER_METRE, PER_RADIAN = 0.04, 10.0, 2.0
NEAR, NEAR_ANGLE = 0.05, 0.25  # m, rad
PD_RANGE, PD_RANGE_METRES = 0.2, 0.05  # rad, and m for prismatic joints
GAIN, RESPONSE = 8.0, 25.0  # 1/s, of the expert: speed per error, acceleration per speed
DAMPING = 0.05  # damping for the normalised Jacobian, m


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
    limits_needed = ("velocity", "torque")
    time_step: ClassVar[float] = TIME_STEP
    physics_steps: ClassVar[int] = SUBSTEPS

    def __init__(
        self,
        chain: SerialChain = PANDA,
        control: Literal["torque", "pd"] = "torque",
        start: Any = PANDA_READY,
        targets: Any = TARGET_BOX,
        payload: Any = (0.0, 0.0),
        friction: Any = (1.0, 1.0),
        sensor_noise: float = 0.0,
        action_delay: int = 0,
    ) -> None:
        if control not in ("torque", "pd"):
            raise ValueError(f'control must be "torque" or "pd", got {control!r}')
        super().__init__(chain, start, targets, sensor_noise, action_delay)
        self.control = control
        self.payload = _checked_range("payload", payload, " in kg")
        self.friction = _checked_range("friction", friction, "")
        self.observation_space = Box(-float("inf"), float("inf"), (2 * chain.dof + 15,))
        self.action_space = Box(-1.0, 1.0, (chain.dof,))
        frames = link_frames(chain, self.start_q.unsqueeze(1))
        self.start_rotation = _tool_rotation(frames)[..., 0]  # [3, 3]
        self.turns = torch.tensor(TURNS)
        table = tables(chain, torch.float32, self.start_q.device)
        inertia = upper_mass_matrix(chain, screws(chain, frames), bodies(chain, frames)).diagonal().T  # [dof, 1]
        self.pd_range = PD_RANGE_METRES + (PD_RANGE - PD_RANGE_METRES) * table.turning  # [dof, 1] rad
        self.stiffness = table.torque / self.pd_range  # [dof, 1] N m/rad
        self.damping = 2.0 * (self.stiffness * inertia).sqrt()  # [dof, 1] N m s/rad, critical at the start

    def reset(self, rng: Rng) -> ReachTorqueState:
        target = rng.uniform(self.target_low, self.target_high, (3,))
        turn = rng.uniform(-self.turns, self.turns, (3,))
        return ReachTorqueState(
            tool_rotation=self.start_rotation.expand(rng.num_envs, -1, -1).clone(),
            target_rotation=_hand_down(turn.T).permute(2, 0, 1).contiguous(),
            payload=rng.uniform(*self.payload),
            friction=rng.uniform(*self.friction),
            **self.at_rest(rng, target),
        )

    @with_enough_threads
    def step(self, state: ReachTorqueState, action: Tensor, rng: Rng) -> tuple[ReachTorqueState, Tensor, Tensor]:
        action, pending = delayed(state.pending, action.clamp(-1.0, 1.0))
        q, dq = self._integrate(state, action.T.contiguous())
        frames = tool_frame_of(self.chain, q)
        after = replace(
            state,
            q=q.T.contiguous(),
            dq=dq.T.contiguous(),
            tool=frames.position[:, -1].T.contiguous(),
            tool_rotation=_tool_rotation(frames).permute(2, 0, 1).contiguous(),
            steps=state.steps + 1,
            noise=self.draw_noise(rng),
            pending=pending,
        )
        (distance, angle), (old_distance, old_angle) = self._errors(after), self._errors(state)
        reached = (distance <= TOLERANCE) & (angle <= ANGLE_TOLERANCE)
        metres = gained(old_distance, distance, TOLERANCE)
        radians = gained(old_angle, angle, ANGLE_TOLERANCE)
        return after, PER_METRE * metres + PER_RADIAN * radians - STEP_COST + reached, reached

    @with_enough_threads
    def observe(self, state: ReachTorqueState) -> Tensor:
        q, dq, tool, rotation = state.q.T, state.dq.T, state.tool.T, state.tool_rotation.permute(1, 2, 0)
        if self.sensor_noise:
            q, dq = self.measured(q, dq, state.noise.T)
            frames = tool_frame(self.chain, q)
            tool, rotation = frames.position[:, -1], _tool_rotation(frames)
        position = error_observation(state.target.T - tool, NEAR)
        turn = error_observation(rotation_error(rotation, state.target_rotation.permute(1, 2, 0)), NEAR_ANGLE)
        return torch.cat((self.joint_observation(q, dq), tool, position, turn)).T.contiguous()

    @with_enough_threads
    def success(self, state: ReachTorqueState) -> Tensor:
        distance, angle = self._errors(state)
        return (distance <= TOLERANCE) & (angle <= ANGLE_TOLERANCE)

    def expert(self, state: ReachTorqueState) -> Tensor:
        """Damped least squares for the wanted joint velocity, inverse dynamics for the torque that brings it about."""
        chain, q, dq = self.chain, state.q.T.contiguous(), state.dq.T.contiguous()
        table, frames = tables(chain, q.dtype, q.device), link_frames(chain, q)
        turn = rotation_error(state.tool_rotation.permute(1, 2, 0), state.target_rotation.permute(1, 2, 0))
        error = torch.cat((state.target.T - state.tool.T, turn))
        change = damped_least_squares(tool_jacobian(chain, frames) * table.velocity, error, DAMPING)  # in speed limits
        share = (GAIN * change).abs().amax(0).clamp(min=1.0)
        wanted = table.velocity * (GAIN * change / share)
        axes, body = screws(chain, frames), bodies(chain, frames)
        if self.control == "torque":
            torque = joint_torque(chain, axes, body, dq, RESPONSE * (wanted - dq)) + friction(chain, wanted)
            return (torque / table.torque).clamp(-1.0, 1.0).T.contiguous()
        # the drive's damping settles at the speed for which its spring carries weight, friction and damping
        load = joint_torque(chain, axes, body, wanted) + friction(chain, wanted) + self.damping * wanted
        offset = load / self.stiffness + 0.5 * PERIOD * wanted  # half of the way in this step
        return (offset / self.pd_range).clamp(-1.0, 1.0).T.contiguous()

    def draw(self, state: ReachTorqueState, canvas: Canvas) -> None:
        one = replace(state, **{name: torch.as_tensor(value)[None] for name, value in vars(state).items()})
        rotation = np.asarray(state.target_rotation, np.float64)
        reached = bool(self.success(one))
        self.draw_task(state, canvas, PERIOD, reached, rotation=rotation, angle_tolerance=ANGLE_TOLERANCE)

    def summary(self, returns: Array, lengths: Array, successes: Array | None) -> dict[str, float]:
        return {"mean_seconds": float(lengths.mean()) * PERIOD}

    @property
    def reference(self) -> Reference:
        standard = (PANDA, PANDA_READY, TARGET_BOX, (0.0, 0.0), (1.0, 1.0), 0)
        if (self.chain, self.start, self.targets, self.payload, self.friction, self.action_delay) != standard:
            return Reference()
        expert, random = (3.53, -13.6) if self.control == "torque" else (3.40, -11.2)
        return Reference(
            optimum=expert,
            random=random,
            solved_at=3.0,
            source="best known: the expert, damped least squares and inverse dynamics, which always arrives",
        )

    def _integrate(self, state: ReachTorqueState, action: Tensor) -> tuple[Tensor, Tensor]:
        """Angles and velocities [dof, N] after the steps of the dynamics; ``action`` [dof, N]."""
        if torch.is_grad_enabled() and any(value.requires_grad for value in (action, *vars(state).values())):
            return self._integrate_functions(state, action)
        q = state.q.T
        motion = Motion(q, state.dq.T, action * tables(self.chain, q.dtype, q.device).torque, state.friction)
        if self.control == "pd":
            drives = Drives(self.stiffness, self.damping)
            motion = motion._replace(command=q + action * self.pd_range, drives=drives)
        if self.payload[1]:
            motion = motion._replace(payload=state.payload)
        return integrate(self.chain, motion, TIME_STEP, SUBSTEPS)

    def _integrate_functions(self, state: ReachTorqueState, action: Tensor) -> tuple[Tensor, Tensor]:
        """The same, to the bit, from functions that have a derivative."""
        chain, q, dq = self.chain, state.q.T.contiguous(), state.dq.T.contiguous()
        table = tables(chain, q.dtype, q.device)
        payload = state.payload if self.payload[1] else None
        torque, goal = action * table.torque, q + action * self.pd_range
        for _ in range(SUBSTEPS):
            frames = link_frames(chain, q)
            axes, body = screws(chain, frames), bodies(chain, frames, payload)
            matrix = upper_mass_matrix(chain, axes, body)
            load = joint_torque(chain, axes, body, dq) + friction(chain, dq) * state.friction
            if has_drag(chain):  # by an implicit step: damping may be large beside what little inertia a joint feels
                matrix = with_diagonal(matrix, TIME_STEP * drag_slope(chain, dq) * state.friction)
            if self.control == "pd":
                torque = self._drive(matrix, load, goal - q, dq)
            dq = dq + TIME_STEP * solve_positive(matrix, torque - load)
            dq = torch.minimum(torch.maximum(dq, -table.velocity), table.velocity)
            free = q + TIME_STEP * dq
            q = torch.minimum(torch.maximum(free, table.q_min), table.q_max)
            dq = torch.where(q == free, dq, 0.0)  # a joint that met its end stands still
        return q, dq

    def _drive(self, matrix: Tensor, load: Tensor, offset: Tensor, dq: Tensor) -> Tensor:
        """The torque [dof, N] of the proportional-derivative drives during the next time step.

        Damping by the speed at the end of the step (found by an implicit step) stays stable where an arm's stretched or
        folded pose leaves a joint with hardly any inertia.
        """
        limit = tables(self.chain, dq.dtype, dq.device).torque
        spring = self.stiffness * offset
        damped = matrix + TIME_STEP * self.damping.flatten().diag().unsqueeze(-1)
        dq = dq + TIME_STEP * solve_positive(damped, spring - self.damping * dq - load)
        return torch.minimum(torch.maximum(spring - self.damping * dq, -limit), limit)

    def _errors(self, state: ReachTorqueState) -> tuple[Tensor, Tensor]:
        """Distance (m) and angle (rad) to the target pose, each [N]."""
        turn = rotation_error(state.tool_rotation.permute(1, 2, 0), state.target_rotation.permute(1, 2, 0))
        return length((state.target - state.tool).T), length(turn)


def _checked_range(name: str, values: Any, unit: str) -> tuple[float, float]:
    """A range (low, high) of numbers from 0, equal if nothing is to be drawn.

    Raises:
        ValueError: if it is something else.
    """
    try:
        low, high = (float(value) for value in values)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a pair (low, high){unit}, got {values!r}") from None
    if not 0.0 <= low <= high < float("inf"):
        raise ValueError(f"{name} must be a pair (low, high){unit} with 0 ≤ low ≤ high, got {values!r}")
    return low, high


def _tool_rotation(frames: Frames) -> Tensor:
    """[3 rows, 3 columns, N]"""
    return torch.stack([axis[:, -1] for axis in frames[:3]], 1)


def _hand_down(turn: Tensor) -> Tensor:
    """Orientation [3 rows, 3 columns, N] of a hand that points down, turned by roll, pitch and yaw [3, N] rad."""
    (sr, sp, sy), (cr, cp, cy) = turn.sin(), turn.cos()
    x = torch.stack((cy * cp, sy * cp, -sp))
    y = torch.stack((cy * sp * sr - sy * cr, sy * sp * sr + cy * cr, cp * sr))
    z = torch.stack((cy * sp * cr + sy * sr, sy * sp * cr - cy * sr, cp * cr))
    return torch.stack((x, -y, -z), 1)
